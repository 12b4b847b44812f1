//! Frames sent for real go where the source MAC and the counters say: what TEST_RUN cannot show.

use crate::{
    frames::*,
    harness::{CAST, DATA4, DATA6, FLOWS, INBOUND, PEER4, PEER6, run, test4},
    wire::Wire,
};

#[test]
fn what_leaves_the_group_interface_comes_out_of_one_cable() {
    lab::needs_root!();
    run(|_bench| {
        let group = Wire::mute("g0");
        let far = Wire::open("far");
        let cables: Vec<_> = (0..3).map(|member| Wire::open(&format!("p{member}"))).collect();
        let asks = |mac| ethernet(BROADCAST, mac, ARP, &arp(1, (mac, DATA4), (NO_MAC, PEER4)));
        let node = solicited_node(PEER6);
        let solicits = |mac| {
            let packet = solicitation(DATA6, node, PEER6, &[source_option(mac)]);
            ethernet(multicast_mac6(node), mac, IPV6, &packet)
        };
        let datagram = |mac| ethernet(PEER_MAC, mac, IPV4, &udp4(DATA4, PEER4, (1, 2), b""));
        let probe = |mac| ethernet(PEER_MAC, mac, IPV4, &udp4(test4(2), PEER4, (1, 2), b""));
        let lldp = |mac| ethernet([1, 0x80, 0xc2, 0, 0, 0xe], mac, LLDP, &[0, 0]);
        type Frame<'a> = &'a dyn Fn(Mac) -> Vec<u8>;
        let cases: [(u8, Frame); 5] =
            [(FLOWS, &datagram), (INBOUND, &asks), (INBOUND, &solicits), (CAST, &lldp), (2, &probe)];
        for (member, frame) in cases {
            group.send(&frame(GROUP_MAC));
            cables[usize::from(member)].receives_once(&frame(member_mac(member)));
            for other in (0..3).filter(|other| *other != usize::from(member)) {
                cables[other].receives_nothing();
            }
        }
        // A report comes out of all of them, once each.
        let report = |mac| ethernet(multicast_mac4(IGMP_ROUTERS), mac, IPV4, &igmp_report(DATA4));
        group.send(&report(GROUP_MAC));
        for (member, cable) in cables.iter().enumerate() {
            cable.receives_once(&report(member_mac(member as u8)));
        }
        far.receives_nothing();
    });
}

#[test]
fn what_a_member_takes_comes_in_on_the_group_interface() {
    lab::needs_root!();
    run(|_bench| {
        let group = Wire::open("g0");
        let cables: Vec<_> = (0..3).map(|member| Wire::open(&format!("p{member}"))).collect();
        for (member, cable) in cables.iter().enumerate() {
            let to = |mac| ethernet(mac, PEER_MAC, IPV4, &udp4(PEER4, DATA4, (2, 1), &[member as u8]));
            cable.send(&to(member_mac(member as u8)));
            group.receives_once(&to(GROUP_MAC));
        }
        // A broadcast that every switch hands us comes in once.
        let asks = ethernet(BROADCAST, PEER_MAC, ARP, &arp(1, (PEER_MAC, PEER4), (NO_MAC, DATA4)));
        for cable in &cables {
            cable.send(&asks);
        }
        group.receives_once(&asks);
    });
}
