//! Unicast IP leaves by the list of its flow's slot, under each of the three policies.

use std::collections::BTreeSet;

use ipmp_common::{
    hash::HashPolicy,
    steer::{Preference, SLOTS},
};

use crate::{
    frames::{GROUP_MAC, IPV4, IPV6, PEER_MAC, ethernet, member_mac, tcp4, tcp6, udp4, udp6, with_source},
    harness::{Bench, DATA4, DATA6, FLOWS, PEER4, PEER6, Setup, from},
};

/// Slots of [`kinds`] with port 5000.
const FLOW_SLOTS: [usize; 4] = [1135, 3996, 2012, 614];
const DESTINATION_SLOTS: [usize; 4] = [2321, 2321, 1941, 1941];

/// A flow's packets, by their source port.
fn kinds(port: u16) -> [Vec<u8>; 4] {
    let ports = (port, 443);
    [
        ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, ports, b"datagram")),
        ethernet(PEER_MAC, GROUP_MAC, IPV4, &tcp4(DATA4, PEER4, ports, 1)),
        ethernet(PEER_MAC, GROUP_MAC, IPV6, &udp6(DATA6, PEER6, ports, b"datagram")),
        ethernet(PEER_MAC, GROUP_MAC, IPV6, &tcp6(DATA6, PEER6, ports, 1)),
    ]
}

/// Lists that begin with member `slot % 3`.
fn spread(bench: &Bench) {
    let lists: Vec<_> = (0..SLOTS).map(|slot| from((slot % 3) as u8, 3)).collect();
    bench.group.set_slots(&lists.try_into().unwrap());
}

/// The slot of a packet, found by sending it once for each bit of the slots' numbers.
fn slot_of(bench: &Bench, frame: &[u8]) -> usize {
    (0..12).fold(0, |slot, bit| {
        let lists: Vec<_> = (0..SLOTS).map(|slot| Preference::new(&[(slot >> bit & 1) as u8])).collect();
        bench.group.set_slots(&lists.try_into().unwrap());
        slot | usize::from(bench.egress(frame).carrier()) << bit
    })
}

#[test]
fn only_the_source_mac_changes() {
    lab::needs_root!();
    for policy in HashPolicy::ALL {
        Setup::new().policy(policy).run(|bench| {
            for frame in kinds(1234) {
                bench.egress(&frame).leaves_by(FLOWS, &with_source(&frame, member_mac(FLOWS)));
            }
        });
    }
}

#[test]
fn a_flow_keeps_its_member_and_flows_use_all() {
    lab::needs_root!();
    for policy in [HashPolicy::Connection, HashPolicy::Flow] {
        Setup::new().policy(policy).run(|bench| {
            spread(bench);
            for kind in 0..4 {
                let carriers: BTreeSet<u8> = (2000..2064)
                    .map(|port| {
                        let frame = &kinds(port)[kind];
                        let carrier = bench.egress(frame).carrier();
                        for _ in 0..3 {
                            assert_eq!(bench.egress(frame).carrier(), carrier, "{policy:?}, port {port}");
                        }
                        carrier
                    })
                    .collect();
                assert_eq!(carriers, BTreeSet::from([0, 1, 2]), "{policy:?} of kind {kind}");
            }
        });
    }
}

#[test]
fn by_destination_ports_and_sources_do_not_matter() {
    lab::needs_root!();
    Setup::new().policy(HashPolicy::Destination).run(|bench| {
        spread(bench);
        let mut carriers = BTreeSet::new();
        for host in 1..=64 {
            let (v4, v6) = ([198, 51, 100, host].into(), [0x2001, 0xdb8, 1, 0, 0, 0, 0, host.into()].into());
            let frame4 = |port| ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, v4, (port, port), b""));
            let frame6 = |port| ethernet(PEER_MAC, GROUP_MAC, IPV6, &tcp6(DATA6, v6, (port, port), 7));
            let (carrier4, carrier6) =
                (bench.egress(&frame4(1)).carrier(), bench.egress(&frame6(1)).carrier());
            for port in 2..10 {
                assert_eq!(bench.egress(&frame4(port)).carrier(), carrier4, "{v4}");
                assert_eq!(bench.egress(&frame6(port)).carrier(), carrier6, "{v6}");
            }
            carriers.extend([carrier4, carrier6 + 3]);
        }
        assert_eq!(carriers, BTreeSet::from([0, 1, 2, 3, 4, 5]));
    });
}

/// The slots that a program in another language computes for these flows, from the description of the hash: `flow` and `destination` are the
/// same on every host and after every boot, so that the member of a flow can be predicted.
#[test]
fn reproducible_policies_are_reproduced() {
    lab::needs_root!();
    for (policy, slots) in [(HashPolicy::Flow, FLOW_SLOTS), (HashPolicy::Destination, DESTINATION_SLOTS)] {
        Setup::new().policy(policy).run(|bench| {
            assert_eq!(kinds(5000).map(|frame| slot_of(bench, &frame)), slots, "{policy:?}");
        });
    }
}

/// The flow that fell into a slot moves with the slot, and no other flow does.
#[test]
fn one_slot_moves_one_slots_flows() {
    lab::needs_root!();
    for policy in HashPolicy::ALL {
        Setup::new().policy(policy).run(|bench| {
            let [moved, _, other, _] = kinds(5000);
            let (slot, another) = (slot_of(bench, &moved), slot_of(bench, &other));
            assert_ne!(slot, another, "two flows that share a slot show nothing: take other ports");
            let mut lists = [Preference::new(&[0, 1, 2]); SLOTS];
            lists[slot] = Preference::new(&[2, 1, 0]);
            bench.group.set_slots(&lists);
            assert_eq!(bench.egress(&moved).carrier(), 2);
            assert_eq!(bench.egress(&other).carrier(), 0);
        });
    }
}
