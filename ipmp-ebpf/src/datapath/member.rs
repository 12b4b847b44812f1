//! Members: which can transmit, and sending through one.

use core::{ffi::c_void, ptr::NonNull};

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    helpers::generated::{bpf_ktime_get_ns, bpf_loop, bpf_redirect},
    programs::TcContext,
};
use ipmp_common::{
    frame::Frame,
    maps::{HintKind, MAX_LOWER, Member, NO_MEMBER, link_state},
    select::{Masks, Search},
    steer::{MAX_MEMBERS, MemberSet, Preference},
    transition::{ActiveFlow, Usable, all_members, members_for_flow, members_in_transition, place},
};
use ipmp_ebpf::{clock::request_tick, count, device};

use crate::{
    arp_nd, flow,
    maps::{
        READ_DEVICES, Reason, SENTINEL, active_flows, clock, count_drop, counters, members, replaced,
        steering, word_of_live,
    },
};

/// The number of the member with this interface, or [`NO_MEMBER`].
#[inline(always)]
pub fn of_interface(ifindex: u32) -> u32 {
    let found = steering.get(0).and_then(|words| words.interfaces.find(ifindex));
    found.unwrap_or_else(|| search_interface(ifindex))
}

/// A subprogram, so that the verifier does not check what follows once for each number.
#[unsafe(no_mangle)]
#[inline(never)]
fn search_interface(ifindex: u32) -> u32 {
    steering.get(0).and_then(|words| words.interfaces.search(ifindex)).unwrap_or(NO_MEMBER)
}

