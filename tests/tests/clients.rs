//! Clients of the control socket, hostile ones included, and the reader of the log: none of them delays a failover.

lab::lane!(alone);

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use ipmp::types::{Family, MemberState};
use lab::{
    Daemon, Lab, MS, MeasurementLock, MemberKind, Production, SECOND, Stream, TIMEOUT,
    network::{DATA, ROUTER},
    process::memory,
    wait_until,
};

/// Users that hold as many connections as they get.
const HOLDERS: u32 = 40;
const CONNECTIONS: usize = 32;
const FIRST_UID: u32 = 61_000;
/// Most memory that all of them cost.
const MEMORY: u64 = 32 << 20;

const SHOW: &[u8] = b"{\"method\":\"net.ipmp.Manager.Show\",\"parameters\":{\"name\":null}}\0";

/// Makes the calling thread another user. The calls of the C library would change every thread of the process.
fn become_user(uid: u32) {
    // SAFETY: the calls take numbers only.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            libc::syscall(libc::SYS_setresgid, uid, uid, uid),
            libc::syscall(libc::SYS_setresuid, uid, uid, uid),
        ]
    };
    assert_eq!(results, [0; 3], "{}", std::io::Error::last_os_error());
}

/// What the hostile users did.
#[derive(Default)]
struct Attack {
    stop: AtomicBool,
    held: AtomicUsize,
    reconnected: AtomicUsize,
    calls: AtomicUsize,
}

impl Attack {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Opens all connections, begins a long call on each, and holds them.
    fn hold(&self, socket: &Path, uid: u32) {
        become_user(uid);
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            if let Ok(mut stream) = UnixStream::connect(socket) {
                let _ = stream.set_write_timeout(Some(100 * MS));
                let _ = stream.write_all(&vec![b' '; 1 << 20]);
                open.push(stream);
            }
        }
        self.held.fetch_add(open.len(), Ordering::Relaxed);
        while self.goes_on() {
            thread::sleep(10 * MS);
        }
    }

    /// Connects and closes as fast as it can.
    fn reconnect(&self, socket: &Path, uid: u32) {
        become_user(uid);
        while self.goes_on() {
            if UnixStream::connect(socket).is_ok() {
                self.reconnected.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Calls as fast as it can, and does not read the replies before it cannot send any more.
    fn call(&self, socket: &Path, uid: u32) {
        become_user(uid);
        while self.goes_on() {
            let Ok(mut stream) = UnixStream::connect(socket) else { continue };
            let _ = stream.set_write_timeout(Some(100 * MS));
            let _ = stream.set_read_timeout(Some(10 * MS));
            while self.goes_on() && stream.write_all(SHOW).is_ok() {
                self.calls.fetch_add(1, Ordering::Relaxed);
            }
            let _ = stream.read(&mut [0; 100]);
        }
    }
}

/// Sets the stop flag also when the test fails, so that it ends.
struct StopOnDrop<'a>(&'a Attack);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn hostile_users_neither_delay_failover_nor_fail_member() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let settings = format!("fdt=100ms targets={ROUTER}");
    let production = Production::create_probed(&lab, &[Family::V4], &settings).unwrap();
    production.wait_answered().unwrap();
    let (pid, socket) = (production.daemon.pid().unwrap(), production.daemon.socket());
    // Users reach the socket, as they reach that of an installed daemon.
    for directory in socket.ancestors().skip(1).take_while(|path| path.starts_with("/run/ipmp-lab")) {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    }
    let (before, since) = (memory(pid).unwrap().resident, production.daemon.log().len());
    let attack = Attack::default();
    thread::scope(|scope| {
        let _stop = StopOnDrop(&attack);
        let (attack, socket) = (&attack, socket.as_path());
        for uid in FIRST_UID..FIRST_UID + HOLDERS {
            scope.spawn(move || attack.hold(socket, uid));
        }
        for uid in FIRST_UID + HOLDERS..FIRST_UID + HOLDERS + 2 {
            scope.spawn(move || attack.reconnect(socket, uid));
            scope.spawn(move || attack.call(socket, uid + 2));
        }
        assert!(wait_until(TIMEOUT, || attack.held.load(Ordering::Relaxed) > 0));
        thread::sleep(2 * SECOND);
        // All members function, and root is answered.
        let start = Instant::now();
        let report = production.report().unwrap();
        let answered = start.elapsed();
        assert!(answered < 10 * SECOND, "ipmpctl show took {answered:?}");
        assert!(report.members.iter().all(|member| member.state == MemberState::Ok), "{report:?}");
        let stream =
            Stream::new(lab.host(), lab.peer(0).namespace(), lab.peer(0).v4()).source(DATA).rate(1000);
        let running = stream.start().unwrap();
        running.wait_received(200, TIMEOUT).unwrap();
        lab.member("e1000g0").cable().pull().unwrap();
        production.wait_state("e1000g0", MemberState::Failed, TIMEOUT).unwrap();
        thread::sleep(SECOND);
        let sent = running.stop().unwrap();
        let grown = memory(pid).unwrap().resident.saturating_sub(before);
        println!(
            "{} connections held, {} made, {} calls sent; show took {answered:?}; memory grew by {} KiB; {sent}",
            attack.held.load(Ordering::Relaxed),
            attack.reconnected.load(Ordering::Relaxed),
            attack.calls.load(Ordering::Relaxed),
            grown >> 10
        );
        // To close the far end takes the kernel tens of milliseconds on a machine as busy as this.
        assert!(sent.lost() < 500, "{sent}");
        assert!(grown < MEMORY, "{grown} bytes");
    });
    let mut failed = production.daemon.log_matches("failure detected", since);
    failed.retain(|line| !line.contains("on e1000g0"));
    assert_eq!(failed, [""; 0], "members failed by their probes");
    let lines = production.daemon.log().len() - since;
    println!("{lines} lines of the log");
    assert!(lines < 200, "{:#?}", production.daemon.log());
    production.assert_clean();
}

