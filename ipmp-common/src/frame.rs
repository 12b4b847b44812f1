//! Bounded reads of a frame, and the classification of its payload.
//!
//! Works on raw bounds (`data`, `data_end`), as tc and XDP provide them and the verifier tracks them: every read compares
//! with the end first. User space wraps a slice.

use core::mem::offset_of;

use network_types::{
    arp::ArpHdr,
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    address::{Ip, Mac},
    hash::Hash,
    nd,
};

/// EtherTypes, in host order.
pub mod ethertype {
    /// IPv4
    pub const IPV4: u16 = 0x0800;
    /// ARP
    pub const ARP: u16 = 0x0806;
    /// 802.1Q
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad
    pub const QINQ: u16 = 0x88a8;
    /// IPv6
    pub const IPV6: u16 = 0x86dd;
}

/// Internet protocol numbers.
pub mod protocol {
    /// IPv6 hop-by-hop options
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP
    pub const ICMP: u8 = 1;
    /// IGMP
    pub const IGMP: u8 = 2;
    /// TCP
    pub const TCP: u8 = 6;
    /// UDP
    pub const UDP: u8 = 17;
    /// IPv6 fragment header
    pub const FRAGMENT: u8 = 44;
    /// ICMPv6
    pub const ICMPV6: u8 = 58;
    /// SCTP
    pub const SCTP: u8 = 132;
}

/// ARP operation: request.
pub const ARP_REQUEST: u16 = 1;
/// ARP operation: reply.
pub const ARP_REPLY: u16 = 2;
/// ICMPv6 types of MLD: query and reports.
const MLD_REPORTS: [u8; 3] = [131, 132, 143];

/// Bytes of a frame that every decision needs at most: Ethernet, one VLAN tag, IPv6, one hop-by-hop
/// header, a Redirect with one option.
pub const HEADERS: u32 = 14 + 4 + 40 + 8 + 40 + 8;

/// A frame between two addresses.
#[derive(Clone, Copy)]
pub struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    /// The frame from `start` up to `end`.
    ///
    /// # Safety
    /// The bytes between the two must stay readable and, for [`Frame::store`], writable, as long as the frame is used.
    #[inline(always)]
    pub const unsafe fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The address of the `T` at an offset, if all of it is in the frame. It may be unaligned.
    #[inline(always)]
    pub fn place<T: Copy>(&self, offset: usize) -> Option<*mut T> {
        let at = self.start + offset;
        if at + size_of::<T>() > self.end { None } else { Some(at as *mut T) }
    }

    /// The `T` at an offset, if all of it is in the frame.
    #[inline(always)]
    pub fn load<T: Copy>(&self, offset: usize) -> Option<T> {
        // SAFETY: inside the bounds, which the caller of `new` guarantees. The types read are headers made of bytes, or
        // integers, for which every bit pattern is a value.
        self.place::<T>(offset).map(|place| unsafe { place.read_unaligned() })
    }

    /// Overwrites the `T` at an offset; false, and nothing written, if it does not fit into the frame.
    #[inline(always)]
    pub fn store<T: Copy>(&self, offset: usize, value: T) -> bool {
        // SAFETY: as in `load`; the caller of `new` guarantees that the bytes are writable.
        self.place::<T>(offset).map(|place| unsafe { place.write_unaligned(value) }).is_some()
    }

    /// The MAC at an offset.
    #[inline(always)]
    pub fn load_mac(&self, offset: usize) -> Option<Mac> {
        let [low, middle, high] = self.load::<[u16; 3]>(offset)?;
        Some(Mac(u16::from_le(low) as u64
            | (u16::from_le(middle) as u64) << 16
            | (u16::from_le(high) as u64) << 32))
    }

    /// The IPv6 address at an offset. Two loads: the compiler emits a call of memcpy for one of sixteen bytes.
    #[inline(always)]
    pub fn load_v6(&self, offset: usize) -> Option<Ip> {
        Some(Ip::from_words([self.load(offset)?, self.load(offset + 8)?]))
    }

    /// Overwrites the Ethernet source.
    #[inline(always)]
    pub fn set_source(&self, mac: [u8; 6]) -> bool {
        self.store(6, mac)
    }

    /// Overwrites the Ethernet destination.
    #[inline(always)]
    pub fn set_destination(&self, mac: [u8; 6]) -> bool {
        self.store(0, mac)
    }
}

