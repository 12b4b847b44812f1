//! Replies of DHCP servers to a client that runs on a member itself, not on the group interface.
//!
//! Such a client has no address yet: replies are broadcast, or sent to the offered address. They contain the hardware address of the
//! client (RFC 2131 section 2): the member's. A client on the group interface has the group's.

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
/// The `op` of messages from servers.
const REPLY: u8 = 2;
/// Offset of the client's hardware address in the message (`chaddr`).
const CHADDR: usize = 28;

/// Whether the untagged frame is a reply to the client on the member with this MAC.
#[inline(always)]
pub fn is_reply_to_member(frame: &Frame, ethernet: &Ethernet, mac: [u8; 6]) -> bool {
    if ethernet.ethertype != ethertype::IPV4
        || frame.load::<u8>(EthHdr::LEN + offset_of!(Ipv4Hdr, proto)) != Some(IpProto::Udp as u8)
    {
        return false;
    }
    let to: Option<u16> = frame.load(EthHdr::LEN + Ipv4Hdr::LEN + offset_of!(UdpHdr, dst));
    to == Some(CLIENT.to_be()) && has_client_mac(frame, mac)
}

#[inline(always)]
fn has_client_mac(frame: &Frame, mac: [u8; 6]) -> bool {
    frame.load::<u8>(EthHdr::LEN) == Some(PLAIN)
        && frame.load::<u8>(BOOTP) == Some(REPLY)
        && frame.load_mac(BOOTP + CHADDR).is_some_and(|client| client == mac.into())
}
