//! Members are moved to another network namespace and back, or deleted and recreated, with traffic, and with the daemon
//! running, stopped or killed: no traffic is black-holed, no frame of the group appears in the other namespace, and the member
//! rejoins.

lab::lane!(alone);

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use ipmp::types::MemberState;
use lab::network::{DATA, DATA6};
use lab::packet::PacketSocket;
use lab::ping;
use lab::production::GROUP;
use lab::stream::{Report, Running};
use lab::{Lab, MS, MeasurementLock, Namespace, Production, SECOND, Stream, command, wait_until};
use socket2::SockFilter;

/// A further data address, so that every member answers for one.
const FURTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 210);
/// The address of the moved member in its new namespace.
const MOVED: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 77);
/// Packets per second to the host, by each of the two streams.
const INWARD: u64 = 2_000;
/// Packets in flight to a device when it stops: one or two a processor.
const IN_FLIGHT: u64 = 4;
/// Limit of the time without packets to the address of a removed member, until another member is announced for it.
const OUTAGE: Duration = Duration::from_millis(500);

/// Frames received in the other namespace.
#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    /// Frames on the interface that has the group interface's index, either way.
    decoy: AtomicU64,
    /// Frames with a data address as source that leave by the moved member.
    ours: AtomicU64,
    /// Packets for a data address that arrive by the moved member: the bait.
    bait: AtomicU64,
}

/// A namespace with an interface that has the group interface's index, and a thread that captures all frames there.
struct OtherNamespace {
    namespace: Namespace,
    seen: Arc<Seen>,
    watcher: Option<JoinHandle<()>>,
}

impl OtherNamespace {
    fn new(lab: &Lab) -> Self {
        let namespace = lab.namespace("other").unwrap();
        // Its interfaces send nothing on their own.
        namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1").unwrap();
        let index = lab.host().link(GROUP).unwrap().index;
        namespace.ip(&format!("link add decoy index {index} type veth peer name decoy-far")).unwrap();
        namespace.ip("link set decoy-far up").unwrap();
        namespace.ip("link set decoy up").unwrap();
        assert_eq!(namespace.link("decoy").unwrap().index, index);
        let every = [SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 128)];
        let socket = PacketSocket::open(&namespace, None, &every).unwrap();
        socket.set_buffer(16 << 20).unwrap();
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        let watcher = std::thread::spawn(move || watch(&socket, index, &shared));
        Self { namespace, seen, watcher: Some(watcher) }
    }

    /// Stops the capture; no frame of the group may have been seen.
    fn assert_untouched(&mut self, what: &str) {
        self.seen.stop.store(true, SeqCst);
        self.watcher.take().unwrap().join().unwrap();
        let [decoy, ours, bait] =
            [&self.seen.decoy, &self.seen.ours, &self.seen.bait].map(|n| n.load(SeqCst));
        println!(
            "{what}: in the other namespace {decoy} injected, {ours} of the group sent, {bait} for the group ignored"
        );
        assert_eq!((decoy, ours), (0, 0), "{what}: seen in the other namespace");
    }
}

fn watch(socket: &PacketSocket, decoy: u32, seen: &Seen) {
    let mut buffer = [0; 128];
    let data = |at: &[u8]| [DATA, FURTHER].iter().any(|address| at == address.octets());
    loop {
        let stopping = seen.stop.load(SeqCst);
        let timeout = if stopping { Duration::ZERO } else { 20 * MS };
        let Some(frame) = socket.receive(&mut buffer, timeout).unwrap() else {
            if stopping {
                assert_eq!(socket.statistics().unwrap().1, 0, "frames were missed in the other namespace");
                return;
            }
            continue;
        };
        let ip = buffer[12..14] == [8, 0];
        if frame.index == decoy {
            seen.decoy.fetch_add(1, SeqCst);
        } else if frame.outgoing && ip && data(&buffer[26..30]) {
            seen.ours.fetch_add(1, SeqCst);
        } else if !frame.outgoing && ip && data(&buffer[30..34]) {
            seen.bait.fetch_add(1, SeqCst);
        }
    }
}

