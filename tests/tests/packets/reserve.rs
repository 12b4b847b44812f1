//! Members in reserve, spared because their links flap: they carry before a packet is lost, and not before.

use ipmp_common::steer::MemberSet;

use crate::{
    frames::*,
    harness::{DATA4, DATA6, PEER4, PEER6, Reason, run},
};

#[test]
fn carry_before_a_packet_is_lost() {
    lab::needs_root!();
    run(|bench| {
        let group = Ipv4Addr::new(239, 1, 2, 3);
        let frames = [
            // Preferred: member 0, then 1, then 2; of multicast: 1, 2, 0.
            (0, ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b""))),
            (0, ethernet(PEER_MAC, GROUP_MAC, IPV6, &icmp6_packet(128, DATA6, PEER6, b"echo"))),
            (1, ethernet(multicast_mac4(group), GROUP_MAC, IPV4, &udp4(DATA4, group, (1, 2), b""))),
        ];
        let transmitted_by = |expected: Option<[u8; 3]>| {
            for (place, (preferred, frame)) in frames.iter().enumerate() {
                let outcome = bench.egress(frame);
                let Some(carriers) = expected else {
                    outcome.is_dropped(Reason::NoMember);
                    continue;
                };
                let carrier = carriers[place];
                let frame = with_source(frame, member_mac(carrier));
                if carrier == *preferred {
                    outcome.leaves_by(carrier, &frame);
                } else {
                    outcome.leaves_instead_by(carrier, &frame);
                }
            }
        };
        let set = |usable: &[u8], reserve: &[u8]| {
            bench.group.set_usable(usable.iter().copied().collect::<MemberSet>());
            bench.group.set_reserve(reserve.iter().copied().collect());
        };
        set(&[2], &[0, 1]);
        transmitted_by(Some([2, 2, 2]));
        set(&[], &[0, 1]);
        transmitted_by(Some([0, 0, 1]));
        set(&[], &[2]);
        transmitted_by(Some([2, 2, 2]));
        set(&[], &[]);
        transmitted_by(None);

        // Only usable by the daemon's word: what has no carrier is no use.
        set(&[2], &[0, 1]);
        bench.set_cable(2, false);
        transmitted_by(Some([0, 0, 1]));
        bench.wait_live(MemberSet::of(0).with(1));
        transmitted_by(Some([0, 0, 1]));
        set(&[2], &[1]);
        transmitted_by(Some([1, 1, 1]));

        // What comes in for many is taken by the same rule.
        let received = ethernet(multicast_mac4(group), PEER_MAC, IPV4, &udp4(PEER4, group, (1, 2), b""));
        bench.is_taken_once(1, &received);
        set(&[], &[0]);
        bench.is_taken_once(0, &received);
    });
}
