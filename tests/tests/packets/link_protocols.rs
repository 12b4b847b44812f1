//! What is neither IP nor ARP: out by the cast member; in, the link's own affair on every member.

use crate::{
    frames::*,
    harness::{CAST, run},
};

const SLOW_PROTOCOLS: u16 = 0x8809;
const EAPOL: u16 = 0x888e;
const PROFINET: u16 = 0x8892;
const PPPOE_DISCOVERY: u16 = 0x8863;
const PPPOE_SESSION: u16 = 0x8864;
const MPLS: u16 = 0x8847;

fn frames(mac: Mac, host: Mac) -> [Vec<u8>; 9] {
    [
        ethernet([1, 0x80, 0xc2, 0, 0, 0xe], mac, LLDP, &[2, 7, 4, 2, 0, 0, 0, 0, 9, 0, 0]),
        ethernet([1, 0x80, 0xc2, 0, 0, 2], mac, SLOW_PROTOCOLS, &[1, 1, 1, 20]),
        // Spanning tree: a length, then LLC.
        ethernet([1, 0x80, 0xc2, 0, 0, 0], mac, 38, &[0x42, 0x42, 3, 0, 0, 2, 2, 0x7c]),
        ethernet([1, 0x80, 0xc2, 0, 0, 3], mac, EAPOL, &[2, 1, 0, 0]),
        ethernet(BROADCAST, mac, PROFINET, &[0xfe, 0xfe]),
        ethernet(BROADCAST, mac, PPPOE_DISCOVERY, &[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0]),
        ethernet(host, mac, PPPOE_SESSION, &[0x11, 0, 0, 1, 0, 2, 0xc0, 0x21]),
        // Label 16, with IPv4 behind it.
        ethernet(host, mac, MPLS, &[0, 1, 1, 64, 0x45, 0, 0, 20]),
        ethernet(host, mac, PROFINET, b"unicast of an unknown kind"),
    ]
}

#[test]
fn other_ethertypes_leave_by_cast_member_and_stay_on_the_member_that_receives_them() {
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
            for frame in &frames(PEER_MAC, GROUP_MAC)[6..] {
                bench.ingress(member, frame).is_untouched();
            }
        }
    });
}