/// State of the daemon while a member is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Daemon {
    Running,
    Stopped,
    Killed,
}

/// The streams of a test, and the member that will be removed: the inbound member of [`DATA`].
struct Scene<'lab> {
    lab: &'lab Lab,
    production: Production<'lab>,
    member: String,
    out: Running,
    /// To the data address of the removed member.
    bait: Running,
    /// To the data address of another member.
    safe: Running,
    /// Lines of the log before the removal.
    lines: usize,
    /// Frames dropped by ports before the removal.
    dropped: u64,
}

impl<'lab> Scene<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        let production = Production::create(lab).unwrap();
        production.daemon.ctl(&format!("address add {FURTHER}/24 --group {GROUP}")).unwrap();
        let member = production.inbound(DATA).unwrap();
        let safe = [IpAddr::from(FURTHER), DATA6.into()]
            .into_iter()
            .find(|address| production.inbound(*address).unwrap() != member)
            .expect("an address with another inbound member");
        let (peer, other) = (lab.peer(0), lab.peer(1));
        let out = Stream::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).flows(32).rate(50_000);
        let inward =
            |address: IpAddr| Stream::new(other.namespace(), lab.host(), address).flows(2).rate(INWARD);
        let (out, bait, safe) =
            (out.start().unwrap(), inward(DATA.into()).start().unwrap(), inward(safe).start().unwrap());
        for running in [&out, &bait, &safe] {
            running.wait_received(1_000, 5 * SECOND).unwrap();
        }
        let (lines, dropped) = (production.daemon.log().len(), dropped_in_ports(lab));
        Self { lab, production, member, out, bait, safe, lines, dropped }
    }

    /// Stops or kills the daemon, if the test requires it.
    fn stop_daemon(&mut self, daemon: Daemon) {
        match daemon {
            Daemon::Running => {}
            Daemon::Stopped => self.production.daemon.stop().unwrap(),
            Daemon::Killed => self.production.daemon.kill().unwrap(),
        }
    }

    /// Continues or restarts the daemon.
    fn resume_daemon(&mut self, daemon: Daemon) {
        assert!(self.messages().is_empty(), "{:?}", self.messages());
        match daemon {
            Daemon::Running => {}
            Daemon::Stopped => self.production.daemon.resume().unwrap(),
            Daemon::Killed => self.production.daemon.start().unwrap(),
        }
    }

    /// Messages about the member since the removal.
    fn messages(&self) -> Vec<String> {
        let lines = self.production.daemon.log().into_iter().skip(self.lines);
        lines.filter(|line| line.contains(&self.member)).collect()
    }

    /// The daemon logs the removal once, and another member becomes the inbound member of the address.
    fn wait_absent(&self, what: &str) {
        self.wait_line(what, "is absent");
        self.production.wait_usable(2).unwrap();
        assert_eq!(self.production.member(&self.member).unwrap().state, MemberState::Absent);
        assert_ne!(self.production.inbound(DATA).unwrap(), self.member);
        self.bait.wait_received(INWARD / 4, 5 * SECOND).unwrap();
    }

    /// What happened to the member was logged once, with no error.
    fn wait_line(&self, what: &str, event: &str) {
        let line = format!("IP interface {} of group {GROUP} {event}", self.member);
        self.production.daemon.wait_line(&line, self.lines, 5 * SECOND).unwrap();
        let all = self.production.daemon.log().split_off(self.lines);
        println!("{what}: ipmpd logged:\n  {}", all.join("\n  "));
        assert_eq!(all.iter().filter(|message| message.contains(&line)).count(), 1, "{all:?}");
        let errors: Vec<_> = all.iter().filter(|message| message.contains("ERROR")).collect();
        assert!(errors.is_empty(), "{what}: {errors:?}");
    }

    /// The member rejoins by itself and transmits its share; `sent` returns how many packets it has sent.
    fn wait_returned(&self, what: &str, sent: impl Fn() -> u64) {
        self.wait_line(what, "has returned");
        self.production.wait_usable(3).unwrap();
        let before = sent();
        self.out.wait_received(20_000, 5 * SECOND).unwrap();
        let share = sent() - before;
        println!("{what}, returned: {share} of the next 20,000 packets through {}", self.member);
        // Each of the 32 flows selects a member by its hash: few may select this one.
        assert!(share > 500, "{what}: only {share} of 20,000 packets through {}", self.member);
    }

    /// Stops the streams and checks them; `dropped` outbound frames are known to have been dropped by a device.
    fn check_streams(self, what: &str, daemon: Daemon, dropped: u64) -> Production<'lab> {
        let dropped = dropped + dropped_in_ports(self.lab).saturating_sub(self.dropped);
        let [out, bait, safe] = [self.out, self.bait, self.safe].map(|running| running.stop().unwrap());
        let outage = |report: &Report| Duration::from_secs_f64(report.lost() as f64 / INWARD as f64);
        println!("{what}, out: {out}; dropped by ports: {dropped}");
        println!("{what}, to the removed member: {bait}; outage {:?}", outage(&bait));
        println!("{what}, to another member: {safe}");
        for report in [&out, &bait, &safe] {
            report.ensure_valid().unwrap();
            assert_eq!((report.reordered(), report.duplicated()), (0, 0), "{what}: {report}");
        }
        assert!(out.lost() <= dropped + IN_FLIGHT, "{what}: {dropped} dropped by ports, {out}");
        assert_eq!(safe.lost(), 0, "{what}, to another member: {safe}");
        // Without a daemon there is no announcement: the peer still sends to the old MAC.
        assert!(daemon != Daemon::Running || outage(&bait) < OUTAGE, "{what}, to the removed member: {bait}");
        self.production
    }
}

