//! With switches that flood all frames, promiscuous members and IP forwarding enabled on the host, there are no duplicates
//! and no loops, and the host accepts no frames for other hosts.

lab::lane!(alone);

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use etherparse::PacketBuilder;
use lab::network::{DATA, DATA6};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{Daemon, FrameCounters, Lab, MeasurementLock, Member, Production, SECOND, Stream, filter};

const BROADCAST: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 255);
/// Maximum number of other frames beside the streams, such as ARP and ND.
const OTHER_FRAMES: u64 = 500;

/// Packets forwarded by the host, IPv4 and IPv6.
fn forwarded(lab: &Lab) -> u64 {
    let (v4, v6) = lab.host().run(|| {
        let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
        (read("snmp"), read("snmp6"))
    });
    let mut lines = v4.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let column = names.split(' ').position(|name| name == "ForwDatagrams").unwrap();
    let v4: u64 = values.split(' ').nth(column).unwrap().parse().unwrap();
    let line = v6.lines().find(|line| line.starts_with("Ip6OutForwDatagrams")).unwrap();
    v4 + line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

/// Packets received and sent by the group.
fn traffic(production: &Production<'_>) -> (u64, u64) {
    let members = production.report().unwrap().members;
    let sum = |count: fn(&ipmp::control::report::Traffic) -> u64| {
        members.iter().map(|member| count(&member.traffic)).sum()
    };
    (sum(|traffic| traffic.in_packets), sum(|traffic| traffic.out_packets))
}

#[test]
fn flooded_frames_cause_no_duplicates_and_no_forwarding() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().ageing(Duration::ZERO).build().unwrap();
    let production = Production::create(&lab).unwrap();
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        lab.host().sysctl(key, "1").unwrap();
    }
    for promiscuous in [&["e1000g0"][..], &["e1000g1", "rge0"]] {
        for name in promiscuous {
            lab.host().ip(&format!("link set {name} promisc on")).unwrap();
        }
        under_flood(&lab, &production, promiscuous);
    }
    production.assert_clean();
}

fn under_flood(lab: &Lab, production: &Production<'_>, promiscuous: &[&str]) {
    let (host, one, two) = (lab.host(), lab.peer(0), lab.peer(1));
    // Fill all neighbour tables before frames are counted.
    for (from, to) in [(one, two), (two, one), (one, lab.router())] {
        assert_eq!(from.ping(to.v4().into(), 1, SECOND, SECOND).unwrap().answered, 1);
        assert_eq!(from.ping(to.v6().into(), 1, SECOND, SECOND).unwrap().answered, 1);
    }
    let all = FrameCounters::start(lab, &filter::all()).unwrap();
    let foreign = FrameCounters::start(lab, &filter::to(two.mac())).unwrap();
    let (forwarded_before, traffic_before) = (forwarded(lab), traffic(production));
    let streams = [
        ("out", Stream::new(host, one.namespace(), one.v4()).source(DATA).flows(8).rate(5_000)),
        ("out by IPv6", Stream::new(host, one.namespace(), one.v6()).source(DATA6).flows(8).rate(2_000)),
        ("in", Stream::new(one.namespace(), host, DATA).flows(4).rate(5_000)),
        ("in by IPv6", Stream::new(one.namespace(), host, DATA6).flows(4).rate(2_000)),
        ("foreign", Stream::new(one.namespace(), two.namespace(), two.v4()).flows(4).rate(5_000)),
        ("foreign IPv6", Stream::new(one.namespace(), two.namespace(), two.v6()).flows(4).rate(2_000)),
        ("broadcast in", Stream::new(two.namespace(), host, BROADCAST).rate(500)),
        ("broadcast out", Stream::new(host, one.namespace(), BROADCAST).source(DATA).rate(500)),
        // The kernel delivers broadcasts of the host also to the host itself. A frame that returned from a cable would be a
        // duplicate.
        ("broadcast back", Stream::new(host, host, BROADCAST).source(DATA).rate(500)),
    ];
    let running = streams.map(|(what, stream)| (what, stream.start().unwrap()));
    for (_, stream) in &running {
        stream.wait_received(800, 10 * SECOND).unwrap();
    }
    let mut sent = Vec::new();
    for (what, stream) in running {
        let report = stream.stop().unwrap();
        println!("{what}: {report}");
        report.ensure_valid().unwrap();
        assert_eq!((report.lost(), report.duplicated()), (0, 0), "{what}: {report}");
        sent.push(report.sent());
    }
    let &[out, out6, inward, inward6, foreign4, foreign6, broadcast_in, broadcast_out, back] = &sent[..]
    else {
        unreachable!()
    };

    let (received, sent_packets) = traffic(production);
    let (received, sent_packets) = (received - traffic_before.0, sent_packets - traffic_before.1);
    let (expected_in, expected_out) = (inward + inward6 + broadcast_in, out + out6 + broadcast_out + back);
    let forwarded = forwarded(lab) - forwarded_before;
    let past = foreign4 + foreign6;
    println!(
        "promiscuous {}: {received} received of {expected_in} sent to the host, {sent_packets} sent of {expected_out}, \
         {past} foreign on every cable ({:?}), {forwarded} forwarded, all {:?}",
        promiscuous.join(" and "),
        foreign.all(),
        all.all()
    );
    // The foreign frames must have reached every member, or nothing was tested.
    assert!(past > 3 * OTHER_FRAMES);
    for cable in ["cable 1", "cable 2", "cable 3"] {
        assert!(foreign.on(cable) >= past, "{cable} did not have the foreign stream: {:?}", foreign.all());
    }
    assert_eq!(forwarded, 0, "packets forwarded");
    assert!(
        (expected_in..expected_in + OTHER_FRAMES).contains(&received),
        "{received} received, {expected_in} expected"
    );
    assert!(
        (expected_out..expected_out + OTHER_FRAMES).contains(&sent_packets),
        "{sent_packets} sent, {expected_out} expected"
    );
    assert!(foreign.max() < past + OTHER_FRAMES, "frames to peer 2: {:?}", foreign.all());
    // A flooded frame passes every cable once.
    let limit = sent.iter().sum::<u64>() + OTHER_FRAMES;
    assert!(all.max() < limit, "broadcast storm: more than {limit} frames on a cable: {:?}", all.all());
}

