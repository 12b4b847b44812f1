//! Neighbour Solicitations, both ways.

use crate::{
    frames::*,
    harness::{CAST, DATA_LOCAL6, DATA6, INBOUND, PEER_LOCAL6, PEER6, Reason, STRANGER6, local6, run},
};

#[test]
fn ours_leave_by_the_inbound_member_with_its_mac_in_the_option() {
    lab::needs_root!();
    run(|bench| {
        let group = solicited_node(PEER6);
        for source in [DATA6, DATA_LOCAL6] {
            let asks = |mac| {
                let packet = solicitation(source, group, PEER6, &[source_option(mac)]);
                ethernet(multicast_mac6(group), mac, IPV6, &packet)
            };
            let outcome = bench.egress(&asks(GROUP_MAC));
            outcome.leaves_by(INBOUND, &asks(member_mac(INBOUND)));
            assert!(has_right_checksum(&outcome.frame));

            // Reachability of a neighbour is checked by unicast.
            let again = |mac| {
                let packet = solicitation(source, PEER6, PEER6, &[source_option(mac)]);
                ethernet(PEER_MAC, mac, IPV6, &packet)
            };
            bench.egress(&again(GROUP_MAC)).leaves_by(INBOUND, &again(member_mac(INBOUND)));
        }
        // Without an option there is nothing to rewrite.
        let bare = ethernet(PEER_MAC, GROUP_MAC, IPV6, &solicitation(DATA6, PEER6, PEER6, &[]));
        bench.egress(&bare).leaves_by(INBOUND, &with_source(&bare, member_mac(INBOUND)));
        // A member's own link-local speaks through that member.
        for member in 0..3 {
            let asks = |mac| {
                let packet = solicitation(local6(member), group, PEER6, &[source_option(mac)]);
                ethernet(multicast_mac6(group), mac, IPV6, &packet)
            };
            bench.egress(&asks(GROUP_MAC)).leaves_by(member, &asks(member_mac(member)));
        }
        assert!(bench.learnt().is_empty(), "{:?}", bench.learnt());

        let asks = |mac| {
            let packet = solicitation(STRANGER6, group, PEER6, &[source_option(mac)]);
            ethernet(multicast_mac6(group), mac, IPV6, &packet)
        };
        bench.egress(&asks(GROUP_MAC)).leaves_by(CAST, &asks(member_mac(CAST)));
        assert_eq!(bench.learnt(), [std::net::IpAddr::from(STRANGER6)]);
        bench.set_usable(&[1]);
        let ours = |mac| {
            let packet = solicitation(DATA6, group, PEER6, &[source_option(mac)]);
            ethernet(multicast_mac6(group), mac, IPV6, &packet)
        };
        bench.egress(&ours(GROUP_MAC)).leaves_instead_by(1, &ours(member_mac(1)));
        bench.set_usable(&[]);
        bench.egress(&ours(GROUP_MAC)).is_dropped(Reason::NoMember);
    });
}

#[test]
fn others_are_taken_once() {
    lab::needs_root!();
    run(|bench| {
        let asked = |target| {
            let group = solicited_node(target);
            let packet = solicitation(PEER_LOCAL6, group, target, &[source_option(PEER_MAC)]);
            ethernet(multicast_mac6(group), PEER_MAC, IPV6, &packet)
        };
        for (target, taker) in [(DATA6, INBOUND), (DATA_LOCAL6, INBOUND), (STRANGER6, CAST)] {
            bench.is_taken_once(taker, &asked(target));
        }
        for member in 0..3 {
            bench.ingress(member, &asked(local6(member))).is_untouched();
            bench.ingress((member + 1) % 3, &asked(local6(member))).is_dropped(Reason::OtherCopy);
            // By unicast: the group's wherever it comes in, the member's own left to it.
            let unicast = |to, target| {
                let packet = solicitation(PEER_LOCAL6, to, target, &[source_option(PEER_MAC)]);
                ethernet(member_mac(member), PEER_MAC, IPV6, &packet)
            };
            let to_group = unicast(DATA6, DATA6);
            bench.ingress(member, &to_group).is_taken(member, &with_destination(&to_group, GROUP_MAC));
            bench.ingress(member, &unicast(local6(member), local6(member))).is_untouched();
        }
    });
}
