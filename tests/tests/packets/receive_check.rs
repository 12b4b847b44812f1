//! Neighbours that send packets for a data address to another member than its inbound member are reported, one packet in 64.

use std::net::IpAddr;

use ipmp_common::maps::{HintKind, MAX_STALE, RECEIVE_CHECK};

use crate::{
    frames::*,
    harness::{Bench, DATA4, DATA6, INBOUND, PEER4, PEER6, SECOND4, from, local6, run, test4},
};

const ONE: u32 = RECEIVE_CHECK as u32;

/// What is reported while a member receives so many copies of a frame, and how often the daemon is woken.
fn reported(bench: &mut Bench, member: u8, frame: &[u8], count: u32) -> (Vec<(IpAddr, [u8; 6], u8)>, usize) {
    bench.repeat_ingress(member, frame, count);
    let reports = bench.group.take_stale_neighbours().unwrap();
    let hints = bench.datapath.hints().unwrap().drain();
    let woken = hints.iter().filter(|hint| hint.kind == HintKind::StaleNeighbour as u32).count();
    (reports.iter().map(|report| (report.address, report.mac, report.member)).collect(), woken)
}

fn to4(member: u8, mac: [u8; 6], address: std::net::Ipv4Addr) -> Vec<u8> {
    ethernet(member_mac(member), mac, IPV4, &udp4(PEER4, address, (2, 1), b""))
}

#[test]
fn sender_to_another_member_is_reported_with_every_64th_packet() {
    lab::needs_root!();
    run(|bench| {
        let v6 = ethernet(member_mac(1), PEER_MAC, IPV6, &udp6(PEER6, DATA6, (2, 1), b""));
        for (member, frame, address) in
            [(0, to4(0, PEER_MAC, DATA4), IpAddr::from(DATA4)), (1, v6, DATA6.into())]
        {
            let expected = vec![(address, PEER_MAC, member)];
            assert_eq!(reported(bench, member, &frame, ONE), (expected.clone(), 1));
            assert_eq!(reported(bench, member, &frame, ONE * 10), (expected, 1), "once until it is read");
        }
        bench.group.set_vlans(&[20]).unwrap();
        bench.group.set_inbound_in_vlan(20, DATA4.into(), from(1, 3)).unwrap();
        bench.repeat_ingress(0, &tagged(&to4(0, PEER_MAC, DATA4), VLAN, 20), ONE);
        let reports = bench.group.take_stale_neighbours().unwrap();
        assert_eq!(
            reports.iter().map(|report| (report.vlan, report.member)).collect::<Vec<_>>(),
            [(Some(20), 0)]
        );
        bench.datapath.hints().unwrap().drain();
        // The next inbound member, where the first one cannot be used: the members transmit by the same rule.
        bench.set_usable(&[0, 1]);
        assert_eq!(reported(bench, 0, &to4(0, PEER_MAC, DATA4), ONE), (vec![], 0));
        let expected = vec![(IpAddr::from(DATA4), PEER_MAC, 1)];
        assert_eq!(reported(bench, 1, &to4(1, PEER_MAC, DATA4), ONE), (expected, 1));
    });
}

#[test]
fn packets_that_need_no_correction_are_not_reported() {
    lab::needs_root!();
    run(|bench| {
        bench.group.set_vlans(&[20]).unwrap();
        let own6 = ethernet(member_mac(0), PEER_MAC, IPV6, &udp6(PEER6, local6(0), (2, 1), b""));
        let arp = ethernet(member_mac(0), PEER_MAC, ARP, &arp(2, (PEER_MAC, PEER4), (GROUP_MAC, DATA4)));
        for (member, frame) in [
            (INBOUND, to4(INBOUND, PEER_MAC, DATA4)),
            (0, to4(0, PEER_MAC, SECOND4)),
            (0, to4(0, PEER_MAC, test4(0))),
            (0, to4(0, PEER_MAC, test4(1))),
            (0, to4(0, PEER_MAC, PEER4)),
            (0, to4(1, PEER_MAC, DATA4)),
            (0, tagged(&to4(0, PEER_MAC, DATA4), VLAN, 20)),
            (0, own6),
            (0, arp),
        ] {
            assert_eq!(reported(bench, member, &frame, ONE * 2), (vec![], 0), "{member} {frame:02x?}");
        }
        bench.set_usable(&[]);
        assert_eq!(reported(bench, 0, &to4(0, PEER_MAC, DATA4), ONE).0, vec![], "no member can be announced");
    });
}

#[test]
fn flood_of_forged_senders_is_reported_in_bounded_number() {
    lab::needs_root!();
    run(|bench| {
        for number in 0..3 * MAX_STALE {
            let [high, low] = (number as u16).to_be_bytes();
            bench.repeat_ingress(0, &to4(0, [2, 1, 0, 0, high, low], DATA4), ONE);
        }
        let (reports, woken) = reported(bench, 0, &to4(0, PEER_MAC, DATA4), ONE);
        assert_eq!((reports.len(), woken), (MAX_STALE as usize, MAX_STALE as usize));
    });
}
