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
    hash::hash,
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

    /// The header of so many bytes at an offset, if all of it is in the frame.
    #[inline(always)]
    pub fn header<const BYTES: usize>(&self, offset: usize) -> Option<Header<BYTES>> {
        self.place::<[u8; BYTES]>(offset).map(|start| Header { start })
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

/// A header that is in the frame with all its bytes. One comparison with the end of the frame is enough for all its fields: the
/// compiler does not drop the others, since an address might overflow.
#[derive(Clone, Copy)]
pub struct Header<const BYTES: usize> {
    start: *const [u8; BYTES],
}

impl<const BYTES: usize> Header<BYTES> {
    /// The `T` at an offset in the header.
    #[inline(always)]
    pub fn load<const AT: usize, T: Copy>(&self) -> T {
        const { assert!(AT + size_of::<T>() <= BYTES) };
        // SAFETY: inside the header, as checked above and by `Frame::header`; see `Frame::load`.
        unsafe { self.start.byte_add(AT).cast::<T>().read_unaligned() }
    }

    /// The number in the eight bytes at an offset.
    #[inline(always)]
    pub fn number<const AT: usize>(&self) -> u64 {
        u64::from_be(self.load::<AT, u64>())
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
        let header = frame.header::<{ EthHdr::LEN }>(0)?;
        // Each MAC with the two bytes after it.
        let destination =
            Mac::in_lowest_bits(u64::from_le(header.load::<{ offset_of!(EthHdr, dst_addr) }, _>()));
        let source_and_type = u64::from_le(header.load::<{ offset_of!(EthHdr, src_addr) }, _>());
        let source = Mac::in_lowest_bits(source_and_type);
        let outer = ((source_and_type >> 48) as u16).swap_bytes();
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
        ethertype::IPV4 => frame.load(l3 + FRAGMENT_WORD).is_some_and(has_fragment_bits),
        ethertype::IPV6 => frame.load(l3 + offset_of!(Ipv6Hdr, next_hdr)) == Some(protocol::FRAGMENT),
        _ => false,
    }
}

/// Offset of the word with flags, fragment offset, TTL and protocol in the IPv4 header.
const FRAGMENT_WORD: usize = offset_of!(Ipv4Hdr, frags);

/// Whether this word, with its bytes in memory order, is that of a fragment: it has an offset, or more fragments follow.
#[inline(always)]
const fn has_fragment_bits(word: u32) -> bool {
    word & u32::from_ne_bytes([0x3f, 0xff, 0, 0]) != 0
}

/// The hash of the packet's addresses and protocol, and, unless it is a fragment, of its ports.
#[inline(always)]
pub fn flow_hash(frame: &Frame, l3: usize, ethertype: u16) -> u32 {
    if ethertype == ethertype::IPV4 {
        const ADDRESSES: usize = offset_of!(Ipv4Hdr, src_addr);
        let Some(header) = frame.header::<{ Ipv4Hdr::LEN }>(l3) else { return 0 };
        let word = header.load::<FRAGMENT_WORD, u32>();
        let [_, _, _, protocol] = word.to_ne_bytes();
        let length = 4 * usize::from(header.load::<0, u8>() & 15);
        let last = protocol_and_ports(frame, l3 + length, protocol, has_fragment_bits(word));
        return hash([header.number::<ADDRESSES>(), last]);
    }
    let Some(header) = frame.header::<{ Ipv6Hdr::LEN }>(l3) else { return 0 };
    let next = header.load::<{ offset_of!(Ipv6Hdr, next_hdr) }, u8>();
    let is_fragment = next == protocol::FRAGMENT;
    let after = l3 + Ipv6Hdr::LEN;
    // All fragments of a datagram share the next header in the fragment header.
    let protocol = if is_fragment { frame.load(after).unwrap_or(next) } else { next };
    const SOURCE: usize = offset_of!(Ipv6Hdr, src_addr);
    const DESTINATION: usize = offset_of!(Ipv6Hdr, dst_addr);
    hash([
        header.number::<SOURCE>(),
        header.number::<{ SOURCE + 8 }>(),
        header.number::<DESTINATION>(),
        header.number::<{ DESTINATION + 8 }>(),
        protocol_and_ports(frame, after, protocol, is_fragment),
    ])
}

/// The protocol in the upper half, the ports in the lower one; zeros if the packet has none.
#[inline(always)]
fn protocol_and_ports(frame: &Frame, at: usize, protocol: u8, is_fragment: bool) -> u64 {
    let has_ports = matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP) && !is_fragment;
    let ports = if has_ports { frame.load::<u32>(at).unwrap_or(0) } else { 0 };
    u64::from(protocol) << 32 | u64::from(u32::from_be(ports))
}

/// The hash of the packet's destination address.
#[inline(always)]
pub fn destination_hash(frame: &Frame, l3: usize, ethertype: u16) -> u32 {
    if ethertype == ethertype::IPV4 {
        let word = frame.load::<u32>(l3 + offset_of!(Ipv4Hdr, dst_addr));
        return word.map_or(0, |word| hash([u32::from_be(word).into()]));
    }
    let header = frame.header::<16>(l3 + offset_of!(Ipv6Hdr, dst_addr));
    header.map_or(0, |address| hash([address.number::<0>(), address.number::<8>()]))
}

#[cfg(test)]
mod tests;
