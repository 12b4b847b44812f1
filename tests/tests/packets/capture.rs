//! Captures on the group interface: what leaves is shown once, as outgoing and unrewritten, and leaves once; what comes
//! in is shown without any doing of ours; and nothing is copied for those who do not capture.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use ipmp_common::{
    maps::{CAPTURED, CaptureMode},
    steer::MemberSet,
};

use crate::{
    frames::*,
    harness::{
        Bench, CAST, DATA_LOCAL6, DATA4, DATA6, FLOWS, INBOUND, PEER4, PEER6, Reason, Tally, run, test4,
    },
    wire::Wire,
};

const GROUP: &str = "g0";

/// Frames of every kind, with the member that transmits each.
fn frames(mac: Mac) -> Vec<(u8, Vec<u8>)> {
    let node = solicited_node(PEER6);
    let datagram = ethernet(PEER_MAC, mac, IPV4, &udp4(DATA4, PEER4, (1, 2), b"one"));
    vec![
        (FLOWS, datagram.clone()),
        (FLOWS, ethernet(PEER_MAC, mac, IPV6, &tcp6(DATA6, PEER6, (1, 2), 3))),
        (FLOWS, ethernet(PEER_MAC, mac, IPV6, &icmp6_packet(128, DATA6, PEER6, b"echo"))),
        (FLOWS, tagged(&datagram, VLAN, 7)),
        (2, ethernet(PEER_MAC, mac, IPV4, &udp4(test4(2), PEER4, (1, 2), b"probe"))),
        (INBOUND, ethernet(BROADCAST, mac, ARP, &arp(1, (mac, DATA4), (NO_MAC, PEER4)))),
        (
            INBOUND,
            ethernet(
                multicast_mac6(node),
                mac,
                IPV6,
                &solicitation(DATA6, node, PEER6, &[source_option(mac)]),
            ),
        ),
        (CAST, ethernet(BROADCAST, mac, IPV4, &udp4(DATA4, Ipv4Addr::BROADCAST, (1, 2), b"all"))),
        (CAST, ethernet([1, 0x80, 0xc2, 0, 0, 0xe], mac, LLDP, &[0, 0])),
    ]
}

/// One copy, beside what else was counted.
fn and_one_copy(mut tally: Tally) -> Tally {
    tally.drops.captured = 1;
    tally
}

/// Waits until copies are made, or no longer.
#[track_caller]
fn wait_captured(bench: &Bench, captured: bool) {
    let came = lab::wait_until(Duration::from_secs(10), || bench.group.is_captured() == captured);
    assert!(came, "captured: {} instead of {captured}", bench.group.is_captured());
}

/// Packets that this namespace's IPv4 has been given.
fn received() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let column = names.split(' ').position(|name| name == "InReceives").unwrap();
    values.split(' ').nth(column).unwrap().parse().unwrap()
}

#[test]
fn what_leaves_is_shown_once_and_leaves_once() {
    lab::needs_root!();
    run(|bench| {
        let capture = Wire::open(GROUP);
        let cables: Vec<_> = (0..3).map(|member| Wire::open(&format!("p{member}"))).collect();
        wait_captured(bench, true);
        let before = received();
        for (member, sent) in frames(GROUP_MAC) {
            let (left, counted) = bench.send(&sent);
            assert!(left, "{sent:02x?}");
            assert_eq!(counted, and_one_copy(Tally::sent(member, sent.len())), "{sent:02x?}");
            capture.shows_leaving_once(&sent);
        }
        for (member, cable) in cables.iter().enumerate() {
            for (_, frame) in
                frames(member_mac(member as u8)).into_iter().filter(|(by, _)| *by == member as u8)
            {
                // The kernel moves the tag of an inbound frame to its metadata.
                let is_tagged = frame[12..14] == VLAN.to_be_bytes();
                cable.receives_next(&if is_tagged { [&frame[..12], &frame[16..]].concat() } else { frame });
            }
            cable.receives_nothing();
        }
        // The broadcast came to this namespace's stack by the cable, whose far end is here. Its copy did not: the far end
        // of the group interface has thrown it away.
        assert_eq!(received(), before + 1, "packets that this namespace has received");
    });
}

#[test]
fn a_report_is_shown_once_and_leaves_by_all() {
    lab::needs_root!();
    run(|bench| {
        let capture = Wire::open(GROUP);
        let cables: Vec<_> = (0..3).map(|member| Wire::open(&format!("p{member}"))).collect();
        wait_captured(bench, true);
        let report = |mac| ethernet(multicast_mac6(MLD_ROUTERS), mac, IPV6, &mld_report(DATA_LOCAL6));
        bench.send(&report(GROUP_MAC));
        capture.shows_leaving_once(&report(GROUP_MAC));
        for (member, cable) in cables.iter().enumerate() {
            cable.receives_once(&report(member_mac(member as u8)));
        }
    });
}

