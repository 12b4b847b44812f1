//! The frames that announce an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv6Type, PacketBuilder,
    icmpv6::NeighborAdvertisementHeader,
};
use ipmp_common::nd;

use super::tag::tagged;

/// All nodes of the link, `ff02::1`.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The Ethernet address of [`ALL_NODES`] (RFC 2464 7).
pub(crate) const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// Hop limit that proves that a Neighbour Discovery message comes from this link (RFC 4861 7.1.2).
pub(crate) const HOP_LIMIT: u8 = 255;
/// Shortest Ethernet frame without its checksum, in bytes.
const SHORTEST: usize = 60;

/// An ARP request from one MAC to another, or to all: who has `target`, tell `sender`.
pub(crate) fn arp_request(from: [u8; 6], to: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(ArpOperation::REQUEST, (from, sender), ([0; 6], target), to)
}

/// An ARP packet to `to`, from one hardware and protocol address to another.
fn arp(
    operation: ArpOperation,
    (from, sender): ([u8; 6], Ipv4Addr),
    (target_mac, target): ([u8; 6], Ipv4Addr),
    to: [u8; 6],
) -> Vec<u8> {
    let mut frame = Vec::with_capacity(SHORTEST);
    let arp = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &from,
        &sender.octets(),
        &target_mac,
        &target.octets(),
    );
    let written = arp
        .map(|arp| PacketBuilder::ethernet2(from, to).arp(arp).write_to_vec(&mut frame))
        .is_ok_and(|written| written.is_ok());
    debug_assert!(written, "addresses of 6 and 4 bytes fit ARP");
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

/// An address, and the member whose MAC answers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Index of the group interface.
    pub group: u32,
    /// The VLAN of the group that it is announced in; `None`: in none.
    pub vlan: Option<u16>,
    /// The address.
    pub address: IpAddr,
    /// Index of the member's interface.
    pub ifindex: u32,
    /// The member's MAC.
    pub mac: [u8; 6],
    /// Whether this host forwards IPv6: an advertisement that denies it would make hosts give up their router.
    pub router: bool,
    /// Ask whether another host has the IPv4 address instead (an ARP probe, RFC 5227 2.1.1).
    pub probe: bool,
}

impl Announcement {
    /// The frame: an ARP request for one's own address (RFC 5227 3), or an unsolicited advertisement to all nodes
    /// (RFC 4861 7.2.6).
    pub fn frame(&self) -> Vec<u8> {
        let frame = match self.address {
            IpAddr::V4(address) if self.probe => {
                arp_request(self.mac, [0xff; 6], Ipv4Addr::UNSPECIFIED, address)
            }
            IpAddr::V4(address) => arp_request(self.mac, [0xff; 6], address, address),
            IpAddr::V6(address) => self.advertisement(address, ALL_NODES_MAC),
        };
        tagged(frame, self.vlan)
    }

    /// The frame that corrects one neighbour: an ARP reply, or an advertisement, to its MAC. Its IP address is not known, so
    /// that the target is the address itself, and an advertisement is for all nodes (RFC 6085).
    pub fn correction(&self, to: [u8; 6]) -> Vec<u8> {
        let frame = match self.address {
            IpAddr::V4(address) => arp(ArpOperation::REPLY, (self.mac, address), (to, address), to),
            IpAddr::V6(address) => self.advertisement(address, to),
        };
        tagged(frame, self.vlan)
    }

