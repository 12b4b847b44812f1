//! Tests of the lab itself.

lab::lane!(alone, no_clsact = "tests the lab, without a group");

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use lab::network::counterpart;
use lab::packet::PacketSocket;
use lab::ping;
use lab::{
    Bulk, Direction, FrameCounters, Lab, MS, MeasurementLock, MemberKind, Oracle, SECOND, Stream, Switch,
    filter, wait_until,
};

const PLAIN: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 201);
const PLAIN6: Ipv6Addr = counterpart(PLAIN);

/// A plain address on one member: the host as it is before any group.
fn give_address(lab: &Lab, member: &str) {
    // Otherwise every member replies for it.
    lab.host().sysctl("net.ipv4.conf.all.arp_ignore", "1").unwrap();
    lab.host().ip(&format!("addr add {PLAIN}/24 brd + dev {member}")).unwrap();
    lab.host().ip(&format!("addr add {PLAIN6}/64 dev {member} nodad")).unwrap();
}

fn reaches(lab: &Lab, address: impl Into<IpAddr>) -> bool {
    let ping = lab.peer(0).ping(address.into(), 1, MS, 200 * MS).unwrap();
    ping.answered == 1
}

#[test]
fn tutorial_network_is_reachable() {
    lab::needs_root!();
    let start = Instant::now();
    let lab = Lab::tutorial().unwrap();
    println!("built in {:?}", start.elapsed());
    let names: Vec<_> = lab.members().iter().map(|member| member.name()).collect();
    assert_eq!(names, ["e1000g0", "e1000g1", "rge0"]);
    let places: Vec<_> = lab.members().iter().map(|member| member.switch()).collect();
    assert_eq!(places, [Switch::A, Switch::A, Switch::B]);

    for name in names {
        give_address(&lab, name);
        for address in [IpAddr::from(PLAIN), PLAIN6.into()] {
            for host in [lab.router(), lab.peer(0), lab.peer(1)] {
                host.flush_neighbours().unwrap();
                let answers = host.resolve(address, 100 * MS).unwrap();
                let macs: Vec<_> = answers.iter().map(|answer| answer.mac).collect();
                assert_eq!(macs, [lab.member(name).mac()], "{address} on {name}");
                let ping = host.ping(address, 3, MS, SECOND).unwrap();
                assert_eq!((ping.sent, ping.answered, ping.duplicates), (3, 3, 0), "{address} on {name}");
                assert_eq!(host.neighbour(address).unwrap(), Some(lab.member(name).mac()));
            }
        }
        let ping = ping(lab.host(), None, lab.router().v4().into(), 3, MS, SECOND).unwrap();
        assert_eq!(ping.answered, 3, "from {name}");
        lab.host().ip(&format!("addr flush dev {name}")).unwrap();
    }
}

#[test]
fn sixteen_members_in_one_switch() {
    lab::needs_root!();
    let lab = Lab::builder().members(16).one_switch().build().unwrap();
    assert_eq!(lab.members().len(), 16);
    give_address(&lab, "rge0");
    assert!(reaches(&lab, PLAIN));
    assert!(lab.members().iter().all(|member| member.cable().carrier().unwrap()));
}

