//! Flows that move one by one, each when it is idle: to a repaired member with `failback=idle`, and from one that
//! `ipmpctl offline --drain` takes out of service.
//!
//! On veth members frames reach the switch within the sender's call: the order of a flow is checked. On TAP members no frame may be lost.

lab::lane!(alone, clsact = "active_flows_stay");

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ipmp::types::{Direction, MemberState};
use lab::network::DATA;
use lab::stream;
use lab::{Bulk, Lab, MS, MeasurementLock, Member, MemberKind, Production, Stream, TIMEOUT, wait_until};

/// Packets per second of the active flows.
const RATE: u64 = 4_000;
/// A member transmits active flows if it sends this number of frames within [`INTERVAL`]: half of one flow of eight.
const TRANSMITS: u64 = 50;
const INTERVAL: Duration = Duration::from_millis(200);
/// The datapath knows all flows, and those without a packet in this time are idle.
const IDLE: Duration = Duration::from_millis(1500);
/// New flows, and packets of each.
const NEW: usize = 60;
const PACKETS: usize = 5;

fn sent(member: &Member) -> u64 {
    member.cable().port().unwrap().rx_packets
}

/// Whether a member transmits active flows.
fn is_transmitting(member: &Member) -> bool {
    let before = sent(member);
    std::thread::sleep(INTERVAL);
    sent(member) - before >= TRANSMITS
}

/// Eight flows, some on every member; which member each flow gets is random.
fn active_flows(lab: &Lab) -> stream::Running {
    for _ in 0..20 {
        let running = Stream::outbound(lab).flows(8).rate(RATE).start().unwrap();
        running.wait_received(RATE / 2, TIMEOUT).unwrap();
        if lab.members().iter().all(is_transmitting) {
            return running;
        }
        running.stop().unwrap();
    }
    panic!("no flow on some member in 20 attempts with 8 flows");
}

/// New flows, which then stay: returns their sockets, and the packets of each member.
fn new_flows(lab: &Lab, production: &Production<'_>) -> (Vec<UdpSocket>, Vec<u64>) {
    let destination = SocketAddr::new(lab.peer(0).v4().into(), 9);
    let open = || {
        let socket = UdpSocket::bind(SocketAddr::new(DATA.into(), 0)).unwrap();
        socket.connect(destination).unwrap();
        socket
    };
    let sockets: Vec<UdpSocket> = lab.host().run(|| (0..NEW).map(|_| open()).collect());
    let counted = send(&sockets, production);
    (sockets, counted)
}

/// Sends packets of these flows; returns how many each member transmitted.
fn send(sockets: &[UdpSocket], production: &Production<'_>) -> Vec<u64> {
    let count = || -> Vec<u64> {
        let members = production.report().unwrap().members;
        members.iter().map(|member| member.traffic.out_packets).collect()
    };
    let before = count();
    for socket in sockets {
        for _ in 0..PACKETS {
            // An ICMP error of an earlier packet is reported here.
            while socket.send(b"new").is_err() {}
        }
    }
    count().iter().zip(before).map(|(after, before)| after - before).collect()
}

fn direction(production: &Production<'_>, member: &Member) -> Option<Direction> {
    production.member(member.name()).unwrap().moving.map(|moving| moving.direction)
}

#[track_caller]
fn wait_direction(production: &Production<'_>, member: &Member, expected: Option<Direction>) {
    let reached = wait_until(TIMEOUT, || direction(production, member) == expected);
    assert!(reached, "not {expected:?}: {}", production.show());
}

/// Pulls a cable, so that the flows of the member move, and replugs it; returns the frames that the port dropped.
fn repair(production: &Production<'_>, member: &Member) -> u64 {
    let before = member.cable().port().unwrap().rx_dropped;
    member.cable().pull().unwrap();
    let dropped = member.cable().port().unwrap().rx_dropped - before;
    production.wait_state(member.name(), MemberState::Failed, TIMEOUT).unwrap();
    member.cable().replug().unwrap();
    wait_direction(production, member, Some(Direction::Returning));
    dropped
}

#[track_caller]
fn ensure_sound(what: &str, report: &stream::Report, dropped: u64) {
    println!("{what}: {report}; {dropped} dropped by the pulled port");
    report.ensure_valid().unwrap();
    assert_eq!((report.reordered(), report.duplicated(), report.send_errors), (0, 0, 0), "{what}: {report}");
    assert!(report.lost() <= dropped, "{what}: {report}");
}

#[test]
fn active_flows_stay_and_new_and_idle_ones_return_to_a_repaired_member() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    for hash in ["connection", "flow"] {
        let lab = Lab::tutorial().unwrap();
        let settings = format!("failback=idle failback-limit=600s hash={hash}");
        let production = Production::builder(&lab).settings(&settings).create().unwrap();
        let member = &lab.members()[0];
        let (peer, running) = (lab.peer(0), active_flows(&lab));
        let bulk =
            Bulk::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).pace(1 << 20).start().unwrap();
        bulk.wait_received(1 << 18, TIMEOUT).unwrap();
        let dropped = repair(&production, member);
        let repaired = Instant::now();
        let idle = new_flows(&lab, &production).0;
        while repaired.elapsed() < 2 * IDLE {
            assert!(!is_transmitting(member), "active flows have moved: {}", production.show());
        }
        let text = production.show();
        assert!(text.contains("returning: gets new flows; others return to it when they are idle"), "{text}");
        // Of new flows it gets its share, and idle ones have returned to it.
        let (_new, counted) = new_flows(&lab, &production);
        let returned = send(&idle, &production);
        println!("hash={hash}: {NEW} new flows: {counted:?} packets, {NEW} idle flows: {returned:?} packets");
        for counted in [counted, returned] {
            assert!((40..200).contains(&counted[0]), "{counted:?}");
        }
        assert!(!is_transmitting(member), "active flows have moved: {}", production.show());
        let bulk = bulk.stop().unwrap();
        println!("hash={hash}: {bulk}");
        assert!(bulk.intact && bulk.error.is_none(), "{bulk}");
        ensure_sound(&format!("hash={hash}"), &running.stop().unwrap(), dropped);
        wait_direction(&production, member, None);
        let ended = production.daemon.wait_line("have returned to it", 0, TIMEOUT).unwrap();
        assert!(!ended.contains("the time for active ones"), "{ended}");
        active_flows(&lab).stop().unwrap();
        production.assert_clean();
    }
}

