//! Duplicate address detection (RFC 4862): a solicitation from :: without an option, for the requested address.

use std::net::Ipv6Addr;

use crate::{
    frames::*,
    harness::{CAST, DATA_LOCAL6, DATA6, INBOUND, PEER_LOCAL6, Reason, STRANGER6, local6, run},
};

/// With or without the nonce of RFC 7527.
fn detects(mac: Mac, target: Ipv6Addr, options: &[Vec<u8>]) -> Vec<u8> {
    let group = solicited_node(target);
    let packet = solicitation(Ipv6Addr::UNSPECIFIED, group, target, options);
    ethernet(multicast_mac6(group), mac, IPV6, &packet)
}

#[test]
fn both_ways() {
    lab::needs_root!();
    run(|bench| {
        let nonce = vec![14, 1, 1, 2, 3, 4, 5, 6];
        for options in [vec![], vec![nonce]] {
            for (target, member) in [(DATA6, INBOUND), (DATA_LOCAL6, INBOUND), (STRANGER6, CAST)] {
                let ours = detects(GROUP_MAC, target, &options);
                bench.egress(&ours).leaves_by(member, &with_source(&ours, member_mac(member)));
                let received = detects(PEER_MAC, target, &options);
                bench.is_taken_once(member, &received);
            }
            let for_member = detects(PEER_MAC, local6(1), &options);
            bench.ingress(1, &for_member).is_untouched();
            bench.ingress(0, &for_member).is_dropped(Reason::OtherCopy);
        }
    });
}

/// The same about an address that a member itself is about to have.
#[test]
fn the_answer_about_a_members_own_address_is_its_members() {
    lab::needs_root!();
    run(|bench| {
        let packet =
            advertisement(PEER_LOCAL6, ALL_NODES, local6(2), UNSOLICITED, &[target_option(PEER_MAC)]);
        let taken = ethernet(multicast_mac6(ALL_NODES), PEER_MAC, IPV6, &packet);
        bench.ingress(2, &taken).is_untouched();
        bench.ingress(0, &taken).is_dropped(Reason::OtherCopy);
        bench.ingress(CAST, &taken).is_taken(CAST, &taken);
    });
}

/// The answer to one: the address is taken. It goes to all nodes.
#[test]
fn the_reply_is_received_once() {
    lab::needs_root!();
    run(|bench| {
        let packet = advertisement(DATA6, ALL_NODES, DATA6, UNSOLICITED, &[target_option(PEER_MAC)]);
        let taken = ethernet(multicast_mac6(ALL_NODES), PEER_MAC, IPV6, &packet);
        bench.is_taken_once(CAST, &taken);
    });
}