fn cable_faults_work(kind: MemberKind) {
    let lab = Lab::builder().kind(kind).build().unwrap();
    give_address(&lab, "e1000g0");
    let cable = lab.cable(1);
    assert!(reaches(&lab, PLAIN) && reaches(&lab, PLAIN6));

    for _ in 0..3 {
        let pulled = cable.pull().unwrap();
        cable.wait_carrier(false, SECOND).unwrap();
        assert!(!lab.host().link("e1000g0").unwrap().carrier);
        assert!(
            lab.cable(2).carrier().unwrap() && lab.cable(3).carrier().unwrap(),
            "other carriers are unchanged"
        );
        assert!(!reaches(&lab, PLAIN));
        println!("{kind:?}: pulled in {:?}", pulled.after - pulled.before);
        cable.replug().unwrap();
        cable.wait_carrier(true, SECOND).unwrap();
        assert!(wait_until(5 * SECOND, || reaches(&lab, PLAIN)), "not reachable after replug");
    }

    cable.cut().unwrap();
    assert!(cable.carrier().unwrap(), "a cut does not change the carrier");
    assert!(!reaches(&lab, PLAIN));
    cable.restore().unwrap();
    assert!(reaches(&lab, PLAIN));

    // A cut of one direction stops the stream in that direction only.
    for cut in [Direction::Outbound, Direction::Inbound] {
        let peer = lab.peer(0);
        let outbound = Stream::new(lab.host(), peer.namespace(), peer.v4()).start().unwrap();
        let inbound = Stream::new(peer.namespace(), lab.host(), PLAIN).start().unwrap();
        outbound.wait_received(10, SECOND).unwrap();
        inbound.wait_received(10, SECOND).unwrap();
        cable.cut_direction(cut).unwrap();
        assert!(cable.carrier().unwrap());
        std::thread::sleep(20 * MS);
        let before = (outbound.received(), inbound.received());
        std::thread::sleep(200 * MS);
        let received = (outbound.received() - before.0, inbound.received() - before.1);
        match cut {
            Direction::Outbound => assert!(received.0 == 0 && received.1 > 50, "{received:?}"),
            Direction::Inbound => assert!(received.0 > 50 && received.1 == 0, "{received:?}"),
        }
        cable.restore().unwrap();
        outbound.wait_received(10, SECOND).unwrap();
        inbound.wait_received(10, SECOND).unwrap();
        let report = outbound.stop().unwrap();
        assert_eq!(report.lost() > 0, cut == Direction::Outbound, "{report}");
        let report = inbound.stop().unwrap();
        assert_eq!(report.lost() > 0, cut == Direction::Inbound, "{report}");
    }

    // The cable between the switches.
    lab.cable(4).cut().unwrap();
    assert!(cable.carrier().unwrap() && !reaches(&lab, PLAIN));
    lab.cable(4).restore().unwrap();
    assert!(reaches(&lab, PLAIN));
}

#[test]
fn cable_loses_a_share_of_the_packets_in_both_directions() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    give_address(&lab, "e1000g0");
    assert!(reaches(&lab, PLAIN));
    let peer = lab.peer(0);
    let streams = [(lab.host(), peer.namespace(), peer.v4()), (peer.namespace(), lab.host(), PLAIN)];
    for (from, to, address) in streams {
        let running = Stream::new(from, to, address).rate(5_000).start().unwrap();
        running.wait_received(100, SECOND).unwrap();
        lab.cable(1).lose(30).unwrap();
        let sent = running.sent();
        assert!(wait_until(5 * SECOND, || running.sent() >= sent + 5_000));
        let sent = running.sent() - sent;
        lab.cable(1).restore().unwrap();
        let report = running.stop().unwrap();
        let percent = 100.0 * report.lost() as f64 / sent as f64;
        println!("{percent:.1} % of {sent} packets lost");
        // Ten standard deviations, and packets between the counts and the changes.
        assert!((23.0..37.0).contains(&percent), "{percent:.1} %: {report}");
    }
}

#[test]
fn veth_cable_faults_work() {
    lab::needs_root!();
    cable_faults_work(MemberKind::Veth);
}

#[test]
fn tap_cable_faults_work() {
    lab::needs_root!();
    cable_faults_work(MemberKind::Tap);
}

#[test]
fn stream_of_50_000_packets_per_s_has_no_loss_in_both_directions() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    for kind in [MemberKind::Veth, MemberKind::Tap] {
        let lab = Lab::builder().kind(kind).build().unwrap();
        give_address(&lab, "e1000g0");
        let peer = lab.peer(0);
        let ways = [
            ("out", Stream::new(lab.host(), peer.namespace(), peer.v4())),
            ("in", Stream::new(peer.namespace(), lab.host(), PLAIN)),
            ("out by IPv6", Stream::new(lab.host(), peer.namespace(), peer.v6())),
            ("in by IPv6", Stream::new(peer.namespace(), lab.host(), PLAIN6)),
        ];
        for (way, stream) in ways {
            let running = stream.flows(8).rate(50_000).start().unwrap();
            std::thread::sleep(SECOND);
            let report = running.stop().unwrap();
            println!("{kind:?} {way}: {report}");
            report.ensure_valid().unwrap();
            assert_eq!((report.lost(), report.duplicated()), (0, 0), "{kind:?} {way}: {report}");
            // A TAP wire's pump may change processors, and each processor has a backlog of its own: order is a veth's.
            assert!(kind == MemberKind::Tap || report.reordered() == 0, "{kind:?} {way}: {report}");
            assert!(report.sent() > 40_000, "{report}");
        }
    }
}

