//! VLAN tags. In the frame (as an inner tag, or a device that does not take tags off): run here. Beside the frame, as
//! the kernel carries a tag that it took off: TEST_RUN refuses such a context, so those frames are sent for real.

use std::net::IpAddr;

use crate::{
    frames::*,
    harness::{Bench, CAST, DATA4, DATA6, FLOWS, INBOUND, PEER4, PEER6, Reason, Tally, from, run},
};

const OURS: u16 = 20;
const FOREIGN: u16 = 30;

#[test]
fn tagged_frames_leave_as_they_are() {
    lab::needs_root!();
    run(|bench| {
        for kind in [VLAN, QINQ] {
            for packet in [
                ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b"")),
                ethernet(PEER_MAC, GROUP_MAC, IPV6, &tcp6(DATA6, PEER6, (1, 2), 3)),
            ] {
                let frame = tagged(&packet, kind, 0xe000 | OURS);
                bench.egress(&frame).leaves_by(FLOWS, &with_source(&frame, member_mac(FLOWS)));
            }
            let group = Ipv4Addr::new(239, 1, 2, 3);
            let packet = ethernet(multicast_mac4(group), GROUP_MAC, IPV4, &udp4(DATA4, group, (1, 2), b""));
            let frame = tagged(&packet, kind, OURS);
            bench.egress(&frame).leaves_by(CAST, &with_source(&frame, member_mac(CAST)));
        }
    });
}

/// A data address outside the VLAN has no role in it.
#[test]
fn requests_leave_by_the_inbound_member_in_the_vlan_else_by_the_cast_member() {
    lab::needs_root!();
    run(|bench| {
        let arp_request = |mac| ethernet(BROADCAST, mac, ARP, &arp(1, (mac, DATA4), (NO_MAC, PEER4)));
        let nd_request = |mac| {
            let node = solicited_node(PEER6);
            let packet = solicitation(DATA6, node, PEER6, &[source_option(mac)]);
            ethernet(multicast_mac6(node), mac, IPV6, &packet)
        };
        let leaves_by = |bench: &Bench, member, kind, vlan| {
            for request in [&arp_request as &dyn Fn([u8; 6]) -> Vec<u8>, &nd_request] {
                let expected = tagged(&request(member_mac(member)), kind, vlan);
                bench.egress(&tagged(&request(GROUP_MAC), kind, vlan)).leaves_by(member, &expected);
            }
        };
        for kind in [VLAN, QINQ] {
            leaves_by(bench, CAST, kind, OURS);
        }
        for address in [IpAddr::from(DATA4), DATA6.into()] {
            bench.group.set_inbound_in_vlan(OURS, address, from(INBOUND, 3)).unwrap();
        }
        for kind in [VLAN, QINQ] {
            leaves_by(bench, INBOUND, kind, 0xe000 | OURS);
            leaves_by(bench, CAST, kind, FOREIGN);
        }
        for address in [IpAddr::from(DATA4), DATA6.into()] {
            bench.group.remove_in_vlan(OURS, address).unwrap();
        }
        leaves_by(bench, CAST, VLAN, OURS);
    });
}

#[test]
fn requests_are_accepted_by_the_inbound_member_in_the_vlan() {
    lab::needs_root!();
    run(|bench| {
        bench.group.set_vlans(&[OURS, FOREIGN]).unwrap();
        for address in [IpAddr::from(DATA4), DATA6.into()] {
            bench.group.set_inbound_in_vlan(OURS, address, from(FLOWS, 3)).unwrap();
        }
        for (_, frame) in received().into_iter().filter(|(_, frame)| frame[0] & 1 == 1) {
            for (vlan, member, other) in [(OURS, FLOWS, CAST), (FOREIGN, CAST, FLOWS)] {
                let frame = tagged(&frame, VLAN, vlan);
                bench.ingress(member, &frame).is_taken(member, &frame);
                bench.ingress(other, &frame).is_dropped(Reason::OtherCopy);
                bench.ingress(INBOUND, &frame).is_dropped(Reason::OtherCopy);
            }
        }
        // The datapath moves the role by itself.
        bench.set_usable(&[1, 2]);
        let (_, frame) = &received()[2];
        let frame = tagged(frame, VLAN, OURS);
        bench.ingress(1, &frame).is_taken(1, &frame);
        bench.ingress(FLOWS, &frame).is_dropped(Reason::OtherCopy);
    });
}

