//! OpenSSH in a lab: a server on the host, and connections of a peer that must survive.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::network::Lab;
use crate::program::Program;
use crate::{MS, TIMEOUT, command, wait_until};

/// Between two lines that an operator enters.
const PAUSE: Duration = Duration::from_millis(20);
/// What a copy consists of.
const PATTERN: &str = "0123456789abcde";

/// `sshd` on the host of a lab, with keys of its own.
#[derive(Debug)]
pub struct SshServer<'lab> {
    lab: &'lab Lab,
    address: Ipv4Addr,
    directory: PathBuf,
    _program: Program,
}

impl<'lab> SshServer<'lab> {
    /// Starts it. Clients connect to `address` of the host.
    pub fn start(lab: &'lab Lab, address: Ipv4Addr) -> Result<Self> {
        let directory = lab.directory().join("ssh");
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        for key in ["host", "client"] {
            let mut keygen = Command::new("ssh-keygen");
            command::run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(directory.join(key)))?;
        }
        let shown = directory.display();
        let config = format!(
            "HostKey {shown}/host\nAuthorizedKeysFile {shown}/client.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             PidFile none\nPrintMotd no\nPrintLastLog no\nUseDNS no\n"
        );
        fs::write(directory.join("config"), config)?;
        // The user and the directory that a package creates, in a mount namespace of its own.
        let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let users: Vec<&str> = users.lines().filter(|line| !line.starts_with("sshd:")).collect();
        let user = "sshd:x:74:65534::/run/sshd:/usr/sbin/nologin";
        fs::write(directory.join("passwd"), format!("{}\n{user}\n", users.join("\n")))?;
        let script = format!(
            "mount --bind {shown}/passwd /etc/passwd && cd /run && mount -t tmpfs tmpfs /run && mkdir /run/sshd /run/ipmp-lab && \
             mount -c --rbind ./ipmp-lab /run/ipmp-lab && exec sshd -r -D -e -f {shown}/config"
        );
        let mut command = lab.host().command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let mut program = Program::start(lab, command)?;
        program.wait_line("Server listening on 0.0.0.0", 0, TIMEOUT)?;
        Ok(Self { lab, address, directory, _program: program })
    }

    /// A command that runs another one on the host, by a new connection of the first peer.
    fn client(&self, line: &str) -> Command {
        let mut command = self.lab.peer(0).namespace().command("ssh");
        command.args(["-F", "none", "-i"]).arg(self.directory.join("client"));
        for option in
            ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=2"]
        {
            command.arg("-o").arg(option);
        }
        command.arg(format!("root@{}", self.address)).arg(line).stdin(Stdio::null());
        command
    }

    /// Runs a command on the host, by a new connection.
    pub fn run(&self, line: &str) -> Result<Output> {
        self.client(line).output().context("cannot start ssh")
    }

    /// Lines that an operator enters, each printed by the host.
    pub fn session(&self) -> Result<SshConnection> {
        SshConnection::start("session", self.client("cat"), |mut input, output, progress| {
            let mut output = BufReader::new(output);
            let mut line = String::new();
            for number in 0.. {
                let start = Instant::now();
                writeln!(input, "line {number}")?;
                line.clear();
                output.read_line(&mut line)?;
                ensure!(line == format!("line {number}\n"), "{line:?} in place of line {number}");
                progress.record(start.elapsed(), 1);
                if progress.is_over.load(SeqCst) {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
            Ok(())
        })
    }

    /// A copy from the host.
    pub fn copy(&self) -> Result<SshConnection> {
        SshConnection::start(
            "copy",
            self.client(&format!("exec yes {PATTERN}")),
            |_, mut output, progress| {
                let expected: Vec<u8> = format!("{PATTERN}\n").into_bytes().repeat(4096);
                let mut received = vec![0; expected.len()];
                let mut last = Instant::now();
                while !progress.is_over.load(SeqCst) {
                    output.read_exact(&mut received)?;
                    ensure!(received == expected, "other data than was sent");
                    progress.record(last.elapsed(), received.len() as u64);
                    // Leaves time to the other programs: about 10 MB/s.
                    std::thread::sleep(5 * MS);
                    last = Instant::now();
                }
                Ok(())
            },
        )
    }
}

/// What happens on a connection.
#[derive(Debug, Default)]
struct Progress {
    is_over: AtomicBool,
    /// Microseconds, since they were read last.
    longest_stall: AtomicU64,
    /// Lines or bytes that arrived as they were sent.
    count: AtomicU64,
}

impl Progress {
    /// Records what arrived at this time after what arrived before.
    fn record(&self, stall: Duration, count: u64) {
        self.longest_stall.fetch_max(stall.as_micros() as u64, SeqCst);
        self.count.fetch_add(count, SeqCst);
    }
}

/// A connection in use. Dropping it ends its client.
#[derive(Debug)]
pub struct SshConnection {
    name: &'static str,
    child: Child,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl SshConnection {
    fn start(
        name: &'static str,
        mut command: Command,
        work: fn(ChildStdin, ChildStdout, &Progress) -> Result<()>,
    ) -> Result<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start ssh: install it with `cargo xtask setup`")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("ssh has no pipes");
        };
        let progress = Arc::new(Progress::default());
        let for_thread = progress.clone();
        let thread = std::thread::spawn(move || work(input, output, &for_thread));
        Ok(Self { name, child, progress, thread: Some(thread) })
    }

    /// Waits until it continues, and returns its longest stall since the last call.
    pub fn continues(&self) -> Result<Duration> {
        let is_finished = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        let before = self.progress.count.load(SeqCst);
        let goes_on = || self.progress.count.load(SeqCst) > before + 3 || is_finished();
        ensure!(wait_until(TIMEOUT, goes_on), "the {} does not continue", self.name);
        ensure!(!is_finished(), "the {} has ended", self.name);
        Ok(Duration::from_micros(self.progress.longest_stall.swap(0, SeqCst)))
    }

    /// What it is: `session` or `copy`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Ends it; an error if it had ended before, or if something else arrived than was sent.
    pub fn end(mut self) -> Result<()> {
        self.progress.is_over.store(true, SeqCst);
        let thread = self.thread.take().context("no thread")?;
        thread.join().map_err(|_| anyhow!("the {} panicked", self.name))?
    }
}

impl Drop for SshConnection {
    fn drop(&mut self) {
        self.progress.is_over.store(true, SeqCst);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
