//! Senders that are no data address (ipvlan, proxy ARP, VIPs, containers): remembered, and carried by the cast member.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipmp_common::maps::{HintKind, MAX_LEARNT};

use crate::{
    frames::*,
    harness::{Bench, CAST, DATA4, PEER4, Reason, STRANGER4, STRANGER6, Verdict, run},
};

fn learnt_hints(bench: &Bench) -> usize {
    let hints = bench.datapath.hints().unwrap().drain();
    hints.iter().filter(|hint| hint.kind == HintKind::Learnt as u32).count()
}

#[test]
fn an_unknown_sender_is_learnt_and_follows_the_cast_member() {
    lab::needs_root!();
    run(|bench| {
        let asks = |mac| ethernet(BROADCAST, mac, ARP, &arp(1, (mac, STRANGER4), (NO_MAC, PEER4)));
        let answers = |mac| ethernet(PEER_MAC, mac, ARP, &arp(2, (mac, STRANGER4), (PEER_MAC, PEER4)));
        let ours = ethernet(BROADCAST, GROUP_MAC, ARP, &arp(1, (GROUP_MAC, DATA4), (NO_MAC, PEER4)));
        assert_eq!(bench.egress(&ours).verdict, Verdict::Redirect);
        assert_eq!((bench.learnt(), learnt_hints(bench)), (vec![], 0), "a data address is known");

        bench.egress(&asks(GROUP_MAC)).leaves_by(CAST, &asks(member_mac(CAST)));
        assert_eq!(bench.learnt(), [IpAddr::from(STRANGER4)]);
        assert_eq!(learnt_hints(bench), 1, "the daemon is notified of a new sender");
        bench.egress(&answers(GROUP_MAC)).leaves_by(CAST, &answers(member_mac(CAST)));
        assert_eq!((bench.learnt().len(), learnt_hints(bench)), (1, 0), "once");

        bench.set_usable(&[0, 2]);
        bench.egress(&asks(GROUP_MAC)).leaves_instead_by(2, &asks(member_mac(2)));
        bench.set_usable(&[]);
        bench.egress(&asks(GROUP_MAC)).is_dropped(Reason::NoMember);
    });
}

#[test]
fn foreign_hardware_address_stays() {
    lab::needs_root!();
    run(|bench| {
        let container = [2, 0, 0, 0, 9, 9];
        let packet = arp(1, (container, STRANGER4), (NO_MAC, PEER4));
        let frame = ethernet(BROADCAST, GROUP_MAC, ARP, &packet);
        bench.egress(&frame).leaves_by(CAST, &with_source(&frame, member_mac(CAST)));
        // Hardware types other than Ethernet are none of our business.
        let mut infiniband = frame;
        infiniband[15] = 32;
        bench.egress(&infiniband).leaves_by(CAST, &with_source(&infiniband, member_mac(CAST)));
    });
}

/// An address conflict probe does not claim the address: it may belong to another host.
#[test]
fn an_address_is_learnt_when_it_is_claimed_and_not_before() {
    lab::needs_root!();
    run(|bench| {
        let probe = arp(1, (GROUP_MAC, Ipv4Addr::UNSPECIFIED), (NO_MAC, STRANGER4));
        let group = solicited_node(STRANGER6);
        let detects = solicitation(Ipv6Addr::UNSPECIFIED, group, STRANGER6, &[]);
        for frame in [
            ethernet(BROADCAST, GROUP_MAC, ARP, &probe),
            ethernet(multicast_mac6(group), GROUP_MAC, IPV6, &detects),
        ] {
            assert_eq!(bench.egress(&frame).verdict, Verdict::Redirect);
        }
        assert_eq!((bench.learnt(), learnt_hints(bench)), (vec![], 0));

        let claims = advertisement(STRANGER6, ALL_NODES, STRANGER6, UNSOLICITED, &[target_option(GROUP_MAC)]);
        let announces = arp(1, (GROUP_MAC, STRANGER4), (NO_MAC, STRANGER4));
        for frame in [
            ethernet(multicast_mac6(ALL_NODES), GROUP_MAC, IPV6, &claims),
            ethernet(BROADCAST, GROUP_MAC, ARP, &announces),
        ] {
            assert_eq!(bench.egress(&frame).verdict, Verdict::Redirect);
        }
        let mut both = [IpAddr::from(STRANGER4), STRANGER6.into()];
        both.sort();
        assert_eq!((bench.learnt(), learnt_hints(bench)), (both.to_vec(), 2));
    });
}

