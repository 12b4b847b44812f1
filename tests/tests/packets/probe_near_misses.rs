//! What looks nearly like an answer to a probe is none: nothing is handed over or counted, and each goes its way.

use ipmp_common::maps::ReplyCounters;

use crate::{
    frames::*,
    harness::{Bench, DATA4, DATA6, PEER_LOCAL6, PEER4, PEER6, STRANGER4, local6, run, test4},
    probe_replies::{Reader, payload},
};

const MEMBER: u8 = 1;
const OURS: u16 = 20;

fn echo_reply(payload: &[u8]) -> [Vec<u8>; 2] {
    [
        ethernet(member_mac(MEMBER), PEER_MAC, IPV4, &echo4(0, PEER4, test4(MEMBER), (1, 2), payload)),
        ethernet(member_mac(MEMBER), PEER_MAC, IPV6, &echo6(129, PEER6, local6(MEMBER), (1, 2), payload)),
    ]
}

fn advertisement_to(destination: Ipv6Addr, flags: u8) -> Vec<u8> {
    let packet = advertisement(PEER_LOCAL6, destination, PEER_LOCAL6, flags, &[target_option(PEER_MAC)]);
    ethernet(member_mac(MEMBER), PEER_MAC, IPV6, &packet)
}

fn arp_to(operation: u16, sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    ethernet(member_mac(MEMBER), PEER_MAC, ARP, &arp(operation, sender, (member_mac(MEMBER), target)))
}

/// One answer of every kind.
fn answers() -> Vec<Vec<u8>> {
    let mut frames = echo_reply(&payload(b"")).to_vec();
    frames.push(arp_to(2, (PEER_MAC, PEER4), [0; 4].into()));
    frames.push(advertisement_to(local6(MEMBER), SOLICITED));
    frames
}

/// Runs them at a member, and says how many were handed over; those that the kernel does not run are sent for real.
fn handed(bench: &Bench, member: u8, frames: &[Vec<u8>]) -> usize {
    let mut reader = Reader::of(bench);
    let (run, send): (Vec<_>, Vec<_>) = frames.iter().cloned().partition(|frame| bench.runs(frame));
    for frame in &run {
        bench.ingress(member, frame);
    }
    if !send.is_empty() {
        bench.receive(member, &send);
    }
    reader.all().len()
}

#[track_caller]
fn none_is_handed(bench: &Bench, member: u8, frames: &[Vec<u8>]) {
    let before = bench.group.reply_counters(member).unwrap();
    assert_eq!(handed(bench, member, frames), 0);
    assert_eq!(bench.group.reply_counters(member).unwrap(), before);
}

