//! The real `ipmpd` and `ipmpctl`, in the host of a lab.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock;
use crate::namespace::Namespace;
use crate::network::Lab;

/// How long a daemon may take to listen on its socket, and to end when asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a binary of the project is: in `$IPMP_BIN_DIR`, or in the target directory of the running program, its own
/// profile first.
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("IPMP_BIN_DIR") {
        let path = PathBuf::from(directory).join(name);
        ensure!(path.is_file(), "no {} although IPMP_BIN_DIR says so", path.display());
        return Ok(path);
    }
    let own = std::env::current_exe().context("cannot tell where the running program is")?;
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
    bail!("no {name} in {} or beside it: run `cargo build` first, or set IPMP_BIN_DIR", profile.display())
}

/// How a daemon is to be started; see [`Daemon::of`].
#[derive(Clone, Debug)]
pub struct Builder<'lab> {
    lab: &'lab Lab,
    namespace: Namespace,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

/// A running `ipmpd`. Dropping it kills it; what it pinned stays until the lab goes.
#[derive(Debug)]
pub struct Daemon<'lab> {
    plan: Builder<'lab>,
    child: Option<Child>,
    log: PathBuf,
}

impl<'lab> Builder<'lab> {
    /// Sets an environment variable, of the daemon and of every `ipmpctl`.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Adds an argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the daemon and waits until it listens on its socket.
    pub fn start(self) -> Result<Daemon<'lab>> {
        let directory = self.lab.directory();
        let log = directory.join(format!("{}.log", self.namespace.name()));
        let mut daemon = Daemon { plan: self, child: None, log };
        daemon.start()?;
        Ok(daemon)
    }
}

impl<'lab> Daemon<'lab> {
    /// A daemon for the lab's host.
    pub fn of(lab: &'lab Lab) -> Builder<'lab> {
        Builder { lab, namespace: lab.host().clone(), environment: Vec::new(), arguments: Vec::new() }
    }

    /// Starts it with no more ado.
    pub fn start_in(lab: &'lab Lab) -> Result<Self> {
        Self::of(lab).start()
    }

    /// Its socket: what `ipmpctl --socket` takes.
    pub fn socket(&self) -> PathBuf {
        self.plan.lab.directory().join("ipmpd.sock")
    }

    /// The file with all that it said, over all its lives.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// All lines that it said so far.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Waits for a line that contains `text`, among all that were said since the log had `since` lines. Gives the line.
    pub fn wait_line(&self, text: &str, since: usize, patience: Duration) -> Result<String> {
        let mut found = None;
        clock::wait_until(patience, || {
            found = self.log().into_iter().skip(since).find(|line| line.contains(text));
            found.is_some()
        });
        found.with_context(|| {
            format!("ipmpd did not say \"{text}\" within {patience:?}; it said:\n{}", self.log().join("\n"))
        })
    }

    /// Its process number, while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it again after it has ended: it adopts what its predecessor pinned.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "ipmpd runs already");
        let open = || File::options().create(true).append(true).open(&self.log);
        let mut command = Command::new(binary("ipmpd")?);
        command.arg("--netns").arg(self.plan.namespace.name()).arg("--socket").arg(self.socket());
        command.args(&self.plan.arguments).envs(self.plan.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
        let child = command.spawn().context("cannot start ipmpd")?;
        self.plan.lab.remains().process(child.id())?;
        self.child = Some(child);
        let listening = clock::wait_until(PATIENCE, || self.listens() || self.ended().is_some());
        if let Some(status) = self.ended() {
            self.child = None;
            bail!("ipmpd ended at once ({status}); it said:\n{}", self.log().join("\n"));
        }
        ensure!(listening, "ipmpd does not listen after {PATIENCE:?}; it said:\n{}", self.log().join("\n"));
        Ok(())
    }

    fn listens(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.socket()).is_ok()
    }

    /// Its exit status, if it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// SIGSTOP: it is there and does nothing. Returns when it has stopped.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        ensure!(clock::wait_until(PATIENCE, || self.state() == Some('T')), "ipmpd does not stop");
        Ok(())
    }

    /// SIGCONT: it goes on.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.reap()
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.reap()
    }

    /// Any signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("ipmpd does not run")?;
        kill(Pid::from_raw(pid as i32), signal).with_context(|| format!("cannot send {signal} to ipmpd"))
    }

    fn reap(&mut self) -> Result<()> {
        let ended = clock::wait_until(PATIENCE, || self.ended().is_some());
        ensure!(ended, "ipmpd has not ended after {PATIENCE:?}; it said:\n{}", self.log().join("\n"));
        self.child = None;
        Ok(())
    }

    /// The letter of its state in /proc.
    fn state(&self) -> Option<char> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid()?)).ok()?;
        text.rsplit_once(") ")?.1.chars().next()
    }

    /// A command with this daemon's environment.
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(binary(program)?);
        command.envs(self.plan.environment.iter().cloned()).stdin(Stdio::null());
        Ok(command)
    }

    /// `ipmpctl ARGUMENTS`, whatever comes of it. Arguments are separated by spaces.
    pub fn ctl_output(&self, arguments: &str) -> Result<Output> {
        let mut command = self.command("ipmpctl")?;
        command.arg("--socket").arg(self.socket()).args(arguments.split_whitespace());
        command.output().context("cannot start ipmpctl")
    }

    /// `ipmpctl ARGUMENTS`; gives its output, and fails when it does.
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

    /// `ipmpctl ARGUMENTS` that must fail; gives what it said on standard error.
    pub fn ctl_refused(&self, arguments: &str) -> Result<String> {
        let output = self.ctl_output(arguments)?;
        ensure!(
            !output.status.success(),
            "`ipmpctl {arguments}` succeeded: {}",
            String::from_utf8_lossy(&output.stdout).trim()
        );
        Ok(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }

    /// `ipmpd --teardown`: everything back as before the first attach.
    pub fn teardown(&self) -> Result<String> {
        let mut command = self.command("ipmpd")?;
        crate::command::run(command.arg("--netns").arg(self.plan.namespace.name()).arg("--teardown"))
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("ipmpd said:\n{}", self.log().join("\n"));
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
