//! Copies for those who capture on the group interface.
//!
//! What comes in they see: it is received by the group interface like anything else. What leaves is redirected to a
//! member before the kernel would show it to them. So egress sends a copy on its way through the group interface itself,
//! unrewritten: the kernel shows it as outgoing, and the device throws it away (a dummy by itself, a veth by [`sink`]).
//! It passes egress once more on that way, where its mark lets it through.

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

/// Whether a frame is a copy. Asked for every packet, not only while somebody captures: that may have ended since the
/// copy was made.
#[inline(always)]
pub fn is_copy(ctx: &TcContext) -> bool {
    // SAFETY: a field of the context.
    unsafe { (*ctx.skb.skb).tc_index == COPY }
}

/// Whether somebody captures, by the group's word of `live`.
#[inline(always)]
pub fn is_on(live: MemberSet) -> bool {
    live.bits & CAPTURED.bits != 0
}

/// Lets a copy through, or shows one of a frame that is none to those who capture. True: it is a copy.
///
/// A copy that cannot be made is one frame that they do not see: nothing to handle.
#[inline(always)]
pub fn is_copy_or_shown(skb: *mut __sk_buff) -> bool {
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

/// Throws away what arrives at the far end of a group interface that is a veth.
#[inline(always)]
pub fn sink() -> i32 {
    TC_ACT_SHOT
}
