//! The next of the list carries as soon as the most preferred cannot: by the daemon's word, by the sentinel's, or by
//! the carrier bit that egress reads itself.

use std::time::{Duration, Instant};

use ipmp_common::steer::{MemberSet, Preference, SLOTS};

use crate::{
    frames::*,
    harness::{Bench, DATA4, DATA6, PEER4, PEER6, Reason, run},
};

/// A packet of each family, and one ICMPv6, which takes another way through the program.
fn packets() -> [Vec<u8>; 3] {
    [
        ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b"one")),
        ethernet(PEER_MAC, GROUP_MAC, IPV6, &tcp6(DATA6, PEER6, (1, 2), 3)),
        ethernet(PEER_MAC, GROUP_MAC, IPV6, &icmp6_packet(128, DATA6, PEER6, b"echo")),
    ]
}

/// Checks which member transmits: the most preferred one, or one after a failover.
#[track_caller]
fn transmitted_by(bench: &Bench, member: u8, failed_over_packets: bool) {
    for frame in packets() {
        let (outcome, expected) = (bench.egress(&frame), with_source(&frame, member_mac(member)));
        if failed_over_packets {
            outcome.leaves_instead_by(member, &expected);
        } else {
            outcome.leaves_by(member, &expected);
        }
    }
}

#[track_caller]
fn transmitted_by_none(bench: &Bench) {
    for frame in packets() {
        bench.egress(&frame).is_dropped(Reason::NoMember);
    }
}

#[test]
fn the_usable_mask_is_obeyed() {
    lab::needs_root!();
    run(|bench| {
        transmitted_by(bench, 0, false);
        bench.set_usable(&[1, 2]);
        transmitted_by(bench, 1, true);
        bench.set_usable(&[2]);
        transmitted_by(bench, 2, true);
        bench.set_usable(&[]);
        transmitted_by_none(bench);
        bench.set_usable(&[0, 1, 2]);
        transmitted_by(bench, 0, false);
        // A list with only members that cannot transmit.
        bench.group.set_slots(&[Preference::new(&[0]); SLOTS]);
        bench.set_usable(&[1, 2]);
        transmitted_by_none(bench);
    });
}

#[test]
fn the_live_mask_is_obeyed() {
    lab::needs_root!();
    run(|bench| {
        bench.set_cable(0, false);
        bench.wait_live(MemberSet::of(1).with(2));
        transmitted_by(bench, 1, true);
        bench.set_cable(1, false);
        bench.wait_live(MemberSet::of(2));
        transmitted_by(bench, 2, true);
        bench.set_cable(2, false);
        bench.wait_live(MemberSet::EMPTY);
        transmitted_by_none(bench);
        bench.set_cable(1, true);
        bench.wait_live(MemberSet::of(1));
        transmitted_by(bench, 1, true);
    });
}

/// There is no daemon here, and no other message: only the packet can be the reason that the sentinel ticks before it is due.
#[test]
fn packet_that_meets_lost_carrier_makes_idle_sentinel_tick() {
    const LOSSES: usize = 11;
    lab::needs_root!();
    run(|bench| {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..LOSSES {
            bench.set_cable(0, true);
            bench.wait_live(MemberSet::from_bits(7));
            bench.wait_idle();
            bench.set_cable(0, false);
            let sent = Instant::now();
            transmitted_by(bench, 1, true);
            bench.wait_live(MemberSet::from_bits(6));
            times.push(sent.elapsed());
        }
        times.sort();
        println!("from the packet until the sentinel has detected the loss: {times:?}");
        // By the timer alone it is about 64 ms.
        let median = times[LOSSES / 2];
        assert!(median < Duration::from_millis(32), "{times:?}");
    });
}

/// The promise: no daemon, no timer, no notification. `live` still has the member; the packet sees the carrier.
#[test]
fn the_carrier_is_read_by_the_packet_itself() {
    lab::needs_root!();
    run(|bench| {
        bench.stop_sentinel();
        bench.set_cable(0, false);
        transmitted_by(bench, 1, true);
        bench.set_cable(1, false);
        transmitted_by(bench, 2, true);
        bench.set_cable(2, false);
        transmitted_by_none(bench);
        assert_eq!(bench.group.live(), MemberSet::from_bits(7), "the sentinel has seen nothing");

        // The roles fail over the same way: multicast, and the member that accepts it.
        bench.set_cable(2, true);
        let group = Ipv4Addr::new(239, 1, 2, 3);
        let stream = |mac, v4| ethernet(multicast_mac4(group), mac, IPV4, &udp4(v4, group, (1, 2), b""));
        let ours = stream(GROUP_MAC, DATA4);
        bench.egress(&ours).leaves_instead_by(2, &with_source(&ours, member_mac(2)));
        let received = stream(PEER_MAC, PEER4);
        bench.ingress(2, &received).is_taken(2, &received);
        bench.ingress(1, &received).is_dropped(Reason::OtherCopy);
    });
}
