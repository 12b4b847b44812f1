//! Unicast that comes in: taken for the group when it is for the member's own MAC, left alone when it is for another.

use crate::{
    frames::*,
    harness::{CAST, DATA_LOCAL6, DATA4, DATA6, PEER_LOCAL6, PEER4, PEER6, STRANGER4, STRANGER6, run},
};

/// Packets for data addresses, and for addresses behind this host, in frames to a MAC.
fn packets(mac: Mac) -> Vec<Vec<u8>> {
    let v4 = [
        udp4(PEER4, DATA4, (2, 1), b"datagram"),
        tcp4(PEER4, DATA4, (2, 1), 3),
        ip4(1, PEER4, DATA4, 0, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
        ip4(2, PEER4, DATA4, 0, &[0x1e, 0, 0, 0, 0, 0, 0, 0]),
        udp4(PEER4, STRANGER4, (2, 1), b"to be forwarded"),
    ];
    let v6 = [
        udp6(PEER6, DATA6, (2, 1), b"datagram"),
        tcp6(PEER6, DATA6, (2, 1), 3),
        icmp6_packet(128, PEER6, DATA6, b"echo request"),
        udp6(PEER_LOCAL6, DATA_LOCAL6, (2, 1), b"link-local"),
        mld(128, PEER6, DATA6, b"behind a hop-by-hop header"),
        udp6(PEER6, STRANGER6, (2, 1), b"to be forwarded"),
    ];
    let v4 = v4.iter().map(|packet| ethernet(mac, PEER_MAC, IPV4, packet));
    let v6 = v6.iter().map(|packet| ethernet(mac, PEER_MAC, IPV6, packet));
    v4.chain(v6).collect()
}

#[test]
fn for_the_members_mac_is_taken_on_any_member() {
    lab::needs_root!();
    run(|bench| {
        for usable in [&[0, 1, 2][..], &[]] {
            // What has arrived has arrived: verdicts are about sending.
            bench.set_usable(usable);
            for member in 0..3 {
                for frame in packets(member_mac(member)) {
                    bench.ingress(member, &frame).is_taken(member, &with_destination(&frame, GROUP_MAC));
                }
            }
        }
    });
}

#[test]
fn for_another_mac_is_left_alone() {
    lab::needs_root!();
    run(|bench| {
        for member in 0..3 {
            for mac in [PEER_MAC, [2, 0, 0, 0, 2, 9], member_mac((member + 1) % 3), NO_MAC] {
                for frame in packets(mac) {
                    bench.ingress(member, &frame).is_untouched();
                }
            }
        }
    });
}

#[test]
fn for_the_groups_mac_is_taken_by_the_cast_member() {
    lab::needs_root!();
    run(|bench| {
        for (usable, taker) in [(&[0, 1, 2][..], CAST), (&[0, 2], 2)] {
            bench.set_usable(usable);
            for member in 0..3 {
                for frame in packets(GROUP_MAC) {
                    let outcome = bench.ingress(member, &frame);
                    if member == taker {
                        outcome.is_taken(member, &frame);
                    } else {
                        outcome.is_untouched();
                    }
                }
            }
        }
    });
}
