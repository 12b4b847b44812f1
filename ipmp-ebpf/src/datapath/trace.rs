//! What the datapath says with the feature `log`: the rare decisions, never one per ordinary packet.

use aya_ebpf::programs::TcContext;
use ipmp_common::address::Mac;

/// No member can carry a packet.
#[inline(always)]
pub fn no_member(_ctx: &TcContext) {
    #[cfg(feature = "log")]
    aya_log_ebpf::warn!(_ctx, "no member can carry a packet of {} bytes", _ctx.len());
}

/// A frame of somebody else was to leave through the group interface.
#[inline(always)]
pub fn foreign_source(_ctx: &TcContext, _source: Mac) {
    #[cfg(feature = "log")]
    aya_log_ebpf::warn!(_ctx, "a frame from {:mac} is not the group's: dropped", _source.bytes());
}

/// One of our own frames came back.
#[inline(always)]
pub fn reflected(_ctx: &TcContext, _source: Mac) {
    #[cfg(feature = "log")]
    aya_log_ebpf::info!(_ctx, "our own frame from {:mac} was reflected", _source.bytes());
}
