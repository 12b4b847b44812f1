//! Members: who can carry now, and sending through one.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::TC_ACT_SHOT,
    helpers::generated::{bpf_loop, bpf_redirect},
    programs::TcContext,
};
use ipmp_common::{
    frame::Frame,
    maps::{MAX_LOWER, Member, link_state},
    steer::{MAX_MEMBERS, MemberSet, Preference},
};
use ipmp_ebpf::{count, device};

use crate::maps::{READ_DEVICES, Reason, count_drop, counters, members, steering, word_of_live};

/// No member.
const NO_MEMBER: u32 = u32::MAX;

/// Whether the member's device, and those below it, are themselves and have a carrier: written out where every packet
/// asks.
#[inline(always)]
fn can_carry_inline(member: &Member) -> bool {
    READ_DEVICES.load() == 0
        || (device::state(&member.device).is_some_and(link_state::carries)
            && (member.lowers == 0 || lowers_can_carry(member)))
}

/// Whether the devices below a stacked member are themselves and have a carrier.
#[inline(never)]
fn lowers_can_carry(member: &Member) -> bool {
    for place in 0..MAX_LOWER {
        if place >= member.lowers as usize {
            break;
        }
        if !device::state(&member.lower[place]).is_some_and(link_state::carries) {
            return false;
        }
    }
    true
}

/// The same as a subprogram, for those who ask seldom.
#[inline(never)]
pub fn can_carry(member: &Member) -> bool {
    can_carry_inline(member)
}

/// A walk through a list.
#[repr(C)]
struct Search {
    list: u64,
    /// Usable and live: the first of these ends the walk.
    wanted: u64,
    /// Live, and usable or in reserve.
    trusted: u64,
    /// Usable or in reserve.
    anybody: u64,
    found: u32,
    second_best: u32,
    last_resort: u32,
    pad: u32,
}

/// The callback of `bpf_loop`: one place of the list.
extern "C" fn look_at_place(_place: u64, search: *mut Search) -> i64 {
    // SAFETY: the caller's, on its stack.
    let search = unsafe { &mut *search };
    let number = (search.list & 15) as u32;
    search.list >>= 4;
    let bit = 1u64 << number;
    if search.anybody & bit == 0 || !members.get(number).is_some_and(can_carry) {
        return 0;
    }
    if search.wanted & bit != 0 {
        search.found = number;
        return 1;
    }
    if search.trusted & bit != 0 && search.second_best == NO_MEMBER {
        search.second_best = number;
    } else if search.last_resort == NO_MEMBER {
        search.last_resort = number;
    }
    0
}

/// The member that carries what has this list.
///
/// The first that is usable, live and has its carrier. Where nobody is: one in reserve that is live; then anybody with a
/// carrier, since a link that is not trusted yet is better than a certain loss.
#[inline(always)]
pub fn pick(list: Preference) -> Option<u32> {
    let number = pick_number(list.nibbles);
    (number != NO_MEMBER).then_some(number)
}

/// The same as a subprogram: for the rare packet whose most preferred member cannot, and for roles.
#[inline(never)]
fn pick_number(list: u64) -> u32 {
    let Some(words) = steering.get(0) else { return NO_MEMBER };
    let (trusted, anybody) = (word_of_live(), words.usable.or(words.reserve));
    let mut search = Search {
        list,
        wanted: words.usable.and(trusted).bits,
        trusted: anybody.and(trusted).bits,
        anybody: anybody.bits,
        found: NO_MEMBER,
        second_best: NO_MEMBER,
        last_resort: NO_MEMBER,
        pad: 0,
    };
    // SAFETY: the search outlives the call. A loop of the kernel's, because the verifier walks through one of ours sixteen
    // times for every place that asks.
    unsafe { bpf_loop(MAX_MEMBERS as u32, look_at_place as *mut c_void, (&raw mut search).cast(), 0) };
    if search.found != NO_MEMBER {
        search.found
    } else if search.second_best != NO_MEMBER {
        search.second_best
    } else {
        search.last_resort
    }
}

/// The member itself, if it is the most preferred of the list and can carry: what nearly every packet asks.
#[inline(always)]
pub fn most_preferred(list: Preference, mask: MemberSet) -> Option<(u32, &'static Member)> {
    let number = list.first();
    if !mask.has(number) {
        return None;
    }
    let member = members.get(number as u32)?;
    can_carry_inline(member).then_some((number as u32, member))
}

/// Sends the packet through a member that was found able to carry it.
#[inline(always)]
pub fn send(ctx: &TcContext, frame: &Frame, number: u32, member: &Member, failed_over_packets: bool) -> i32 {
    if !frame.set_source(member.mac) {
        return dropped_truncated();
    }
    count_sent(number, ctx.len(), failed_over_packets);
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(member.device.ifindex, 0) as i32 }
}

/// Counts a packet sent through a member.
#[inline(always)]
pub fn count_sent(number: u32, length: u32, failed_over_packets: bool) {
    if let Some(mine) = counters.get_ptr_mut(number) {
        // SAFETY: fields of a per-CPU value.
        unsafe {
            count::add(&raw mut (*mine).out_packets, 1);
            count::add(&raw mut (*mine).out_bytes, u64::from(length));
            if failed_over_packets {
                count::add(&raw mut (*mine).failed_over_packets, 1);
            }
        }
    }
}

/// Sends the packet through whoever the list picks, or drops it.
#[inline(always)]
pub fn send_by(ctx: &TcContext, frame: &Frame, list: Preference) -> i32 {
    match pick(list) {
        Some(number) => send_through(ctx, frame, number, number != list.first() as u32),
        None => dropped_nobody(ctx),
    }
}

/// Sends the packet through the member with this number.
#[inline(always)]
pub fn send_through(ctx: &TcContext, frame: &Frame, number: u32, failed_over_packets: bool) -> i32 {
    match members.get(number) {
        Some(member) => send(ctx, frame, number, member, failed_over_packets),
        None => dropped_nobody(ctx),
    }
}

/// Drops a packet that no member can carry.
#[inline(always)]
pub fn dropped_nobody(ctx: &TcContext) -> i32 {
    crate::trace::no_member(ctx);
    count_drop(Reason::NoMember);
    TC_ACT_SHOT
}

/// Drops a packet that is cut off where it would have to be rewritten.
#[inline(always)]
pub fn dropped_truncated() -> i32 {
    count_drop(Reason::Truncated);
    TC_ACT_SHOT
}
