//! Messages of the feature `log`: rare decisions, none for ordinary packets.

use aya_ebpf::programs::TcContext;
use ipmp_common::address::Mac;

/// No member can transmit a packet.
#[inline(always)]
pub fn no_member(_ctx: &TcContext) {
    #[cfg(feature = "log")]
    aya_log_ebpf::warn!(_ctx, "no member can transmit a packet of {} bytes", _ctx.len());
}

/// A frame with another source MAC was sent through the group interface.
#[inline(always)]
pub fn foreign_source(_ctx: &TcContext, _source: Mac) {
    #[cfg(feature = "log")]
    aya_log_ebpf::warn!(
        _ctx,
        "dropped a frame from {:mac}: not the MAC of the group interface",
        _source.bytes()
    );
}

/// The network returned one of our own frames.
#[inline(always)]
pub fn reflected(_ctx: &TcContext, _source: Mac) {
    #[cfg(feature = "log")]
    aya_log_ebpf::info!(_ctx, "dropped our own frame from {:mac}, returned by the network", _source.bytes());
}
