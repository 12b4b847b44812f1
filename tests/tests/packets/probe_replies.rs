//! Replies to probes are delivered to the daemon with all fields, and are handled as other frames.

use std::time::Duration;

use ipmp_common::maps::{Ip, ProbeReply, ProbeReplyKind, ReplyCounters};
use nix::time::{ClockId, clock_gettime};

use crate::{
    frames::*,
    harness::{Bench, DATA4, INBOUND, PEER_LOCAL6, PEER4, PEER6, local6, run, test4},
};

/// A cookie, and the bytes of it in the payload of an echo.
const COOKIE: u64 = 0x1122_3344_5566_7788;
const COOKIE_BYTES: [u8; 8] = [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11];

/// The payload of an echo that probes, with more behind it.
pub fn payload(more: &[u8]) -> Vec<u8> {
    [b"ipmp probe: ", &COOKIE_BYTES[..], more].concat()
}

/// What has arrived at the only reader since it last looked.
pub struct Reader(ipmp::datapath::ProbeReplies);

impl Reader {
    pub fn of(bench: &Bench) -> Self {
        Self(bench.datapath.probe_replies().unwrap())
    }

    /// Everything, with the times taken out: they lie between the two that are given.
    fn since(&mut self, began_ns: u64) -> Vec<ProbeReply> {
        let (now_ns, mut answers) = (now_ns(), self.0.drain());
        for answer in &mut answers {
            assert!((began_ns..=now_ns).contains(&answer.at_ns), "{began_ns} {} {now_ns}", answer.at_ns);
            answer.at_ns = 0;
        }
        answers
    }

    pub fn all(&mut self) -> Vec<ProbeReply> {
        self.0.drain()
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Waits for the next window in which answers are counted, and says when that was.
pub fn new_window() -> u64 {
    std::thread::sleep(Duration::from_nanos(1 << 20));
    now_ns()
}

fn of(group: u32, member: u8, kind: ProbeReplyKind, from: Ip, mac: Mac) -> ProbeReply {
    ProbeReply {
        at_ns: 0,
        cookie: 0,
        from,
        group,
        member: u32::from(member),
        kind: kind as u32,
        identifier: 0,
        sequence: 0,
        mac,
        pad: 0,
    }
}

#[test]
fn an_echo_reply_to_a_members_own_address() {
    lab::needs_root!();
    run(|bench| {
        let (mut reader, group) = (Reader::of(bench), bench.group.index());
        let own6 = |member: u8| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20 + u16::from(member));
        for member in 0..3 {
            bench.group.set_own_address(own6(member).into(), member).unwrap();
            let to = member_mac(member);
            for more in [&b""[..], b"x", &[7; 1400]] {
                let v4 = echo4(0, PEER4, test4(member), (0xabcd, 0x0102), &payload(more));
                let v6 = echo6(129, PEER6, own6(member), (0xabcd, 0x0102), &payload(more));
                let local = echo6(129, PEER_LOCAL6, local6(member), (0xabcd, 0x0102), &payload(more));
                let replies = [
                    (IPV4, v4, Ip::v4(PEER4.octets())),
                    (IPV6, v6, Ip::v6(PEER6.octets())),
                    (IPV6, local, Ip::v6(PEER_LOCAL6.octets())),
                ];
                for (ethertype, packet, from) in replies {
                    let began = new_window();
                    bench.ingress(member, &ethernet(to, PEER_MAC, ethertype, &packet)).is_untouched();
                    let expected = ProbeReply {
                        cookie: COOKIE,
                        identifier: 0xabcd,
                        sequence: 0x0102,
                        ..of(group, member, ProbeReplyKind::Echo, from, PEER_MAC)
                    };
                    assert_eq!(reader.since(began), [expected]);
                }
            }
            assert_eq!(
                bench.group.reply_counters(member).unwrap(),
                ReplyCounters { delivered: 9, ..ReplyCounters::default() }
            );
        }
    });
}

#[test]
fn arp_reply_to_unspecified_is_delivered_and_accepted_by_the_group() {
    lab::needs_root!();
    run(|bench| {
        let (mut reader, group) = (Reader::of(bench), bench.group.index());
        for member in 0..3 {
            let mine = member_mac(member);
            let said = [2, 0, 0, 0, 2, 9];
            let reply = ethernet(mine, PEER_MAC, ARP, &arp(2, (said, PEER4), (mine, [0; 4].into())));
            // As the wire brings it.
            for frame in [reply.clone(), [&reply[..], &[0; 18]].concat()] {
                let began = new_window();
                bench.ingress(member, &frame).is_taken(member, &with_destination(&frame, GROUP_MAC));
                let expected = of(group, member, ProbeReplyKind::Arp, Ip::v4(PEER4.octets()), said);
                assert_eq!(reader.since(began), [expected]);
            }
        }
        // Those to a data address are the group's alone.
        let mine = member_mac(INBOUND);
        let reply = ethernet(mine, PEER_MAC, ARP, &arp(2, (PEER_MAC, PEER4), (mine, DATA4)));
        bench.ingress(INBOUND, &reply).is_taken(INBOUND, &with_destination(&reply, GROUP_MAC));
        assert_eq!(reader.all(), []);
    });
}

#[test]
fn a_solicited_advertisement_to_a_members_own_address() {
    lab::needs_root!();
    run(|bench| {
        let (mut reader, group) = (Reader::of(bench), bench.group.index());
        let said = [2, 0, 0, 0, 2, 9];
        for member in 0..3 {
            let cases = [
                // From the option; without one, or behind another, from the Ethernet header.
                (vec![target_option(said)], said),
                (vec![target_option(said), mtu_option()], said),
                (vec![], PEER_MAC),
                (vec![source_option(said)], PEER_MAC),
                (vec![mtu_option(), target_option(said)], PEER_MAC),
                (vec![[&[2, 2], &said[..], &[0; 8]].concat()], PEER_MAC),
            ];
            for (options, mac) in cases {
                for flags in [SOLICITED, 0x40, 0xe0] {
                    // What speaks may have another address than that of which it speaks.
                    let packet = advertisement(PEER_LOCAL6, local6(member), PEER6, flags, &options);
                    let frame = ethernet(member_mac(member), PEER_MAC, IPV6, &packet);
                    let began = new_window();
                    bench.ingress(member, &frame).is_untouched();
                    let expected = of(group, member, ProbeReplyKind::Nd, Ip::v6(PEER6.octets()), mac);
                    assert_eq!(reader.since(began), [expected], "{options:?}");
                }
            }
        }
    });
}
