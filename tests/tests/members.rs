//! Members are moved to another network namespace, or deleted and recreated, with traffic, and with the daemon running,
//! stopped or killed: no traffic is black-holed, and no frame of the group appears in the other namespace.

lab::lane!(alone);

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use lab::network::{DATA, DATA6};
use lab::packet::PacketSocket;
use lab::ping;
use lab::production::GROUP;
use lab::stream::{Report, Running};
use lab::{Lab, MS, MeasurementLock, Namespace, Production, SECOND, Stream, command, wait_until};
use socket2::SockFilter;

/// A further data address, so that every member answers for one.
const FURTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 210);
/// What the moved member has for itself in its new namespace.
const MOVED: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 77);
/// Packets per second to the host, by each of the two streams.
const INWARD: u64 = 2_000;
/// Packets on their way into a device at the moment in which it stops: one or two a processor.
const UNDER_WAY: u64 = 4;
/// For how long nothing may arrive for the address of a member that goes, before another is announced for it.
const OUTAGE: Duration = Duration::from_millis(500);

/// What is to be seen in the other namespace.
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

/// A namespace with an interface that has the group interface's index, and somebody who looks at every frame there.
struct Attic {
    namespace: Namespace,
    seen: Arc<Seen>,
    watcher: Option<JoinHandle<()>>,
}

impl Attic {
    fn new(lab: &Lab) -> Self {
        let namespace = lab.namespace("attic").unwrap();
        // The interfaces of the attic say nothing by themselves.
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
        let theirs = seen.clone();
        let watcher = std::thread::spawn(move || watch(&socket, index, &theirs));
        Self { namespace, seen, watcher: Some(watcher) }
    }

    /// Stops looking; nothing of ours may have been seen.
    fn assert_untouched(&mut self, what: &str) {
        self.seen.stop.store(true, SeqCst);
        self.watcher.take().unwrap().join().unwrap();
        let [decoy, ours, bait] =
            [&self.seen.decoy, &self.seen.ours, &self.seen.bait].map(|n| n.load(SeqCst));
        println!(
            "{what}: in the other namespace {decoy} injected, {ours} of ours sent, {bait} for us left alone"
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

/// What the daemon does while a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Daemon {
    Awake,
    Stopped,
    Dead,
}

/// The streams of a test, and the member that is about to go: the one that answers for [`DATA`].
struct Scene<'lab> {
    lab: &'lab Lab,
    production: Production<'lab>,
    member: String,
    out: Running,
    /// To the data address of the member that goes.
    bait: Running,
    /// To that of another.
    safe: Running,
    /// Lines of the log when all was well.
    lines: usize,
    /// Frames that had died in the ports.
    died: u64,
}

impl<'lab> Scene<'lab> {
    fn set(lab: &'lab Lab) -> Self {
        let production = Production::create(lab).unwrap();
        production.daemon.ctl(&format!("address add {FURTHER}/24 --group {GROUP}")).unwrap();
        let member = production.inbound(DATA).unwrap();
        let safe = [IpAddr::from(FURTHER), DATA6.into()]
            .into_iter()
            .find(|address| production.inbound(*address).unwrap() != member)
            .expect("an address that another member answers for");
        let (peer, other) = (lab.peer(0), lab.peer(1));
        let out = Stream::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).flows(32).rate(50_000);
        let inward =
            |address: IpAddr| Stream::new(other.namespace(), lab.host(), address).flows(2).rate(INWARD);
        let (out, bait, safe) =
            (out.start().unwrap(), inward(DATA.into()).start().unwrap(), inward(safe).start().unwrap());
        for running in [&out, &bait, &safe] {
            running.wait_received(1_000, 5 * SECOND).unwrap();
        }
        let (lines, died) = (production.daemon.log().len(), dropped_in_ports(lab));
        Self { lab, production, member, out, bait, safe, lines, died }
    }

    /// Sends the daemon away, if it is to be.
    fn dismiss(&mut self, daemon: Daemon) {
        match daemon {
            Daemon::Awake => {}
            Daemon::Stopped => self.production.daemon.stop().unwrap(),
            Daemon::Dead => self.production.daemon.kill().unwrap(),
        }
    }

    /// Lets it find out what has happened.
    fn call_back(&mut self, daemon: Daemon) {
        assert!(self.said().is_empty(), "{:?}", self.said());
        match daemon {
            Daemon::Awake => {}
            Daemon::Stopped => self.production.daemon.resume().unwrap(),
            Daemon::Dead => self.production.daemon.start().unwrap(),
        }
    }

