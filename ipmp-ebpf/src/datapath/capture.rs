//! Copies of outbound packets for captures on the group interface.
//!
//! Inbound packets are received by the group interface, so captures show them. Outbound packets are redirected to a member before
//! the kernel passes them to packet sockets. Egress therefore sends an unmodified copy through the group interface: packet
//! sockets see it as outgoing, and the device discards it (a dummy by itself, a veth by [`sink`]). The copy passes egress again,
//! which recognizes it by `tc_index`. See `docs/design/capture.md`.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    helpers::generated::bpf_clone_redirect,
    programs::TcContext,
};
use ipmp_common::{
    maps::{CAPTURED, COPY},
    steer::MemberSet,
};

use crate::maps::{GROUP_IFINDEX, count_copy, word_of_live};

/// Whether a frame is a copy. Checked for every packet, since the capture may have ended after the copy was made.
#[inline(always)]
pub fn is_copy(ctx: &TcContext) -> bool {
    // SAFETY: a field of the context.
    unsafe { (*ctx.skb.skb).tc_index == COPY }
}

/// Whether copies are made, by the group's word of `live`.
#[inline(always)]
pub fn is_on(live: MemberSet) -> bool {
    live.bits & CAPTURED.bits != 0
}

/// Counts a copy, or makes a copy of another frame if there is a capture. True: the frame is a copy.
///
/// If the copy fails, the capture lacks one frame: nothing to handle.
#[inline(always)]
pub fn pass_or_make_copy(skb: *mut __sk_buff) -> bool {
    if is_copy(&TcContext::new(skb)) {
        count_copy();
        return true;
    }
    if is_on(word_of_live()) {
        // SAFETY: a field of the context, and a helper that takes it; no pointer into the packet outlives the call.
        unsafe {
            let before = (*skb).tc_index;
            (&raw mut (*skb).tc_index).write_volatile(COPY);
            bpf_clone_redirect(skb, GROUP_IFINDEX.load(), 0);
            (&raw mut (*skb).tc_index).write_volatile(before);
        }
    }
    false
}

/// Discards what arrives at the peer of a group interface that is a veth.
#[inline(always)]
pub fn sink() -> i32 {
    TC_ACT_SHOT
}
