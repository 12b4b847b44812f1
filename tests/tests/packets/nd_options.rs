//! Options of Neighbour Discovery: where the group's MAC may stand, and what must not be touched.

use crate::{
    frames::*,
    harness::{Bench, DATA_LOCAL6, DATA6, INBOUND, PEER6, run},
};

/// An advertisement of a router, with these options.
fn advertises(mac: Mac, options: &[Vec<u8>]) -> Vec<u8> {
    ethernet(multicast_mac6(ALL_NODES), mac, IPV6, &router_advertisement(DATA_LOCAL6, options))
}

/// What is written with the group's MAC leaves with the member's.
#[track_caller]
fn is_rewritten(bench: &Bench, options: impl Fn(Mac) -> Vec<Vec<u8>>) {
    let mine = member_mac(INBOUND);
    let outcome = bench.egress(&advertises(GROUP_MAC, &options(GROUP_MAC)));
    outcome.leaves_by(INBOUND, &advertises(mine, &options(mine)));
    assert!(has_right_checksum(&outcome.frame));
}

/// Nothing behind the Ethernet header changes.
#[track_caller]
fn is_kept(bench: &Bench, options: &[Vec<u8>]) {
    let frame = advertises(GROUP_MAC, options);
    bench.egress(&frame).leaves_by(INBOUND, &with_source(&frame, member_mac(INBOUND)));
}

#[test]
fn the_option_is_found_at_every_place() {
    lab::needs_root!();
    run(|bench| {
        for before in 0..4 {
            is_rewritten(bench, |mac| [vec![mtu_option(); before], vec![source_option(mac)]].concat());
        }
        is_rewritten(bench, |mac| vec![prefix_option(1), source_option(mac), prefix_option(2), mtu_option()]);
    });
}

/// A router that advertises several prefixes, as radvd orders them: the source comes last.
#[test]
fn the_option_is_found_beyond_the_fourth_place() {
    lab::needs_root!();
    run(|bench| {
        for prefixes in 3..12 {
            let before: Vec<_> = (0..prefixes).map(prefix_option).collect();
            is_rewritten(bench, |mac| [before.clone(), vec![mtu_option(), source_option(mac)]].concat());
        }
    });
}

#[test]
fn what_is_not_our_mac_in_an_address_option_is_kept() {
    lab::needs_root!();
    run(|bench| {
        is_kept(bench, &[source_option(PEER_MAC)]);
        is_kept(bench, &[source_option(PEER_MAC), mtu_option()]);
        // The six bytes in an option of another kind, or of another length, are no address.
        is_kept(bench, &[[&[14, 1], &GROUP_MAC[..]].concat()]);
        is_kept(bench, &[[&[1, 2], &GROUP_MAC[..], &[0; 8]].concat()]);
    });
}

#[test]
fn malformed_options_are_neither_followed_nor_a_reason_to_drop() {
    lab::needs_root!();
    run(|bench| {
        // Length 0 would never end: what follows it is no option.
        is_kept(bench, &[vec![5, 0, 0, 0, 0, 0, 5, 220], source_option(GROUP_MAC)]);
        is_kept(bench, &[vec![1, 0, 2, 0, 0, 0, 0, 9]]);
        // A length that points beyond the packet.
        is_kept(bench, &[vec![5, 255, 0, 0, 0, 0, 5, 220], source_option(GROUP_MAC)]);
        // Cut off inside the option.
        for kept in 1..8 {
            is_kept(bench, &[source_option(GROUP_MAC)[..kept].to_vec()]);
        }
        let odd = solicitation(DATA6, PEER6, PEER6, &[vec![14, 1, 0], source_option(GROUP_MAC)]);
        let frame = ethernet(PEER_MAC, GROUP_MAC, IPV6, &odd);
        bench.egress(&frame).leaves_by(INBOUND, &with_source(&frame, member_mac(INBOUND)));
    });
}
