//! Which frames are replies to probes, by the frame alone: the same code in the kernel, in the tests and under the fuzzer.
//!
//! | probe | its reply |
//! |---|---|
//! | ICMP or ICMPv6 echo request | an echo reply whose payload begins with [`MARK`] |
//! | ARP request with sender 0.0.0.0 | an ARP reply with target 0.0.0.0 |
//! | Neighbour Solicitation | a solicited advertisement that no router has forwarded |
//!
//! All untagged and complete. The caller checks destination and device; the daemon checks whether it sent the probe.

use core::mem::offset_of;

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    address::{Ip, Mac},
    frame::{ARP_REPLY, Arp, Ethernet, Frame, Nd, ethertype, is_fragment, protocol},
    nd::{self, LinkLayerOption},
    probe::{self, COOKIE_AT, ECHO_REPLY, ECHO_REPLY_V6, MARK},
};

/// Offset of the payload behind an Ethernet header without a VLAN tag.
const L3: usize = EthHdr::LEN;
/// The hop limit of Neighbour Discovery: no router forwarded the packet (RFC 4861 section 7.1.2).
const NO_ROUTER: u8 = 255;
/// The flag of a solicited advertisement.
const SOLICITED: u8 = 0x40;

/// The content of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The target of the probe: the source of an echo, the sender of an ARP reply, the target of an advertisement.
    pub from: Ip,
    /// Its MAC: the Ethernet source of an echo, or the MAC in an ARP reply or advertisement.
    pub mac: Mac,
    /// Of an echo: the cookie. Else 0.
    pub cookie: u64,
    /// Of an echo: its identifier. Else 0.
    pub identifier: u16,
    /// Of an echo: its sequence number. Else 0.
    pub sequence: u16,
}

impl Reply {
    /// An echo reply with our mark, unicast.
    #[inline(always)]
    pub fn echo(frame: &Frame, ethernet: &Ethernet) -> Option<Self> {
        let (from, icmp, kind) = match ethernet.ethertype {
            ethertype::IPV4 => (source_of_v4(frame)?, icmp_in_v4(frame)?, ECHO_REPLY),
            ethertype::IPV6 => {
                (frame.load_v6(L3 + offset_of!(Ipv6Hdr, src_addr))?, icmp_in_v6(frame)?, ECHO_REPLY_V6)
            }
            _ => return None,
        };
        let [is, code] = frame.load::<[u8; 2]>(icmp)?;
        let payload = icmp + probe::HEADER;
        if ethernet.vlan.is_some() || is != kind || code != 0 || !is_marked(frame, payload) {
            return None;
        }
        Some(Self {
            from,
            mac: ethernet.source,
            cookie: u64::from_le(frame.load(payload + COOKIE_AT)?),
            identifier: u16::from_be(frame.load(icmp + 4)?),
            sequence: u16::from_be(frame.load(icmp + 6)?),
        })
    }

    /// An ARP reply with target 0.0.0.0 and a sender.
    #[inline(always)]
    pub fn arp(ethernet: &Ethernet, packet: &Arp) -> Option<Self> {
        let is_reply = packet.operation == ARP_REPLY && packet.target == Arp::UNSPECIFIED && packet.claims();
        if !is_reply
            || ethernet.vlan.is_some()
            || is_no_host(ethernet.source)
            || is_no_host(packet.sender_mac)
        {
            return None;
        }
        Some(Self { from: packet.sender, mac: packet.sender_mac, cookie: 0, identifier: 0, sequence: 0 })
    }

    /// A solicited Neighbour Advertisement. The MAC is that of its first option, where that is the target's link-layer
    /// address, as it is in every host's: else the Ethernet source.
    #[inline(always)]
    pub fn nd(frame: &Frame, ethernet: &Ethernet, message: &Nd) -> Option<Self> {
        if message.kind != nd::NEIGHBOUR_ADVERTISEMENT || ethernet.vlan.is_some() {
            return None;
        }
        let at = L3 + Ipv6Hdr::LEN;
        let hops: u8 = frame.load(L3 + offset_of!(Ipv6Hdr, hop_limit))?;
        let code: u8 = frame.load(at + offset_of!(nd::Neighbour, code))?;
        let flags: u8 = frame.load(at + offset_of!(nd::Neighbour, flags))?;
        // A reply to our probe has no hop-by-hop header.
        if message.at != at || hops != NO_ROUTER || code != 0 || flags & SOLICITED == 0 {
            return None;
        }
        let mac = match frame.load::<LinkLayerOption>(at + size_of::<nd::Neighbour>()) {
            Some(option) if option.head.kind == nd::TARGET_LINK_LAYER_ADDRESS && option.head.len == 1 => {
                Mac::from(option.mac)
            }
            _ => ethernet.source,
        };
        if is_no_host(mac) {
            return None;
        }
        Some(Self { from: message.target, mac, cookie: 0, identifier: 0, sequence: 0 })
    }
}

/// Whether a MAC is multicast or zero: no interface has it.
#[inline(always)]
const fn is_no_host(mac: Mac) -> bool {
    mac.is_multicast() || mac.0 == 0
}

#[inline(always)]
fn source_of_v4(frame: &Frame) -> Option<Ip> {
    frame.load(L3 + offset_of!(Ipv4Hdr, src_addr)).map(Ip::from_v4_word)
}

/// Offset of ICMP in an unfragmented IPv4 packet without options, if it is long enough for an echo of a probe. Our probes have no
/// options, so their replies have none.
#[inline(always)]
fn icmp_in_v4(frame: &Frame) -> Option<usize> {
    let [version_and_length, _, high, low]: [u8; 4] = frame.load(L3)?;
    let what: u8 = frame.load(L3 + offset_of!(Ipv4Hdr, proto))?;
    let is_one = version_and_length == 0x45 && what == protocol::ICMP;
    let is_long_enough = u16::from_be_bytes([high, low]) as usize >= Ipv4Hdr::LEN + ECHO;
    (is_one && is_long_enough && !is_fragment(frame, L3, ethertype::IPV4)).then_some(L3 + Ipv4Hdr::LEN)
}

/// The same for IPv6, without extension headers.
#[inline(always)]
fn icmp_in_v6(frame: &Frame) -> Option<usize> {
    let version: u8 = frame.load(L3)?;
    let length = u16::from_be(frame.load(L3 + offset_of!(Ipv6Hdr, payload_len))?);
    let what: u8 = frame.load(L3 + offset_of!(Ipv6Hdr, next_hdr))?;
    let is_one = version >> 4 == 6 && what == protocol::ICMPV6 && length as usize >= ECHO;
    is_one.then_some(L3 + Ipv6Hdr::LEN)
}

/// Bytes of an echo of a probe.
const ECHO: usize = probe::HEADER + probe::PAYLOAD;

/// Whether the payload begins with the mark. By words: the compiler would call a function to compare bytes.
#[inline(always)]
fn is_marked(frame: &Frame, at: usize) -> bool {
    let mut place = 0;
    while place < MARK.len() {
        let word = u32::from_ne_bytes([MARK[place], MARK[place + 1], MARK[place + 2], MARK[place + 3]]);
        if frame.load::<u32>(at + place) != Some(word) {
            return false;
        }
        place += 4;
    }
    true
}

const _: () = assert!(MARK.len().is_multiple_of(4));
