//! The real `ipmpd` and `ipmpctl`, in the host of a lab.

use std::fs::{self, File};
use std::io::PipeReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::log_file::{self, LogFile};
use crate::namespace::Namespace;
use crate::network::Lab;
use crate::{TIMEOUT, wait_until};

/// The path of a binary of the project: in `$IPMP_BIN_DIR`, or in the target directory of the running program, where its
/// own profile comes first.
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("IPMP_BIN_DIR") {
        let path = PathBuf::from(directory).join(name);
        ensure!(path.is_file(), "IPMP_BIN_DIR is set, but there is no {}", path.display());
        return Ok(path);
    }
    let own = std::env::current_exe().context("cannot read the path of the running program")?;
    let directory = own.parent().context("the running program has no directory")?;
    // Tests are in target/<profile>/deps.
    let profile =
        if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    let beside = |other: &str| profile.with_file_name(other);
    for directory in [profile.to_owned(), beside("release"), beside("debug")] {
        let path = directory.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!(
        "no {name} in {} or the other profile: run `cargo build` first, or set IPMP_BIN_DIR",
        profile.display()
    )
}

/// The parameters of a daemon: see [`Daemon::builder`].
#[derive(Clone, Debug)]
pub struct Builder<'lab> {
    lab: &'lab Lab,
    namespace: Namespace,
    program: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    log_is_read: bool,
}

/// A running `ipmpd`. Dropping it kills it; its pins stay until the lab is dropped.
#[derive(Debug)]
pub struct Daemon<'lab> {
    plan: Builder<'lab>,
    child: Option<Child>,
    log: LogFile,
    /// What the daemon writes to standard error, if nothing is to read it.
    unread: Option<PipeReader>,
}

impl<'lab> Builder<'lab> {
    /// Sets an environment variable for the daemon and every `ipmpctl`.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Has it serve another namespace.
    pub fn namespace(mut self, namespace: &Namespace) -> Self {
        self.namespace = namespace.clone();
        self
    }

    /// Adds an argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Connects standard error to a pipe of one page that nothing reads. The log file stays empty.
    pub fn unread_log(mut self) -> Self {
        self.log_is_read = false;
        self
    }

    /// Starts the daemon and waits until it listens on its socket.
    pub fn start(self) -> Result<Daemon<'lab>> {
        let directory = self.lab.directory();
        let path = directory.join(format!("{}.log", self.namespace.name()));
        let log = LogFile { program: "ipmpd".into(), path };
        let mut daemon = Daemon { plan: self, child: None, log, unread: None };
        daemon.start()?;
        Ok(daemon)
    }
}

impl<'lab> Daemon<'lab> {
    /// A daemon for the lab's host.
    pub fn builder(lab: &'lab Lab) -> Builder<'lab> {
        Builder {
            lab,
            namespace: lab.host().clone(),
            program: "ipmpd".into(),
            environment: Vec::new(),
            arguments: Vec::new(),
            log_is_read: true,
        }
    }

    /// Starts a daemon for the lab's host, with default parameters.
    pub fn start_in(lab: &'lab Lab) -> Result<Self> {
        Self::builder(lab).start()
    }

    /// Its socket, for `ipmpctl --socket`.
    pub fn socket(&self) -> PathBuf {
        self.plan.lab.directory().join("ipmpd.sock")
    }

    /// Its log file, which is kept over restarts.
    pub fn log_file(&self) -> &Path {
        &self.log.path
    }

    /// All lines of its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Lines of its log that contain `text`, after the first `since` lines.
    pub fn log_matches(&self, text: &str, since: usize) -> Vec<String> {
        self.log().into_iter().skip(since).filter(|line| line.contains(text)).collect()
    }

    /// Warnings and errors in its log, after the first `since` lines.
    pub fn problems(&self, since: usize) -> Vec<String> {
        let is_problem = |line: &String| ["warning", "error"].contains(&log_file::parts(line).0);
        self.log().into_iter().skip(since).filter(is_problem).collect()
    }

    /// Waits for a line that contains `text`, after the first `since` lines of the log, and returns it.
    pub fn wait_line(&self, text: &str, since: usize, timeout: Duration) -> Result<String> {
        self.log.wait_line(text, since, timeout, || None)
    }

    /// Its process ID, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Has another program of the project run when it is started again, in place of `ipmpd`.
    pub fn set_program(&mut self, name: &str) {
        name.clone_into(&mut self.plan.program);
    }

    /// Starts it again after it has ended: it adopts the groups of the previous process.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let listening = wait_until(TIMEOUT, || self.listens() || self.exit_status().is_some());
        if let Some(status) = self.exit_status() {
            self.child = None;
            bail!("ipmpd ended at its start ({status}); its log:\n{}", self.log.text());
        }
        ensure!(listening, "ipmpd does not listen after {TIMEOUT:?}; its log:\n{}", self.log.text());
        Ok(())
    }