    /// The lines that were said of the member since.
    fn said(&self) -> Vec<String> {
        let lines = self.production.daemon.log().into_iter().skip(self.lines);
        lines.filter(|line| line.contains(&self.member)).collect()
    }

    /// The daemon notices: one line, and the group is without the member, whose address is answered for by another.
    fn noticed(&self, what: &str) {
        let line = format!("IP interface {} has left group {GROUP}", self.member);
        self.production.daemon.wait_line(&line, self.lines, 5 * SECOND).unwrap();
        self.production.wait_usable(2).unwrap();
        assert!(self.production.member(&self.member).is_err());
        assert_ne!(self.production.inbound(DATA).unwrap(), self.member);
        self.bait.wait_received(INWARD / 4, 5 * SECOND).unwrap();
        self.said_once(what, &line);
    }

    /// That line is the only one that says that it went, and none complains.
    fn said_once(&self, what: &str, line: &str) {
        let all = self.production.daemon.log().split_off(self.lines);
        println!("{what}: ipmpd said:\n  {}", all.join("\n  "));
        assert_eq!(all.iter().filter(|said| said.contains(line)).count(), 1, "{all:?}");
        let complaints: Vec<_> =
            all.iter().filter(|said| ["WARN", "ERROR"].iter().any(|level| said.contains(level))).collect();
        assert!(complaints.is_empty(), "{what}: {complaints:?}");
    }

    /// The member is attached again, and carries its share; `sent` tells how many packets it has sent.
    fn attach_again(&self, what: &str, sent: impl Fn() -> u64) {
        self.production.daemon.ctl(&format!("attach {} --group {GROUP}", self.member)).unwrap();
        self.production.wait_usable(3).unwrap();
        let before = sent();
        self.out.wait_received(20_000, 5 * SECOND).unwrap();
        let carried = sent() - before;
        println!("{what}, attached again: {carried} of the next 20,000 packets through {}", self.member);
        // Of 32 flows chance may give it few, hardly none.
        assert!(carried > 500, "{what}: only {carried} of 20,000 packets through {}", self.member);
    }

    /// Stops the streams; `died` frames are known to have died in a device on their way out.
    fn judge(self, what: &str, daemon: Daemon, died: u64) -> Production<'lab> {
        let died = died + dropped_in_ports(self.lab).saturating_sub(self.died);
        let [out, bait, safe] = [self.out, self.bait, self.safe].map(|running| running.stop().unwrap());
        let outage = |report: &Report| Duration::from_secs_f64(report.lost() as f64 / INWARD as f64);
        println!("{what}, out: {out}; dropped by ports: {died}");
        println!("{what}, to the member that went: {bait}; away for {:?}", outage(&bait));
        println!("{what}, to another member: {safe}");
        for report in [&out, &bait, &safe] {
            report.ensure_valid().unwrap();
            assert_eq!((report.reordered(), report.duplicated()), (0, 0), "{what}: {report}");
        }
        assert!(out.lost() <= died + UNDER_WAY, "{what}: {died} dropped by ports, {out}");
        assert_eq!(safe.lost(), 0, "{what}, to another member: {safe}");
        // Without a daemon there is no announcement, and the peer still sends to the old MAC.
        assert!(daemon != Daemon::Awake || outage(&bait) < OUTAGE, "{what}, to the member that went: {bait}");
        self.production
    }
}

fn dropped_in_ports(lab: &Lab) -> u64 {
    let dropped = |member: &lab::Member| member.cable().port().map_or(0, |port| port.rx_dropped);
    lab.members().iter().map(dropped).sum()
}