#[test]
fn daemon_works_while_nothing_reads_its_log() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let daemon = Daemon::builder(&lab).environment("RUST_LOG", "debug").unread_log().start().unwrap();
    let production = Production::builder(&lab).daemon(daemon).create().unwrap();
    // More than the pipe holds.
    for _ in 0..30 {
        production.daemon.ctl("offline e1000g1").unwrap();
        production.daemon.ctl("online e1000g1").unwrap();
    }
    lab.member("e1000g0").cable().pull().unwrap();
    production.wait_state("e1000g0", MemberState::Failed, TIMEOUT).unwrap();
    production.assert_clean();
}

/// Whether a thread of the daemon loads programs.
fn loads_programs(daemon: &Daemon) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid().unwrap())).unwrap();
    let names = tasks.flatten().map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    names.into_iter().any(|name| name.trim() == "load")
}

#[test]
fn failure_of_a_member_is_handled_while_an_attach_loads_programs() {
    lab::needs_root!();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let daemon = &production.daemon;
    daemon.ctl("detach rge0").unwrap();
    // The attach can end before the cable is out.
    let is_handled_meanwhile = || {
        let since = daemon.log().len();
        thread::scope(|scope| {
            let attach =
                scope.spawn(|| daemon.ctl("attach rge0 --group other").map_err(|error| error.to_string()));
            assert!(
                wait_until(TIMEOUT, || loads_programs(daemon) || attach.is_finished()),
                "no thread loads programs"
            );
            lab.cable(1).pull().unwrap();
            attach.join().unwrap().unwrap();
        });
        daemon.wait_line("failure detected on e1000g0", since, TIMEOUT).unwrap();
        let log = daemon.log()[since..].to_vec();
        let line = |text: &str| {
            log.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log:#?}"))
        };
        let [failed, joined] = ["failure detected on e1000g0", "rge0 has joined group other"].map(line);
        lab.cable(1).replug().unwrap();
        daemon.wait_line("repair detected on e1000g0", since, TIMEOUT).unwrap();
        daemon.ctl("detach rge0 --restore").unwrap();
        println!("failed: line {failed}, joined: line {joined}");
        failed < joined
    };
    assert!((0..2).any(|_| is_handled_meanwhile()));
    production.assert_clean();
}