    /// Starts it, and does not wait until it listens.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "ipmpd is already running");
        let open = || File::options().create(true).append(true).open(&self.log.path);
        let mut command = Command::new(binary(&self.plan.program)?);
        command.arg("--netns").arg(self.plan.namespace.name()).arg("--socket").arg(self.socket());
        command.env("IPMP_STATE_DIR", self.plan.lab.directory().join("state"));
        command.args(&self.plan.arguments).envs(self.plan.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(open()?);
        if self.plan.log_is_read {
            command.stderr(open()?);
        } else {
            let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
            fcntl(&writer, FcntlArg::F_SETPIPE_SZ(1)).context("cannot make a pipe short")?;
            command.stderr(writer);
            self.unread = Some(reader);
        }
        let child = command.spawn().context("cannot start ipmpd")?;
        self.plan.lab.cleanup().process(child.id())?;
        self.child = Some(child);
        Ok(())
    }

    fn listens(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.socket()).is_ok()
    }

    /// Its exit status, if it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Sends SIGSTOP and waits until it has stopped.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        ensure!(wait_until(TIMEOUT, || self.state() == Some('T')), "ipmpd does not stop");
        Ok(())
    }

    /// Sends SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends SIGKILL and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.reap()
    }

    /// Sends SIGTERM and waits for its end.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.reap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("ipmpd is not running")?;
        kill(Pid::from_raw(pid as i32), signal).with_context(|| format!("cannot send {signal} to ipmpd"))
    }

    fn reap(&mut self) -> Result<()> {
        let ended = wait_until(TIMEOUT, || self.exit_status().is_some());
        ensure!(ended, "ipmpd has not ended after {TIMEOUT:?}; its log:\n{}", self.log.text());
        self.child = None;
        Ok(())
    }

    /// The process state in /proc: `T` when it is stopped.
    fn state(&self) -> Option<char> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid()?)).ok()?;
        text.rsplit_once(") ")?.1.chars().next()
    }

    /// A command with this daemon's environment.
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(binary(program)?);
        command.env("IPMP_STATE_DIR", self.plan.lab.directory().join("state"));
        command.envs(self.plan.environment.iter().cloned()).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs `ipmpctl ARGUMENTS`; arguments are separated by spaces.
    pub fn ctl_output(&self, arguments: &str) -> Result<Output> {
        self.ctl_command(arguments)?.output().context("cannot start ipmpctl")
    }

    /// Starts `ipmpctl ARGUMENTS`, and does not wait for its end.
    pub fn ctl_start(&self, arguments: &str) -> Result<Child> {
        self.ctl_command(arguments)?.stdout(Stdio::null()).spawn().context("cannot start ipmpctl")
    }

    fn ctl_command(&self, arguments: &str) -> Result<Command> {
        let mut command = self.command("ipmpctl")?;
        command.arg("--socket").arg(self.socket()).args(arguments.split_whitespace());
        Ok(command)
    }

    /// Runs `ipmpctl ARGUMENTS` and returns its standard output; an error if it fails.
    pub fn ctl(&self, arguments: &str) -> Result<String> {
        let output = self.ctl_output(arguments)?;
        ensure!(
            output.status.success(),
            "`ipmpctl {arguments}` failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `ipmpctl ARGUMENTS`, which must fail, and returns its standard error.
    pub fn ctl_error(&self, arguments: &str) -> Result<String> {
        let output = self.ctl_output(arguments)?;
        ensure!(
            !output.status.success(),
            "`ipmpctl {arguments}` succeeded: {}",
            String::from_utf8_lossy(&output.stdout).trim()
        );
        Ok(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }

    /// Runs `ipmpd --teardown`: restores the state before the first attach.
    pub fn teardown(&self) -> Result<String> {
        let mut command = self.command(&self.plan.program)?;
        crate::command::run(command.arg("--netns").arg(self.plan.namespace.name()).arg("--teardown"))
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of ipmpd:\n{}", self.log.text());
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
