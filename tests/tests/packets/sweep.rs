//! Every length of every sample, and random bytes, through both programs: whatever comes, the verdict is one of theirs,
//! one thing is counted, and nothing is written but what must be.

use crate::{frames::*, harness::*};

/// A frame of every kind, from one side to the other.
fn samples(
    source: Mac,
    destination: Mac,
    v4: (Ipv4Addr, Ipv4Addr),
    v6: (Ipv6Addr, Ipv6Addr),
) -> Vec<Vec<u8>> {
    let option = [source_option(source)];
    let node = solicited_node(v6.1);
    let of = |ethertype, packet: &[u8]| ethernet(destination, source, ethertype, packet);
    let all = |mac, packet: &[u8]| ethernet(mac, source, IPV6, packet);
    let mut samples = vec![
        of(IPV4, &udp4(v4.0, v4.1, (1, 2), b"datagram")),
        of(IPV4, &tcp4(v4.0, v4.1, (1, 2), 3)),
        of(IPV4, &ip4(17, v4.0, v4.1, 0x2000, &[7; 24])),
        of(IPV6, &udp6(v6.0, v6.1, (1, 2), b"datagram")),
        of(IPV6, &tcp6(v6.0, v6.1, (1, 2), 3)),
        of(IPV6, &icmp6_packet(128, v6.0, v6.1, b"echo")),
        of(IPV6, &mld(128, v6.0, v6.1, b"echo")),
        of(ARP, &arp(1, (source, v4.0), (NO_MAC, v4.1))),
        of(ARP, &arp(2, (source, v4.0), (destination, v4.1))),
        ethernet(BROADCAST, source, ARP, &arp(1, (source, v4.0), (NO_MAC, v4.1))),
        all(multicast_mac6(node), &solicitation(v6.0, node, v6.1, &option)),
        of(IPV6, &advertisement(v6.0, v6.1, v6.0, SOLICITED, &[target_option(source)])),
        all(multicast_mac6(ALL_ROUTERS), &router_solicitation(v6.0, &option)),
        all(multicast_mac6(ALL_NODES), &router_advertisement(v6.0, &[mtu_option(), source_option(source)])),
        of(IPV6, &redirect(v6.0, v6.1, v6.0, v6.1, &[target_option(source)])),
        all(multicast_mac6(MLD_ROUTERS), &mld_report(v6.0)),
        ethernet(multicast_mac4(IGMP_ROUTERS), source, IPV4, &igmp_report(v4.0)),
        ethernet([1, 0x80, 0xc2, 0, 0, 0xe], source, LLDP, &[2, 7, 4, 2, 0, 0, 0, 0, 9, 0, 0]),
    ];
    let tags: Vec<_> =
        samples.iter().flat_map(|frame| [tagged(frame, VLAN, 20), tagged(frame, QINQ, 21)]).collect();
    samples.extend(tags);
    samples
}

/// Whether the bytes are ARP or ICMPv6, in which egress writes.
fn may_be_rewritten(frame: &[u8]) -> bool {
    let l3 =
        if frame.get(12..14).is_some_and(|kind| kind == [0x81, 0] || kind == [0x88, 0xa8]) { 18 } else { 14 };
    match frame.get(l3 - 2..l3) {
        Some([8, 6]) => true,
        Some([0x86, 0xdd]) => frame.get(l3 + 6) == Some(&58),
        _ => false,
    }
}

