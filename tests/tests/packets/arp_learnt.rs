//! Senders that are no data address (ipvlan, proxy ARP, VIPs, containers): remembered, and carried by the cast member.

use std::net::IpAddr;

use ipmp_common::maps::HintKind;

use crate::{
    frames::*,
    harness::{Bench, CAST, DATA4, PEER4, Reason, STRANGER4, Verdict, run},
};

fn learnt_hints(bench: &Bench) -> usize {
    let hints = bench.datapath.hints().unwrap().drain();
    hints.iter().filter(|hint| hint.kind == HintKind::Learnt as u32).count()
}

#[test]
fn an_unknown_sender_is_learnt_and_follows_the_cast_member() {
    run(|bench| {
        let asks = |mac| ethernet(BROADCAST, mac, ARP, &arp(1, (mac, STRANGER4), (NO_MAC, PEER4)));
        let answers = |mac| ethernet(PEER_MAC, mac, ARP, &arp(2, (mac, STRANGER4), (PEER_MAC, PEER4)));
        let ours = ethernet(BROADCAST, GROUP_MAC, ARP, &arp(1, (GROUP_MAC, DATA4), (NO_MAC, PEER4)));
        assert_eq!(bench.egress(&ours).verdict, Verdict::Redirect);
        assert_eq!((bench.learnt(), learnt_hints(bench)), (vec![], 0), "a data address is known");

        bench.egress(&asks(GROUP_MAC)).leaves_by(CAST, &asks(member_mac(CAST)));
        assert_eq!(bench.learnt(), [IpAddr::from(STRANGER4)]);
        assert_eq!(learnt_hints(bench), 1, "the daemon hears of a new sender");
        bench.egress(&answers(GROUP_MAC)).leaves_by(CAST, &answers(member_mac(CAST)));
        assert_eq!((bench.learnt().len(), learnt_hints(bench)), (1, 0), "once");

        bench.set_usable(&[0, 2]);
        bench.egress(&asks(GROUP_MAC)).leaves_instead_by(2, &asks(member_mac(2)));
        bench.set_usable(&[]);
        bench.egress(&asks(GROUP_MAC)).is_dropped(Reason::NoMember);
    });
}

#[test]
fn a_hardware_address_of_somebody_else_stays() {
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