#[test]
fn active_flows_return_when_the_limit_has_passed() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::builder(&lab).settings("failback=idle failback-limit=4s").create().unwrap();
    let (member, running) = (&lab.members()[0], active_flows(&lab));
    let dropped = repair(&production, member);
    let repaired = Instant::now();
    while repaired.elapsed() < Duration::from_secs(3) {
        assert!(!is_transmitting(member), "active flows have moved: {}", production.show());
    }
    assert!(wait_until(TIMEOUT, || is_transmitting(member)), "{}", production.show());
    println!("active flows returned after {:?}", repaired.elapsed());
    production.daemon.wait_line("the time for active ones has passed", 0, TIMEOUT).unwrap();
    let report = running.stop().unwrap();
    println!("{report}; {dropped} dropped by the pulled port");
    assert!(report.lost() <= dropped, "{report}");
    production.assert_clean();
}

#[test]
fn drained_member_keeps_active_flows_until_they_end_or_the_time_has_passed() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let [first, second, _] = lab.members() else { panic!("three members") };
    let running = active_flows(&lab);
    production.daemon.ctl(&format!("offline {} --drain 600", first.name())).unwrap();
    std::thread::sleep(IDLE);
    let (_new, counted) = new_flows(&lab, &production);
    println!("{NEW} new flows while {} is drained: {counted:?} packets", first.name());
    assert!(is_transmitting(first), "active flows have left: {}", production.show());
    let others: u64 = counted[1..].iter().sum();
    assert!(others >= (NEW * PACKETS) as u64, "{counted:?}");
    // Two of three would be offline then: the last one stays.
    production.daemon.ctl(&format!("offline {}", second.name())).unwrap();
    let refused = production.daemon.ctl_error(&format!("offline {}", lab.members()[2].name())).unwrap();
    assert!(refused.contains("no other functioning interfaces"), "{refused}");
    production.daemon.ctl(&format!("online {}", second.name())).unwrap();
    assert_eq!(direction(&production, first), Some(Direction::Draining));
    let report = running.stop().unwrap();
    println!("drain: {report}");
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    let ended = Instant::now();
    production.wait_state(first.name(), MemberState::Offline, TIMEOUT).unwrap();
    println!("offline {:?} after its flows have ended", ended.elapsed());
    production.daemon.ctl(&format!("online {}", first.name())).unwrap();

    let running = active_flows(&lab);
    let began = Instant::now();
    production.daemon.ctl(&format!("offline {} --drain 3", first.name())).unwrap();
    production.wait_state(first.name(), MemberState::Offline, TIMEOUT).unwrap();
    let took = began.elapsed();
    println!("offline after {took:?} of 3 s");
    assert!((2_900 * MS..5_000 * MS).contains(&took), "{took:?}");
    let report = running.stop().unwrap();
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    production.daemon.ctl(&format!("online {}", first.name())).unwrap();
    production.daemon.ctl(&format!("offline {} --drain 600", first.name())).unwrap();
    production.daemon.ctl(&format!("online {}", first.name())).unwrap();
    assert_eq!(direction(&production, first), None);
    production.assert_clean();
}

#[test]
fn pull_during_transitions_loses_nothing_and_next_daemon_continues_them() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let mut production =
        Production::builder(&lab).settings("failback=idle failback-limit=600s").create().unwrap();
    let [first, second, third] = lab.members() else { panic!("three members") };
    let running = active_flows(&lab);
    repair(&production, first);
    std::thread::sleep(IDLE);
    production.daemon.kill().unwrap();
    assert!(!is_transmitting(first), "without the daemon");
    production.daemon.start().unwrap();
    wait_direction(&production, first, Some(Direction::Returning));
    for _ in 0..10 {
        assert!(!is_transmitting(first), "with the next daemon: {}", production.show());
    }
    // The former members of the flows.
    for (pulled, other) in [(second, third), (third, second)] {
        pulled.cable().pull().unwrap();
        std::thread::sleep(INTERVAL);
        assert!(is_transmitting(first) || is_transmitting(other));
        pulled.cable().replug().unwrap();
        production.wait_state(pulled.name(), MemberState::Ok, TIMEOUT).unwrap();
    }
    production.daemon.ctl(&format!("offline {} --drain 6", first.name())).unwrap();
    let began = Instant::now();
    production.daemon.kill().unwrap();
    production.daemon.start().unwrap();
    assert_eq!(direction(&production, first), Some(Direction::Draining));
    first.cable().pull().unwrap();
    production.wait_state(first.name(), MemberState::Offline, TIMEOUT).unwrap();
    println!("offline {:?} after the drain began, since its cable was pulled", began.elapsed());
    first.cable().replug().unwrap();
    let report = running.stop().unwrap();
    println!("pulls in transition: {report}");
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    production.assert_clean();
}
