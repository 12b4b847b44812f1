//! Router Solicitations and Advertisements, both ways.

use crate::{
    frames::*,
    harness::{CAST, DATA_LOCAL6, INBOUND, PEER_LOCAL6, local6, run},
};

#[test]
fn ours_leave_by_the_inbound_member_of_their_source() {
    lab::needs_root!();
    run(|bench| {
        let solicits = |mac| {
            let packet = router_solicitation(DATA_LOCAL6, &[source_option(mac)]);
            ethernet(multicast_mac6(ALL_ROUTERS), mac, IPV6, &packet)
        };
        let outcome = bench.egress(&solicits(GROUP_MAC));
        outcome.leaves_by(INBOUND, &solicits(member_mac(INBOUND)));
        assert!(has_right_checksum(&outcome.frame));

        // A router behind a group: the option comes after those of its prefixes.
        let options = |mac| [mtu_option(), prefix_option(1), source_option(mac)];
        let advertises = |mac| {
            let packet = router_advertisement(DATA_LOCAL6, &options(mac));
            ethernet(multicast_mac6(ALL_NODES), mac, IPV6, &packet)
        };
        let outcome = bench.egress(&advertises(GROUP_MAC));
        outcome.leaves_by(INBOUND, &advertises(member_mac(INBOUND)));
        assert!(has_right_checksum(&outcome.frame));
    });
}

/// Before it has an address, a host solicits from ::, which is not learnt.
#[test]
fn solicitation_from_unspecified_leaves_by_the_cast_member() {
    lab::needs_root!();
    run(|bench| {
        let packet = router_solicitation(std::net::Ipv6Addr::UNSPECIFIED, &[]);
        let solicits = ethernet(multicast_mac6(ALL_ROUTERS), GROUP_MAC, IPV6, &packet);
        bench.egress(&solicits).leaves_by(CAST, &with_source(&solicits, member_mac(CAST)));
        assert!(bench.learnt().is_empty(), "learnt {:?}", bench.learnt());
    });
}

#[test]
fn others_are_taken_by_the_cast_member() {
    lab::needs_root!();
    run(|bench| {
        let options = [source_option(PEER_MAC), mtu_option(), prefix_option(1)];
        let advertised =
            ethernet(multicast_mac6(ALL_NODES), PEER_MAC, IPV6, &router_advertisement(PEER_LOCAL6, &options));
        let solicited = ethernet(
            multicast_mac6(ALL_ROUTERS),
            PEER_MAC,
            IPV6,
            &router_solicitation(PEER_LOCAL6, &[source_option(PEER_MAC)]),
        );
        for frame in [&advertised, &solicited] {
            bench.is_taken_once(CAST, frame);
        }
        // A router may answer a solicitation by unicast.
        let unicast = |to| {
            let body = [0; 12];
            ethernet(member_mac(0), PEER_MAC, IPV6, &icmp6_packet(134, PEER_LOCAL6, to, &body))
        };
        bench
            .ingress(0, &unicast(DATA_LOCAL6))
            .is_taken(0, &with_destination(&unicast(DATA_LOCAL6), GROUP_MAC));
        bench.ingress(0, &unicast(local6(0))).is_untouched();
    });
}