/// Whether the member's device, and those below it, still exist and have a carrier.
#[inline(always)]
pub fn can_transmit(member: &Member) -> bool {
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

/// The callback of `bpf_loop`: one place of the list.
extern "C" fn step(_place: u64, search: *mut Search) -> i64 {
    // SAFETY: the caller's, on its stack.
    let search = unsafe { &mut *search };
    i64::from(search.step(|number| members.get(u32::from(number)).is_some_and(can_transmit)))
}

/// Which members of a list may transmit a packet while some are in transition: all that may transmit, those for a flow that is not
/// known, and those for a flow that begins.
const ANY: u32 = 0;
const FOR_UNKNOWN: u32 = 1;
const FOR_NEW: u32 = 2;

/// The member that transmits what has this list: the rule of [`ipmp_common::select`].
#[inline(always)]
pub fn select(list: Preference) -> Option<u32> {
    let number = select_number(list.nibbles, ANY);
    (number != NO_MEMBER).then_some(number)
}

/// A subprogram: for packets whose most preferred member cannot transmit, and for roles.
#[unsafe(no_mangle)]
#[inline(never)]
fn select_number(list: u64, which: u32) -> u32 {
    let Some(words) = steering.get(0) else { return NO_MEMBER };
    let word = words.usable;
    let usable = if which == ANY { all_members(word) } else { members_for_flow(word, which == FOR_NEW) };
    // Before a packet is lost, it takes any member.
    let reserve = words.reserve.or(members_in_transition(word));
    let masks = Masks { usable, reserve, live: word_of_live() };
    let mut search = Search::new(Preference::from_nibbles(list), masks);
    // SAFETY: the search outlives the call.
    unsafe { bpf_loop(MAX_MEMBERS as u32, step as *mut c_void, (&raw mut search).cast(), 0) };
    if search.has_lost_carrier() {
        report_lost_carrier();
    }
    search.selected().map_or(NO_MEMBER, u32::from)
}

/// Time between two hints about lost carriers, in nanoseconds: much longer than the daemon takes to read the links, which it does after
/// it has handled all hints.
const HINTS_APART_NS: u64 = 50_000_000;

/// A live member has no carrier: makes the sentinel tick at once. Where it does not run, wakes the daemon, which then reads the links.
#[inline(always)]
fn report_lost_carrier() {
    let Some(value) = clock.get_ptr_mut(0) else { return };
    // SAFETY: a value of the map, which the sentinel does not write where it does not run.
    unsafe {
        if SENTINEL.load() != 0 {
            request_tick(value);
            return;
        }
        let last = &raw mut (*value).settings.requested_ns;
        let now = bpf_ktime_get_ns();
        if now - last.read_volatile() < HINTS_APART_NS {
            return;
        }
        last.write_volatile(now);
    }
    arp_nd::wake(HintKind::Live);
}

/// The entry of a flow in the table, which exists while members are in transition.
#[inline(always)]
fn active_flow(hash: u32) -> Option<NonNull<ActiveFlow>> {
    active_flows.get(0)?.entry(place(hash))
}

/// While members are in transition: the member on which a flow is active, if it can transmit.
#[inline(always)]
fn active_member(hash: u32) -> u32 {
    let Some(words) = steering.get(0) else { return NO_MEMBER };
    let Some(entry) = active_flow(hash) else { return NO_MEMBER };
    // SAFETY: a word of the map, which is aligned. Volatile: other processors write it.
    let flow = unsafe { entry.read_volatile() };
    let allowed = all_members(words.usable).and(word_of_live());
    // SAFETY: a helper without arguments.
    if !flow.is_active(unsafe { bpf_ktime_get_ns() }) || !allowed.has(flow.member()) {
        return NO_MEMBER;
    }
    let number = u32::from(flow.member());
    if members.get(number).is_some_and(can_transmit) { number } else { NO_MEMBER }
}

/// Writes that a flow is active on a member. Packets on two processors may overwrite each other: with the same member, as nearly
/// always, it makes no difference.
#[inline(always)]
fn record_active(hash: u32, number: u32) {
    if let Some(entry) = active_flow(hash) {
        // SAFETY: a helper without arguments, and a word of the map, as above.
        unsafe { entry.write_volatile(ActiveFlow::new(number as u8, bpf_ktime_get_ns())) };
    }
}

/// The member that transmits a packet by its flow, with [`REPLACES`] if it replaces one that cannot. While members are in transition,
/// it is the one on which the flow is active; else the one that the list selects of those that get such flows.
#[unsafe(no_mangle)]
#[inline(never)]
fn select_by_flow(skb: *mut __sk_buff, list: u64, hash: u32) -> u32 {
    let Some(words) = steering.get(0) else { return NO_MEMBER };
    let word = words.usable;
    let is_in_transition = Usable::is_in_transition(word);
    let mut number = if is_in_transition { active_member(hash) } else { NO_MEMBER };
    if number == NO_MEMBER {
        let which = match is_in_transition {
            false => ANY,
            true => FOR_UNKNOWN + flow::opens_connection(skb),
        };
        number = select_number(list, which);
    }
    if number == NO_MEMBER {
        return NO_MEMBER;
    }
    if is_in_transition {
        record_active(hash, number);
    }
    let first = Preference::from_nibbles(list).first();
    if number == u32::from(first) || members_in_transition(word).has(first) {
        return number;
    }
    count_replaced(u32::from(first), words.sent_since_ns);
    number | REPLACES
}

/// Counts a packet that leaves in place of a member, and stamps the first one.
#[inline(always)]
fn count_replaced(number: u32, since_ns: u64) {
    let Some(mine) = replaced.get_ptr_mut(number) else { return };
    // SAFETY: fields of a per-CPU value, and a helper without arguments.
    unsafe {
        count::add(&raw mut (*mine).packets, 1);
        if (*mine).sent_ns < since_ns {
            (*mine).sent_ns = bpf_ktime_get_ns();
        }
    }
}

/// A bit beside the number of a member.
const REPLACES: u32 = 16;

/// The member that transmits a packet by its flow, and whether it replaces one that cannot.
#[inline(always)]
pub fn select_for(ctx: &TcContext, list: Preference, hash: u32) -> Option<(u32, bool)> {
    let number = select_by_flow(ctx.skb.skb, list.nibbles, hash);
    (number != NO_MEMBER).then_some((number & !REPLACES, number & REPLACES != 0))
}

/// The first member of the list, if the set contains it and it can transmit: enough for nearly every packet.
#[inline(always)]
pub fn most_preferred(list: Preference, mask: MemberSet) -> Option<(u32, &'static Member)> {
    let number = list.first();
    if !mask.has(number) {
        return None;
    }
    let member = members.get(number as u32)?;
    can_transmit(member).then_some((number as u32, member))
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

/// Sends the packet through the member that its flow selects, or drops it.
#[inline(always)]
pub fn send_by(ctx: &TcContext, frame: &Frame, list: Preference, hash: u32) -> i32 {
    match select_for(ctx, list, hash) {
        Some((number, is_failover)) => send_through(ctx, frame, number, is_failover),
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