/// The Ethernet header, and where the payload begins.
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Destination.
    pub destination: Mac,
    /// Source.
    pub source: Mac,
    /// EtherType of the payload: after the VLAN tag, if the frame contains one.
    pub ethertype: u16,
    /// VLAN identifier of a tag in the frame itself; the kernel usually keeps the tag in `skb->vlan_tci`.
    pub vlan: Option<u16>,
}

impl Ethernet {
    /// Reads the header, through one VLAN tag.
    #[inline(always)]
    pub fn of(frame: &Frame) -> Option<Self> {
        let destination = frame.load_mac(offset_of!(EthHdr, dst_addr))?;
        let source = frame.load_mac(offset_of!(EthHdr, src_addr))?;
        let outer = u16::from_be(frame.load(offset_of!(EthHdr, ether_type))?);
        let (ethertype, vlan) = if outer == ethertype::VLAN || outer == ethertype::QINQ {
            let [tag, inner]: [u16; 2] = frame.load(EthHdr::LEN)?;
            (u16::from_be(inner), Some(u16::from_be(tag) & 0xfff))
        } else {
            (outer, None)
        };
        Some(Self { destination, source, ethertype, vlan })
    }

    /// Offset of the payload in the frame.
    #[inline(always)]
    pub const fn payload_at(&self) -> usize {
        if self.vlan.is_none() { 14 } else { 18 }
    }
}

/// The payload of an Ethernet frame.
#[derive(Clone, Copy)]
pub enum Payload {
    /// ARP for Ethernet and IPv4.
    Arp(Arp),
    /// A Neighbour Discovery message.
    Nd(Nd),
    /// A membership report: IGMP, or MLD other than a query.
    Report,
    /// Any other IPv4 or IPv6 packet, by its addresses.
    Ip(Addresses),
    /// Neither IPv4, IPv6 nor ARP.
    Other,
    /// Truncated inside the headers.
    Truncated,
}

/// The addresses of an IP packet.
#[derive(Clone, Copy)]
pub struct Addresses {
    /// Source.
    pub source: Ip,
    /// Destination.
    pub destination: Ip,
}

/// An ARP packet.
#[derive(Clone, Copy)]
pub struct Arp {
    /// [`ARP_REQUEST`], [`ARP_REPLY`] or another.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address.
    pub sender: Ip,
    /// Target hardware address.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target: Ip,
}

impl Arp {
    /// Offset of the sender hardware address in the ARP packet.
    pub const SENDER_MAC: usize = offset_of!(ArpHdr, sha);
    /// Offset of the target hardware address in the ARP packet.
    pub const TARGET_MAC: usize = offset_of!(ArpHdr, tha);
    /// 0.0.0.0, the sender of an address conflict probe and the target of its reply (RFC 5227).
    pub const UNSPECIFIED: Ip = Ip::v4([0; 4]);

    /// The address whose inbound member sends the packet: the sender, or the target of an address conflict probe, whose
    /// sender is 0.0.0.0 (RFC 5227).
    #[inline(always)]
    pub fn speaks_for(&self) -> Ip {
        if self.sender == Self::UNSPECIFIED { self.target } else { self.sender }
    }

    /// Whether the packet claims [`speaks_for`](Self::speaks_for) for its sender. An address conflict probe does not.
    #[inline(always)]
    pub fn claims(&self) -> bool {
        self.sender != Self::UNSPECIFIED
    }
}

/// A Neighbour Discovery message.
#[derive(Clone, Copy)]
pub struct Nd {
    /// ICMPv6 type, one of [`nd`]'s.
    pub kind: u8,
    /// Offset of the ICMPv6 header in the frame.
    pub at: usize,
    /// IPv6 source.
    pub source: Ip,
    /// IPv6 destination.
    pub destination: Ip,
    /// Target of a solicitation, advertisement or redirect; unspecified otherwise.
    pub target: Ip,
}

