//! Neighbour Advertisements, both ways.

use crate::{
    frames::*,
    harness::{CAST, DATA_LOCAL6, DATA6, INBOUND, PEER_LOCAL6, PEER6, local6, run},
};

#[test]
fn ours_leave_by_the_inbound_member_of_what_they_are_about() {
    lab::needs_root!();
    run(|bench| {
        for target in [DATA6, DATA_LOCAL6] {
            for (destination, mac, flags) in
                [(PEER6, PEER_MAC, SOLICITED), (ALL_NODES, multicast_mac6(ALL_NODES), UNSOLICITED)]
            {
                let answers = |source| {
                    let packet = advertisement(target, destination, target, flags, &[target_option(source)]);
                    ethernet(mac, source, IPV6, &packet)
                };
                let outcome = bench.egress(&answers(GROUP_MAC));
                outcome.leaves_by(INBOUND, &answers(member_mac(INBOUND)));
                assert!(has_right_checksum(&outcome.frame));
            }
        }
        // The target decides, not the source.
        let answers = |mac| {
            let packet = advertisement(local6(0), PEER6, DATA6, SOLICITED, &[target_option(mac)]);
            ethernet(PEER_MAC, mac, IPV6, &packet)
        };
        bench.egress(&answers(GROUP_MAC)).leaves_by(INBOUND, &answers(member_mac(INBOUND)));
    });
}

#[test]
fn others_are_taken_once() {
    lab::needs_root!();
    run(|bench| {
        let packet = advertisement(PEER6, ALL_NODES, PEER6, UNSOLICITED, &[target_option(PEER_MAC)]);
        let unsolicited = ethernet(multicast_mac6(ALL_NODES), PEER_MAC, IPV6, &packet);
        bench.is_taken_once(CAST, &unsolicited);
        for member in 0..3 {
            let answer = |to| {
                let packet =
                    advertisement(PEER_LOCAL6, to, PEER_LOCAL6, SOLICITED, &[target_option(PEER_MAC)]);
                ethernet(member_mac(member), PEER_MAC, IPV6, &packet)
            };
            for to in [DATA6, DATA_LOCAL6] {
                bench
                    .ingress(member, &answer(to))
                    .is_taken(member, &with_destination(&answer(to), GROUP_MAC));
            }
            bench.ingress(member, &answer(local6(member))).is_untouched();
        }
    });
}