/// Moves the member, brings it up in the other namespace, and lets it talk there for itself.
fn moved(daemon: Daemon) {
    let _lock = MeasurementLock::acquire().unwrap();
    let what = &format!("moved, daemon {daemon:?}");
    let lab = Lab::tutorial().unwrap();
    let mut scene = Scene::set(&lab);
    let mut attic = Attic::new(&lab);
    let member = scene.member.clone();
    let dropped = |namespace: &Namespace| namespace.link(&member).unwrap().statistics.tx_dropped;
    let before = dropped(lab.host());
    scene.dismiss(daemon);

    let start = Instant::now();
    lab.host().ip(&format!("link set {member} netns {}", attic.namespace.name())).unwrap();
    attic.namespace.ip(&format!("link set {member} up")).unwrap();
    println!("{what}: {member} moved and up again within {:?}", start.elapsed());
    assert!(attic.namespace.wait_carrier(&member, true, 5 * SECOND));
    attic.namespace.ip(&format!("addr add {MOVED}/24 dev {member}")).unwrap();
    if daemon == Daemon::Awake {
        scene.noticed(what);
    }
    scene.out.wait_received(20_000, 5 * SECOND).unwrap();

    // The namespace has the interface for itself.
    let peer = lab.peer(1);
    let reached = || peer.ping(MOVED.into(), 5, 10 * MS, SECOND).unwrap();
    assert!(wait_until(5 * SECOND, || reached().answered == 5), "{what}: {MOVED} cannot be reached");
    let resolved = peer.resolve(MOVED.into(), 200 * MS).unwrap();
    let macs: Vec<_> = resolved.iter().map(|answer| answer.mac).collect();
    assert_eq!(macs, [lab.member(&member).mac()], "{what}");
    let answers = ping(&attic.namespace, None, peer.v4().into(), 5, 10 * MS, SECOND).unwrap();
    assert_eq!((answers.answered, answers.duplicates), (5, 0), "{what}: from there");

    if daemon != Daemon::Awake {
        // The peers have no new MAC and still send there. These frames must be ignored.
        let bait = &attic.seen.bait;
        let arrives = wait_until(5 * SECOND, || bait.load(SeqCst) > INWARD);
        assert!(arrives, "{what}: no frame for the old member arrived");
        scene.call_back(daemon);
        scene.noticed(what);
    }
    let died = dropped(&attic.namespace) - before;
    // Nothing of ours is left on it.
    let programs = attic.namespace.run(|| SchedClassifier::query_tcx(&member, TcAttachType::Ingress));
    assert_eq!(
        programs.map_or(0, |(_, programs)| programs.len()),
        0,
        "{what}: programs in the other namespace"
    );
    let qdiscs = command::run(attic.namespace.command("tc").args(["qdisc", "show", "dev", &member])).unwrap();
    assert!(!qdiscs.contains("clsact"), "{what}: {qdiscs}");

    // It comes home, and is attached again.
    let home = || lab.host().link(&member).unwrap();
    attic.namespace.ip(&format!("link set {member} netns {}", lab.host().name())).unwrap();
    lab.host().ip(&format!("link set {member} up")).unwrap();
    scene.attach_again(what, || home().statistics.tx_packets);
    let production = scene.judge(what, daemon, died);
    attic.assert_untouched(what);
    production.assert_clean();
}

#[test]
fn member_moved_to_another_namespace() {
    lab::needs_root!();
    moved(Daemon::Awake);
}

#[test]
fn member_moved_to_another_namespace_with_the_daemon_stopped() {
    lab::needs_root!();
    moved(Daemon::Stopped);
}

#[test]
fn member_moved_to_another_namespace_with_the_daemon_killed() {
    lab::needs_root!();
    moved(Daemon::Dead);
}

/// Deletes the member, makes it anew with the same name, index and MAC, and attaches it again.
fn deleted(daemon: Daemon) {
    let _lock = MeasurementLock::acquire().unwrap();
    let what = &format!("deleted, daemon {daemon:?}");
    let lab = Lab::tutorial().unwrap();
    let mut scene = Scene::set(&lab);
    let member = scene.member.clone();
    let index = lab.host().link(&member).unwrap().index;
    scene.dismiss(daemon);
    // Its port is deleted with it, and with that the account of what died there.
    lab.host().ip(&format!("link del {member}")).unwrap();
    if daemon == Daemon::Awake {
        scene.noticed(what);
    }
    scene.out.wait_received(20_000, 5 * SECOND).unwrap();

    lab.recreate_member(&member).unwrap();
    let anew = || lab.host().link(&member).unwrap();
    assert_eq!(anew().index, index);
    scene.out.wait_received(20_000, 5 * SECOND).unwrap();
    // It has the name, the index and the MAC of a member, and is none.
    let sent = anew().statistics.tx_packets;
    assert!(sent < 100, "{what}: {sent} packets sent by an interface that is no member");
    if daemon != Daemon::Awake {
        scene.call_back(daemon);
        scene.noticed(what);
    }

    scene.attach_again(what, || anew().statistics.tx_packets);
    scene.judge(what, daemon, 0).assert_clean();
}

#[test]
fn deleted_member_is_recreated() {
    lab::needs_root!();
    deleted(Daemon::Awake);
}

#[test]
fn deleted_member_is_recreated_with_the_daemon_stopped() {
    lab::needs_root!();
    deleted(Daemon::Stopped);
}
