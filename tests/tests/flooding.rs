//! With switches that flood all frames, promiscuous members and IP forwarding enabled on the host, there are no duplicates
//! and no loops, and the host accepts no frames for other hosts.

lab::lane!(alone);

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use lab::network::{DATA, DATA6};
use lab::{FrameCounters, Lab, MeasurementLock, Production, SECOND, Stream, filter};

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
