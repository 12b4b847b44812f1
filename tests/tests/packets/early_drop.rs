//! What a member drops by XDP. That it drops nothing else is checked with every frame of every test: `Bench::ingress`.

use crate::{
    frames::*,
    harness::{Bench, CAST, DATA4, DATA6, FLOWS, INBOUND, PEER4, PEER6, STRANGER4, ip, run, test4},
    wire::Wire,
};

/// Frames of a peer that only one member accepts, with that member.
fn copies() -> [(u8, Vec<u8>); 4] {
    let group4 = Ipv4Addr::new(239, 1, 2, 3);
    [
        (CAST, ethernet(multicast_mac4(group4), PEER_MAC, IPV4, &udp4(PEER4, group4, (1, 2), b""))),
        (CAST, ethernet(BROADCAST, PEER_MAC, ARP, &arp(1, (PEER_MAC, PEER4), (NO_MAC, STRANGER4)))),
        (INBOUND, ethernet(BROADCAST, PEER_MAC, ARP, &arp(1, (PEER_MAC, PEER4), (NO_MAC, DATA4)))),
        (FLOWS, ethernet(BROADCAST, PEER_MAC, ARP, &arp(1, (PEER_MAC, PEER4), (NO_MAC, test4(FLOWS))))),
    ]
}

#[test]
fn copies_reflections_and_flooded_frames_are_dropped() {
    lab::needs_root!();
    run(|bench| {
        for (taker, frame) in copies() {
            for member in 0..3 {
                assert_eq!(bench.drops_early(member, &frame), member != taker, "member {member}");
            }
        }
        let back = ethernet(BROADCAST, GROUP_MAC, ARP, &arp(1, (GROUP_MAC, DATA4), (NO_MAC, PEER4)));
        let flooded = [[2, 0, 0, 0, 2, 9], member_mac(1)]
            .map(|mac| ethernet(mac, PEER_MAC, IPV6, &udp6(PEER6, DATA6, (1, 2), b"")));
        assert!(bench.drops_early(0, &back) && flooded.iter().all(|frame| bench.drops_early(0, frame)));
        let early = bench.group.early_drops(0).unwrap();
        // Two copies of the cast member, and one of the inbound member.
        assert_eq!((early.other_copy, early.reflected, early.flooded, early.passed), (3, 1, 2, 0));

        for frame in [
            ethernet(member_mac(0), PEER_MAC, IPV4, &udp4(PEER4, DATA4, (1, 2), b"")),
            ethernet(GROUP_MAC, PEER_MAC, IPV4, &udp4(PEER4, DATA4, (1, 2), b"")),
            ethernet([1, 0x80, 0xc2, 0, 0, 0xe], PEER_MAC, LLDP, &[0, 0]),
            tagged(&copies()[0].1, VLAN, 20),
        ] {
            assert!(!bench.drops_early(0, &frame));
        }
        assert_eq!(bench.group.early_drops(0).unwrap(), early);
        // A new MAC of the device counts at once, before the map has it.
        ip("link set m0 address 02:00:00:00:02:09");
        assert!(!bench.drops_early(0, &flooded[0]) && bench.drops_early(0, &flooded[1]));
    });
}

#[test]
fn nothing_is_dropped_while_the_device_has_other_users() {
    lab::needs_root!();
    run(|bench| {
        let (_, frame) = &copies()[0];
        let drops = |bench: &Bench| bench.drops_early(0, frame);
        assert!(drops(bench));
        {
            let _capture = Wire::open("m0");
            assert!(!drops(bench));
        }
        assert!(drops(bench));
        for (add, remove) in [
            ("link set m0 promisc on", "link set m0 promisc off"),
            ("link add link m0 name mv0 type macvlan", "link del mv0"),
        ] {
            ip(add);
            assert!(!drops(bench), "{add}");
            ip(remove);
            assert!(drops(bench), "{remove}");
        }
        assert_eq!(bench.group.early_drops(0).unwrap().passed, 3);
    });
}
