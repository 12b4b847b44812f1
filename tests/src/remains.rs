//! Nothing is left behind, however a lab ends.
//!
//! Every lab has a directory `/run/ipmp-lab/<id>/` that lists what is to be cleaned up (namespaces, processes, pin
//! directories), written before the thing exists. A *reaper*, a shell in a session of its own, waits on a pipe from
//! the lab's process. When the pipe closes, by [`Remains`] being dropped, by a crash or by SIGKILL, it cleans up.
//! There is one way to clean up, and every test walks it.
//!
//! The reaper holds a lock on the directory. A directory without one lost its reaper too: the next lab sweeps it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// Where the directories of all labs are.
pub const DIRECTORY: &str = "/run/ipmp-lab";
/// Held while a directory is made or swept, so that a new one is not taken for a dead one.
const LOCK: &str = "/run/ipmp-lab/lock";
/// The reaper. Its argument is the lab's directory, its standard input the pipe.
const REAPER: &str = include_str!("reaper.sh");

/// What a lab leaves to its reaper. Dropping it cleans up and waits until that is done.
#[derive(Debug)]
pub struct Remains {
    id: String,
    directory: PathBuf,
    reaper: Child,
}

impl Remains {
    /// Sweeps what dead labs left, then makes the directory of a new one and starts its reaper.
    pub fn new(id: &str) -> Result<Self> {
        fs::create_dir_all(DIRECTORY)
            .with_context(|| format!("cannot make {DIRECTORY}: a lab needs root"))?;
        let making = open_lock(Path::new(LOCK))?;
        making.lock().with_context(|| format!("cannot lock {LOCK}"))?;
        sweep()?;
        let directory = Path::new(DIRECTORY).join(id);
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let held = open_lock(&directory.join("lock"))?;
        held.lock().with_context(|| format!("cannot lock {}", directory.display()))?;
        // From here on the reaper's copy of the descriptor keeps the lock.
        let reaper = start(&directory, &held, Stdio::piped())?;
        Ok(Self { id: id.to_owned(), directory, reaper })
    }

    /// `<pid>-<n>`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The lab's directory: for sockets, logs and the like. It goes with the lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A namespace about to be made: it will be deleted, with every process in it and its sockets under /run/ipmp.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.note("namespaces", name)
    }

    /// The cookie of a namespace that a daemon may serve: its pins and its state under /run/ipmp will be removed.
    pub fn pins(&self, cookie: u64) -> Result<()> {
        self.note("cookies", &cookie.to_string())
    }

    /// A process just started: it will be killed.
    pub fn process(&self, pid: u32) -> Result<()> {
        let start = start_time(pid).with_context(|| format!("process {pid} is gone already"))?;
        self.note("processes", &format!("{pid} {start}"))
    }

    fn note(&self, list: &str, line: &str) -> Result<()> {
        let path = self.directory.join(list);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        writeln!(file, "{line}").with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
    }
}

/// Cleans up after labs whose process and reaper are both gone.
fn sweep() -> Result<()> {
    for entry in fs::read_dir(DIRECTORY)? {
        let directory = entry?.path();
        if !directory.is_dir() {
            continue;
        }
        let held = open_lock(&directory.join("lock"))?;
        if held.try_lock().is_ok() {
            start(&directory, &held, Stdio::null())?.wait()?;
        }
    }
    Ok(())
}

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn start(directory: &Path, held: &File, input: Stdio) -> Result<Child> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", REAPER, "ipmp-lab-reaper"]).arg(directory);
    command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    let lock = held.as_raw_fd();
    // SAFETY: between fork and exec there are two system calls that take numbers alone. dup2 clears close-on-exec, but not
    // of what has the number already; so descriptor 3 keeps the lock as long as the reaper lives. A session of its own
    // keeps it from our signals.
    unsafe {
        command.pre_exec(move || {
            let kept = if lock == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(lock, 3) };
            if kept < 0 || libc::setsid() < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.spawn().context("cannot start the lab's reaper")
}

/// Field 22 of /proc/PID/stat: tells a process from another that got its number later.
fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labs that are made side by side get any number, that which the reaper has in mind for it among them.
    #[test]
    fn a_reaper_holds_the_lock_whatever_its_number() {
        let directory = std::env::temp_dir().join(format!("ipmp-lab-lock-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let path = directory.join("lock");
        // Unless this process was given it, one of these has number 3.
        let mut files: Vec<_> = (0..8).map(|_| open_lock(&path).unwrap()).collect();
        let at = files.iter().position(|file| file.as_raw_fd() == 3).unwrap_or(0);
        let held = files.swap_remove(at);
        held.lock().unwrap();
        let mut reaper = start(&directory, &held, Stdio::piped()).unwrap();
        drop(held);
        assert!(files[0].try_lock().is_err(), "nobody holds the lock");
        drop(reaper.stdin.take());
        reaper.wait().unwrap();
        assert!(!directory.exists());
    }
}
