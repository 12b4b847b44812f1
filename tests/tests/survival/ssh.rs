//! OpenSSH on a NIC that is attached and detached: sessions and copies survive, and where a firewall refuses new connections
//! `--confirm` restores the host.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

use lab::Program;

use super::*;

/// Between two lines that an operator enters.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a connection may be silent: retransmission timeouts are at least 200 ms, each twice as long as the one before.
const LONGEST_STALL: Duration = Duration::from_secs(3);
/// What a copy consists of.
const PATTERN: &str = "0123456789abcde";

/// `sshd` on the host, with a key of its own.
struct Server<'lab> {
    lab: &'lab Lab,
    directory: PathBuf,
    _program: Program,
}

impl<'lab> Server<'lab> {
    fn start(lab: &'lab Lab) -> Self {
        let directory = lab.directory().join("ssh");
        fs::create_dir(&directory).unwrap();
        let file = |name: &str| directory.join(name);
        for key in ["host", "client"] {
            command::run(
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file(key)),
            )
            .unwrap();
        }
        let shown = directory.display();
        fs::write(
            file("config"),
            format!(
                "HostKey {shown}/host\nAuthorizedKeysFile {shown}/client.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
                 PidFile none\nPrintMotd no\nPrintLastLog no\nUseDNS no\n"
            ),
        )
        .unwrap();
        // The user and the directory that a package creates, in a mount namespace of its own.
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let users: Vec<&str> = users.lines().filter(|line| !line.starts_with("sshd:")).collect();
        let user = "sshd:x:74:65534::/run/sshd:/usr/sbin/nologin";
        fs::write(file("passwd"), format!("{}\n{user}\n", users.join("\n"))).unwrap();
        let script = format!(
            "mount --bind {shown}/passwd /etc/passwd && cd /run && mount -t tmpfs tmpfs /run && mkdir /run/sshd /run/ipmp-lab && \
             mount -c --rbind ./ipmp-lab /run/ipmp-lab && exec sshd -r -D -e -f {shown}/config"
        );
        let mut command = lab.host().command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let mut program = Program::start(lab, command).unwrap();
        program.wait_line("Server listening on 0.0.0.0", 0, TIMEOUT).unwrap();
        Self { lab, directory, _program: program }
    }

    /// A connection from a peer that runs a command.
    fn client(&self, line: &str) -> Command {
        let mut command = self.lab.peer(0).namespace().command("ssh");
        command.args(["-F", "none", "-i"]).arg(self.directory.join("client"));
        for option in
            ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=2"]
        {
            command.arg("-o").arg(option);
        }
        command.arg(format!("root@{PLAIN}")).arg(line).stdin(Stdio::null());
        command
    }

    /// Runs a command by a new connection.
    fn run(&self, line: &str) -> Output {
        self.client(line).output().unwrap()
    }
}

/// What happens on a connection.
#[derive(Default)]
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

/// A connection in use.
struct Connection {
    name: &'static str,
    child: Child,
    progress: Arc<Progress>,
    thread: JoinHandle<Result<(), String>>,
}