impl Nd {
    /// The address whose inbound member sends the message: the target of an advertisement or of duplicate address detection,
    /// whose source is `::`, and the source otherwise.
    #[inline(always)]
    pub fn speaks_for(&self) -> Ip {
        if self.kind == nd::NEIGHBOUR_ADVERTISEMENT || self.source == Ip::UNSPECIFIED {
            self.target
        } else {
            self.source
        }
    }

    /// Whether the message claims [`speaks_for`](Self::speaks_for) for its sender. Duplicate address detection does not, nor does a
    /// Router Solicitation from `::`.
    #[inline(always)]
    pub fn claims(&self) -> bool {
        self.kind == nd::NEIGHBOUR_ADVERTISEMENT || self.source != Ip::UNSPECIFIED
    }
}

/// Classifies the payload at `l3` in the frame, by this EtherType.
#[inline(always)]
pub fn payload(frame: &Frame, l3: usize, ethertype: u16) -> Payload {
    match ethertype {
        ethertype::IPV4 => ipv4(frame, l3),
        ethertype::IPV6 => ipv6(frame, l3),
        ethertype::ARP => arp(frame, l3),
        _ => Payload::Other,
    }
}

#[inline(always)]
fn ipv4(frame: &Frame, l3: usize) -> Payload {
    let Some(protocol) = frame.load::<u8>(l3 + offset_of!(Ipv4Hdr, proto)) else { return Payload::Truncated };
    let Some([source, destination]) = frame.load::<[u32; 2]>(l3 + offset_of!(Ipv4Hdr, src_addr)) else {
        return Payload::Truncated;
    };
    // Only multicast IGMP is a report: unicast IGMP is mtrace, and is steered as any packet.
    if protocol == protocol::IGMP && u32::from_be(destination) >> 28 == 0xe {
        return Payload::Report;
    }
    Payload::Ip(Addresses { source: Ip::from_v4_word(source), destination: Ip::from_v4_word(destination) })
}

#[inline(always)]
fn ipv6(frame: &Frame, l3: usize) -> Payload {
    let (Some(source), Some(destination)) = (
        frame.load_v6(l3 + offset_of!(Ipv6Hdr, src_addr)),
        frame.load_v6(l3 + offset_of!(Ipv6Hdr, dst_addr)),
    ) else {
        return Payload::Truncated;
    };
    let Some(next) = frame.load::<u8>(l3 + offset_of!(Ipv6Hdr, next_hdr)) else { return Payload::Truncated };
    let after = l3 + Ipv6Hdr::LEN;
    if next == protocol::HOP_BY_HOP {
        // MLD follows a hop-by-hop header of 8 bytes with the router alert.
        let Some([next, units]) = frame.load::<[u8; 2]>(after) else { return Payload::Truncated };
        if next == protocol::ICMPV6 && units == 0 {
            match frame.load::<u8>(after + 8) {
                None => return Payload::Truncated,
                Some(kind) if MLD_REPORTS.contains(&kind) => return Payload::Report,
                Some(_) => {}
            }
        }
    }
    if next == protocol::ICMPV6 {
        let Some(kind) = frame.load::<u8>(after) else { return Payload::Truncated };
        if nd::options_at(kind).is_some() {
            let target = match kind {
                nd::ROUTER_SOLICITATION | nd::ROUTER_ADVERTISEMENT => Ip::UNSPECIFIED,
                _ => match frame.load_v6(after + offset_of!(nd::Neighbour, target)) {
                    None => return Payload::Truncated,
                    Some(target) => target,
                },
            };
            return Payload::Nd(Nd { kind, at: after, source, destination, target });
        }
    }
    Payload::Ip(Addresses { source, destination })
}

/// The first six bytes of an ARP packet for Ethernet and IPv4: hardware type, protocol type, address lengths.
const ETHERNET_AND_IPV4: [u16; 3] = [1u16.to_be(), ethertype::IPV4.to_be(), 0x0604u16.to_be()];

