//! The packet that a program was called with.

use aya_ebpf::programs::TcContext;
use ipmp_common::frame::{Ethernet, Frame, HEADERS};
use network_types::eth::EthHdr;

/// `skb->pkt_type` of a frame to the MAC of the device that received it.
pub const PACKET_HOST: u32 = 0;
/// Offset of the payload behind an Ethernet header without a VLAN tag.
pub const UNTAGGED: usize = EthHdr::LEN;

/// The linear part of the packet.
#[inline(always)]
pub fn frame(ctx: &TcContext) -> Frame {
    // SAFETY: the bounds are the packet's until a helper moves it; callers of such helpers get a new frame.
    unsafe { Frame::new(ctx.data(), ctx.data_end()) }
}

/// In the number of a VLAN: a frame with this bit is in the VLAN of the lower bits.
const IN_VLAN: u32 = 0x1000;
/// The number of a frame with two tags: no address there has a role.
const STACKED: u32 = 0x2000;

/// The VLAN of a frame, from the tag beside it and the one in it, as a number for subprograms: 0 without a tag. A tag beside the
/// frame with VLAN 0 has a priority only.
#[inline(always)]
pub fn vlan_number(ctx: &TcContext, ethernet: &Ethernet) -> u32 {
    // SAFETY: fields of the context.
    let (tagged, tag) = unsafe { ((*ctx.skb.skb).vlan_present != 0, (*ctx.skb.skb).vlan_tci & 0xfff) };
    match ethernet.vlan {
        None if tagged && tag != 0 => IN_VLAN | tag,
        None => 0,
        Some(id) if !tagged || tag == 0 => IN_VLAN | u32::from(id),
        Some(_) => STACKED | tag,
    }
}

/// The VLAN id in such a number.
#[inline(always)]
pub const fn vlan_id(number: u32) -> u16 {
    (number & 0xfff) as u16
}

/// Whether the frame has one tag.
#[inline(always)]
pub const fn is_in_one_vlan(number: u32) -> bool {
    number & IN_VLAN != 0
}

/// Pulls the headers into the linear part: drivers and packet sockets may leave them outside. A frame may be shorter than all
/// headers. False if the kernel is out of memory.
#[inline(always)]
pub fn gather_headers(ctx: &TcContext) -> bool {
    let (length, linear) = (ctx.len(), (ctx.data_end() - ctx.data()) as u32);
    linear >= HEADERS
        || linear >= length
        || ctx.pull_data(if length < HEADERS { length } else { HEADERS }).is_ok()
}
