//! ARP and Neighbour Discovery messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv6Header, Icmpv6Type, PacketBuilder,
    icmpv6::NeighborAdvertisementHeader,
};

use crate::Mac;
use crate::packet::ethernet_header;

/// A broadcast ARP request for `target`.
pub fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Result<Vec<u8>> {
    let request = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &mac,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
    )
    .context("cannot build an ARP request")?;
    let mut frame = ethernet_header([0xff; 6], mac, 0x0806);
    frame.extend_from_slice(&request.to_bytes());
    Ok(frame)
}

/// A neighbour solicitation for `target`, to its solicited-node multicast address.
pub fn neighbour_solicitation(mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Result<Vec<u8>> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut options = target.octets().to_vec();
    options.extend_from_slice(&[1, 1]);
    options.extend_from_slice(&mac);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, [0x33, 0x33, 0xff, a, b, c])
        .ipv6(source.octets(), group.octets(), 255)
        .icmpv6(Icmpv6Type::NeighborSolicitation)
        .write(&mut frame, &options)
        .context("cannot build a neighbour solicitation")?;
    Ok(frame)
}

/// A neighbour advertisement to all nodes, with the override flag: `mac` has `address`.
pub fn unsolicited_advertisement(mac: Mac, address: Ipv6Addr) -> Result<Vec<u8>> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut options = address.octets().to_vec();
    options.extend_from_slice(&[2, 1]);
    options.extend_from_slice(&mac);
    let header = NeighborAdvertisementHeader { router: false, solicited: false, r#override: true };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, [0x33, 0x33, 0, 0, 0, 1])
        .ipv6(address.octets(), all_nodes.octets(), 255)
        .icmpv6(Icmpv6Type::NeighborAdvertisement(header))
        .write(&mut frame, &options)
        .context("cannot build a neighbour advertisement")?;
    Ok(frame)
}

/// An ARP reply or a neighbour advertisement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeighbourReply {
    /// The resolved address.
    pub target: IpAddr,
    /// The address of the host that the reply is for.
    pub requester: IpAddr,
    /// The Ethernet address of `target`.
    pub mac: Mac,
}

impl NeighbourReply {
    /// Reads a frame.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        match frame.get(12..14)? {
            [0x08, 0x06] => arp_reply(frame),
            [0x86, 0xdd] => advertisement(frame),
            _ => None,
        }
    }
}

fn arp_reply(frame: &[u8]) -> Option<NeighbourReply> {
    let v4 = |at: usize| <[u8; 4]>::try_from(frame.get(at..at + 4)?).ok().map(IpAddr::from);
    let mac = frame.get(22..28)?.try_into().ok()?;
    (frame.get(20..22)? == [0, 2]).then_some(NeighbourReply { target: v4(28)?, requester: v4(38)?, mac })
}

fn advertisement(frame: &[u8]) -> Option<NeighbourReply> {
    let v6 = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    if frame.get(20)? != &58 {
        return None;
    }
    let (header, rest) = Icmpv6Header::from_slice(frame.get(54..)?).ok()?;
    if !matches!(header.icmp_type, Icmpv6Type::NeighborAdvertisement(_)) {
        return None;
    }
    // RFC 4861 section 4.4: the target link-layer address option; without it the source of the frame.
    let mac = match rest.get(16..18) {
        Some([2, 1]) => rest.get(18..24)?,
        _ => frame.get(6..12)?,
    };
    let (target, requester) = (v6(rest.get(..16)?)?, v6(frame.get(38..54)?)?);
    Some(NeighbourReply { target, requester, mac: mac.try_into().ok()? })
}
