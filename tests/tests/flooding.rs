//! Switches that flood everything, members that listen to everything, and a host that forwards: nobody gets anything
//! twice, the host takes nothing that is not its own, and nothing goes round.

lab::lane!(alone);

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use lab::network::{DATA, DATA6};
use lab::{FrameCounters, Lab, MeasurementLock, Production, SECOND, Stream, filter};
use socket2::SockFilter;

const BROADCAST: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 255);
/// ARP, ND and the like beside the streams, in all.
const CHATTER: u64 = 500;

/// Every frame.
fn everything() -> Vec<SockFilter> {
    vec![SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX)]
}

/// Packets that the host has forwarded, IPv4 and IPv6.
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

/// Packets that the group has taken and sent.
fn traffic(production: &Production<'_>) -> (u64, u64) {
    let members = production.report().unwrap().members;
    let sum = |count: fn(&ipmp::control::report::Traffic) -> u64| {
        members.iter().map(|member| count(&member.traffic)).sum()
    };
    (sum(|traffic| traffic.in_packets), sum(|traffic| traffic.out_packets))
}

#[test]
fn flooding_promiscuous_and_forwarding() {
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
    // Everybody knows everybody before frames are counted.
    for (from, to) in [(one, two), (two, one), (one, lab.router())] {
        assert_eq!(from.ping(to.v4().into(), 1, SECOND, SECOND).unwrap().answered, 1);
        assert_eq!(from.ping(to.v6().into(), 1, SECOND, SECOND).unwrap().answered, 1);
    }
    let all = FrameCounters::start(lab, &everything()).unwrap();
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
        // What the host broadcasts it hears itself, without a wire. What comes back by a wire would be heard again.
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
    let &[out, out6, inward, inward6, foreign4, foreign6, heard, said, back] = &sent[..] else {
        unreachable!()
    };

    let (taken, given) = traffic(production);
    let (taken, given) = (taken - traffic_before.0, given - traffic_before.1);
    let (expected_in, expected_out) = (inward + inward6 + heard, out + out6 + said + back);
    let forwarded = forwarded(lab) - forwarded_before;
    let past = foreign4 + foreign6;
    println!(
        "promiscuous {}: {taken} taken of {expected_in} sent to the host, {given} sent of {expected_out}, \
         {past} foreign on every wire ({:?}), {forwarded} forwarded, all {:?}",
        promiscuous.join(" and "),
        foreign.all(),
        all.all()
    );
    // The foreign frames really came by every member: otherwise nothing was tested.
    assert!(past > 3 * CHATTER);
    for cable in ["cable 1", "cable 2", "cable 3"] {
        assert!(foreign.on(cable) >= past, "{cable} did not see the foreign stream: {:?}", foreign.all());
    }
    assert_eq!(forwarded, 0, "packets forwarded");
    assert!((expected_in..expected_in + CHATTER).contains(&taken), "{taken} taken, {expected_in} sent");
    assert!(
        (expected_out..expected_out + CHATTER).contains(&given),
        "{given} sent, {expected_out} were to be"
    );
    assert!(foreign.max() < past + CHATTER, "frames to peer 2: {:?}", foreign.all());
    // A flooded frame goes once by every wire.
    let limit = sent.iter().sum::<u64>() + CHATTER;
    assert!(all.max() < limit, "a storm: at most {limit} frames a wire, {:?}", all.all());
}