#[test]
fn frames_sent_before_tap_carrier_loss_arrive() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    give_address(&lab, "e1000g0");
    let peer = lab.peer(0);
    let running = Stream::new(lab.host(), peer.namespace(), peer.v4()).rate(20_000).start().unwrap();
    running.wait_received(1_000, SECOND).unwrap();
    lab.cable(1).pull().unwrap();
    let report = running.stop().unwrap();
    let forwarded = lab.cable(1).wire().unwrap().forwarded();
    let port = lab.cable(1).port().unwrap();
    println!("{report}; {forwarded:?}; {port:?}");
    // All frames that the member sent reached the switch port, and the peer.
    assert_eq!(forwarded.dropped_outbound, 0);
    let mut expected = report.received();
    let member = lab.host().link("e1000g0").unwrap().statistics;
    assert!(member.tx_packets >= expected);
    expected = member.tx_packets;
    assert_eq!(forwarded.outbound, expected);
}

/// The maximum rate of a wire must be enough for the streams of the tests.
#[test]
fn tap_wire_forwards_enough_packets_per_second() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    give_address(&lab, "e1000g0");
    let peer = lab.peer(0);
    let running =
        Stream::new(lab.host(), peer.namespace(), peer.v4()).flows(4).rate(1_000_000).start().unwrap();
    std::thread::sleep(SECOND);
    let report = running.stop().unwrap();
    let rate = report.received() as f64 / report.duration.as_secs_f64();
    println!("TAP wire: {rate:.0} packets/s out of {:.0} offered", report.rate());
    assert!(rate > 60_000.0, "{rate:.0} packets/s");
}

#[test]
fn injected_loss_reordering_and_duplicates_are_detected() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    give_address(&lab, "e1000g0");
    let peer = lab.peer(0);
    let far = lab.cable(1).far();
    // Receives all frames that reach the switch port, also those that a cut then discards.
    let tap = PacketSocket::open(&far.namespace, Some(&far.interface), &filter::to(peer.mac())).unwrap();
    let uplink = PacketSocket::open(&far.namespace, Some("sw4"), &filter::to([0xee; 6])).unwrap();
    let running = Stream::new(lab.host(), peer.namespace(), peer.v4()).start().unwrap();
    running.wait_received(50, SECOND).unwrap();

    let cut = lab.cable(1).cut_direction(Direction::Outbound).unwrap();
    let mut buffer = [0; 2048];
    let mut udp = |timeout: Duration| loop {
        let seen = tap.receive(&mut buffer, timeout).unwrap()?;
        // ARP and ping go to the peer too.
        if buffer[23] == 17 {
            let mut frame = buffer[..seen.length].to_vec();
            // The checksum was left to the hardware and is incomplete; 0 means no checksum (RFC 768).
            frame[40..42].fill(0);
            break Some(frame);
        }
    };
    while udp(MS).is_some() && cut.after.elapsed() < 30 * MS {}
    let late: Vec<_> = (0..5).map(|_| udp(SECOND).expect("a frame that the cut discards")).collect();
    std::thread::sleep(20 * MS);
    lab.cable(1).restore().unwrap();
    running.wait_received(20, SECOND).unwrap();
    // The discarded frames are sent late, one of them two more times.
    for frame in late.iter().chain([&late[0], &late[0]]) {
        uplink.send(frame).unwrap();
    }
    std::thread::sleep(50 * MS);
    let report = running.stop().unwrap();
    println!("{report}");
    assert_eq!((report.reordered(), report.duplicated()), (5, 2), "{report}");
    assert!((20..1_000).contains(&report.lost()), "{report}");
    assert_eq!(report.sent(), report.received() + report.lost());
    assert_eq!(report.lost_within(cut.before, 100 * MS), report.lost());
    assert_eq!(report.lost_within(cut.before - SECOND, 500 * MS), 0);
    let outage = report.outage(cut.before, 100 * MS);
    assert!(outage > 20 * MS && outage == report.longest_gap, "{outage:?} {:?}", report.longest_gap);
}

