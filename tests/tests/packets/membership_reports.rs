//! IGMP and MLD reports leave through every live member, each copy with that member's MAC, so that snooping switches
//! forward the group's multicast to all of them.

use ipmp_common::steer::MemberSet;

use crate::{
    frames::*,
    harness::{CAST, DATA_LOCAL6, DATA4, DATA6, PEER_LOCAL6, PEER4, Reason, Tally, Verdict, run},
    wire::Wire,
};

/// Reports of every version, and IGMP's and MLD's farewells.
fn reports(mac: Mac, v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<Vec<u8>> {
    let group4 = Ipv4Addr::new(239, 1, 2, 3);
    let group6 = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x123);
    let routers4 = Ipv4Addr::new(224, 0, 0, 2);
    let body6 = [&[0; 4][..], &group6.octets()].concat();
    vec![
        ethernet(multicast_mac4(IGMP_ROUTERS), mac, IPV4, &igmp_report(v4)),
        ethernet(
            multicast_mac4(group4),
            mac,
            IPV4,
            &ip4(2, v4, group4, 0, &[0x16, 0, 0xf8, 0xfa, 239, 1, 2, 3]),
        ),
        ethernet(
            multicast_mac4(routers4),
            mac,
            IPV4,
            &ip4(2, v4, routers4, 0, &[0x17, 0, 0xf7, 0xfa, 239, 1, 2, 3]),
        ),
        ethernet(multicast_mac6(MLD_ROUTERS), mac, IPV6, &mld_report(v6)),
        ethernet(multicast_mac6(group6), mac, IPV6, &mld(131, v6, group6, &body6)),
        ethernet(multicast_mac6(ALL_ROUTERS), mac, IPV6, &mld(132, v6, ALL_ROUTERS, &body6)),
        // While its address is tentative a host reports from ::.
        ethernet(multicast_mac6(MLD_ROUTERS), mac, IPV6, &mld_report(Ipv6Addr::UNSPECIFIED)),
    ]
}

#[test]
fn a_copy_leaves_through_every_live_member() {
    lab::needs_root!();
    run(|bench| {
        let wires: Vec<_> = (0..3).map(|member| Wire::open(&format!("p{member}"))).collect();
        for frame in reports(GROUP_MAC, DATA4, DATA_LOCAL6) {
            let outcome = bench.egress(&frame);
            // The cast member's own copy is the redirected one, which TEST_RUN does not send.
            assert_eq!(outcome.verdict, Verdict::Redirect);
            assert_eq!(outcome.frame, with_source(&frame, member_mac(CAST)));
            assert_eq!(outcome.counted, all_sent(&[0, 1, 2], frame.len()));
            for member in [0, 2] {
                wires[usize::from(member)].receives_once(&with_source(&frame, member_mac(member)));
            }
            wires[usize::from(CAST)].receives_nothing();
        }

        // Without a carrier there is no copy; without being usable there is: its switch is to know, for the day it is.
        bench.set_cable(0, false);
        bench.wait_live(MemberSet::of(1).with(2));
        bench.set_usable(&[0, 1]);
        let frame = &reports(GROUP_MAC, DATA4, DATA_LOCAL6)[0];
        let outcome = bench.egress(frame);
        assert_eq!(outcome.frame, with_source(frame, member_mac(CAST)));
        assert_eq!(outcome.counted, all_sent(&[1, 2], frame.len()));
        wires[2].receives_once(&with_source(frame, member_mac(2)));
        bench.set_usable(&[]);
        bench.egress(frame).is_dropped(Reason::NoMember);
        wires[2].receives_nothing();
    });
}

/// What each of these members sends once.
fn all_sent(members: &[u8], length: usize) -> Tally {
    members.iter().fold(Tally::default(), |mut tally, &member| {
        tally.members[usize::from(member)] = Tally::sent(member, length).members[usize::from(member)];
        tally
    })
}

/// What looks like a report and is none.
#[test]
fn other_messages_leave_once() {
    lab::needs_root!();
    run(|bench| {
        let wires: Vec<_> = (0..3).map(|member| Wire::open(&format!("p{member}"))).collect();
        let query = mld(130, DATA_LOCAL6, ALL_NODES, &[0; 20]);
        let frame = ethernet(multicast_mac6(ALL_NODES), GROUP_MAC, IPV6, &query);
        bench.egress(&frame).leaves_by(CAST, &with_source(&frame, member_mac(CAST)));
        // IGMP by unicast is mtrace, an ordinary packet of a flow.
        let mtrace = ip4(2, DATA4, PEER4, 0, &[0x1f, 0, 0, 0, 0, 0, 0, 0]);
        let frame = ethernet(PEER_MAC, GROUP_MAC, IPV4, &mtrace);
        bench.egress(&frame).leaves_by(0, &with_source(&frame, member_mac(0)));
        // So is ICMPv6 behind a hop-by-hop header to a host.
        let jumbo = mld(128, DATA6, crate::harness::PEER6, b"echo");
        let frame = ethernet(PEER_MAC, GROUP_MAC, IPV6, &jumbo);
        bench.egress(&frame).leaves_by(0, &with_source(&frame, member_mac(0)));
        for wire in &wires {
            wire.receives_nothing();
        }
    });
}

#[test]
fn others_are_taken_by_the_cast_member() {
    lab::needs_root!();
    run(|bench| {
        for frame in reports(PEER_MAC, PEER4, PEER_LOCAL6) {
            bench.is_taken_once(CAST, &frame);
        }
    });
}
