//! A capture on the group interface shows each packet of the group once, in both directions. Without a capture no packet is
//! copied.

lab::lane!(alone);

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use lab::network::DATA;
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{Lab, Mac, MeasurementLock, Production, SECOND, Stream, TIMEOUT, filter, wait_until};

/// Bytes; enough for all packets of a test.
const BUFFER: usize = 64 << 20;

/// Waits until outbound packets are copied to the group interface, or no longer are.
fn wait_active(production: &Production<'_>, active: bool) {
    let reached = wait_until(TIMEOUT, || production.report().unwrap().capture.active == active);
    assert!(reached, "active did not become {active}:\n{}", production.daemon.ctl("show").unwrap());
}

fn copies(production: &Production<'_>) -> u64 {
    production.report().unwrap().capture.copies
}

/// Packets that the members have sent.
fn sent(production: &Production<'_>) -> u64 {
    production.report().unwrap().members.iter().map(|member| member.traffic.out_packets).sum()
}

/// How often a capture has shown each packet of a stream: direction (outgoing), flow, number.
type Shown = BTreeMap<(bool, u32, u64), u64>;

/// A capture on the group interface like tcpdump's, in a thread.
struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Shown, Vec<String>)>,
}

impl Capture {
    fn start(lab: &Lab) -> Self {
        let socket = PacketSocket::open(lab.host(), Some(GROUP), &filter::ethertype(0x0800)).unwrap();
        socket.set_buffer(BUFFER).unwrap();
        let group = lab.host().link(GROUP).unwrap().mac;
        let stop = Arc::new(AtomicBool::new(false));
        let shared = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut shown, mut wrong) = (Shown::new(), Vec::new());
            let mut buffer = [0; 2048];
            loop {
                match socket.receive(&mut buffer, Duration::from_millis(20)).unwrap() {
                    Some(seen) => {
                        record(
                            &buffer[..seen.length.min(2048)],
                            seen.outgoing,
                            group,
                            &mut shown,
                            &mut wrong,
                        );
                    }
                    None if shared.load(SeqCst) => break,
                    None => {}
                }
            }
            let (_, missed) = socket.statistics().unwrap();
            assert_eq!(missed, 0, "the capture itself missed packets");
            (shown, wrong)
        });
        Self { stop, thread }
    }

    fn end(self) -> Shown {
        self.stop.store(true, SeqCst);
        let (shown, wrong) = self.thread.join().unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
        shown
    }
}

/// Records a packet of a stream: UDP from or to the data address. The payload begins with flow and number.
fn record(frame: &[u8], outgoing: bool, group: Mac, shown: &mut Shown, wrong: &mut Vec<String>) {
    let is_udp = frame.get(23) == Some(&17) && frame.len() >= 42 + 24;
    let address = |at: usize| frame.get(at..at + 4) == Some(&DATA.octets());
    if !is_udp || !address(if outgoing { 26 } else { 30 }) {
        return;
    }
    // The group interface sends and receives with its own MAC, which never leaves the host.
    let mac = if outgoing { &frame[6..12] } else { &frame[..6] };
    if mac != group {
        wrong.push(format!("outgoing {outgoing}: {:02x?}", &frame[..42]));
    }
    let flow = u32::from_be_bytes(frame[46..50].try_into().unwrap());
    let number = u64::from_be_bytes(frame[50..58].try_into().unwrap());
    *shown.entry((outgoing, flow, number)).or_default() += 1;
}