#[test]
fn bulk_transfer_reports_stall_and_survives() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    give_address(&lab, "e1000g0");
    let peer = lab.peer(0);
    let ways = [
        Bulk::new(lab.host(), peer.namespace(), peer.v4()),
        Bulk::new(peer.namespace(), lab.host(), PLAIN),
        Bulk::new(lab.host(), peer.namespace(), peer.v6()),
    ];
    for bulk in ways {
        let running = bulk.start().unwrap();
        running.wait_received(1 << 20, 5 * SECOND).unwrap();
        lab.cable(1).cut().unwrap();
        std::thread::sleep(300 * MS);
        lab.cable(1).restore().unwrap();
        running.wait_received(1 << 20, 5 * SECOND).unwrap();
        let report = running.stop().unwrap();
        println!("{report}");
        assert!(report.intact && report.error.is_none(), "{report}");
        assert!(report.longest_stall >= 250 * MS && report.longest_stall < 3 * SECOND, "{report}");
        assert!(!report.stalls.is_empty() && report.retransmissions > 0, "{report}");
    }
}

#[test]
fn reset_connection_is_reported_as_error() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    give_address(&lab, "e1000g0");
    let peer = lab.peer(0);
    let running = Bulk::new(peer.namespace(), lab.host(), PLAIN).start().unwrap();
    running.wait_received(1 << 16, 5 * SECOND).unwrap();
    // The address moves to the router, which resets the unknown connection.
    lab.host().ip(&format!("addr del {PLAIN}/24 dev e1000g0")).unwrap();
    lab.router().namespace().ip(&format!("addr add {PLAIN}/24 dev eth0")).unwrap();
    peer.flush_neighbours().unwrap();
    assert!(running.wait_received(u64::MAX / 2, SECOND).is_err());
    let report = running.stop().unwrap();
    println!("{report}");
    assert!(report.error.is_some(), "{report}");
}

#[test]
fn oracle_finds_only_injected_frames() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let mac = [0x06, 1, 2, 3, 4, 5];
    give_address(&lab, "rge0");
    let member = PacketSocket::open(lab.host(), Some("rge0"), &filter::to([0xee; 6])).unwrap();
    let frame = |to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]| {
        let mut frame = lab::packet::ethernet_header(to, from, kind);
        frame.extend_from_slice(payload);
        frame.resize(frame.len().max(60), 0);
        frame
    };

    // Traffic, a frame *to* the address: clean.
    let oracle = Oracle::watch(&lab, mac).unwrap();
    assert!(reaches(&lab, PLAIN) && reaches(&lab, PLAIN6));
    member.send(&frame(mac, lab.member("rge0").mac(), 0x88b5, &[])).unwrap();
    assert!(oracle.sightings().is_empty());
    oracle.assert_clean();

    // As source; in an ARP reply; in a neighbour solicitation. Through a cable that is cut, too.
    let own = lab.member("rge0").mac();
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend_from_slice(&mac);
    arp.extend_from_slice(&[192, 168, 178, 200, 0, 0, 0, 0, 0, 0, 192, 168, 178, 22]);
    let mut solicitation = vec![0x60, 0, 0, 0, 0, 32, 58, 255];
    solicitation.extend_from_slice(&PLAIN6.octets());
    solicitation.extend_from_slice(&PLAIN6.octets());
    solicitation.extend_from_slice(&[135, 0, 0, 0, 0, 0, 0, 0]);
    solicitation.extend_from_slice(&PLAIN6.octets());
    solicitation.extend_from_slice(&[1, 1]);
    solicitation.extend_from_slice(&mac);
    let planted = [
        (lab::oracle::Place::Source, frame([0xff; 6], mac, 0x88b5, &[])),
        (lab::oracle::Place::ArpSender, frame([0xff; 6], own, 0x0806, &arp)),
        (lab::oracle::Place::NdOption, frame([0x33, 0x33, 0, 0, 0, 1], own, 0x86dd, &solicitation)),
    ];
    for cut in [false, true] {
        for (place, frame) in &planted {
            let oracle = Oracle::watch(&lab, mac).unwrap();
            if cut {
                lab.cable(3).cut().unwrap();
            }
            member.send(frame).unwrap();
            let at_port = || oracle.sightings().into_iter().find(|seen| seen.port.starts_with("cable 3 "));
            assert!(wait_until(SECOND, || at_port().is_some()), "{place:?} unseen");
            let first = at_port().unwrap();
            println!("{first}");
            assert_eq!(first.place, *place);
            assert!(!first.outgoing, "{first}");
            assert_eq!(oracle.sightings().len() > 1, !cut, "{:?}", oracle.sightings());
            let verdict = oracle.verdict().unwrap_err().to_string();
            assert!(verdict.contains("contain the group's MAC 06:01:02:03:04:05"), "{verdict}");
            lab.cable(3).restore().unwrap();
        }
    }
}

