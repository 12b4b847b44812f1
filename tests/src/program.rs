//! Other people's programs in a lab: started in one of its namespaces, read, and ended with the lab, however it ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock;
use crate::network::Lab;

/// How long a program may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Programs of this process so far: each has a log of its own.
static PROGRAMS: AtomicU32 = AtomicU32::new(0);

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a command of [`Namespace::command`](crate::Namespace::command). What it says, on both outputs, is kept.
    pub fn start(lab: &Lab, mut command: Command) -> Result<Self> {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let log = lab.directory().join(format!("{name}-{}.log", PROGRAMS.fetch_add(1, Relaxed)));
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| {
            format!("cannot start {name}: `cargo xtask setup` installs what the lab runs")
        })?;
        lab.remains().process(child.id())?;
        Ok(Self { name, child, log })
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All lines that it said so far.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Waits for a line that contains `text`, among all that were said since the log had `since` lines. Gives the line.
    pub fn wait_line(&mut self, text: &str, since: usize, patience: Duration) -> Result<String> {
        let mut found = None;
        let mut over = None;
        clock::wait_until(patience, || {
            over = self.ended();
            found = self.log().into_iter().skip(since).find(|line| line.contains(text));
            found.is_some() || over.is_some()
        });
        if let Some(line) = found {
            return Ok(line);
        }
        let said = self.log().join("\n");
        match over {
            Some(status) => {
                bail!("{} ended ({status}) before it said \"{text}\"; it said:\n{said}", self.name)
            }
            None => bail!("{} did not say \"{text}\" within {patience:?}; it said:\n{said}", self.name),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Its exit status, if it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(&mut self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    /// Ends it as Ctrl-C does, and gives all that it said. It is an error if it has ended before.
    pub fn interrupt(mut self) -> Result<Vec<String>> {
        let over = self.ended();
        ensure!(over.is_none(), "{} ended before its time; it said:\n{}", self.name, self.log().join("\n"));
        self.end(Signal::SIGINT)?;
        Ok(self.log())
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        let ended = clock::wait_until(PATIENCE, || self.ended().is_some());
        ensure!(ended, "{} has not ended after {PATIENCE:?}; it said:\n{}", self.name, self.log().join("\n"));
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} said:\n{}", self.name, self.log().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