#[test]
fn capture_shows_each_packet_once_and_only_captures_cause_copies() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let (host, peer) = (lab.host(), lab.peer(0));
    let out = || Stream::new(host, peer.namespace(), peer.v4()).source(DATA).flows(8).rate(2_000);
    let inward = || Stream::new(peer.namespace(), host, DATA).flows(4).rate(2_000);

    // Daemons for LLDP and DHCP listen to one protocol; a capture on all interfaces shows every packet on its member.
    let others: Vec<_> = [0x88cc, 0x0800, 0x0806]
        .iter()
        .map(|protocol| PacketSocket::open_for(*protocol, host, Some(GROUP), &filter::ethertype(*protocol)))
        .chain([PacketSocket::open(host, None, &filter::ethertype(0x88cc))])
        .collect();
    let before = sent(&production);
    let running = out().start().unwrap();
    running.wait_received(2_000, TIMEOUT).unwrap();
    running.stop().unwrap().ensure_valid().unwrap();
    let capture = production.report().unwrap().capture;
    assert_eq!((capture.mode.as_str(), capture.active, capture.copies), ("auto", false, 0));
    assert!(sent(&production) >= before + 2_000);
    drop(others);

    let capture = Capture::start(&lab);
    wait_active(&production, true);
    let (before, copied) = (sent(&production), copies(&production));
    let (outward, inbound) = (out().start().unwrap(), inward().start().unwrap());
    outward.wait_received(2_000, TIMEOUT).unwrap();
    inbound.wait_received(2_000, TIMEOUT).unwrap();
    let reports = [(true, outward.stop().unwrap()), (false, inbound.stop().unwrap())];
    let (counted, copied) = (sent(&production) - before, copies(&production) - copied);
    let shown = capture.end();
    for (way, report) in &reports {
        println!("outgoing {way}: {report}");
        report.ensure_valid().unwrap();
        assert_eq!((report.lost(), report.duplicated()), (0, 0), "outgoing {way}: {report}");
        let here: Vec<u64> =
            shown.iter().filter(|((out, ..), _)| out == way).map(|(_, times)| *times).collect();
        assert_eq!(here.len() as u64, report.sent(), "outgoing {way}: packets shown");
        assert!(here.iter().all(|times| *times == 1), "outgoing {way}: some were shown more than once");
    }
    println!("{} packets shown, {copied} copied, {counted} sent by members", shown.len());
    // Copies do not count as traffic of a member; ARP and ND add a few packets to the stream.
    let outbound = reports[0].1.sent();
    assert!(
        (outbound..outbound + 100).contains(&counted),
        "{counted} sent by members, {outbound} by the stream"
    );
    assert!((outbound..outbound + 100).contains(&copied), "{copied} copied, {outbound} sent by the stream");

    wait_active(&production, false);
    let copied = copies(&production);
    assert!(lab.peer(0).ping(DATA.into(), 3, SECOND / 10, SECOND).unwrap().answered > 0);
    assert_eq!(copies(&production), copied);
    production.assert_clean();
}

#[test]
fn captures_started_and_stopped_cause_no_loss() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let (host, peer) = (lab.host(), lab.peer(0));
    let streams = [
        ("out", Stream::new(host, peer.namespace(), peer.v4()).source(DATA).flows(8).rate(20_000)),
        ("in", Stream::new(peer.namespace(), host, DATA).flows(4).rate(2_000)),
    ];
    let running = streams.map(|(way, stream)| (way, stream.start().unwrap()));
    for _ in 0..8 {
        let capture = PacketSocket::open(host, Some(GROUP), &filter::ethertype(0x0800)).unwrap();
        wait_active(&production, true);
        running[0].1.wait_received(2_000, TIMEOUT).unwrap();
        drop(capture);
        wait_active(&production, false);
        running[0].1.wait_received(2_000, TIMEOUT).unwrap();
    }
    for (way, stream) in running {
        let report = stream.stop().unwrap();
        println!("{way}, 8 captures: {report}");
        report.ensure_valid().unwrap();
        let faults = (report.lost(), report.reordered(), report.duplicated());
        assert_eq!(faults, (0, 0, 0), "{way}: {report}");
    }
    let copies = copies(&production);
    println!("{copies} packets were copied");
    assert!(copies >= 8_000, "{copies} packets were copied");
    production.assert_clean();
}