impl Connection {
    fn start(
        name: &'static str,
        mut command: Command,
        work: fn(ChildStdin, ChildStdout, &Progress) -> Result<(), String>,
    ) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let progress = Arc::new(Progress::default());
        let for_thread = progress.clone();
        let thread = std::thread::spawn(move || work(input, output, &for_thread));
        Self { name, child, progress, thread }
    }

    /// Lines that an operator enters, each printed by the host.
    fn session(server: &Server<'_>) -> Self {
        Self::start("session", server.client("cat"), |mut input, output, progress| {
            let mut output = BufReader::new(output);
            let mut line = String::new();
            for number in 0.. {
                let start = Instant::now();
                writeln!(input, "line {number}").map_err(|error| error.to_string())?;
                line.clear();
                output.read_line(&mut line).map_err(|error| error.to_string())?;
                if line != format!("line {number}\n") {
                    return Err(format!("{line:?} in place of line {number}"));
                }
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
    fn copy(server: &Server<'_>) -> Self {
        Self::start("copy", server.client(&format!("exec yes {PATTERN}")), |_, mut output, progress| {
            let expected: Vec<u8> = format!("{PATTERN}\n").into_bytes().repeat(4096);
            let mut received = vec![0; expected.len()];
            let mut last = Instant::now();
            while !progress.is_over.load(SeqCst) {
                output.read_exact(&mut received).map_err(|error| error.to_string())?;
                if received != expected {
                    return Err("other data than was sent".into());
                }
                progress.record(last.elapsed(), received.len() as u64);
                // Leaves time to the other programs: about 10 MB/s.
                std::thread::sleep(5 * MS);
                last = Instant::now();
            }
            Ok(())
        })
    }

    /// Waits until it continues, and prints its longest stall since the last call.
    fn continues(&self, after: &str) {
        let before = self.progress.count.load(SeqCst);
        let goes_on = || self.progress.count.load(SeqCst) > before + 3 || self.thread.is_finished();
        assert!(wait_until(TIMEOUT, goes_on), "{after}: the {} does not continue", self.name);
        assert!(!self.thread.is_finished(), "{after}: the {} has ended", self.name);
        let stall = Duration::from_micros(self.progress.longest_stall.swap(0, SeqCst));
        println!("{after}: longest stall of the {}: {stall:?}", self.name);
        assert!(stall < LONGEST_STALL, "{after}: the {} stalled {stall:?}", self.name);
    }

    fn end(mut self) {
        self.progress.is_over.store(true, SeqCst);
        let result = self.thread.join().unwrap();
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert_eq!(result, Ok(()), "{}", self.name);
    }
}

#[test]
#[ignore = "needs OpenSSH, which the soak unpacks"]
fn soak_ssh_session_and_copy_survive_attach_apply_detach_and_teardown() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    configure_host(&lab);
    let before = snapshot(&lab);
    let server = Server::start(&lab);
    let connections = [Connection::session(&server), Connection::copy(&server)];
    let check = |after: &str| connections.iter().for_each(|connection| connection.continues(after));
    check("login");
    let mut daemon = Daemon::start_in(&lab).unwrap();
    let file = lab.directory().join("ipmp.toml");
    let write = |more: &str| {
        let members = "e1000g1 = {}\nrge0 = { standby = true }\ne1000g0 = {}\n";
        let text = format!("[group.production0]\n{more}\n[group.production0.members]\n{members}");
        fs::write(&file, text).unwrap();
    };
    write("addresses = [\"192.168.178.210/24\"]\nhash = \"flow\"\nfdt = \"1s\"\nprobe = \"arp\"");
    let run = |line: &str| {
        daemon.ctl(line).unwrap();
        check(line);
    };
    run("attach e1000g0 --group production0");
    run("attach e1000g1 --group production0");
    run(&format!("apply {}", file.display()));
    // Removes what the other one has added.
    write("");
    run(&format!("apply {}", file.display()));
    run("detach e1000g1");
    run("detach rge0");
    run("detach e1000g0 --restore");
    run("attach e1000g0 e1000g1 --group production0");
    let login = server.run("echo $SSH_CONNECTION");
    assert!(String::from_utf8_lossy(&login.stdout).contains(&PLAIN.to_string()), "{login:?}");
    daemon.kill().unwrap();
    daemon.teardown().unwrap();
    check("ipmpd --teardown");
    connections.into_iter().for_each(Connection::end);
    drop(server);
    assert_same(&lab, &before, "ipmpd --teardown");
}

/// Rules that accept new connections on the NIC only.
fn firewall() -> String {
    "table inet firewall {
        chain input {
            type filter hook input priority filter; policy drop
            ct state established accept
            iifname e1000g0 tcp dport 22 accept
            icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        }
    }\n"
    .into()
}

#[test]
#[ignore = "needs OpenSSH, which the soak unpacks"]
fn soak_ssh_connections_that_a_firewall_refuses_are_possible_again_after_confirm_deadline() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    configure_host(&lab);
    // Else another NIC replies for the address, and the connection comes in through that one.
    lab.host().sysctl("net.ipv4.conf.all.arp_ignore", "1").unwrap();
    let server = Server::start(&lab);
    let rules = lab.directory().join("firewall.nft");
    fs::write(&rules, firewall()).unwrap();
    command::run(lab.host().command("nft").arg("-f").arg(&rules)).unwrap();
    let before = snapshot(&lab);
    let session = Connection::session(&server);
    session.continues("login");
    assert!(server.run("true").status.success());
    let mut daemon = Daemon::start_in(&lab).unwrap();

    let refused = daemon.ctl_error("attach e1000g0 e1000g1 --group production0").unwrap();
    assert!(refused.contains("nftables inet firewall input"), "{refused}");
    // The operator has only the session, and it survives.
    println!("{}", daemon.ctl("attach e1000g0 e1000g1 --group production0 --confirm 6").unwrap().trim());
    session.continues("attach --confirm");
    let login = server.run("true");
    assert!(!login.status.success(), "the firewall does not refuse new connections");
    println!("new connection: {}", String::from_utf8_lossy(&login.stderr).trim());
    assert!(wait_until(60 * SECOND, || lab.host().link(GROUP).is_err()), "not undone");
    session.continues("undone");
    let start = Instant::now();
    let again = wait_until(TIMEOUT, || server.run("true").status.success());
    assert!(again, "no new connection after the undo");
    println!("new connection {:?} after the undo", start.elapsed());
    session.end();
    daemon.terminate().unwrap();
    drop(server);
    assert_same(&lab, &before, "undone at the deadline");
}
