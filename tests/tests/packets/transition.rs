//! Members in transition: a flow that is active stays on its member, and all others move at once.

use std::time::Duration;

use ipmp::core::Time;
use ipmp_common::{
    hash::HashPolicy,
    steer::MemberSet,
    transition::{IDLE, Usable},
};
use nix::time::{ClockId, clock_gettime};

use crate::{
    frames::*,
    harness::{Bench, DATA4, DATA6, PEER4, PEER6, Setup},
};

/// The group that a test describes: settled, returning, leaving, learning.
fn set(bench: &Bench, sets: [&[u8]; 4]) {
    let [settled, returning, leaving, learning] = sets.map(|set| set.iter().copied().collect::<MemberSet>());
    bench.group.set_usable(Usable { settled, returning, leaving, learning });
}

/// Packets of flows, by their source port: UDP over IPv4 and IPv6.
fn datagrams(port: u16) -> [Vec<u8>; 2] {
    [
        ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (port, 2), b"")),
        ethernet(PEER_MAC, GROUP_MAC, IPV6, &udp6(DATA6, PEER6, (port, 2), b"")),
    ]
}

/// A TCP segment with these flags.
fn segments(port: u16, flags: u8) -> [Vec<u8>; 2] {
    let (mut v4, mut v6) = (tcp4(DATA4, PEER4, (port, 2), 1), tcp6(DATA6, PEER6, (port, 2), 1));
    (v4[20 + 13], v6[40 + 13]) = (flags, flags);
    [ethernet(PEER_MAC, GROUP_MAC, IPV4, &v4), ethernet(PEER_MAC, GROUP_MAC, IPV6, &v6)]
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[track_caller]
fn leave_by(bench: &Bench, frames: &[Vec<u8>], member: u8) {
    for frame in frames {
        // It is no failover, although a more preferred member may not transmit it.
        bench.egress(frame).leaves_by(member, &with_source(frame, member_mac(member)));
    }
}

fn now() -> Time {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    Time(Duration::new(now.tv_sec() as u64, now.tv_nsec() as u32))
}

fn wait_idle() {
    std::thread::sleep(IDLE + Duration::from_millis(50));
}

/// Every slot prefers member 0, then 1, then 2.
#[test]
fn returning_member_gets_new_and_idle_flows_and_no_active_ones() {
    lab::needs_root!();
    for policy in HashPolicy::ALL {
        Setup::new().policy(policy).run(|bench| {
            bench.wait_live(MemberSet::from_bits(7));
            set(bench, [&[1, 2], &[0], &[], &[0]]);
            leave_by(bench, &datagrams(1), 1);
            leave_by(bench, &segments(1, ACK), 1);
            if policy != HashPolicy::Destination {
                leave_by(bench, &segments(2, SYN), 0);
                leave_by(bench, &segments(3, SYN | ACK), 0);
                leave_by(bench, &segments(2, ACK), 0);
            }
            // Flows are known: this one is not new in the datapath, but was not seen.
            set(bench, [&[1, 2], &[0], &[], &[]]);
            leave_by(bench, &datagrams(1), 1);
            leave_by(bench, &segments(1, ACK), 1);
            if policy != HashPolicy::Destination {
                leave_by(bench, &datagrams(4), 0);
                leave_by(bench, &segments(5, ACK), 0);
            }
            assert_eq!(bench.group.moving(now()).unwrap(), MemberSet::of(0));
            wait_idle();
            assert_eq!(bench.group.moving(now()).unwrap(), MemberSet::EMPTY);
            leave_by(bench, &datagrams(1), 0);
            leave_by(bench, &segments(1, ACK), 0);
        });
    }
}

#[test]
fn leaving_member_keeps_active_flows_and_gets_no_others() {
    lab::needs_root!();
    Setup::new().run(|bench| {
        bench.wait_live(MemberSet::from_bits(7));
        leave_by(bench, &datagrams(1), 0);
        set(bench, [&[1, 2], &[], &[0], &[0]]);
        leave_by(bench, &datagrams(1), 0);
        leave_by(bench, &segments(2, SYN), 1);
        set(bench, [&[1, 2], &[], &[0], &[]]);
        leave_by(bench, &datagrams(1), 0);
        leave_by(bench, &datagrams(3), 1);
        leave_by(bench, &segments(2, ACK), 1);
        assert_eq!(bench.group.moving(now()).unwrap(), MemberSet::of(0));
        wait_idle();
        assert_eq!(bench.group.moving(now()).unwrap(), MemberSet::EMPTY);
        leave_by(bench, &datagrams(1), 1);
        // Before a packet is lost, it is used for all.
        set(bench, [&[], &[], &[0], &[]]);
        leave_by(bench, &datagrams(4), 0);
    });
}

#[test]
fn member_that_fails_is_left_at_once_and_its_flows_stay_where_they_moved() {
    lab::needs_root!();
    Setup::new().run(|bench| {
        bench.wait_live(MemberSet::from_bits(7));
        set(bench, [&[1, 2], &[0], &[], &[]]);
        leave_by(bench, &segments(1, SYN), 0);
        set(bench, [&[1, 2], &[0], &[], &[0]]);
        leave_by(bench, &datagrams(2), 1);
        // Their former member fails, then the returning one.
        bench.set_cable(1, false);
        leave_by(bench, &datagrams(2), 2);
        bench.set_cable(0, false);
        leave_by(bench, &segments(1, ACK), 2);
        bench.set_cable(0, true);
        bench.set_cable(1, true);
        bench.wait_live(MemberSet::from_bits(7));
        leave_by(bench, &datagrams(2), 2);
        leave_by(bench, &segments(1, ACK), 2);
        // The transition ends.
        bench.set_usable(&[0, 1, 2]);
        leave_by(bench, &datagrams(2), 0);
    });
}

#[test]
fn roles_and_tagged_packets_of_members_in_transition_stay() {
    lab::needs_root!();
    Setup::new().run(|bench| {
        bench.wait_live(MemberSet::from_bits(7));
        let group = Ipv4Addr::new(239, 1, 2, 3);
        let multicast = ethernet(multicast_mac4(group), GROUP_MAC, IPV4, &udp4(DATA4, group, (1, 2), b""));
        let vlan = tagged(&datagrams(1)[0], VLAN, 5);
        set(bench, [&[0, 2], &[], &[1], &[]]);
        leave_by(bench, std::slice::from_ref(&multicast), 1);
        set(bench, [&[0, 2], &[1], &[], &[1]]);
        leave_by(bench, std::slice::from_ref(&multicast), 1);
        // The slow path selects by the flow, too.
        set(bench, [&[1, 2], &[0], &[], &[0]]);
        leave_by(bench, std::slice::from_ref(&vlan), 1);
        set(bench, [&[1, 2], &[0], &[], &[]]);
        leave_by(bench, std::slice::from_ref(&vlan), 1);
        wait_idle();
        leave_by(bench, &[vlan], 0);
    });
}
