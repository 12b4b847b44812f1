//! The packet that a program was called with.

use aya_ebpf::programs::TcContext;
use ipmp_common::frame::{Frame, HEADERS};
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

/// Pulls the headers into the linear part: drivers and packet sockets may leave them outside. A frame may be shorter than all
/// headers. False if the kernel is out of memory.
#[inline(always)]
pub fn gather_headers(ctx: &TcContext) -> bool {
    let (length, linear) = (ctx.len(), (ctx.data_end() - ctx.data()) as u32);
    linear >= HEADERS
        || linear >= length
        || ctx.pull_data(if length < HEADERS { length } else { HEADERS }).is_ok()
}