fn dropped_in_ports(lab: &Lab) -> u64 {
    let dropped = |member: &lab::Member| member.cable().port().map_or(0, |port| port.rx_dropped);
    lab.members().iter().map(dropped).sum()
}

/// Moves the member, sets it up in the other namespace, and uses it there as an ordinary interface.
fn move_member(daemon: Daemon) {
    let _lock = MeasurementLock::acquire().unwrap();
    let what = &format!("moved, daemon {daemon:?}");
    let lab = Lab::tutorial().unwrap();
    let mut scene = Scene::new(&lab);
    let mut other = OtherNamespace::new(&lab);
    let member = scene.member.clone();
    let tx_dropped = |namespace: &Namespace| namespace.link(&member).unwrap().statistics.tx_dropped;
    let before = tx_dropped(lab.host());
    scene.stop_daemon(daemon);

    let start = Instant::now();
    lab.host().ip(&format!("link set {member} netns {}", other.namespace.name())).unwrap();
    other.namespace.ip(&format!("link set {member} up")).unwrap();
    println!("{what}: {member} moved and up again within {:?}", start.elapsed());
    assert!(other.namespace.wait_carrier(&member, true, 5 * SECOND));
    other.namespace.ip(&format!("addr add {MOVED}/24 dev {member}")).unwrap();
    if daemon == Daemon::Running {
        scene.wait_absent(what);
    }
    scene.out.wait_received(20_000, 5 * SECOND).unwrap();

    // The interface works in its new namespace.
    let peer = lab.peer(1);
    let reached = || peer.ping(MOVED.into(), 5, 10 * MS, SECOND).unwrap();
    assert!(wait_until(5 * SECOND, || reached().answered == 5), "{what}: {MOVED} cannot be reached");
    let resolved = peer.resolve(MOVED.into(), 200 * MS).unwrap();
    let macs: Vec<_> = resolved.iter().map(|answer| answer.mac).collect();
    assert_eq!(macs, [lab.member(&member).mac()], "{what}");
    let answers = ping(&other.namespace, None, peer.v4().into(), 5, 10 * MS, SECOND).unwrap();
    assert_eq!((answers.answered, answers.duplicates), (5, 0), "{what}: from there");

    if daemon != Daemon::Running {
        // The peers still send to the old MAC. These frames must be ignored.
        let bait = &other.seen.bait;
        let arrives = wait_until(5 * SECOND, || bait.load(SeqCst) > INWARD);
        assert!(arrives, "{what}: no frame for the old member arrived");
        scene.resume_daemon(daemon);
        scene.wait_absent(what);
    }
    let dropped = tx_dropped(&other.namespace) - before;
    // No program of ipmpd is left on it.
    let programs = other.namespace.run(|| SchedClassifier::query_tcx(&member, TcAttachType::Ingress));
    assert_eq!(
        programs.map_or(0, |(_, programs)| programs.len()),
        0,
        "{what}: programs in the other namespace"
    );
    let qdiscs = command::run(other.namespace.command("tc").args(["qdisc", "show", "dev", &member])).unwrap();
    assert!(!qdiscs.contains("clsact"), "{what}: {qdiscs}");

    // It is moved back.
    let moved_back = || lab.host().link(&member).unwrap();
    other.namespace.ip(&format!("link set {member} netns {}", lab.host().name())).unwrap();
    lab.host().ip(&format!("link set {member} up")).unwrap();
    scene.wait_returned(what, || moved_back().statistics.tx_packets);
    let production = scene.check_streams(what, daemon, dropped);
    other.assert_untouched(what);
    production.assert_clean();
}