#[inline(always)]
fn arp(frame: &Frame, l3: usize) -> Payload {
    let Some([hardware, protocol, lengths, operation]) = frame.load::<[u16; 4]>(l3) else {
        return Payload::Truncated;
    };
    let (Some(target), Some(target_mac)) =
        (frame.load::<u32>(l3 + offset_of!(ArpHdr, tpa)), frame.load_mac(l3 + Arp::TARGET_MAC))
    else {
        return Payload::Truncated;
    };
    let (Some(sender), Some(sender_mac)) =
        (frame.load::<u32>(l3 + offset_of!(ArpHdr, spa)), frame.load_mac(l3 + Arp::SENDER_MAC))
    else {
        return Payload::Truncated;
    };
    if [hardware, protocol, lengths] != ETHERNET_AND_IPV4 {
        return Payload::Other;
    }
    Payload::Arp(Arp {
        operation: u16::from_be(operation),
        sender_mac,
        sender: Ip::from_v4_word(sender),
        target_mac,
        target: Ip::from_v4_word(target),
    })
}

/// Whether the IPv4 or IPv6 packet at `l3` is a fragment: later ones have no ports, and all must take the same path.
#[inline(always)]
pub fn is_fragment(frame: &Frame, l3: usize, ethertype: u16) -> bool {
    match ethertype {
        ethertype::IPV4 => match frame.load::<[u8; 2]>(l3 + 6) {
            Some(word) => u16::from_be_bytes(word) & 0x3fff != 0,
            None => false,
        },
        ethertype::IPV6 => frame.load::<u8>(l3 + 6) == Some(protocol::FRAGMENT),
        _ => false,
    }
}

/// The hash of the packet's addresses and protocol, and, unless it is a fragment, of its ports.
#[inline(always)]
pub fn flow_hash(frame: &Frame, l3: usize, ethertype: u16) -> u32 {
    let fragment = is_fragment(frame, l3, ethertype);
    let (hash, protocol, l4) = match ethertype {
        ethertype::IPV4 => {
            let Some([source, destination]) = frame.load::<[u32; 2]>(l3 + 12) else { return 0 };
            let Some([length, ..]) = frame.load::<[u8; 1]>(l3) else { return 0 };
            let Some(protocol) = frame.load::<u8>(l3 + 9) else { return 0 };
            (Hash::new().word(source).word(destination), protocol, l3 + 4 * (length & 15) as usize)
        }
        _ => {
            let (Some(source), Some(destination)) = (
                frame.load_v6(l3 + offset_of!(Ipv6Hdr, src_addr)),
                frame.load_v6(l3 + offset_of!(Ipv6Hdr, dst_addr)),
            ) else {
                return 0;
            };
            let Some(protocol) = frame.load::<u8>(l3 + 6) else { return 0 };
            // All fragments of a datagram share the next header in the fragment header.
            let protocol =
                if fragment { frame.load::<u8>(l3 + Ipv6Hdr::LEN).unwrap_or(protocol) } else { protocol };
            (Hash::new().address(source).address(destination), protocol, l3 + Ipv6Hdr::LEN)
        }
    };
    let has_ports = matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP) && !fragment;
    let ports = if has_ports { frame.load::<u32>(l4).unwrap_or(0) } else { 0 };
    // One word for both: the same ports with another protocol give another hash.
    hash.word(ports.wrapping_add((protocol as u32).wrapping_mul(0x9e37_79b9))).finish()
}

/// The hash of the packet's destination address.
#[inline(always)]
pub fn destination_hash(frame: &Frame, l3: usize, ethertype: u16) -> u32 {
    let hash = match ethertype {
        ethertype::IPV4 => frame.load::<u32>(l3 + 16).map(|word| Hash::new().word(word)),
        _ => frame.load_v6(l3 + offset_of!(Ipv6Hdr, dst_addr)).map(|address| Hash::new().address(address)),
    };
    hash.unwrap_or_default().finish()
}

#[cfg(test)]
mod tests;