#[test]
fn broadcast_is_counted_once_on_every_cable() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let counters = FrameCounters::start(&lab, &filter::broadcast()).unwrap();
    let socket = PacketSocket::open(lab.peer(0).namespace(), Some("eth0"), &filter::to([0xee; 6])).unwrap();
    for _ in 0..500 {
        let mut frame = lab::packet::ethernet_header([0xff; 6], lab.peer(0).mac(), 0x88b5);
        frame.resize(60, 0);
        socket.send(&frame).unwrap();
    }
    let all = counters.all();
    println!("{all:?}");
    assert_eq!(all.len(), 3 + 1 + 1 + 2);
    assert!(all.iter().all(|(_, count)| *count == 500), "{all:?}");
    assert_eq!((counters.max(), counters.on("cable 1")), (500, 500));
}

#[test]
fn switch_with_ageing_zero_floods() {
    lab::needs_root!();
    let lab = Lab::builder().ageing(Duration::ZERO).build().unwrap();
    give_address(&lab, "rge0");
    assert!(reaches(&lab, PLAIN));
    let counters = FrameCounters::start(&lab, &filter::to(lab.member("rge0").mac())).unwrap();
    lab.peer(0).ping(PLAIN.into(), 50, MS, SECOND).unwrap();
    assert!(counters.on("cable 1") >= 50, "{:?}", counters.all());
}

#[test]
fn member_is_moved_deleted_and_recreated() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let other = lab.namespace("other").unwrap();
    lab.host().ip(&format!("link set e1000g0 netns {}", other.name())).unwrap();
    assert!(lab.host().link("e1000g0").is_err());
    other.ip("link del e1000g0").unwrap();
    lab.recreate_member("e1000g0").unwrap();
    assert_eq!(lab.host().link("e1000g0").unwrap().mac, lab.member("e1000g0").mac());
    give_address(&lab, "e1000g0");
    assert!(wait_until(SECOND, || reaches(&lab, PLAIN)));
    lab.cable(1).pull().unwrap();
    lab.cable(1).wait_carrier(false, SECOND).unwrap();
}

/// A port with a carrier that does not forward yet would cause loss that tests blame on the datapath.
#[test]
fn replugged_port_forwards_at_once() {
    lab::needs_root!();
    for kind in [MemberKind::Veth, MemberKind::Tap] {
        let lab = Lab::builder().kind(kind).build().unwrap();
        give_address(&lab, "rge0");
        assert!(reaches(&lab, PLAIN));
        for turn in 0..6 {
            // Recent events of other links make the kernel delay the next one.
            lab.cable(1 + turn % 2).pull().unwrap();
            lab.cable(3).pull().unwrap();
            lab.cable(3).wait_carrier(false, SECOND).unwrap();
            lab.cable(1 + turn % 2).replug().unwrap();
            lab.cable(3).replug().unwrap();
            // Reading the link makes the kernel report its carrier without delay.
            lab.cable(3).wait_carrier(true, SECOND).unwrap();
            let ping = ping(lab.host(), None, lab.peer(0).v4().into(), 1, MS, 100 * MS).unwrap();
            assert_eq!(ping.answered, 1, "{kind:?}, turn {turn}");
        }
    }
}

#[test]
fn two_labs_are_isolated() {
    lab::needs_root!();
    let (one, two) = (Lab::tutorial().unwrap(), Lab::tutorial().unwrap());
    give_address(&one, "e1000g0");
    give_address(&two, "e1000g1");
    assert!(reaches(&one, PLAIN) && reaches(&two, PLAIN));
    one.cable(1).pull().unwrap();
    assert!(!reaches(&one, PLAIN) && reaches(&two, PLAIN));
    assert_eq!(two.peer(0).neighbour(PLAIN.into()).unwrap(), Some(two.member("e1000g1").mac()));
    drop(one);
    assert!(reaches(&two, PLAIN));
}
