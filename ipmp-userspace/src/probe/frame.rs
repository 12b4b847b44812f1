//! The frames that ask: echo requests, ARP probes and neighbour solicitations.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Icmpv6Type, PacketBuilder};
use ipmp_common::{nd, probe};

use crate::{
    announce::frame::{ALL_NODES, ALL_NODES_MAC, HOP_LIMIT, arp_request},
    core::probe::size,
    link::Mac,
    types::Family,
};

/// Every host of the link, `224.0.0.1`.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// The Ethernet address of [`ALL_HOSTS`] (RFC 1112 6.4).
const ALL_HOSTS_MAC: Mac = [1, 0, 0x5e, 0, 0, 1];
/// Probes stay on their link: their targets are on it (docs/reference.md 3.2).
const ONE_HOP: u8 = 1;

/// An echo request of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// MAC of the member.
    pub mac: Mac,
    /// Its test address.
    pub source: IpAddr,
    /// Identifier of the daemon.
    pub identifier: u16,
    /// Number of the probe.
    pub sequence: u16,
    /// What its answer must bring back.
    pub cookie: u64,
    /// Bytes of its packet; `None`: as small as it can be.
    pub size: Option<u32>,
}

impl Echo {
    /// The request to a target with this MAC, not to be fragmented; `None` if it is of another family than the test address.
    pub fn to(&self, target: IpAddr, mac: Mac) -> Option<Vec<u8>> {
        let mut payload = probe::MARK.to_vec();
        payload.extend(self.cookie.to_le_bytes());
        let smallest = size::smallest(Family::of(self.source));
        payload.resize(payload.len() + self.size.unwrap_or(0).saturating_sub(smallest) as usize, 0);
        let ethernet = PacketBuilder::ethernet2(self.mac, mac);
        let mut frame = Vec::with_capacity(62 + payload.len());
        let written = match (self.source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => ethernet
                .ipv4(source.octets(), target.octets(), ONE_HOP)
                .icmpv4_echo_request(self.identifier, self.sequence)
                .write(&mut frame, &payload),
            (IpAddr::V6(source), IpAddr::V6(target)) => ethernet
                .ipv6(source.octets(), target.octets(), ONE_HOP)
                .icmpv6_echo_request(self.identifier, self.sequence)
                .write(&mut frame, &payload),
            _ => return None,
        };
        debug_assert!(written.is_ok(), "an MTU fits a packet");
        Some(frame)
    }

    /// The request to every host of the link.
    pub fn to_all(&self) -> Option<Vec<u8>> {
        match self.source {
            IpAddr::V4(_) => self.to(ALL_HOSTS.into(), ALL_HOSTS_MAC),
            IpAddr::V6(_) => self.to(ALL_NODES.into(), ALL_NODES_MAC),
        }
    }
}

/// An ARP probe (RFC 5227 1.1), but to one MAC alone: who it is from, its receiver remembers nowhere.
pub fn arp_probe(from: Mac, to: Mac, target: Ipv4Addr) -> Vec<u8> {
    arp_request(from, to, Ipv4Addr::UNSPECIFIED, target)
}

/// A neighbour solicitation to the neighbour itself (RFC 4861 7.2.2), from a link-local address.
pub fn solicitation(from: Mac, to: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut payload = target.octets().to_vec();
    payload.extend([nd::SOURCE_LINK_LAYER_ADDRESS, 1]);
    payload.extend(from);
    let mut frame = Vec::with_capacity(86);
    let written = PacketBuilder::ethernet2(from, to)
        .ipv6(source.octets(), target.octets(), HOP_LIMIT)
        .icmpv6(Icmpv6Type::NeighborSolicitation)
        .write(&mut frame, &payload);
    debug_assert!(written.is_ok(), "24 bytes fit a packet");
    frame
}

