//! Our own multicast and broadcast, handed back by a flooding or looping network.

use crate::{
    frames::*,
    harness::{DATA_LOCAL6, DATA4, DATA6, PEER4, PEER6, Reason, run},
};

#[test]
fn is_dropped_on_every_member() {
    lab::needs_root!();
    run(|bench| {
        let group4 = Ipv4Addr::new(239, 1, 2, 3);
        let group6 = solicited_node(PEER6);
        for mac in [member_mac(0), member_mac(1), member_mac(2), GROUP_MAC] {
            for frame in [
                ethernet(multicast_mac4(group4), mac, IPV4, &udp4(DATA4, group4, (1, 2), b"")),
                ethernet(BROADCAST, mac, ARP, &arp(1, (mac, DATA4), (NO_MAC, PEER4))),
                ethernet(BROADCAST, mac, ARP, &arp(1, (mac, DATA4), (NO_MAC, DATA4))),
                ethernet(
                    multicast_mac6(group6),
                    mac,
                    IPV6,
                    &solicitation(DATA6, group6, PEER6, &[source_option(mac)]),
                ),
                ethernet(multicast_mac6(MLD_ROUTERS), mac, IPV6, &mld_report(DATA_LOCAL6)),
                ethernet([1, 0x80, 0xc2, 0, 0, 0xe], mac, LLDP, &[0, 0]),
                ethernet(BROADCAST, mac, ARP, &[0]),
            ] {
                for member in 0..3 {
                    bench.ingress(member, &frame).is_dropped(Reason::Reflected);
                }
            }
        }
        // A member that left is a stranger again.
        let frame = ethernet(multicast_mac4(group4), member_mac(2), IPV4, &udp4(PEER4, group4, (1, 2), b""));
        bench.group.detach(2).unwrap();
        bench.ingress(1, &frame).is_taken(1, &frame);
    });
}
