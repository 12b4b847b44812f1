//! The sentinel: a kernel timer that monitors the links of the members of every group, with or without a daemon.
//!
//! Only the sentinel writes `live`. A member leaves `live` at the first tick that finds it without a carrier or deleted; egress has
//! failed over before, packet by packet. It enters `live` when it has been up, present, not dormant and operational for `updelay`
//! without interruption: a NIC sets its carrier before its queues work and before the switch port forwards.
//!
//! A bit of the same word is set while there is a capture on the group interface, for egress.
//!
//! The timer re-arms itself while at least one armed member still exists. It needs no process: it lives as long as the pinned map.
//! See `docs/design/sentinel.md`.
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
        CAPTURED, CaptureMode, ClockSettings, ClockStart, Device, GoodSince, HINTS_BYTES, Hint, HintKind,
        MAX_GROUPS, MAX_LOWER, PROBE_REPLIES_BYTES, ProbeReply, Watch, link_state, ticks_between, updelay_ns,
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
/// Written by ingress. Created here because all groups share it, and the daemon opens it before the first group.
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static probe_replies: RingBuf<ProbeReply, { PROBE_REPLIES_BYTES as usize }> = RingBuf::new();
/// Read by ingress.
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static echo_id: Array<u32, 1> = Array::new();

/// Starts the timer, or adopts a running one: run by BPF_PROG_TEST_RUN, never attached. Its packet is a [`ClockStart`]. Returns
/// 0, or the number of the step that failed.
#[classifier]
pub fn start(ctx: TcContext) -> i32 {
    let Some(value) = clock.get_ptr_mut(0) else { return 1 };
    let Ok(wanted) = ctx.load::<ClockStart>(ClockStart::OFFSET) else { return 5 };
    // SAFETY: a value of the map. The verifier requires the timer and its map.
    unsafe {
        let settings = &raw mut (*value).settings;
        (*settings).interval_ns = wanted.interval_ns;
        if (*settings).groups < wanted.groups {
            (*settings).groups = wanted.groups;
        }
        (*settings).stop = 0;
        (*settings).last_ns = bpf_ktime_get_ns();
        let timer = &raw mut (*value).timer;
        let error = bpf_timer_init(timer, &raw const clock as *mut c_void, CLOCK_MONOTONIC);
        if error != 0 && error != -EBUSY {
            return 2;
        }
        if bpf_timer_set_callback(timer, tick as *mut c_void) != 0 {
            return 3;
        }
        if bpf_timer_start(timer, wanted.interval_ns, 0) != 0 {
            return 4;
        }
    }
    0
}

/// State of one tick, for all groups.
#[repr(C)]
struct Tick {
    now_ns: u64,
    /// Members that still exist.
    known: u64,
    /// Number of checked members.
    checked: u64,
}

extern "C" fn tick(_map: *mut c_void, _key: *mut u32, value: *mut Clock) -> i32 {
    // SAFETY: the kernel passes the value that contains the timer.
    unsafe {
        let settings = &raw mut (*value).settings;
        if (*settings).stop != 0 {
            return 0;
        }
        let mut this = Tick { now_ns: bpf_ktime_get_ns(), known: 0, checked: 0 };
        (*settings).ticks += 1;
        (*settings).last_ns = this.now_ns;
        bpf_loop((*settings).groups, check_group as *mut c_void, (&raw mut this).cast(), 0);
        (*settings).spent_ns += bpf_ktime_get_ns() - this.now_ns;
        if this.known != 0 {
            let pause_ns = (*settings).interval_ns * ticks_between(this.checked);
            bpf_timer_start(&raw mut (*value).timer, pause_ns, 0);
        } else {
            (*settings).last_ns = 0;
        }
    }
    0
}

/// State of the checks of one group.
#[repr(C)]
struct GroupCheck {
    now_ns: u64,
    index: u32,
    pad: u32,
    /// Live members so far.
    live: u64,
    /// Members that still exist.
    known: u64,
}

/// The callback of `bpf_loop`: one group.
extern "C" fn check_group(index: u64, this: *mut Tick) -> i64 {
    let index = index as u32;
    let (Some(watched), Some(live_of_group)) = (watch.get_ptr(index), live.get_ptr_mut(index)) else {
        return 1;
    };
    // SAFETY: values of maps, from the lookups above; the sentinel alone writes `live`, and one callback runs at
    // a time.
    unsafe {
        let armed = (&raw const (*watched).armed).read_volatile();
        let word = (*live_of_group).bits;
        let before = word & !CAPTURED.bits;
        let mut group =
            GroupCheck { now_ns: (*this).now_ns, index, pad: 0, live: before & armed.bits, known: 0 };
        let members = u64::BITS - armed.bits.leading_zeros();
        (*this).checked += u64::from(members);
        bpf_loop(members, check_member as *mut c_void, (&raw mut group).cast(), 0);
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

/// Whether egress makes copies of outbound packets for captures.
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
extern "C" fn check_member(member: u64, group: *mut GroupCheck) -> i64 {
    // SAFETY: values of maps, as above; `group` is the caller's.
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
        let link = if is_armed { check_devices(&(*watched).devices[member]) } else { 0 };
        if link & KNOWN != 0 {
            (*group).known |= bit;
        }
        if link & CAN_TRANSMIT == 0 {
            *since = 0;
            (*group).live &= !bit;
        } else if (*group).live & bit == 0 {
            if link & OPERATIONAL == 0 {
                *since = 0;
            } else if *since == 0 {
                *since = (*group).now_ns;
            } else {
                let own = (&raw const (*watched).devices[member][0].updelay).read_volatile();
                let of_group = (&raw const (*watched).updelay_ns).read_volatile();
                if (*group).now_ns - *since >= updelay_ns(own, of_group, (*group).live == 0) {
                    (*group).live |= bit;
                }
            }
        }
    }
    0
}

/// The member's own device still exists.
const KNOWN: u32 = 1;
/// It and the devices below it can transmit.
const CAN_TRANSMIT: u32 = 2;
/// They are operational.
const OPERATIONAL: u32 = 4;

/// Checks a member's devices. A subprogram: the verifier would check it sixteen times otherwise.
#[inline(never)]
fn check_devices(devices: &[Device; 1 + MAX_LOWER]) -> u32 {
    let mut result = KNOWN | CAN_TRANSMIT | OPERATIONAL;
    for (place, device) in devices.iter().enumerate() {
        if device.net_device == 0 {
            break;
        }
        let Some(state) = device::state(device) else {
            return if place == 0 { 0 } else { KNOWN };
        };
        if !link_state::can_transmit(state) {
            return KNOWN;
        }
        if !device::operstate(device).is_some_and(|operstate| link_state::is_operational(state, operstate)) {
            result &= !OPERATIONAL;
        }
    }
    result
}

ipmp_ebpf::object!();
