//! What is neither IP nor ARP: out by the cast member; in, the link's own affair on every member.

use crate::{
    frames::*,
    harness::{CAST, run},
};

const SLOW_PROTOCOLS: u16 = 0x8809;
const EAPOL: u16 = 0x888e;
const PROFINET: u16 = 0x8892;

fn frames(mac: Mac, host: Mac) -> [Vec<u8>; 6] {
    [
        ethernet([1, 0x80, 0xc2, 0, 0, 0xe], mac, LLDP, &[2, 7, 4, 2, 0, 0, 0, 0, 9, 0, 0]),
        ethernet([1, 0x80, 0xc2, 0, 0, 2], mac, SLOW_PROTOCOLS, &[1, 1, 1, 20]),
        // Spanning tree: a length, then LLC.
        ethernet([1, 0x80, 0xc2, 0, 0, 0], mac, 38, &[0x42, 0x42, 3, 0, 0, 2, 2, 0x7c]),
        ethernet([1, 0x80, 0xc2, 0, 0, 3], mac, EAPOL, &[2, 1, 0, 0]),
        ethernet(BROADCAST, mac, PROFINET, &[0xfe, 0xfe]),
        ethernet(host, mac, PROFINET, b"unicast of an unknown kind"),
    ]
}

#[test]
fn both_ways() {
    lab::needs_root!();
    run(|bench| {
        for frame in frames(GROUP_MAC, PEER_MAC) {
            bench.egress(&frame).leaves_by(CAST, &with_source(&frame, member_mac(CAST)));
        }
        for member in 0..3 {
            for frame in frames(PEER_MAC, member_mac(member)) {
                bench.ingress(member, &frame).is_untouched();
            }
            // Also to the MAC of the group, which has no such protocol.
            bench.ingress(member, &frames(PEER_MAC, GROUP_MAC)[5]).is_untouched();
        }
    });
}
