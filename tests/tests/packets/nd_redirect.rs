//! Redirects: a router behind a group sends a host a better first hop.

use crate::{
    frames::*,
    harness::{DATA_LOCAL6, DATA6, INBOUND, PEER_LOCAL6, PEER6, STRANGER6, local6, run},
};

#[test]
fn ours_leave_by_the_inbound_member_with_its_mac_in_the_option() {
    lab::needs_root!();
    run(|bench| {
        // The redirected header option holds part of the packet that caused it, and comes last.
        let mut header = vec![4, 2, 0, 0, 0, 0, 0, 0];
        header.extend([0x60, 0, 0, 0, 0, 0, 59, 64]);
        let redirects = |source, mac| {
            let options = [target_option(mac), header.clone()];
            let packet = redirect(DATA_LOCAL6, PEER6, PEER_LOCAL6, STRANGER6, &options);
            ethernet(PEER_MAC, source, IPV6, &packet)
        };
        let ours = redirects(GROUP_MAC, GROUP_MAC);
        let outcome = bench.egress(&ours);
        let mine = member_mac(INBOUND);
        outcome.leaves_by(INBOUND, &redirects(mine, mine));
        assert!(has_right_checksum(&outcome.frame));

        // The target's MAC is another host's as a rule: not a byte of it changes.
        let usual = redirects(GROUP_MAC, [2, 0, 0, 0, 2, 7]);
        bench.egress(&usual).leaves_by(INBOUND, &with_source(&usual, mine));
    });
}

#[test]
fn others_are_taken_for_a_data_address() {
    lab::needs_root!();
    run(|bench| {
        let redirected = |to| {
            let packet =
                redirect(PEER_LOCAL6, to, STRANGER6, STRANGER6, &[target_option([2, 0, 0, 0, 2, 7])]);
            ethernet(member_mac(0), PEER_MAC, IPV6, &packet)
        };
        bench.ingress(0, &redirected(DATA6)).is_taken(0, &with_destination(&redirected(DATA6), GROUP_MAC));
        bench.ingress(0, &redirected(local6(0))).is_untouched();
        bench.ingress(1, &redirected(DATA6)).is_untouched();
    });
}
