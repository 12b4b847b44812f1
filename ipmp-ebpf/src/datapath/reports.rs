//! IGMP and MLD reports: sent through every live member, so that a snooping switch forwards the multicast of the
//! group to all of them, and a move of the cast role needs no new report.

use aya_ebpf::{helpers::generated::bpf_clone_redirect, programs::TcContext};
use ipmp_common::steer::MAX_MEMBERS;

use crate::{
    maps::{GROUP, live, members},
    member,
};

/// Sends clones through every live member but the cast member, then the report itself through that.
#[inline(always)]
pub fn send(ctx: &TcContext) -> i32 {
    let Some(words) = crate::maps::steering.get(0) else { return member::dropped_nobody(ctx) };
    let Some(cast) = member::pick(words.cast) else { return member::dropped_nobody(ctx) };
    let trusted = live.get(GROUP.load()).map_or(0, |set| set.0);
    for number in 0..MAX_MEMBERS as u32 {
        if number != cast && trusted >> number & 1 == 1 {
            clone_through(ctx, number);
        }
    }
    // A clone may have moved the packet: take its bounds anew.
    member::send_through(ctx, &member::frame(ctx), cast, false)
}

/// Sends one clone. A subprogram, because the verifier would otherwise see it sixteen times.
#[inline(never)]
fn clone_through(ctx: &TcContext, number: u32) {
    let Some(other) = members.get(number) else { return };
    if member::can_carry(other) && member::frame(ctx).set_source(other.mac) {
        // A failed clone is a report that one member's switch misses until the next: nothing to handle.
        // SAFETY: the helper takes the context; no pointer into the packet outlives the call.
        let _ = unsafe { bpf_clone_redirect(ctx.skb.skb, other.device.ifindex, 0) };
    }
}
