//! ARP replies. Ours leave with the MAC of, and through, the inbound member of the address that answers. Others' go to
//! the requester: the group for a data address, a sender that was learnt and an address conflict probe; else the member.

use crate::{
    frames::*,
    harness::{DATA4, INBOUND, PEER4, SECOND4, STRANGER4, Verdict, run, test4},
};

#[test]
fn ours_leave_by_the_inbound_member() {
    lab::needs_root!();
    run(|bench| {
        for (address, member) in [(DATA4, INBOUND), (SECOND4, 0)] {
            let answer = |mac| ethernet(PEER_MAC, mac, ARP, &arp(2, (mac, address), (PEER_MAC, PEER4)));
            bench.egress(&answer(GROUP_MAC)).leaves_by(member, &answer(member_mac(member)));
        }
    });
}

#[test]
fn others_go_to_who_asked() {
    lab::needs_root!();
    run(|bench| {
        for member in 0..3 {
            let mine = member_mac(member);
            let answer = |to| ethernet(mine, PEER_MAC, ARP, &arp(2, (PEER_MAC, PEER4), (mine, to)));
            let taken = |to| with_destination(&answer(to), GROUP_MAC);
            // Any member may receive the reply to a data address; the target hardware address stays the member's.
            bench.ingress(member, &answer(DATA4)).is_taken(member, &taken(DATA4));
            bench.ingress(member, &answer(SECOND4)).is_taken(member, &taken(SECOND4));
            bench.ingress(member, &answer(test4(member))).is_untouched();
            bench.ingress(member, &answer([0, 0, 0, 0].into())).is_taken(member, &taken([0, 0, 0, 0].into()));
            bench.ingress(member, &answer([192, 0, 2, 99].into())).is_untouched();
        }

        let mine = member_mac(0);
        let answer = ethernet(mine, PEER_MAC, ARP, &arp(2, (PEER_MAC, PEER4), (mine, STRANGER4)));
        bench.ingress(0, &answer).is_untouched();
        let asks = ethernet(BROADCAST, GROUP_MAC, ARP, &arp(1, (GROUP_MAC, STRANGER4), (NO_MAC, PEER4)));
        assert_eq!(bench.egress(&asks).verdict, Verdict::Redirect);
        bench.ingress(0, &answer).is_taken(0, &with_destination(&answer, GROUP_MAC));
    });
}
