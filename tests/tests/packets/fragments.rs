//! Fragments of a datagram travel together: later ones have no ports, and what stands there must not count.

use std::collections::BTreeSet;

use ipmp_common::{hash::HashPolicy, steer::SLOTS};

use crate::{
    frames::*,
    harness::{CAST, DATA4, DATA6, PEER4, PEER6, Setup, from, local6, run, test4},
};

const MORE: u16 = 0x2000;

/// The fragments of a UDP datagram from a host.
fn fragments4(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<Vec<u8>> {
    let ports = [0x13, 0x88, 0x01, 0xbb, 0x10, 0, 0, 0];
    vec![
        ip4(17, source, destination, MORE, &[&ports[..], &[1; 1472]].concat()),
        ip4(17, source, destination, MORE | 185, &[0x22; 1480]),
        ip4(17, source, destination, MORE | 370, &[0x33; 8]),
        ip4(17, source, destination, 555, &[0x44]),
    ]
}

fn fragments6(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<Vec<u8>> {
    let fragment = |offset: u16, payload: &[u8]| {
        let [high, low] = offset.to_be_bytes();
        ip6(44, 64, source, destination, &[&[17, 0, high, low, 0, 0, 0, 7], payload].concat())
    };
    let ports = [0x13, 0x88, 0x01, 0xbb, 0x10, 0, 0, 0];
    vec![
        fragment(1, &[&ports[..], &[1; 1440]].concat()),
        fragment(1448 | 1, &[0x22; 1448]),
        fragment(2896 | 1, &[0x33; 8]),
        fragment(4096, &[0x44]),
    ]
}

#[test]
fn of_a_datagram_leave_by_one_member() {
    lab::needs_root!();
    for policy in HashPolicy::ALL {
        Setup::new().policy(policy).run(|bench| {
            let lists: Vec<_> = (0..SLOTS).map(|slot| from((slot % 3) as u8, 3)).collect();
            bench.group.set_slots(&lists.try_into().unwrap());
            let mut carriers = BTreeSet::new();
            for host in 1..=32 {
                let v4 = fragments4(DATA4, [198, 51, 100, host].into());
                let v6 = fragments6(DATA6, [0x2001, 0xdb8, 1, 0, 0, 0, 0, host.into()].into());
                for (family, ethertype, packets) in [(4, IPV4, v4), (6, IPV6, v6)] {
                    let of_datagram: BTreeSet<u8> = packets
                        .iter()
                        .map(|packet| {
                            bench.egress(&ethernet(PEER_MAC, GROUP_MAC, ethertype, packet)).carrier()
                        })
                        .collect();
                    assert_eq!(of_datagram.len(), 1, "{policy:?}, IPv{family}, host {host}: {of_datagram:?}");
                    carriers.extend(of_datagram.iter().map(|member| (family, *member)));
                }
            }
            assert_eq!(carriers.len(), 6, "{policy:?}: datagrams use all members: {carriers:?}");
        });
    }
}

#[test]
fn are_taken_and_left_alone_like_whole_packets() {
    lab::needs_root!();
    run(|bench| {
        let group4 = Ipv4Addr::new(239, 1, 2, 3);
        for member in 0..3 {
            let to_member =
                |ethertype, packet: &[u8]| ethernet(member_mac(member), PEER_MAC, ethertype, packet);
            for packet in fragments4(PEER4, DATA4) {
                let frame = to_member(IPV4, &packet);
                bench.ingress(member, &frame).is_taken(member, &with_destination(&frame, GROUP_MAC));
            }
            for packet in fragments6(PEER6, DATA6) {
                let frame = to_member(IPV6, &packet);
                bench.ingress(member, &frame).is_taken(member, &with_destination(&frame, GROUP_MAC));
            }
            for packet in fragments4(PEER4, test4(member)) {
                bench.ingress(member, &to_member(IPV4, &packet)).is_untouched();
            }
            for packet in fragments6(PEER6, local6(member)) {
                bench.ingress(member, &to_member(IPV6, &packet)).is_untouched();
            }
        }
        for packet in fragments4(PEER4, group4) {
            bench.is_taken_once(CAST, &ethernet(multicast_mac4(group4), PEER_MAC, IPV4, &packet));
        }
    });
}
