//! Third-party programs: started in a namespace of a lab, with their output in a log, and killed with the lab.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::log_file::LogFile;
use crate::network::Lab;
use crate::{TIMEOUT, wait_until};

/// Number of programs started by this process: each has a log of its own.
static PROGRAMS: AtomicU32 = AtomicU32::new(0);

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: LogFile,
}

impl Program {
    /// Starts a command of [`Namespace::command`](crate::Namespace::command). Standard output and standard error go to
    /// its log.
    pub fn start(lab: &Lab, mut command: Command) -> Result<Self> {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default();
        let program = name.to_string_lossy().into_owned();
        let path = lab.directory().join(format!("{program}-{}.log", PROGRAMS.fetch_add(1, Relaxed)));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| {
            format!("cannot start {program}: install what the lab runs with `cargo xtask setup`")
        })?;
        lab.cleanup().process(child.id())?;
        Ok(Self { child, log: LogFile { program, path } })
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All lines of its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits for a line that contains `text`, after the first `since` lines of the log, and returns it. It is an error
    /// if the program ends first.
    pub fn wait_line(&mut self, text: &str, since: usize, timeout: Duration) -> Result<String> {
        let child = &mut self.child;
        self.log.wait_line(text, since, timeout, || child.try_wait().ok().flatten())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.log.program))
    }

    /// Its exit status, if it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends SIGTERM and waits for its end.
    pub fn terminate(&mut self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    /// Sends SIGINT, as Ctrl-C does, and returns its log. It is an error if it has ended before.
    pub fn interrupt(mut self) -> Result<Vec<String>> {
        let status = self.exit_status();
        ensure!(status.is_none(), "{} ended too early; its log:\n{}", self.log.program, self.log.text());
        self.end(Signal::SIGINT)?;
        Ok(self.log())
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        let ended = wait_until(TIMEOUT, || self.exit_status().is_some());
        let program = &self.log.program;
        ensure!(ended, "{program} has not ended {TIMEOUT:?} after {signal}; its log:\n{}", self.log.text());
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.log.program, self.log.text());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