/// Frames that would be taken, each by this member, if they were not tagged.
fn received() -> [(u8, Vec<u8>); 4] {
    let node = solicited_node(DATA6);
    [
        (0, ethernet(member_mac(0), PEER_MAC, IPV4, &udp4(PEER4, DATA4, (2, 1), b""))),
        (0, ethernet(member_mac(0), PEER_MAC, IPV6, &udp6(PEER6, DATA6, (2, 1), b""))),
        (INBOUND, ethernet(BROADCAST, PEER_MAC, ARP, &arp(1, (PEER_MAC, PEER4), (NO_MAC, DATA4)))),
        (INBOUND, ethernet(multicast_mac6(node), PEER_MAC, IPV6, &solicitation(PEER6, node, DATA6, &[]))),
    ]
}

#[test]
fn frames_of_foreign_vlans_are_left_alone() {
    lab::needs_root!();
    run(|bench| {
        bench.group.set_vlans(&[OURS]).unwrap();
        for kind in [VLAN, QINQ] {
            for vlan in [FOREIGN, 1, 0, 4095, OURS + 64, OURS ^ 1] {
                for (member, frame) in received() {
                    bench.ingress(member, &tagged(&frame, kind, vlan)).is_untouched();
                }
            }
        }
        bench.group.set_vlans(&[]).unwrap();
        for (member, frame) in received() {
            bench.ingress(member, &tagged(&frame, VLAN, OURS)).is_untouched();
        }
    });
}

#[test]
fn frames_of_the_groups_vlans_are_taken() {
    lab::needs_root!();
    run(|bench| {
        for vlan in [OURS, 1, 4094] {
            bench.group.set_vlans(&[OURS, 1, 4094]).unwrap();
            for (member, frame) in received() {
                // Priority bits are no part of the VLAN.
                let frame = tagged(&frame, VLAN, 0xe000 | vlan);
                if frame[0] & 1 == 0 {
                    bench.ingress(member, &frame).is_taken(member, &with_destination(&frame, GROUP_MAC));
                    bench.ingress(1, &frame).is_untouched();
                } else {
                    // These addresses have no role in the VLAN: the cast member accepts multicast.
                    bench.ingress(CAST, &frame).is_taken(CAST, &frame);
                    bench.ingress(member, &frame).is_dropped(Reason::OtherCopy);
                }
            }
            // A VLAN's test addresses are not the member's own.
            let lldp = tagged(&ethernet([1, 0x80, 0xc2, 0, 0, 0xe], PEER_MAC, LLDP, &[0, 0]), VLAN, vlan);
            bench.ingress(CAST, &lldp).is_untouched();
        }
    });
}

/// Sent on a cable for real: the kernel takes the tag off before ingress sees the frame.
#[test]
fn tags_beside_the_frame_are_seen() {
    lab::needs_root!();
    run(|bench| {
        bench.group.set_vlans(&[OURS]).unwrap();
        let packet =
            ethernet(member_mac(0), PEER_MAC, IPV4, &udp4(PEER4, DATA4, (2, 1), b"0123456789abcdef"));
        // VLAN 0 is none: the tag is there for its priority.
        for (vlan, is_taken) in
            [(FOREIGN, false), (OURS, true), (0xe000 | OURS, true), (0, true), (0xe000, true)]
        {
            let counted = bench.receive(0, &[tagged(&packet, VLAN, vlan)]);
            let expected = if is_taken { Tally::received(0, packet.len()) } else { Tally::default() };
            assert_eq!(counted, expected, "VLAN {vlan:#x}");
        }
        // A request for an address with a role in the VLAN.
        bench.group.set_inbound_in_vlan(OURS, DATA4.into(), from(INBOUND, 3)).unwrap();
        let (_, request) = &received()[2];
        let sent = [tagged(request, VLAN, OURS)];
        assert_eq!(bench.receive(INBOUND, &sent), Tally::received(INBOUND, request.len()));
        assert_eq!(bench.receive(CAST, &sent), Tally::dropped(Reason::OtherCopy));
        // With a second tag it is none for this address.
        let stacked = tagged(request, VLAN, OURS);
        assert_eq!(
            bench.receive(CAST, &[tagged(&stacked, QINQ, OURS)]),
            Tally::received(CAST, stacked.len())
        );
        // Inside a tag of the group there may be another tag: the outer one, in the metadata, decides.
        let inner = tagged(&packet, VLAN, FOREIGN);
        assert_eq!(bench.receive(0, &[tagged(&inner, QINQ, OURS)]), Tally::received(0, inner.len()));
        assert_eq!(
            bench.receive(0, &[tagged(&tagged(&packet, VLAN, OURS), QINQ, FOREIGN)]),
            Tally::default()
        );
    });
}