#[test]
fn member_moved_to_another_namespace_and_back_rejoins() {
    lab::needs_root!();
    move_member(Daemon::Running);
}

#[test]
fn member_moved_to_another_namespace_and_back_rejoins_with_the_daemon_stopped() {
    lab::needs_root!();
    move_member(Daemon::Stopped);
}

#[test]
fn member_moved_to_another_namespace_and_back_rejoins_with_the_daemon_killed() {
    lab::needs_root!();
    move_member(Daemon::Killed);
}

/// Deletes the member, and recreates it with the same name, index and MAC.
fn delete_member(daemon: Daemon) {
    let _lock = MeasurementLock::acquire().unwrap();
    let what = &format!("deleted, daemon {daemon:?}");
    let lab = Lab::tutorial().unwrap();
    let mut scene = Scene::new(&lab);
    // The bridge that is the switch learns up to a second late that the new cable has a carrier, and forwards nothing before.
    scene.production.daemon.ctl(&format!("set {GROUP} updelay=1500ms")).unwrap();
    let member = scene.member.clone();
    let index = lab.host().link(&member).unwrap().index;
    scene.stop_daemon(daemon);
    // Its port is deleted with it, and so are the counters of frames dropped there.
    lab.host().ip(&format!("link del {member}")).unwrap();
    if daemon == Daemon::Running {
        scene.wait_absent(what);
    }
    scene.out.wait_received(20_000, 5 * SECOND).unwrap();

    lab.recreate_member(&member).unwrap();
    let recreated = || lab.host().link(&member).unwrap();
    assert_eq!(recreated().index, index);
    scene.out.wait_received(20_000, 5 * SECOND).unwrap();
    if daemon != Daemon::Running {
        // It has the name, index and MAC of a member, but is not a member.
        let sent = recreated().statistics.tx_packets;
        assert!(sent < 100, "{what}: {sent} packets sent by an interface that is not a member");
        scene.resume_daemon(daemon);
        scene.wait_line(what, "is absent");
    }
    scene.wait_returned(what, || recreated().statistics.tx_packets);
    scene.check_streams(what, daemon, 0).assert_clean();
}

#[test]
fn deleted_member_that_is_recreated_rejoins() {
    lab::needs_root!();
    delete_member(Daemon::Running);
}

#[test]
fn deleted_member_that_is_recreated_rejoins_with_the_daemon_stopped() {
    lab::needs_root!();
    delete_member(Daemon::Stopped);
}