/// On veth, `xdp=driver` costs time (docs/xdp.md), but the driver runs the program as that of a card does.
#[test]
fn early_drop_drops_what_is_flooded_and_nothing_that_is_wanted() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().ageing(Duration::ZERO).build().unwrap();
    let daemon = Daemon::builder(&lab).environment("RUST_LOG", "warn").start().unwrap();
    let mut production = Production::builder(&lab).daemon(daemon).create().unwrap();
    let xdp = |production: &Production<'_>, name: &str| production.member(name).unwrap().xdp;
    assert_eq!(xdp(&production, "rge0"), None);
    let planned = production.daemon.ctl("set rge0 xdp=driver --dry-run").unwrap();
    assert!(planned.contains("set xdp=driver of rge0 (many drivers reset their queues"), "{planned}");
    assert_eq!(xdp(&production, "rge0"), None);
    for name in ["e1000g0", "e1000g1", "rge0"] {
        production.daemon.ctl(&format!("set {name} xdp=driver")).unwrap();
    }
    // Veth devices are no NICs.
    production.daemon.ctl("set e1000g1 xdp=off").unwrap();
    production.daemon.ctl("set e1000g1 xdp=auto").unwrap();
    let why = xdp(&production, "e1000g1").unwrap().why;
    assert_eq!(why.as_deref(), Some("e1000g1 is no NIC (veth)"));
    production.daemon.ctl("set e1000g1 xdp=driver").unwrap();

    let (host, one, two) = (lab.host(), lab.peer(0), lab.peer(1));
    let streams = [
        ("in", Stream::new(one.namespace(), host, DATA).flows(4).rate(2_000)),
        ("in by IPv6", Stream::new(one.namespace(), host, DATA6).flows(4).rate(2_000)),
        ("out", Stream::new(host, one.namespace(), one.v4()).source(DATA).flows(8).rate(2_000)),
        ("foreign", Stream::new(one.namespace(), two.namespace(), two.v4()).flows(4).rate(2_000)),
        ("broadcast in", Stream::new(two.namespace(), host, BROADCAST).rate(500)),
    ];
    let running = streams.map(|(what, stream)| (what, stream.start().unwrap()));
    // A daemon that is killed leaves the programs, and the next one replaces them.
    production.daemon.kill().unwrap();
    production.daemon.start().unwrap();
    for (_, stream) in &running {
        stream.wait_received(400, 10 * SECOND).unwrap();
    }
    for (what, stream) in running {
        let report = stream.stop().unwrap();
        println!("{what}: {report}");
        report.ensure_valid().unwrap();
        assert_eq!((report.lost(), report.duplicated()), (0, 0), "{what}: {report}");
    }
    for name in ["e1000g0", "e1000g1", "rge0"] {
        let early = xdp(&production, name).unwrap();
        println!("{name}: {early:?}");
        assert!(early.attached && early.why.is_none(), "{name}: {early:?}");
        let dropped = early.flooded > 400 && early.other_copy > 200 && early.passed == 0;
        // A veth has no address filter, and so the kernel makes the cast member promiscuous for the MAC of the group.
        assert_eq!(dropped, production.cast().unwrap() != name, "{name}: {early:?}");
    }

    assert_eq!(production.daemon.log_matches("is no NIC", 0), [""; 0], "this is no warning");

    for name in ["e1000g0", "e1000g1"] {
        lab.member(name).cable().pull().unwrap();
        production.wait_live(name, false).unwrap();
    }
    let refused = production.daemon.ctl_error("set rge0 xdp=off").unwrap();
    assert!(refused.contains("cannot set xdp=off of rge0: no other member works"), "{refused}");
    assert!(xdp(&production, "rge0").unwrap().attached);
    for name in ["e1000g0", "e1000g1"] {
        production.replug(lab.member(name)).unwrap();
    }
    production.wait_usable(3).unwrap();
    production.daemon.ctl("detach rge0").unwrap();
    let shown = host.ip("link show rge0").unwrap();
    assert!(!shown.contains("xdp"), "{shown}");
    production.assert_clean();
}