#[test]
fn what_does_not_leave() {
    lab::needs_root!();
    run(|bench| {
        let capture = Wire::open(GROUP);
        wait_captured(bench, true);
        let foreign = ethernet(BROADCAST, PEER_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b""));
        let (left, counted) = bench.send(&foreign);
        assert_eq!((left, counted), (false, Tally::dropped(Reason::ForeignSource)));
        capture.shows_nothing_leaving();
        // As on any interface: what was sent is shown, whether or not the wire can take it.
        bench.set_usable(&[]);
        let (_, frame) = frames(GROUP_MAC).remove(0);
        let (left, counted) = bench.send(&frame);
        assert_eq!((left, counted), (false, and_one_copy(Tally::dropped(Reason::NoMember))));
        capture.shows_leaving_once(&frame);
    });
}

#[test]
fn what_comes_in_is_shown_once_without_a_copy() {
    lab::needs_root!();
    run(|bench| {
        let capture = Wire::open(GROUP);
        wait_captured(bench, true);
        let cables: Vec<_> = (0..3).map(|member| Wire::open(&format!("p{member}"))).collect();
        let before = Tally::of(&bench.group);
        for (member, cable) in cables.iter().enumerate() {
            let to = |mac| ethernet(mac, PEER_MAC, IPV4, &udp4(PEER4, DATA4, (2, 1), &[member as u8]));
            cable.send(&to(member_mac(member as u8)));
            capture.receives_once(&to(GROUP_MAC));
        }
        let asks = ethernet(BROADCAST, PEER_MAC, ARP, &arp(1, (PEER_MAC, PEER4), (NO_MAC, DATA4)));
        cables.iter().for_each(|cable| cable.send(&asks));
        capture.receives_once(&asks);
        assert_eq!(Tally::of(&bench.group).since(&before).drops.captured, 0);
    });
}

/// Sockets of one protocol, as LLDP and DHCP have them, and those on all interfaces are no reason for copies.
#[test]
fn nothing_is_copied_for_those_who_do_not_capture() {
    lab::needs_root!();
    run(|bench| {
        let listeners: Vec<_> = [LLDP, IPV4, ARP, IPV6]
            .iter()
            .map(|protocol| Wire::bound(Some(GROUP), *protocol))
            .chain([Wire::bound(None, libc::ETH_P_ALL as u16)])
            .collect();
        bench.wait_ticks(10);
        assert!(!bench.group.is_captured());
        for (member, frame) in frames(GROUP_MAC) {
            assert_eq!(bench.send(&frame), (true, Tally::sent(member, frame.len())));
        }
        drop(listeners);

        // On and off follow the socket that captures; `off` and `on` do not ask it.
        for _ in 0..3 {
            let capture = Wire::open(GROUP);
            wait_captured(bench, true);
            drop(capture);
            wait_captured(bench, false);
        }
        bench.group.set_capture(CaptureMode::On);
        wait_captured(bench, true);
        let _capture = Wire::open(GROUP);
        bench.group.set_capture(CaptureMode::Off);
        wait_captured(bench, false);
        bench.wait_ticks(10);
        assert!(!bench.group.is_captured());
        bench.group.set_capture(CaptureMode::Auto);
        wait_captured(bench, true);
        // The members are what they were all along.
        assert_eq!(bench.group.live(), MemberSet::from_bits(7));
    });
}

/// A copy passes egress a second time, when the capture may have ended: it must be known there, and leave by no cable.
#[test]
fn a_copy_is_known_after_the_capture_has_ended() {
    lab::needs_root!();
    run(|bench| {
        bench.stop_sentinel();
        let (mut live, index) = (bench.live_map(), bench.group.index());
        let frame = ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b"x"));
        let (stop, before) = (AtomicBool::new(false), Tally::of(&bench.group));
        let mut counted = Tally::default();
        let mut sent = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    for captured in [MemberSet::EMPTY, CAPTURED] {
                        live.set(index, MemberSet::from_bits(7).or(captured), 0).unwrap();
                    }
                }
            });
            let group = Wire::mute(GROUP);
            let mixed = |counted: &Tally| (1..sent_of(counted)).contains(&counted.drops.captured);
            while sent < 20_000 || !mixed(&counted) && sent < 1_000_000 {
                for _ in 0..1000 {
                    group.send(&frame);
                }
                sent += 1000;
                counted = Tally::of(&bench.group).since(&before);
            }
            stop.store(true, Relaxed);
        });
        println!("{sent} sent, {} copies while captures started and stopped", counted.drops.captured);
        assert!((1..sent).contains(&counted.drops.captured), "captures did not come and go");
        assert_eq!(sent_of(&counted), sent, "packets that left");
    });
}

/// Packets that left by the member of all flows.
fn sent_of(counted: &Tally) -> u64 {
    counted.members[usize::from(FLOWS)].out_packets
}
