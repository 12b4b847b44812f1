//! IGMP and MLD reports: sent through every live member, so that snooping switches forward multicast to all of them, and a move of
//! the cast role needs no new report.

use aya_ebpf::{helpers::generated::bpf_clone_redirect, programs::TcContext};
use ipmp_common::{
    frame::{Frame, ethertype},
    steer::MAX_MEMBERS,
};

use crate::{
    maps::{members, word_of_live},
    member, packet,
};

/// IGMP type of a query.
const IGMP_QUERY: u8 = 0x11;

/// Whether IGMP is a query of a router, which one member sends. MLD queries are classified by [`ipmp_common::frame`].
#[inline(always)]
pub fn is_query(frame: &Frame, l3: usize, ethertype: u16) -> bool {
    let kind = |length: u8| frame.load::<u8>(l3 + 4 * (length & 15) as usize);
    ethertype == ethertype::IPV4 && frame.load::<u8>(l3).and_then(kind) == Some(IGMP_QUERY)
}

/// Sends clones through every live member but the cast member, through which the report itself goes.
#[inline(always)]
pub fn send_clones(ctx: &TcContext, cast: u32) {
    let live = word_of_live().bits;
    for number in 0..MAX_MEMBERS as u32 {
        if number != cast && live >> number & 1 == 1 {
            clone_through(ctx, number);
        }
    }
}

/// Sends one clone. A subprogram, because the verifier would check it sixteen times otherwise.
#[inline(never)]
fn clone_through(ctx: &TcContext, number: u32) {
    let Some(other) = members.get(number) else { return };
    if member::can_transmit(other) && packet::frame(ctx).set_source(other.mac) {
        // If a clone fails, one switch lacks the report until the next: nothing to handle.
        // SAFETY: the helper takes the context; no pointer into the packet outlives the call.
        if unsafe { bpf_clone_redirect(ctx.skb.skb, other.device.ifindex, 0) } == 0 {
            member::count_sent(number, ctx.len(), false);
        }
    }
}