/// The driver of veth refuses a program without `xdp.frags` on a device with this MTU.
#[test]
fn early_drop_passes_jumbo_frames_and_is_refused_beside_another_program() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let host = lab.host();
    let inbound = production.inbound(DATA).unwrap();
    let member = lab.member(&inbound);
    let far = member.cable().far();
    host.ip(&format!("link set {inbound} mtu 9000")).unwrap();
    far.namespace.ip(&format!("link set {} mtu 9000", far.interface)).unwrap();
    production.daemon.ctl(&format!("set {inbound} xdp=driver")).unwrap();

    let socket = host.run(|| UdpSocket::bind((DATA, 0))).unwrap();
    socket.set_read_timeout(Some(10 * SECOND)).unwrap();
    let (mac, sent) = (lab.peer(0).mac(), [7; 8_000]);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, member.mac())
        .ipv4(lab.peer(0).v4().octets(), DATA.octets(), 64)
        .udp(9, socket.local_addr().unwrap().port())
        .write(&mut frame, &sent)
        .unwrap();
    let all = filter::all();
    PacketSocket::open(&far.namespace, Some(&far.interface), &all).unwrap().send(&frame).unwrap();
    let mut received = [0; 9_000];
    let length = socket.recv(&mut received).unwrap();
    assert!(received[..length] == sent, "{length} bytes");

    let directory = format!("/sys/fs/bpf/ipmp/v{}/{}", ipmp_common::LAYOUT, host.cookie().unwrap());
    let number = production.report().unwrap().members.iter().position(|member| member.name == inbound);
    let program = format!("{directory}/{GROUP}/programs/early_drop-{}", number.unwrap());
    let other = lab.members().iter().map(Member::name).find(|name| *name != inbound).unwrap();
    host.ip(&format!("link set dev {other} xdpdrv pinned {program}")).unwrap();
    let refused = production.daemon.ctl_error(&format!("set {other} xdp=driver")).unwrap();
    let shown = host.ip(&format!("link show {other}")).unwrap();
    let id = shown.split("prog/xdp id ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(refused.contains(&format!("{other} has the XDP program {id} of another program")), "{refused}");
    assert_eq!(production.member(other).unwrap().xdp, None);
    host.ip(&format!("link set dev {other} xdpdrv off")).unwrap();
    production.daemon.ctl(&format!("set {other} xdp=driver")).unwrap();
    assert!(production.member(other).unwrap().xdp.unwrap().attached);
    production.assert_clean();
}