    fn advertisement(&self, address: Ipv6Addr, to: [u8; 6]) -> Vec<u8> {
        let header = NeighborAdvertisementHeader { router: self.router, solicited: false, r#override: true };
        let mut payload = address.octets().to_vec();
        payload.extend([nd::TARGET_LINK_LAYER_ADDRESS, 1]);
        payload.extend(self.mac);
        let mut frame = Vec::with_capacity(86);
        let written = PacketBuilder::ethernet2(self.mac, to)
            .ipv6(address.octets(), ALL_NODES.octets(), HOP_LIMIT)
            .icmpv6(Icmpv6Type::NeighborAdvertisement(header))
            .write(&mut frame, &payload);
        debug_assert!(written.is_ok(), "24 bytes fit a packet");
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(address: &str, router: bool) -> Vec<u8> {
        announcement(address, router).frame()
    }

    fn announcement(address: &str, router: bool) -> Announcement {
        let mac = [2, 0, 0, 0, 0, 7];
        Announcement {
            group: 1,
            vlan: None,
            address: address.parse().unwrap(),
            ifindex: 3,
            mac,
            router,
            probe: false,
        }
    }

    #[test]
    fn correction_is_unicast_reply_or_advertisement() {
        let to = [4, 0, 0, 0, 0, 9];
        let mut expected = to.to_vec();
        expected.extend([2, 0, 0, 0, 0, 7, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
        expected.extend([2, 0, 0, 0, 0, 7, 192, 168, 178, 200, 4, 0, 0, 0, 0, 9, 192, 168, 178, 200]);
        expected.resize(60, 0);
        assert_eq!(announcement("192.168.178.200", false).correction(to), expected);
        let mut expected = frame("2001:db8::c8", true);
        expected[..6].copy_from_slice(&to);
        assert_eq!(announcement("2001:db8::c8", true).correction(to), expected);
    }

    #[test]
    fn a_gratuitous_arp_byte_for_byte() {
        let mut expected = vec![0xff; 6];
        expected.extend([2, 0, 0, 0, 0, 7, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        expected.extend([2, 0, 0, 0, 0, 7, 192, 168, 178, 200, 0, 0, 0, 0, 0, 0, 192, 168, 178, 200]);
        expected.resize(60, 0);
        assert_eq!(frame("192.168.178.200", false), expected);
    }

    #[test]
    fn an_unsolicited_advertisement_byte_for_byte() {
        let bytes = frame("2001:db8::c8", false);
        assert_eq!(bytes[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 0x86, 0xdd]);
        // Payload length, ICMPv6, hop limit.
        assert_eq!(bytes[18..22], [0, 32, 58, 255]);
        let address = "2001:db8::c8".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(bytes[22..38], address);
        assert_eq!(bytes[38..54], ALL_NODES.octets());
        assert_eq!(bytes[54..56], [nd::NEIGHBOUR_ADVERTISEMENT, 0]);
        // Only the override flag.
        assert_eq!(bytes[58..62], [0x20, 0, 0, 0]);
        assert_eq!(bytes[62..78], address);
        assert_eq!(bytes[78..], [2, 1, 2, 0, 0, 0, 0, 7]);
        assert_eq!(sum(&bytes), 0xffff, "the checksum is wrong");
    }

    #[test]
    fn in_a_vlan_a_tag_stands_behind_the_macs() {
        for address in ["192.168.178.200", "2001:db8::c8"] {
            let plain = frame(address, false);
            let (ip, mac) = (address.parse().unwrap(), [2, 0, 0, 0, 0, 7]);
            let announcement = Announcement {
                group: 1,
                vlan: Some(0x123),
                address: ip,
                ifindex: 3,
                mac,
                router: false,
                probe: false,
            };
            let expected = [&plain[..12], &[0x81, 0x00, 0x01, 0x23], &plain[12..]].concat();
            assert_eq!(announcement.frame(), expected);
        }
    }

    #[test]
    fn a_router_says_that_it_is_one() {
        assert_eq!(frame("2001:db8::c8", true)[58], 0xa0);
    }

    /// The ones' complement sum over pseudo header and message: all ones if the checksum is right (RFC 4443 2.3).
    fn sum(frame: &[u8]) -> u32 {
        let words = frame[22..].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let total: u32 = words.sum::<u32>() + 32 + 58;
        (total & 0xffff) + (total >> 16)
    }
}
