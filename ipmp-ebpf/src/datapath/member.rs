//! Members: which can transmit, and sending through one.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::TC_ACT_SHOT,
    helpers::generated::{bpf_loop, bpf_redirect},
    programs::TcContext,
};
use ipmp_common::{
    frame::Frame,
    maps::{MAX_LOWER, Member, link_state},
    select::{Masks, Search},
    steer::{MAX_MEMBERS, MemberSet, Preference},
};
use ipmp_ebpf::{count, device};

use crate::maps::{READ_DEVICES, Reason, count_drop, counters, members, steering, word_of_live};

/// No member.
const NO_MEMBER: u32 = u32::MAX;

/// Whether the member's device, and those below it, still exist and have a carrier: inlined for the fast path.
#[inline(always)]
fn can_transmit_inline(member: &Member) -> bool {
    READ_DEVICES.load() == 0
        || (device::state(&member.device).is_some_and(link_state::can_transmit)
            && (member.lowers == 0 || lowers_can_transmit(member)))
}

/// Whether the devices below a stacked member still exist and have a carrier.
#[inline(never)]
fn lowers_can_transmit(member: &Member) -> bool {
    for place in 0..MAX_LOWER {
        if place >= member.lowers as usize {
            break;
        }
        if !device::state(&member.lower[place]).is_some_and(link_state::can_transmit) {
            return false;
        }
    }
    true
}

/// The same as a subprogram, for the slow path.
#[inline(never)]
pub fn can_transmit(member: &Member) -> bool {
    can_transmit_inline(member)
}

/// The callback of `bpf_loop`: one place of the list.
extern "C" fn step(_place: u64, search: *mut Search) -> i64 {
    // SAFETY: the caller's, on its stack.
    let search = unsafe { &mut *search };
    i64::from(search.step(|number| members.get(u32::from(number)).is_some_and(can_transmit)))
}

/// The member that transmits what has this list: the rule of [`ipmp_common::select`].
#[inline(always)]
pub fn select(list: Preference) -> Option<u32> {
    let number = select_number(list.nibbles);
    (number != NO_MEMBER).then_some(number)
}

/// A subprogram: for packets whose most preferred member cannot transmit, and for roles.
#[inline(never)]
fn select_number(list: u64) -> u32 {
    let Some(words) = steering.get(0) else { return NO_MEMBER };
    let masks = Masks { usable: words.usable, reserve: words.reserve, live: word_of_live() };
    let mut search = Search::new(Preference::from_nibbles(list), masks);
    // SAFETY: the search outlives the call.
    unsafe { bpf_loop(MAX_MEMBERS as u32, step as *mut c_void, (&raw mut search).cast(), 0) };
    search.selected().map_or(NO_MEMBER, u32::from)
}

/// The first member of the list, if the set contains it and it can transmit: enough for nearly every packet.
#[inline(always)]
pub fn most_preferred(list: Preference, mask: MemberSet) -> Option<(u32, &'static Member)> {
    let number = list.first();
    if !mask.has(number) {
        return None;
    }
    let member = members.get(number as u32)?;
    can_transmit_inline(member).then_some((number as u32, member))
}

/// Sends the packet through a member that can transmit.
#[inline(always)]
pub fn send(ctx: &TcContext, frame: &Frame, number: u32, member: &Member, is_failover: bool) -> i32 {
    if !frame.set_source(member.mac) {
        return dropped_truncated();
    }
    count_sent(number, ctx.len(), is_failover);
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(member.device.ifindex, 0) as i32 }
}

/// Counts a packet sent through a member.
#[inline(always)]
pub fn count_sent(number: u32, length: u32, is_failover: bool) {
    if let Some(mine) = counters.get_ptr_mut(number) {
        // SAFETY: fields of a per-CPU value.
        unsafe {
            count::add(&raw mut (*mine).out_packets, 1);
            count::add(&raw mut (*mine).out_bytes, u64::from(length));
            if is_failover {
                count::add(&raw mut (*mine).failed_over_packets, 1);
            }
        }
    }
}

/// Sends the packet through the member that the list selects, or drops it.
#[inline(always)]
pub fn send_by(ctx: &TcContext, frame: &Frame, list: Preference) -> i32 {
    match select(list) {
        Some(number) => send_through(ctx, frame, number, number != list.first() as u32),
        None => dropped_no_member(ctx),
    }
}

/// Sends the packet through the member with this number.
#[inline(always)]
pub fn send_through(ctx: &TcContext, frame: &Frame, number: u32, is_failover: bool) -> i32 {
    match members.get(number) {
        Some(member) => send(ctx, frame, number, member, is_failover),
        None => dropped_no_member(ctx),
    }
}

/// Drops a packet that no member can transmit.
#[inline(always)]
pub fn dropped_no_member(ctx: &TcContext) -> i32 {
    crate::trace::no_member(ctx);
    count_drop(Reason::NoMember);
    TC_ACT_SHOT
}

/// Drops a packet that is truncated where it would have to be rewritten.
#[inline(always)]
pub fn dropped_truncated() -> i32 {
    count_drop(Reason::Truncated);
    TC_ACT_SHOT
}