/// A neighbour solicitation to all that may have the address (RFC 4861 7.2.2).
pub fn multicast_solicitation(from: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&[a, b, c]);
    let mut payload = target.octets().to_vec();
    payload.extend([nd::SOURCE_LINK_LAYER_ADDRESS, 1]);
    payload.extend(from);
    let mut frame = Vec::with_capacity(86);
    let written = PacketBuilder::ethernet2(from, [0x33, 0x33, 0xff, a, b, c])
        .ipv6(source.octets(), group, HOP_LIMIT)
        .icmpv6(Icmpv6Type::NeighborSolicitation)
        .write(&mut frame, &payload);
    debug_assert!(written.is_ok(), "24 bytes fit a packet");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: Mac = [2, 0, 0, 0, 0, 7];
    const TARGET: Mac = [2, 0, 0, 0, 0, 1];

    fn echo(source: &str) -> Echo {
        Echo {
            mac: MEMBER,
            source: source.parse().unwrap(),
            identifier: 0x1234,
            sequence: 7,
            cookie: 0x0102_0304_0506_0708,
            size: None,
        }
    }

    #[test]
    fn an_echo_request_byte_for_byte() {
        let frame = echo("192.168.178.5").to("192.168.178.1".parse().unwrap(), TARGET).unwrap();
        let mut expected = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 8, 0];
        // 48 bytes, one hop, ICMP. 4500 + 0030 + 4000 + 0101 + c0a8 + b205 + c0a8 + b201 = 36b87, which folds to 6b8a.
        expected.extend([0x45, 0, 0, 48, 0, 0, 0x40, 0, 1, 1, 0x94, 0x75]);
        expected.extend([192, 168, 178, 5, 192, 168, 178, 1]);
        // 0800 + 1234 + 0007, "ipmp probe: " = 6970 + 6d70 + 2070 + 726f + 6265 + 3a20, 0807 + 0605 + 0403 + 0201:
        // 2348f in all, which folds to 3491.
        expected.extend([8, 0, 0xcb, 0x6e, 0x12, 0x34, 0, 7]);
        expected.extend(b"ipmp probe: ");
        expected.extend([8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(frame, expected);
    }

    #[test]
    fn an_echo_request_of_version_6_byte_for_byte() {
        let frame = echo("fe80::5").to("fe80::1".parse().unwrap(), TARGET).unwrap();
        let mut expected = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 0x86, 0xdd];
        // 28 bytes, ICMPv6, one hop.
        expected.extend([0x60, 0, 0, 0, 0, 28, 58, 1]);
        expected.extend("fe80::5".parse::<Ipv6Addr>().unwrap().octets());
        expected.extend("fe80::1".parse::<Ipv6Addr>().unwrap().octets());
        // Pseudo header: fe80 + 0005 + fe80 + 0001 + 001c + 003a = 1fd5c. As above, with 8000 for 0800: 2ac8f.
        // 4a9eb in all, which folds to a9ef.
        expected.extend([128, 0, 0x56, 0x10, 0x12, 0x34, 0, 7]);
        expected.extend(b"ipmp probe: ");
        expected.extend([8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(frame, expected);
    }

    #[test]
    fn large_request_has_its_size_and_must_not_be_fragmented() {
        for (source, target, header) in [("192.168.178.5", "192.168.178.1", 20), ("fe80::5", "fe80::1", 40)] {
            for size in [1280, 1500, 9000] {
                let large = Echo { size: Some(size), ..echo(source) };
                let frame = large.to(target.parse().unwrap(), TARGET).unwrap();
                assert_eq!(frame.len(), 14 + size as usize);
                let packet = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
                let length = match packet.net.unwrap() {
                    etherparse::NetSlice::Ipv4(v4) => {
                        assert!(v4.header().dont_fragment());
                        v4.header().total_len().into()
                    }
                    etherparse::NetSlice::Ipv6(v6) => u32::from(v6.header().payload_length()) + 40,
                    other => panic!("{other:?}"),
                };
                assert_eq!(length, size);
                let payload = &frame[14 + header + 8..];
                assert!(
                    payload.starts_with(b"ipmp probe: \x08\x07\x06\x05\x04\x03\x02\x01\0"),
                    "{payload:?}"
                );
            }
        }
    }

    #[test]
    fn request_to_all_hosts_uses_their_multicast_address() {
        let v4 = echo("192.168.178.5").to_all().unwrap();
        assert_eq!((&v4[..6], &v4[30..34]), (&[1, 0, 0x5e, 0, 0, 1][..], &[224, 0, 0, 1][..]));
        let v6 = echo("fe80::5").to_all().unwrap();
        assert_eq!((&v6[..6], &v6[38..54]), (&[0x33, 0x33, 0, 0, 0, 1][..], &ALL_NODES.octets()[..]));
        assert_eq!(echo("fe80::5").to("192.168.178.1".parse().unwrap(), TARGET), None);
    }

    #[test]
    fn an_arp_probe_byte_for_byte() {
        let mut expected = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
        expected.extend([2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 168, 178, 1]);
        expected.resize(60, 0);
        assert_eq!(arp_probe(MEMBER, TARGET, Ipv4Addr::new(192, 168, 178, 1)), expected);
    }

    #[test]
    fn a_neighbour_solicitation_byte_for_byte() {
        let (source, target) = ("fe80::5".parse().unwrap(), "fe80::1".parse().unwrap());
        let mut expected = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 0x86, 0xdd];
        expected.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
        expected.extend("fe80::5".parse::<Ipv6Addr>().unwrap().octets());
        expected.extend("fe80::1".parse::<Ipv6Addr>().unwrap().octets());
        // Pseudo header: fe80 + 0005 + fe80 + 0001 + 0020 + 003a = 1fd60. 8700 + fe80 + 0001 + 0101 + 0200 + 0007 =
        // 18889. 385e9 in all, which folds to 85ec.
        expected.extend([135, 0, 0x7a, 0x13, 0, 0, 0, 0]);
        expected.extend("fe80::1".parse::<Ipv6Addr>().unwrap().octets());
        expected.extend([1, 1, 2, 0, 0, 0, 0, 7]);
        assert_eq!(solicitation(MEMBER, TARGET, source, target), expected);
    }
}
