//! ARP requests. Ours leave with the MAC of, and through, the inbound member of the address that asks. Others' are
//! taken once: for a data address on its inbound member, for any other address on the cast member.

use crate::{
    frames::*,
    harness::{CAST, DATA4, INBOUND, PEER4, Reason, SECOND4, STRANGER4, run},
};

fn asks(mac: Mac, sender: Ipv4Addr) -> Vec<u8> {
    ethernet(BROADCAST, mac, ARP, &arp(1, (mac, sender), (NO_MAC, PEER4)))
}

#[test]
fn ours_leave_by_the_inbound_member() {
    lab::needs_root!();
    run(|bench| {
        bench.egress(&asks(GROUP_MAC, DATA4)).leaves_by(INBOUND, &asks(member_mac(INBOUND), DATA4));
        bench.egress(&asks(GROUP_MAC, SECOND4)).leaves_by(0, &asks(member_mac(0), SECOND4));

        // Unicast, as the kernel asks a neighbour that it knows already; padded, as Ethernet wants it.
        let known = |mac| {
            let packet = arp(1, (mac, DATA4), (PEER_MAC, PEER4));
            ethernet(PEER_MAC, mac, ARP, &[&packet[..], &[0xaa; 18]].concat())
        };
        bench.egress(&known(GROUP_MAC)).leaves_by(INBOUND, &known(member_mac(INBOUND)));

        bench.set_usable(&[0, 1]);
        bench.egress(&asks(GROUP_MAC, DATA4)).leaves_instead_by(0, &asks(member_mac(0), DATA4));
        bench.set_usable(&[]);
        bench.egress(&asks(GROUP_MAC, DATA4)).is_dropped(Reason::NoMember);
        assert!(bench.learnt().is_empty(), "{:?}", bench.learnt());
    });
}

#[test]
fn others_are_taken_once() {
    lab::needs_root!();
    run(|bench| {
        let asked = |target| ethernet(BROADCAST, PEER_MAC, ARP, &arp(1, (PEER_MAC, PEER4), (NO_MAC, target)));
        for (target, taker) in [(DATA4, INBOUND), (SECOND4, 0), (STRANGER4, CAST)] {
            bench.is_taken_once(taker, &asked(target));
        }
        // The role moves with no daemon: the same list, another mask.
        bench.set_usable(&[0, 1]);
        bench.is_taken_once(0, &asked(DATA4));
    });
}

#[test]
fn unicast_requests_are_accepted_by_the_receiving_member() {
    lab::needs_root!();
    run(|bench| {
        for member in 0..3 {
            let packet = arp(1, (PEER_MAC, PEER4), (member_mac(member), DATA4));
            let asked = ethernet(member_mac(member), PEER_MAC, ARP, &packet);
            bench.ingress(member, &asked).is_taken(member, &with_destination(&asked, GROUP_MAC));
            bench.ingress((member + 1) % 3, &asked).is_untouched();
        }
    });
}
