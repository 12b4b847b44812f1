//! Removes everything that a lab created, however the lab ends.
//!
//! Every lab has a directory `/run/ipmp-lab/<id>/` with lists of what must be removed (namespaces, processes, pin
//! directories). An entry is written before the object is created. A *reaper*, a shell in a session of its own, waits
//! on a pipe from the lab's process. When the pipe closes, because [`Cleanup`] is dropped, or by a crash or SIGKILL,
//! it cleans up. There is no other way to clean up, so every test uses it.
//!
//! The reaper holds a lock on the directory. A directory without a lock has lost its reaper: the next lab removes it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// Parent of the directories of all labs.
pub const DIRECTORY: &str = "/run/ipmp-lab";
/// Held while a directory is created or checked, so that a new directory is not taken for an abandoned one.
const LOCK: &str = "/run/ipmp-lab/lock";
/// The reaper's script. Its argument is the lab's directory, its standard input the pipe.
const REAPER: &str = include_str!("cleanup.sh");

/// What the reaper of a lab must remove. Dropping this value cleans up, and returns when that is done.
#[derive(Debug)]
pub struct Cleanup {
    id: String,
    directory: PathBuf,
    reaper: Child,
}

impl Cleanup {
    /// Removes abandoned labs, then creates the directory of a new lab and starts its reaper.
    pub fn new(id: &str) -> Result<Self> {
        create_directory()?;
        let create_lock = open_lock(Path::new(LOCK))?;
        create_lock.lock().with_context(|| format!("cannot lock {LOCK}"))?;
        remove_abandoned()?;
        let directory = Path::new(DIRECTORY).join(id);
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let lock = open_lock(&directory.join("lock"))?;
        lock.lock().with_context(|| format!("cannot lock {}", directory.display()))?;
        // From here on the reaper's copy of the descriptor holds the lock.
        let reaper = start(&directory, &lock, Stdio::piped())?;
        Ok(Self { id: id.to_owned(), directory, reaper })
    }

    /// `<pid>-<n>`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The lab's directory, for sockets, logs and other files. It is removed with the lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Registers a namespace before it is created: it will be deleted, with every process in it and its sockets under
    /// /run/ipmp.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.note("namespaces", name)
    }

    /// Registers the cookie of a namespace that a daemon may serve: its pins and its state under /run/ipmp will be removed.
    pub fn pins(&self, cookie: u64) -> Result<()> {
        self.note("cookies", &cookie.to_string())
    }

    /// Registers a process after its start: it will be killed.
    pub fn process(&self, pid: u32) -> Result<()> {
        let start = start_time(pid).with_context(|| format!("process {pid} has already ended"))?;
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

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
    }
}

/// Creates the parent of the directories of all labs.
pub(crate) fn create_directory() -> Result<()> {
    fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot create {DIRECTORY}: a lab needs root"))
}

/// Cleans up after labs whose process and reaper have both ended.
fn remove_abandoned() -> Result<()> {
    for entry in fs::read_dir(DIRECTORY)? {
        let directory = entry?.path();
        if !directory.is_dir() {
            continue;
        }
        let lock = open_lock(&directory.join("lock"))?;
        if lock.try_lock().is_ok() {
            start(&directory, &lock, Stdio::null())?.wait()?;
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

fn start(directory: &Path, lock: &File, input: Stdio) -> Result<Child> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", REAPER, "ipmp-lab-reaper"]).arg(directory);
    command.stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    let lock = lock.as_raw_fd();
    // SAFETY: between fork and exec there are two system calls that take numbers alone. dup2 clears close-on-exec,
    // except when both numbers are equal. So descriptor 3 holds the lock until the reaper ends. A session of its own
    // protects the reaper from signals to our process group.
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

/// Field 22 of /proc/PID/stat: distinguishes a process from a later one with the same ID.
fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labs that are created at the same time get descriptors of any number, also the one that the reaper uses.
    #[test]
    fn reaper_holds_lock_whatever_its_descriptor() {
        let directory = std::env::temp_dir().join(format!("ipmp-lab-lock-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let path = directory.join("lock");
        // Unless this process inherited descriptor 3, one of these has that number.
        let mut files: Vec<_> = (0..8).map(|_| open_lock(&path).unwrap()).collect();
        let at = files.iter().position(|file| file.as_raw_fd() == 3).unwrap_or(0);
        let lock = files.swap_remove(at);
        lock.lock().unwrap();
        let mut reaper = start(&directory, &lock, Stdio::piped()).unwrap();
        drop(lock);
        assert!(files[0].try_lock().is_err(), "the reaper does not hold the lock");
        drop(reaper.stdin.take());
        reaper.wait().unwrap();
        assert!(!directory.exists());
    }
}
