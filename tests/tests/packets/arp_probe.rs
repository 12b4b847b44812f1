//! Address conflict probes (RFC 5227): the sender is 0.0.0.0, the target is the requested address.

use crate::{
    frames::*,
    harness::{CAST, DATA4, INBOUND, SECOND4, STRANGER4, run},
};

const UNSPECIFIED: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[test]
fn both_ways() {
    lab::needs_root!();
    run(|bench| {
        let probe =
            |mac, target| ethernet(BROADCAST, mac, ARP, &arp(1, (mac, UNSPECIFIED), (NO_MAC, target)));
        for (target, member) in [(DATA4, INBOUND), (SECOND4, 0), (STRANGER4, CAST)] {
            bench.egress(&probe(GROUP_MAC, target)).leaves_by(member, &probe(member_mac(member), target));
            bench.is_taken_once(member, &probe(PEER_MAC, target));
        }
        // A probe whose target hardware address was filled in with our MAC does not leak it.
        let odd = |mac| ethernet(BROADCAST, mac, ARP, &arp(1, (mac, UNSPECIFIED), (mac, DATA4)));
        bench.egress(&odd(GROUP_MAC)).leaves_by(INBOUND, &odd(member_mac(INBOUND)));
    });
}
