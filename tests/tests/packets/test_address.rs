//! Test addresses are their member's alone: out through it whatever its state, in untouched.

use crate::{
    frames::*,
    harness::{DATA4, PEER_LOCAL6, PEER4, PEER6, Reason, local6, run, test4},
};

/// Unicast packets between a member's addresses and the peer's.
fn packets(mac: (Mac, Mac), v4: (Ipv4Addr, Ipv4Addr), v6: (Ipv6Addr, Ipv6Addr)) -> Vec<Vec<u8>> {
    let v4 = [
        udp4(v4.0, v4.1, (1, 2), b"probe"),
        tcp4(v4.0, v4.1, (1, 2), 3),
        ip4(1, v4.0, v4.1, 0, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
    ];
    let v6 = [
        udp6(v6.0, v6.1, (1, 2), b"probe"),
        tcp6(v6.0, v6.1, (1, 2), 3),
        icmp6_packet(128, v6.0, v6.1, b"echo request"),
    ];
    let of = |ethertype, packet: &Vec<u8>| ethernet(mac.0, mac.1, ethertype, packet);
    v4.iter().map(|packet| of(IPV4, packet)).chain(v6.iter().map(|packet| of(IPV6, packet))).collect()
}

#[test]
fn its_packets_leave_through_its_member_without_failover() {
    lab::needs_root!();
    run(|bench| {
        // Every slot prefers member 0; members 1 and 2 tell the rule from chance.
        for usable in [&[0, 1, 2][..], &[0], &[]] {
            bench.set_usable(usable);
            for member in 0..3 {
                let out = packets((PEER_MAC, GROUP_MAC), (test4(member), PEER4), (local6(member), PEER6));
                for frame in out {
                    bench.egress(&frame).leaves_by(member, &with_source(&frame, member_mac(member)));
                }
            }
        }
    });
}

#[test]
fn what_is_for_it_is_left_to_its_member() {
    lab::needs_root!();
    run(|bench| {
        for member in 0..3 {
            let mine = member_mac(member);
            let to_mine = packets((mine, PEER_MAC), (PEER4, test4(member)), (PEER_LOCAL6, local6(member)));
            for frame in to_mine {
                bench.ingress(member, &frame).is_untouched();
            }
            // Another member's address, sent to this one's MAC: the stack is to decide (any member may receive).
            let other = (member + 1) % 3;
            let to_other = packets((mine, PEER_MAC), (PEER4, test4(other)), (PEER_LOCAL6, local6(other)));
            for frame in to_other {
                bench.ingress(member, &frame).is_taken(member, &with_destination(&frame, GROUP_MAC));
            }
        }
    });
}

#[test]
fn arp_about_it_is_its_members() {
    lab::needs_root!();
    run(|bench| {
        for member in 0..3 {
            let mine = member_mac(member);
            let asks = |mac| ethernet(BROADCAST, mac, ARP, &arp(1, (mac, test4(member)), (NO_MAC, PEER4)));
            bench.egress(&asks(GROUP_MAC)).leaves_by(member, &asks(mine));

            let asked = arp(1, (PEER_MAC, PEER4), (NO_MAC, test4(member)));
            let asked = ethernet(BROADCAST, PEER_MAC, ARP, &asked);
            let unicast = with_destination(&asked, mine);
            let answer = arp(2, (PEER_MAC, PEER4), (mine, test4(member)));
            let answer = ethernet(mine, PEER_MAC, ARP, &answer);
            bench.ingress(member, &asked).is_untouched();
            bench.ingress(member, &unicast).is_untouched();
            bench.ingress(member, &answer).is_untouched();
            bench.ingress((member + 1) % 3, &asked).is_dropped(Reason::OtherCopy);
        }
        assert!(bench.learnt().is_empty(), "{:?}", bench.learnt());

        // When the address is taken away, its packets are as any other's.
        bench.group.remove_address(test4(2).into()).unwrap();
        let out = ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(test4(2), PEER4, (1, 2), b""));
        bench.egress(&out).leaves_by(0, &with_source(&out, member_mac(0)));
        let back = ethernet(member_mac(2), PEER_MAC, IPV4, &udp4(PEER4, test4(2), (1, 2), b""));
        bench.ingress(2, &back).is_taken(2, &with_destination(&back, GROUP_MAC));
        let data = ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b""));
        bench.egress(&data).leaves_by(0, &with_source(&data, member_mac(0)));
    });
}
