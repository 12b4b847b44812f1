//! The corrected checksum is the one that a full sum gives, wherever the carries fall.

use std::{collections::BTreeSet, net::Ipv6Addr};

use crate::{
    frames::*,
    harness::{DATA6, INBOUND, PEER6, run},
};

#[test]
fn every_carry_comes_out_right() {
    lab::needs_root!();
    run(|bench| {
        let mine = member_mac(INBOUND);
        let mut seen = BTreeSet::new();
        // Every value that the checksum can have in steps of 13, and the two ends one by one.
        let targets = (0..=u16::MAX).step_by(13).chain(0..=48).chain(u16::MAX - 48..=u16::MAX);
        for last in targets {
            let mut segments = PEER6.segments();
            segments[7] = last;
            let target = Ipv6Addr::from(segments);
            let asks = |mac| {
                let packet = solicitation(DATA6, PEER6, target, &[source_option(mac)]);
                ethernet(PEER_MAC, mac, IPV6, &packet)
            };
            let outcome = bench.egress(&asks(GROUP_MAC));
            outcome.leaves_by(INBOUND, &asks(mine));
            seen.insert(u16::from_be_bytes([outcome.frame[56], outcome.frame[57]]));
        }
        assert!(seen.len() > 4500, "{} checksums seen", seen.len());
    });
}

/// A checksum that was wrong before stays wrong by as much: the receiver is to notice, not we to hide it.
#[test]
fn a_wrong_checksum_is_not_made_right() {
    lab::needs_root!();
    run(|bench| {
        let packet = solicitation(DATA6, PEER6, PEER6, &[source_option(GROUP_MAC)]);
        let mut frame = ethernet(PEER_MAC, GROUP_MAC, IPV6, &packet);
        frame[57] ^= 1;
        let outcome = bench.egress(&frame);
        assert_eq!(outcome.frame[80..86], member_mac(INBOUND));
        assert!(!has_right_checksum(&outcome.frame));
    });
}
