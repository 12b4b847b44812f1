//! `ipmpctl path` computes the member that the loaded programs select.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipmp::core::path::Flow;
use ipmp_common::{
    hash::HashPolicy,
    select::Masks,
    steer::{MemberSet, SLOTS},
};

use crate::{
    frames::{GROUP_MAC, IPV4, IPV6, PEER_MAC, ethernet, tcp4, tcp6, udp4, udp6},
    harness::{DATA4, DATA6, Setup, from},
};

const MEMBERS: u8 = 6;
/// Members with a carrier after half of the cables are out.
const CARRIERS: u8 = 3;
/// Flows of each kind.
const FLOWS: u16 = 45;

/// Flows of each kind, to destinations and ports of their own, and a frame of each.
fn flows() -> Vec<(Flow, Vec<u8>)> {
    let flow =
        |source: IpAddr, destination: IpAddr, protocol, ports| Flow { source, destination, protocol, ports };
    (0..FLOWS)
        .flat_map(|number| {
            let ports = (40_000 + number, 443);
            let v4 = Ipv4Addr::new(198, 51, 100, number as u8);
            let v6 = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number);
            [
                (flow(DATA4.into(), v4.into(), 17, ports), IPV4, udp4(DATA4, v4, ports, b"datagram")),
                (flow(DATA4.into(), v4.into(), 6, ports), IPV4, tcp4(DATA4, v4, ports, 1)),
                (flow(DATA6.into(), v6.into(), 17, ports), IPV6, udp6(DATA6, v6, ports, b"datagram")),
                (flow(DATA6.into(), v6.into(), 6, ports), IPV6, tcp6(DATA6, v6, ports, 1)),
            ]
        })
        .map(|(flow, ethertype, packet)| (flow, ethernet(PEER_MAC, GROUP_MAC, ethertype, &packet)))
        .collect()
}

fn predicted_member_transmits(policy: HashPolicy) {
    Setup::new().members(MEMBERS).policy(policy).run(|bench| {
        let lists: Vec<_> =
            (0..SLOTS).map(|slot| from((slot % usize::from(MEMBERS)) as u8, MEMBERS)).collect();
        let lists = lists.try_into().unwrap();
        bench.group.set_slots(&lists);
        let usable: MemberSet = (0..MEMBERS).collect();
        let mut sent = [0; MEMBERS as usize];
        for carriers in [usable, (0..CARRIERS).collect()] {
            bench.set_cables(carriers, MEMBERS);
            bench.wait_live(carriers);
            let masks = Masks { usable, reserve: MemberSet::EMPTY, live: carriers };
            for (flow, frame) in flows() {
                let list = lists[usize::from(flow.slot(policy).unwrap())];
                let predicted = masks.select(list, |member| carriers.has(member)).unwrap();
                assert_eq!(bench.egress(&frame).carrier_or_stand_in(), predicted, "{policy:?}, {flow:?}");
                sent[usize::from(predicted)] += 1;
            }
        }
        println!("{policy}: flows that each member transmitted, as predicted: {sent:?}");
        assert!(sent.iter().all(|&flows| flows > 0), "{sent:?}");
    });
}

#[test]
fn predicted_member_is_the_one_that_transmits_by_flow() {
    lab::needs_root!();
    predicted_member_transmits(HashPolicy::Flow);
}

#[test]
fn predicted_member_is_the_one_that_transmits_by_destination() {
    lab::needs_root!();
    predicted_member_transmits(HashPolicy::Destination);
}
