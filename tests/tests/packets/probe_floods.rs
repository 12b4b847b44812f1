//! Forged answers: an identifier that is not ours is not delivered, and a flood displaces only itself.

use std::time::{Duration, Instant};

use ipmp::datapath::ProbeReplies;
use ipmp_common::maps::{ProbeReplyKind, ReplyCounters};

use crate::{
    frames::*,
    harness::{Bench, PEER_LOCAL6, PEER4, local6, run, test4},
    probe_replies::{Reader, new_window, payload},
};

fn echo(member: u8, identifier: u16) -> Vec<u8> {
    let packet = echo4(0, PEER4, test4(member), (identifier, 1), &payload(b""));
    ethernet(member_mac(member), PEER_MAC, IPV4, &packet)
}

fn arp_reply(member: u8) -> Vec<u8> {
    let mac = member_mac(member);
    ethernet(mac, PEER_MAC, ARP, &arp(2, (PEER_MAC, PEER4), (mac, Ipv4Addr::UNSPECIFIED)))
}

fn nd_reply(member: u8) -> Vec<u8> {
    let packet = advertisement(PEER_LOCAL6, local6(member), PEER_LOCAL6, SOLICITED, &[]);
    ethernet(member_mac(member), PEER_MAC, IPV6, &packet)
}

fn counted(bench: &Bench) -> ReplyCounters {
    bench.group.reply_counters(0).unwrap()
}

#[test]
fn echoes_of_another_identifier_are_counted_and_thrown_away() {
    lab::needs_root!();
    run(|bench| {
        let mut reader = Reader::of(bench);
        // Until it is set, any is accepted.
        for identifier in [0, 1, 0xffff] {
            bench.ingress(0, &echo(0, identifier)).is_untouched();
        }
        assert_eq!(reader.all().len(), 3);
        for ours in [0, 0x1234, 0xffff] {
            bench.datapath.set_echo_id(ours).unwrap();
            let before = counted(bench);
            for other in (0..16).map(|bit| ours ^ 1 << bit) {
                bench.ingress(0, &echo(0, other)).is_untouched();
            }
            assert_eq!(reader.all(), []);
            bench.ingress(0, &echo(0, ours)).is_untouched();
            let [answer] = reader.all()[..] else { panic!("ours is not handed over") };
            assert_eq!((answer.kind, answer.identifier), (ProbeReplyKind::Echo as u32, ours));
            let after = ReplyCounters {
                delivered: before.delivered + 1,
                unknown_id: before.unknown_id + 16,
                ..before
            };
            assert_eq!(counted(bench), after);
        }
        // The others have none.
        bench.ingress(0, &arp_reply(0));
        bench.ingress(0, &nd_reply(0)).is_untouched();
        assert_eq!(reader.all().len(), 2);
    });
}

/// Each kind in turn, from one member.
#[test]
fn flood_is_limited_and_displaces_no_other() {
    lab::needs_root!();
    run(|bench| {
        for (kind, frame) in [echo(0, 1), arp_reply(0), nd_reply(0)].iter().enumerate() {
            let (mut reader, before) = (Reader::of(bench), counted(bench));
            let began = Instant::now();
            let rounds = 20_000;
            bench.repeat_ingress(0, frame, rounds);
            let took = began.elapsed();
            let (after, flood) = (counted(bench), reader.all());
            // Eight in each window of 2^20 ns that it touched.
            let most = 8 * (took.as_nanos() as u64 / 0x10_0000 + 2);
            let handed = after.delivered - before.delivered;
            assert!((1..=most).contains(&handed), "{handed} in {took:?}");
            assert_eq!(handed + after.flood - before.flood, u64::from(rounds));
            assert_eq!((flood.len() as u64, after.lost), (handed, 0));
            assert!(flood.iter().all(|answer| answer.kind == kind as u32 + 1 && answer.member == 0));
        }
    });
}

#[test]
fn others_are_delivered_during_a_flood() {
    lab::needs_root!();
    run(|bench| {
        let mut reader = Reader::of(bench);
        for _ in 0..50 {
            new_window();
            // The share of this window, most often.
            bench.repeat_ingress(0, &echo(0, 1), 64);
            bench.ingress(1, &echo(1, 1)).is_untouched();
            bench.ingress(0, &nd_reply(0)).is_untouched();
            bench.ingress(0, &arp_reply(0));
            let kinds: Vec<_> = reader.all().iter().map(|answer| (answer.member, answer.kind)).collect();
            let received = |wanted| kinds.contains(wanted);
            assert!([(1, 1), (0, 3), (0, 2)].iter().all(received), "{kinds:?}");
        }
        assert!(counted(bench).flood >= 50 * 32, "{:?}", counted(bench));
    });
}

#[test]
fn a_full_ring_loses_answers_counts_them_and_is_good_again_when_it_is_read() {
    lab::needs_root!();
    run(|bench| {
        let mut reader = Reader::of(bench);
        let deadline = Instant::now() + Duration::from_secs(60);
        while counted(bench).lost == 0 {
            assert!(Instant::now() < deadline, "{:?}", counted(bench));
            bench.repeat_ingress(0, &echo(0, 1), 10_000);
        }
        let full = counted(bench);
        assert_eq!(full.delivered, ProbeReplies::AT_ONCE as u64);
        // No reply is delivered now, but all frames are handled.
        bench.ingress(1, &echo(1, 1)).is_untouched();
        assert_eq!(
            bench.group.reply_counters(1).unwrap(),
            ReplyCounters { lost: 1, ..ReplyCounters::default() }
        );
        assert_eq!(reader.all().len(), ProbeReplies::AT_ONCE);
        assert_eq!(reader.all(), []);
        bench.ingress(1, &echo(1, 1)).is_untouched();
        assert_eq!(reader.all().len(), 1);

        // A new reader does not receive earlier replies.
        bench.ingress(1, &echo(1, 1)).is_untouched();
        assert_eq!(Reader::of(bench).all(), []);
    });
}
