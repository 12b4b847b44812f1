//! Frames that a bridge, a macvlan or a VM on top of the group interface would send with a MAC of its own: dropped and
//! counted, never rewritten.

use crate::{
    frames::*,
    harness::{DATA4, DATA6, PEER4, PEER6, Reason, run},
};

#[test]
fn is_dropped_and_counted() {
    lab::needs_root!();
    run(|bench| {
        let group = solicited_node(PEER6);
        for mac in [[2, 0, 0, 0, 9, 9], member_mac(0), BROADCAST, NO_MAC, [2, 0, 0, 0, 0, 8]] {
            for frame in [
                ethernet(PEER_MAC, mac, IPV4, &udp4(DATA4, PEER4, (1, 2), b"")),
                ethernet(PEER_MAC, mac, IPV6, &udp6(DATA6, PEER6, (1, 2), b"")),
                ethernet(BROADCAST, mac, ARP, &arp(1, (mac, DATA4), (NO_MAC, PEER4))),
                ethernet(multicast_mac6(group), mac, IPV6, &solicitation(DATA6, group, PEER6, &[])),
                ethernet(multicast_mac4(IGMP_ROUTERS), mac, IPV4, &igmp_report(DATA4)),
                ethernet([1, 0x80, 0xc2, 0, 0, 0xe], mac, LLDP, &[0, 0]),
                ethernet(PEER_MAC, mac, ARP, &[0]),
            ] {
                bench.egress(&frame).is_dropped(Reason::ForeignSource);
            }
        }
    });
}
