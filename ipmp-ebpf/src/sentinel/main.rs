//! The sentinel: a kernel timer that watches the members' links of every group, with or without a daemon.
//!
//! It alone writes `live`. A member leaves `live` at the first tick that finds it without carrier or no longer
//! itself (egress has already stepped aside, packet by packet). It enters `live` when it has been up, present, not
//! dormant and operational for `updelay` without a break: a carrier bit comes back before the queues do and before
//! the far port forwards.
//!
//! In the same word it says whether somebody captures on the group interface, which egress must know.
//!
//! The timer re-arms itself for as long as one armed member is still the device that it was. It needs no process:
//! the pinned map that holds it keeps it.
#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_timer,
    btf_maps::{Array, RingBuf},
    helpers::generated::{
        bpf_ktime_get_ns, bpf_loop, bpf_timer_init, bpf_timer_set_callback, bpf_timer_start,
    },
    macros::{btf_map, classifier},
    programs::TcContext,
};
use ipmp_common::{
    maps::{
        CAPTURED, CaptureMode, ClockSettings, Device, GoodSince, HINTS_BYTES, Hint, HintKind, MAX_GROUPS,
        MAX_LOWER, PROBE_REPLIES_BYTES, ProbeReply, Watch, link_state, ticks_between,
    },
    steer::{MAX_MEMBERS, MemberSet},
};
use ipmp_ebpf::device;

const MMAPABLE: usize = aya_ebpf::bindings::BPF_F_MMAPABLE as usize;
const CLOCK_MONOTONIC: u64 = 1;
const EBUSY: i64 = 16;

/// Settings, and the timer itself.
#[repr(C)]
struct Clock {
    settings: ClockSettings,
    timer: bpf_timer,
}

#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static clock: Array<Clock, 1> = Array::new();
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static watch: Array<Watch, MAX_GROUPS, MMAPABLE> = Array::new();
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static good_since: Array<GoodSince, MAX_GROUPS> = Array::new();
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static live: Array<MemberSet, MAX_GROUPS, MMAPABLE> = Array::new();
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static hints: RingBuf<Hint, { HINTS_BYTES as usize }> = RingBuf::new();
/// What ingress tells the daemon. Nothing here writes it: it is made here because all groups share it, and the daemon opens it
/// before there is one.
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static probe_replies: RingBuf<ProbeReply, { PROBE_REPLIES_BYTES as usize }> = RingBuf::new();
/// What the daemon tells ingress of them.
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static echo_id: Array<u32, 1> = Array::new();

/// Starts the timer, or takes over a running one: run by BPF_PROG_TEST_RUN, never attached. Returns 0, or the number
/// of the step that failed.
#[classifier]
pub fn start(_ctx: TcContext) -> i32 {
    let Some(value) = clock.get_ptr_mut(0) else { return 1 };
    // SAFETY: a place in the map. The verifier wants the timer and the map that it lies in.
    unsafe {
        let timer = &raw mut (*value).timer;
        let error = bpf_timer_init(timer, &raw const clock as *mut c_void, CLOCK_MONOTONIC);
        if error != 0 && error != -EBUSY {
            return 2;
        }
        if bpf_timer_set_callback(timer, tick as *mut c_void) != 0 {
            return 3;
        }
        if bpf_timer_start(timer, (*value).settings.interval_ns, 0) != 0 {
            return 4;
        }
    }
    0
}

/// What one tick hands to the look at each group.
#[repr(C)]
struct Tick {
    now_ns: u64,
    /// Members that are still themselves.
    known: u64,
    /// Members looked at.
    looked_at: u64,
}

extern "C" fn tick(_map: *mut c_void, _key: *mut u32, value: *mut Clock) -> i32 {
    // SAFETY: the kernel hands the value that the timer lies in.
    unsafe {
        let settings = &raw mut (*value).settings;
        if (*settings).stop != 0 {
            return 0;
        }
        let mut this = Tick { now_ns: bpf_ktime_get_ns(), known: 0, looked_at: 0 };
        (*settings).ticks += 1;
        (*settings).last_ns = this.now_ns;
        bpf_loop((*settings).groups, look_at_group as *mut c_void, (&raw mut this).cast(), 0);
        (*settings).spent_ns += bpf_ktime_get_ns() - this.now_ns;
        if this.known != 0 {
            let pause_ns = (*settings).interval_ns * ticks_between(this.looked_at);
            bpf_timer_start(&raw mut (*value).timer, pause_ns, 0);
        }
    }
    0
}