/// Overwrites bytes of a frame.
fn with(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

#[test]
fn echoes_that_are_no_replies_to_us() {
    lab::needs_root!();
    run(|bench| {
        assert_eq!(handed(bench, MEMBER, &answers()), 4);
        let mut misses = Vec::new();
        for place in 0..12 {
            let mut wrong = payload(b"");
            wrong[place] ^= 0x20;
            misses.extend(echo_reply(&wrong));
        }
        misses.extend(echo_reply(b""));
        misses.extend(echo_reply(&payload(b"")[..19]));
        let [v4, v6] = echo_reply(&payload(b""));
        // Requests, other types, other codes.
        for kind in [3, 5, 8, 11, 13, 129] {
            misses.push(with(&v4, 34, &[kind]));
        }
        for kind in [0, 1, 128, 130, 133, 135] {
            misses.push(with(&v6, 54, &[kind]));
        }
        misses.extend([with(&v4, 35, &[1]), with(&v6, 55, &[1])]);
        // Another protocol, another version.
        misses.extend([
            with(&v4, 23, &[58]),
            with(&v6, 20, &[1]),
            with(&v4, 14, &[0x65]),
            with(&v6, 14, &[0x40]),
        ]);
        misses.extend([with(&v4, 14, &[0x46]), with(&v4, 14, &[0x44])]);
        // The first fragment of more, and a later one.
        misses.extend([with(&v4, 20, &[0x20, 0]), with(&v4, 20, &[0, 1])]);
        let behind = [&[58, 0, 0, 0, 0, 0, 0, 1], &v6[54..]].concat();
        misses.push(ethernet(
            member_mac(MEMBER),
            PEER_MAC,
            IPV6,
            &ip6(44, 64, PEER6, local6(MEMBER), &behind),
        ));
        // Lengths that say that the payload is padding.
        misses.extend([with(&v4, 16, &[0, 47]), with(&v4, 16, &[0, 0]), with(&v6, 18, &[0, 27])]);
        none_is_handed(bench, MEMBER, &misses);
    });
}

#[test]
fn whatever_is_cut_off() {
    lab::needs_root!();
    run(|bench| {
        let whole = answers();
        // An advertisement needs no option, and is one without it.
        let needed = [whole[0].len(), whole[1].len(), whole[2].len(), whole[3].len() - 8];
        for (frame, needed) in whole.iter().zip(needed) {
            let pieces: Vec<_> = (14..needed).map(|length| frame[..length].to_vec()).collect();
            none_is_handed(bench, MEMBER, &pieces);
            assert_eq!(handed(bench, MEMBER, &[frame[..needed].to_vec()]), 1);
        }
    });
}

#[test]
fn replies_for_other_addresses_are_not_delivered() {
    lab::needs_root!();
    run(|bench| {
        // Not for this member's MAC: flooded by the switch, for the group's own, for many.
        for destination in [PEER_MAC, member_mac(0), GROUP_MAC, BROADCAST, multicast_mac6(ALL_NODES)] {
            let misses: Vec<_> = answers().iter().map(|frame| with_destination(frame, destination)).collect();
            none_is_handed(bench, MEMBER, &misses);
        }
        // For a data address, an unknown one, multicast.
        let to4 =
            |to| ethernet(member_mac(MEMBER), PEER_MAC, IPV4, &echo4(0, PEER4, to, (1, 2), &payload(b"")));
        let to6 =
            |to| ethernet(member_mac(MEMBER), PEER_MAC, IPV6, &echo6(129, PEER6, to, (1, 2), &payload(b"")));
        none_is_handed(bench, MEMBER, &[to4(DATA4), to4(STRANGER4), to6(DATA6)]);
        none_is_handed(bench, MEMBER, &[DATA6, ALL_NODES].map(|to| advertisement_to(to, SOLICITED)));
        // When the address is taken away, so is the answer to it.
        bench.group.remove_address(test4(MEMBER).into()).unwrap();
        bench.group.remove_address(local6(MEMBER).into()).unwrap();
        assert_eq!(handed(bench, MEMBER, &answers()), 1);
    });
}

/// It is forged or misrouted: the daemon gets the receiving member, and the group accepts it as any frame.
#[test]
fn replies_for_another_member_are_delivered_with_the_receiving_member() {
    lab::needs_root!();
    run(|bench| {
        let mut reader = Reader::of(bench);
        for frame in answers() {
            let frame = with_destination(&frame, member_mac(0));
            bench.ingress(0, &frame).is_taken(0, &with_destination(&frame, GROUP_MAC));
            let [answer] = reader.all()[..] else { panic!("it is not handed over") };
            assert_eq!(answer.member, 0);
        }
        assert_eq!(bench.group.reply_counters(MEMBER).unwrap(), ReplyCounters::default());
    });
}

#[test]
fn what_is_tagged() {
    lab::needs_root!();
    run(|bench| {
        bench.group.set_vlans(&[OURS]).unwrap();
        for vlan in [OURS, 30, 0] {
            for kind in [VLAN, QINQ] {
                let tagged: Vec<_> = answers().iter().map(|frame| tagged(frame, kind, vlan)).collect();
                none_is_handed(bench, MEMBER, &tagged);
            }
        }
        // Beside the frame: the kernel takes it off before ingress sees the frame, and 0 is no VLAN.
        for (vlan, answers_seen) in [(OURS, 0), (30, 0), (0, 4)] {
            let mut reader = Reader::of(bench);
            let tagged: Vec<_> = answers().iter().map(|frame| tagged(frame, VLAN, vlan)).collect();
            bench.receive(MEMBER, &tagged);
            assert_eq!(reader.all().len(), answers_seen, "VLAN {vlan}");
        }
    });
}

#[test]
fn arp_and_advertisements_that_answer_no_probe() {
    lab::needs_root!();
    run(|bench| {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        let peer = (PEER_MAC, PEER4);
        none_is_handed(
            bench,
            MEMBER,
            &[
                arp_to(2, peer, DATA4),
                arp_to(2, peer, test4(MEMBER)),
                arp_to(2, peer, STRANGER4),
                arp_to(1, peer, unspecified),
                arp_to(3, peer, unspecified),
                arp_to(2, (PEER_MAC, unspecified), unspecified),
                arp_to(2, (BROADCAST, PEER4), unspecified),
                arp_to(2, (NO_MAC, PEER4), unspecified),
                with_source(&arp_to(2, peer, unspecified), [3, 0, 0, 0, 0, 1]),
                with(&arp_to(2, peer, unspecified), 18, &[8]),
            ],
        );
        let solicited = advertisement_to(local6(MEMBER), SOLICITED);
        let to = |options: &[Vec<u8>]| {
            let packet = advertisement(PEER_LOCAL6, local6(MEMBER), PEER_LOCAL6, SOLICITED, options);
            ethernet(member_mac(MEMBER), PEER_MAC, IPV6, &packet)
        };
        let asks = solicitation(PEER_LOCAL6, local6(MEMBER), local6(MEMBER), &[source_option(PEER_MAC)]);
        none_is_handed(
            bench,
            MEMBER,
            &[
                advertisement_to(local6(MEMBER), UNSOLICITED),
                advertisement_to(local6(MEMBER), 0),
                // A router has forwarded it.
                with(&solicited, 21, &[254]),
                with(&solicited, 55, &[1]),
                to(&[target_option(BROADCAST)]),
                to(&[target_option(NO_MAC)]),
                with_source(&to(&[]), [3, 0, 0, 0, 0, 1]),
                ethernet(member_mac(MEMBER), PEER_MAC, IPV6, &asks),
            ],
        );
        assert_eq!(bench.group.reply_counters(MEMBER).unwrap(), ReplyCounters::default());
    });
}
