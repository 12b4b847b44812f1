//! A group of sixteen: every member at every place of a list.

use ipmp_common::steer::{Preference, SLOTS};

use crate::{
    frames::*,
    harness::{DATA4, DATA6, PEER4, PEER6, Reason, Setup},
};

#[test]
fn every_place_of_a_list_is_checked_in_order() {
    lab::needs_root!();
    Setup::new().members(16).run(|bench| {
        let frames = [
            ethernet(PEER_MAC, GROUP_MAC, IPV4, &tcp4(DATA4, PEER4, (1, 2), 3)),
            ethernet(PEER_MAC, GROUP_MAC, IPV6, &udp6(DATA6, PEER6, (1, 2), b"")),
        ];
        // 5 has no divisor in common with 16: every member comes once.
        let order: Vec<u8> = (0..16).map(|place| (5 * place + 3) % 16).collect();
        bench.group.set_slots(&[Preference::new(&order); SLOTS]);
        for place in 0..16 {
            let member = order[place];
            bench.set_usable(&order[place..]);
            for frame in &frames {
                let expected = with_source(frame, member_mac(member));
                match place {
                    0 => bench.egress(frame).leaves_by(member, &expected),
                    _ => bench.egress(frame).leaves_instead_by(member, &expected),
                }
            }
        }
        bench.set_usable(&[]);
        bench.egress(&frames[0]).is_dropped(Reason::NoMember);

        // Ingress of the sixteenth is itself.
        bench.set_usable(&order);
        let received = ethernet(member_mac(15), PEER_MAC, IPV4, &tcp4(PEER4, DATA4, (2, 1), 3));
        bench.ingress(15, &received).is_taken(15, &with_destination(&received, GROUP_MAC));
        bench.ingress(14, &received).is_untouched();
    });
}