/// One group, as its members are looked at.
#[repr(C)]
struct Look {
    now_ns: u64,
    index: u32,
    pad: u32,
    /// Members that are live by now.
    live: u64,
    /// Members that are still themselves.
    known: u64,
}

/// The callback of `bpf_loop`: one group.
extern "C" fn look_at_group(index: u64, this: *mut Tick) -> i64 {
    let index = index as u32;
    let (Some(watched), Some(live_of_group)) = (watch.get_ptr(index), live.get_ptr_mut(index)) else {
        return 1;
    };
    // SAFETY: places in maps, which the lookups above found; the sentinel alone writes `live`, and one callback runs at
    // a time.
    unsafe {
        let armed = (&raw const (*watched).armed).read_volatile();
        let word = (*live_of_group).bits;
        let before = word & !CAPTURED.bits;
        let mut group = Look { now_ns: (*this).now_ns, index, pad: 0, live: before & armed.bits, known: 0 };
        let members = u64::BITS - armed.bits.leading_zeros();
        (*this).looked_at += u64::from(members);
        bpf_loop(members, look_at_member as *mut c_void, (&raw mut group).cast(), 0);
        (*this).known |= group.known;
        let after = group.live;
        let captured = if is_captured(&*watched) { CAPTURED.bits } else { 0 };
        if after | captured != word {
            (&raw mut (*live_of_group).bits).write_volatile(after | captured);
        }
        if after != before
            && let Some(mut entry) = hints.reserve(0)
        {
            entry.write(Hint { kind: HintKind::Live as u32, group: index, at_ns: group.now_ns });
            entry.submit(0);
        }
    }
    0
}

/// Whether what leaves by a group interface is to be shown to those who capture there.
#[inline(always)]
fn is_captured(watched: &Watch) -> bool {
    const ON: u64 = CaptureMode::On as u64;
    const OFF: u64 = CaptureMode::Off as u64;
    match watched.capture {
        ON => true,
        OFF => false,
        _ => device::is_captured(&watched.group),
    }
}

/// The callback of the `bpf_loop` over a group's members.
extern "C" fn look_at_member(member: u64, group: *mut Look) -> i64 {
    // SAFETY: places in maps, as above; `group` is the caller's.
    unsafe {
        let index = (*group).index;
        let (Some(watched), Some(held_by_group)) = (watch.get_ptr(index), good_since.get_ptr_mut(index))
        else {
            return 1;
        };
        let member = member as usize;
        if member >= MAX_MEMBERS {
            return 1;
        }
        let bit = 1u64 << member;
        let since = &raw mut (*held_by_group).since_ns[member];
        let is_armed = (*watched).armed.bits & bit != 0;
        let link = if is_armed { look(&(*watched).devices[member]) } else { 0 };
        if link & KNOWN != 0 {
            (*group).known |= bit;
        }
        if link & CARRIES == 0 {
            *since = 0;
            (*group).live &= !bit;
        } else if (*group).live & bit == 0 {
            if link & RETURNS == 0 {
                *since = 0;
            } else if *since == 0 {
                *since = (*group).now_ns;
            } else if (*group).now_ns - *since >= (*watched).updelay_ns {
                (*group).live |= bit;
            }
        }
    }
    0
}

/// The member's own device is still itself.
const KNOWN: u32 = 1;
/// It and those below it can send.
const CARRIES: u32 = 2;
/// They could be trusted again.
const RETURNS: u32 = 4;

/// Looks at a member's devices. A subprogram of its own: the verifier goes through it sixteen times otherwise.
#[inline(never)]
fn look(devices: &[Device; 1 + MAX_LOWER]) -> u32 {
    let mut result = KNOWN | CARRIES | RETURNS;
    for (place, device) in devices.iter().enumerate() {
        if device.net_device == 0 {
            break;
        }
        let Some(state) = device::state(device) else {
            return if place == 0 { 0 } else { KNOWN };
        };
        if !link_state::carries(state) {
            return KNOWN;
        }
        if !device::operstate(device).is_some_and(|operstate| link_state::returns(state, operstate)) {
            result &= !RETURNS;
        }
    }
    result
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