#[track_caller]
fn egress_is_sane(bench: &Bench, frame: &[u8]) {
    let outcome = bench.egress(frame);
    let sent: u64 = outcome.counted.members.iter().map(|counters| counters.out_packets).sum();
    let drops = outcome.counted.drops;
    let dropped = drops.truncated + drops.foreign_source + drops.no_member;
    match outcome.verdict {
        Verdict::Redirect => {
            assert_eq!((sent.min(1), dropped), (1, 0), "{}", show(frame));
            let source: Mac = outcome.frame[6..12].try_into().unwrap();
            assert!((0..3).any(|member| member_mac(member) == source), "{}", show(&outcome.frame));
            assert_eq!(outcome.frame.len(), frame.len());
            assert_eq!(outcome.frame[..6], frame[..6]);
            if !may_be_rewritten(frame) {
                assert_eq!(outcome.frame[12..], frame[12..], "{}", show(frame));
            }
        }
        Verdict::Drop => {
            assert_eq!((sent, dropped), (0, 1), "{}", show(frame));
            assert_eq!(outcome.frame, frame);
        }
        Verdict::Next => panic!("egress decides about every frame: {}", show(frame)),
    }
    assert_eq!((drops.reflected, drops.other_copy), (0, 0));
}

#[track_caller]
fn ingress_is_sane(bench: &Bench, member: u8, frame: &[u8]) {
    let outcome = bench.ingress(member, frame);
    match outcome.verdict {
        Verdict::Redirect if frame[0] & 1 == 0 => {
            outcome.is_taken(member, &with_destination(frame, GROUP_MAC))
        }
        // What is for many stays so.
        Verdict::Redirect => outcome.is_taken(member, frame),
        Verdict::Next => outcome.is_untouched(),
        Verdict::Drop => {
            assert_eq!(outcome.frame, frame);
            let drops = outcome.counted.drops;
            assert_eq!(drops.reflected + drops.other_copy, 1, "{}", show(frame));
            assert_eq!(drops.truncated + drops.foreign_source + drops.no_member, 0);
        }
    }
}

#[test]
fn every_length_of_every_frame_goes_out_sane() {
    lab::needs_root!();
    run(|bench| {
        for frame in samples(GROUP_MAC, PEER_MAC, (DATA4, PEER4), (DATA6, PEER6)) {
            for length in 14..=frame.len() {
                let frame = &frame[..length];
                if bench.runs(frame) {
                    egress_is_sane(bench, frame);
                } else {
                    let expected = (false, Tally::dropped(Reason::Truncated));
                    assert_eq!(bench.send(frame), expected, "{}", show(frame));
                }
            }
        }
    });
}

#[test]
fn every_length_of_every_frame_comes_in_sane() {
    lab::needs_root!();
    run(|bench| {
        bench.group.set_vlans(&[20]).unwrap();
        for member in [CAST, INBOUND] {
            for destination in [member_mac(member), GROUP_MAC, PEER_MAC] {
                for frame in samples(PEER_MAC, destination, (PEER4, DATA4), (PEER6, DATA6)) {
                    for length in (14..=frame.len()).filter(|length| bench.runs(&frame[..*length])) {
                        ingress_is_sane(bench, member, &frame[..length]);
                    }
                }
            }
        }
    });
}

/// Samples with bytes overwritten at random: lengths, kinds and addresses that lie.
#[test]
fn garbled_frames_go_both_ways_sane() {
    lab::needs_root!();
    run(|bench| {
        bench.group.set_vlans(&[20]).unwrap();
        // xorshift32, from a fixed start: the same frames every time.
        let mut state = 0x9e37_79b9_u32;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as usize % below
        };
        let out = samples(GROUP_MAC, PEER_MAC, (DATA4, PEER4), (DATA6, PEER6));
        let back = samples(PEER_MAC, member_mac(CAST), (PEER4, DATA4), (PEER6, DATA6));
        for _ in 0..4000 {
            let mut garble = |frame: &[u8], from: usize| {
                let mut frame = frame.to_vec();
                for _ in 0..1 + random(4) {
                    let place = from + random(frame.len() - from);
                    frame[place] = random(256) as u8;
                }
                frame
            };
            let which = out.len();
            let number = garble(&[0; 4], 0).iter().fold(0, |sum, byte| sum + usize::from(*byte)) % which;
            let (out, back) = (garble(&out[number], 12), garble(&back[number], 0));
            if bench.runs(&out) {
                egress_is_sane(bench, &out);
            }
            if bench.runs(&back) {
                ingress_is_sane(bench, CAST, &back);
            }
        }
    });
}
