//! Answers of DHCP servers to a client that runs on a member itself, and not on the group interface.
//!
//! Such a client has no address yet that its answers could be told by: they go to everybody, or to the address that is
//! offered. What tells them is the hardware address of the client, which they all carry (RFC 2131 section 2): it is the
//! member's. The group's own client has the group's.

use core::mem::offset_of;

use ipmp_common::frame::{Ethernet, Frame, ethertype};
use network_types::{
    eth::EthHdr,
    ip::{IpProto, Ipv4Hdr},
    udp::UdpHdr,
};

/// An IPv4 header without options: its version and its length in words.
const PLAIN: u8 = 0x45;
/// The port of clients.
const CLIENT: u16 = 68;
/// Offset of the BOOTP message, behind headers without options.
const BOOTP: usize = EthHdr::LEN + Ipv4Hdr::LEN + UdpHdr::LEN;
/// What a server says (`op`).
const REPLY: u8 = 2;
/// Offset of the client's hardware address in the message (`chaddr`).
const CHADDR: usize = 28;

/// Whether the untagged frame is an answer to the client on the member that has this MAC.
#[inline(always)]
pub fn is_reply_to_member(frame: &Frame, ethernet: &Ethernet, mac: [u8; 6]) -> bool {
    if ethernet.ethertype != ethertype::IPV4
        || frame.load::<u8>(EthHdr::LEN + offset_of!(Ipv4Hdr, proto)) != Some(IpProto::Udp as u8)
    {
        return false;
    }
    let to: Option<u16> = frame.load(EthHdr::LEN + Ipv4Hdr::LEN + offset_of!(UdpHdr, dst));
    to == Some(CLIENT.to_be()) && carries(frame, mac)
}

#[inline(always)]
fn carries(frame: &Frame, mac: [u8; 6]) -> bool {
    frame.load::<u8>(EthHdr::LEN) == Some(PLAIN)
        && frame.load::<u8>(BOOTP) == Some(REPLY)
        && frame.load_mac(BOOTP + CHADDR).is_some_and(|client| client == mac.into())
}
