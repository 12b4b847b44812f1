//! The packet that a program was called with.

use aya_ebpf::programs::TcContext;
use ipmp_common::frame::{Frame, HEADERS};
use network_types::eth::EthHdr;

/// `skb->pkt_type` of a frame to the MAC of the device that received it.
pub const PACKET_HOST: u32 = 0;
/// Offset of the payload behind an Ethernet header without a VLAN tag.
pub const UNTAGGED: usize = EthHdr::LEN;

/// The frame of a packet, as far as it lies in the linear part.
#[inline(always)]
pub fn frame(ctx: &TcContext) -> Frame {
    // SAFETY: the bounds are the packet's, for as long as nobody calls a helper that moves it; who does takes a new one.
    unsafe { Frame::new(ctx.data(), ctx.data_end()) }
}

/// Brings the headers into the linear part: drivers and packet sockets may leave them outside. A frame is shorter than
/// all headers now and then. False if the kernel has no memory for it.
#[inline(always)]
pub fn gather_headers(ctx: &TcContext) -> bool {
    let (length, linear) = (ctx.len(), (ctx.data_end() - ctx.data()) as u32);
    linear >= HEADERS
        || linear >= length
        || ctx.pull_data(if length < HEADERS { length } else { HEADERS }).is_ok()
}
