//! Multicast and broadcast, both ways: the cast member alone.

use crate::{
    frames::*,
    harness::{CAST, DATA_LOCAL6, DATA4, DATA6, PEER_LOCAL6, PEER4, PEER6, Reason, run, test4},
};

const GROUP4: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const MDNS6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
const LIMITED_BROADCAST: Ipv4Addr = Ipv4Addr::BROADCAST;

/// Frames to many from a MAC with these addresses.
fn to_many(mac: Mac, v4: Ipv4Addr, v6: Ipv6Addr, local: Ipv6Addr) -> Vec<Vec<u8>> {
    // A query is not a report: one member sends it, one accepts it.
    let query4 = ip4(2, v4, Ipv4Addr::new(224, 0, 0, 1), 0, &[0x11, 100, 0xee, 0x9b, 0, 0, 0, 0]);
    let query6 = mld(130, local, ALL_NODES, &[0; 20]);
    vec![
        ethernet(multicast_mac4(GROUP4), mac, IPV4, &udp4(v4, GROUP4, (5353, 5353), b"stream")),
        ethernet(BROADCAST, mac, IPV4, &udp4(v4, LIMITED_BROADCAST, (67, 68), b"offer")),
        ethernet(
            BROADCAST,
            mac,
            IPV4,
            &udp4(Ipv4Addr::UNSPECIFIED, LIMITED_BROADCAST, (68, 67), b"discover"),
        ),
        ethernet(multicast_mac6(MDNS6), mac, IPV6, &udp6(v6, MDNS6, (5353, 5353), b"query")),
        ethernet(multicast_mac6(ALL_NODES), mac, IPV6, &icmp6_packet(128, v6, ALL_NODES, b"ping")),
        ethernet(multicast_mac4(Ipv4Addr::new(224, 0, 0, 1)), mac, IPV4, &query4),
        ethernet(multicast_mac6(ALL_NODES), mac, IPV6, &query6),
        // Unicast IP in a broadcast frame is still for many (RFC 1812 section 5.3.4).
        ethernet(BROADCAST, mac, IPV4, &udp4(v4, PEER4, (1, 2), b"")),
    ]
}

#[test]
fn ours_leave_by_the_cast_member() {
    lab::needs_root!();
    run(|bench| {
        for frame in to_many(GROUP_MAC, DATA4, DATA6, DATA_LOCAL6) {
            bench.set_usable(&[0, 1, 2]);
            bench.egress(&frame).leaves_by(CAST, &with_source(&frame, member_mac(CAST)));
            bench.set_usable(&[0, 2]);
            bench.egress(&frame).leaves_instead_by(2, &with_source(&frame, member_mac(2)));
            bench.set_usable(&[]);
            bench.egress(&frame).is_dropped(Reason::NoMember);
        }
    });
}

#[test]
fn others_are_taken_by_the_cast_member() {
    lab::needs_root!();
    run(|bench| {
        for frame in to_many(PEER_MAC, PEER4, PEER6, PEER_LOCAL6) {
            for (usable, taker) in [(&[0, 1, 2][..], CAST), (&[0, 2], 2), (&[0], 0)] {
                bench.set_usable(usable);
                bench.is_taken_once(taker, &frame);
            }
        }
        // No member takes it when none is usable.
        bench.set_usable(&[]);
        let frame = &to_many(PEER_MAC, PEER4, PEER6, PEER_LOCAL6)[0];
        bench.ingress(CAST, frame).is_dropped(Reason::OtherCopy);
        // Multicast from a member's test address is multicast all the same.
        bench.set_usable(&[0, 1, 2]);
        let frame = ethernet(multicast_mac4(GROUP4), GROUP_MAC, IPV4, &udp4(test4(0), GROUP4, (1, 2), b""));
        bench.egress(&frame).leaves_by(CAST, &with_source(&frame, member_mac(CAST)));
    });
}