/// Announcing an address that has moved to another host would take its traffic away from it.
#[test]
fn a_sender_that_is_elsewhere_now_is_forgotten() {
    lab::needs_root!();
    run(|bench| {
        let ours = [
            ethernet(BROADCAST, GROUP_MAC, ARP, &arp(1, (GROUP_MAC, STRANGER4), (NO_MAC, PEER4))),
            ethernet(
                multicast_mac6(ALL_NODES),
                GROUP_MAC,
                IPV6,
                &advertisement(STRANGER6, ALL_NODES, STRANGER6, UNSOLICITED, &[target_option(GROUP_MAC)]),
            ),
        ];
        let learn = || {
            ours.iter().for_each(|frame| assert_eq!(bench.egress(frame).verdict, Verdict::Redirect));
            assert_eq!(bench.learnt().len(), 2);
            learnt_hints(bench);
        };
        learn();
        // Those that leave it ours: another's own address, a probe for it, our own frames come back.
        let probe = arp(1, (PEER_MAC, Ipv4Addr::UNSPECIFIED), (NO_MAC, STRANGER4));
        let reflected = arp(1, (member_mac(CAST), STRANGER4), (NO_MAC, PEER4));
        for frame in [
            ethernet(BROADCAST, PEER_MAC, ARP, &arp(1, (PEER_MAC, PEER4), (NO_MAC, STRANGER4))),
            ethernet(BROADCAST, PEER_MAC, ARP, &probe),
            ethernet(BROADCAST, member_mac(CAST), ARP, &reflected),
        ] {
            bench.ingress(0, &frame);
        }
        assert_eq!((bench.learnt().len(), learnt_hints(bench)), (2, 0));
        // Claims of another host, at any member, by broadcast and by ARP to us alone.
        let says = arp(1, (PEER_MAC, STRANGER4), (NO_MAC, STRANGER4));
        let answers = arp(2, (PEER_MAC, STRANGER4), (member_mac(0), DATA4));
        let all = advertisement(STRANGER6, ALL_NODES, STRANGER6, UNSOLICITED, &[target_option(PEER_MAC)]);
        for (frame, removed) in [
            (ethernet(BROADCAST, PEER_MAC, ARP, &says), IpAddr::from(STRANGER4)),
            (ethernet(member_mac(0), PEER_MAC, ARP, &answers), STRANGER4.into()),
            (ethernet(multicast_mac6(ALL_NODES), PEER_MAC, IPV6, &all), STRANGER6.into()),
        ] {
            bench.ingress(0, &frame);
            assert_eq!(learnt_hints(bench), 1, "{removed}");
            assert!(!bench.learnt().contains(&removed), "{removed} is still learnt");
            assert_eq!(bench.learnt().len(), 1);
            learn();
        }
    });
}

#[test]
fn the_sender_with_the_oldest_announcement_makes_room_for_a_new_one() {
    lab::needs_root!();
    run(|bench| {
        let sender = |number: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 9, 0, 0)) + number);
        let claim = |number| {
            let announces = arp(1, (GROUP_MAC, sender(number)), (NO_MAC, sender(number)));
            assert_eq!(
                bench.egress(&ethernet(BROADCAST, GROUP_MAC, ARP, &announces)).verdict,
                Verdict::Redirect
            );
        };
        (0..MAX_LEARNT).for_each(claim);
        assert_eq!(bench.learnt().len(), MAX_LEARNT as usize);
        learnt_hints(bench);
        // The first one claims its address once more, so the second one is the oldest.
        claim(0);
        claim(MAX_LEARNT);
        assert_eq!((bench.learnt().len(), learnt_hints(bench)), (MAX_LEARNT as usize, 1));
        let kept = [0, 1, 2, MAX_LEARNT].map(|number| bench.learnt().contains(&IpAddr::from(sender(number))));
        assert_eq!(kept, [true, false, true, true]);
    });
}

/// A request in a VLAN of the group is no sender outside it.
#[test]
fn senders_in_vlans_are_not_learnt() {
    lab::needs_root!();
    run(|bench| {
        let plain = ethernet(BROADCAST, GROUP_MAC, ARP, &arp(1, (GROUP_MAC, STRANGER4), (NO_MAC, PEER4)));
        let tagged = [&plain[..12], &[0x81, 0, 0, 20], &plain[12..]].concat();
        assert_eq!(bench.egress(&tagged).verdict, Verdict::Redirect);
        assert_eq!((bench.learnt(), learnt_hints(bench)), (vec![], 0));
    });
}