/// Settings take effect under traffic and are kept by the next daemon.
#[test]
fn settings_apply_at_once_and_survive_restart() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let mut production = Production::create(&lab).unwrap();
    let (host, peer) = (lab.host(), lab.peer(0));
    let running = Stream::new(host, peer.namespace(), peer.v4()).source(DATA).flows(32).rate(5_000);
    let running = running.start().unwrap();
    running.wait_received(500, TIMEOUT).unwrap();

    production.daemon.ctl(&format!("set {GROUP} capture=on hash=flow")).unwrap();
    production.daemon.ctl("set rge0 weight=6000").unwrap();
    wait_active(&production, true);
    let restarted = |production: &mut Production<'_>| {
        production.daemon.kill().unwrap();
        production.daemon.start().unwrap();
    };
    for turn in 0..2 {
        let report = production.report().unwrap();
        let weights: Vec<_> = report.members.iter().map(|member| (member.weight, member.slots)).collect();
        println!("turn {turn}: {:?}, hash {}, weights and slots {weights:?}", report.capture, report.hash);
        assert_eq!((report.capture.mode.as_str(), report.hash.as_str()), ("on", "flow"));
        let rge0 = production.member("rge0").unwrap();
        let others: u32 = report.members.iter().map(|member| member.weight).sum::<u32>() - rge0.weight;
        assert_eq!(rge0.weight, 6000);
        let share = 4096.0 * 6000.0 / f64::from(others + 6000);
        assert!((f64::from(rge0.slots) - share).abs() <= 1.0, "{} slots, not {share:.1}", rge0.slots);
        let copied = copies(&production);
        running.wait_received(1_000, TIMEOUT).unwrap();
        assert!(copies(&production) >= copied + 900);
        if turn == 0 {
            restarted(&mut production);
        }
    }

    production.daemon.ctl(&format!("set {GROUP} capture=off hash=connection")).unwrap();
    restarted(&mut production);
    let _capture = PacketSocket::open(host, Some(GROUP), &filter::ethertype(0x0800)).unwrap();
    wait_active(&production, false);
    let copied = copies(&production);
    running.wait_received(1_000, TIMEOUT).unwrap();
    let report = production.report().unwrap();
    assert_eq!((report.capture.copies, report.capture.mode.as_str()), (copied, "off"));
    assert_eq!(report.hash, ipmp::types::HashPolicy::Connection);
    assert!(production.daemon.ctl("show").unwrap().contains("capture off (inactive)"));

    let report = running.stop().unwrap();
    println!("settings changed: {report}");
    report.ensure_valid().unwrap();
    // A flow that changes its member may be reordered, but not lost.
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    for (command, error) in [
        (
            format!("set {GROUP} weight=5"),
            format!("ipmpctl: {GROUP} is a group and has no weight: a group has "),
        ),
        (
            "set rge0 capture=on".to_owned(),
            "ipmpctl: rge0 is a member and has no capture: a member has ".to_owned(),
        ),
        (
            "set unknown0 capture=on".to_owned(),
            "ipmpctl: unknown0 is neither a group nor a member of one; `ipmpctl show` lists all".to_owned(),
        ),
    ] {
        let text = production.daemon.ctl_error(&command).unwrap();
        assert!(text.starts_with(&error), "{text}");
    }
    assert_eq!(production.member("rge0").unwrap().weight, 6000);
    production.assert_clean();
}

/// Broadcasts of protocols such as DHCP are sent once, also while a capture copies them.
#[test]
fn captured_broadcast_is_received_once() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let _capture = PacketSocket::open(lab.host(), Some(GROUP), &filter::broadcast()).unwrap();
    wait_active(&production, true);
    let (host, peer) = (lab.host(), lab.peer(1));
    let broadcast = Ipv4Addr::new(192, 168, 178, 255);
    let streams = [
        ("peer", Stream::new(host, peer.namespace(), broadcast).source(DATA).rate(500)),
        ("the host itself", Stream::new(host, host, broadcast).source(DATA).rate(500)),
    ];
    let running = streams.map(|(receiver, stream)| (receiver, stream.start().unwrap()));
    for (receiver, stream) in running {
        stream.wait_received(500, TIMEOUT).unwrap();
        let report = stream.stop().unwrap();
        println!("broadcast received by {receiver}: {report}");
        report.ensure_valid().unwrap();
        assert_eq!((report.lost(), report.duplicated()), (0, 0), "{receiver}: {report}");
    }
    assert!(copies(&production) >= 1_000);
    production.assert_clean();
}
