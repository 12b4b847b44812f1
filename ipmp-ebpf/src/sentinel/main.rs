//! The sentinel: a kernel timer that monitors the links of the members of every group, with or without a daemon.
//!
//! Only the sentinel writes `live`. A member leaves `live` at the first tick that finds it without a carrier or deleted; egress has
//! failed over before, packet by packet. It enters `live` when it has been up, present, not dormant and operational for `updelay`
//! without interruption: a NIC sets its carrier before its queues work and before the switch port forwards.
//!
//! A bit of the same word is set while there is a capture on the group interface, for egress.
//!
//! The timer re-arms itself while at least one armed member still exists: soon for a second after a change and while a member waits for its
//! `updelay`, else rarely. It ticks at once when a program requests it: [`start`] for the daemon, egress and ingress when they
//! select between members and find a live one without a carrier, and [`carrier_changed`] where the kernel attaches it. It needs no
//! process: it lives as long as the pinned map.
//! See `docs/design/sentinel.md`.
#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    btf_maps::{Array, RingBuf},
    helpers::generated::{
        bpf_ktime_get_ns, bpf_loop, bpf_timer_init, bpf_timer_set_callback, bpf_timer_start,
    },
    macros::{btf_map, classifier, fentry},
    programs::{FEntryContext, TcContext},
};
use ipmp_common::{
    maps::{
        CAPTURED, CaptureMode, ClockStart, Device, FREQUENT_NS, GoodSince, HINTS_BYTES, Hint, HintKind,
        MAX_GROUPS, MAX_LOWER, PROBE_REPLIES_BYTES, ProbeReply, Watch, link_state, pause_ns, updelay_ns,
    },
    steer::{MAX_MEMBERS, MemberSet},
};
use ipmp_ebpf::{
    clock::{Clock, request_tick},
    device,
};

const MMAPABLE: usize = aya_ebpf::bindings::BPF_F_MMAPABLE as usize;
const CLOCK_MONOTONIC: u64 = 1;
const EBUSY: i64 = 16;

/// Address of the `struct net` whose devices are monitored.
#[unsafe(no_mangle)]
static NAMESPACE: Global<u64> = Global::new(0);

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

/// Starts the timer, or adopts a running one; without groups, only makes a running one tick at once. It then ticks frequently for a while.
/// Run by BPF_PROG_TEST_RUN, never attached. Its packet is a [`ClockStart`]. Returns 0, or the number of the step that failed.
#[classifier]
pub fn start(ctx: TcContext) -> i32 {
    let Some(value) = clock.get_ptr_mut(0) else { return 1 };
    let Ok(wanted) = ctx.load::<ClockStart>(ClockStart::OFFSET) else { return 5 };
    // SAFETY: a value of the map. The verifier requires the timer and its map.
    unsafe {
        let settings = &raw mut (*value).settings;
        let timer = &raw mut (*value).timer;
        let now_ns = bpf_ktime_get_ns();
        if wanted.groups != 0 {
            (*settings).interval_ns = wanted.interval_ns;
            (*settings).idle_interval_ns = wanted.idle_interval_ns;
            if (*settings).groups < wanted.groups {
                (*settings).groups = wanted.groups;
            }
            (*settings).stop = 0;
            (*settings).last_ns = now_ns;
            (*settings).due_ns = now_ns;
            let error = bpf_timer_init(timer, &raw const clock as *mut c_void, CLOCK_MONOTONIC);
            if error != 0 && error != -EBUSY {
                return 2;
            }
            if bpf_timer_set_callback(timer, tick as *mut c_void) != 0 {
                return 3;
            }
        }
        (*settings).frequent_until_ns = now_ns + FREQUENT_NS;
        // A tick that runs now may not have read what the daemon has changed: as in `request_tick`.
        (&raw mut (*settings).requested_ns).write_volatile(now_ns);
        if bpf_timer_start(timer, 0, 0) != 0 {
            return 4;
        }
    }
    0
}

/// Requests a tick when the kernel has changed the carrier of a device (or whether it is dormant or under test), before it schedules
/// its message about that: attached to `linkwatch_fire_event`, where the kernel allows it. May run in a hard interrupt.
#[fentry(function = "linkwatch_fire_event")]
pub fn carrier_changed(ctx: FEntryContext) -> i32 {
    let net_device = ctx.arg::<*const c_void>(0) as u64;
    let device = Device { net_device, netns: NAMESPACE.load(), ifindex: 0, updelay: 0 };
    if device::is_at_home(&device)
        && let Some(value) = clock.get_ptr_mut(0)
    {
        // SAFETY: a value of the map.
        unsafe { request_tick(value) };
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
    /// Not 0: a group's live members have changed.
    changed: u64,
    /// Not 0: the links of members are up that are not live yet.
    waiting: u64,
}

extern "C" fn tick(_map: *mut c_void, _key: *mut u32, value: *mut Clock) -> i32 {
    // SAFETY: the kernel passes the value that contains the timer.
    unsafe {
        let settings = &raw mut (*value).settings;
        if (*settings).stop != 0 {
            return 0;
        }
        let mut this = Tick { now_ns: bpf_ktime_get_ns(), known: 0, checked: 0, changed: 0, waiting: 0 };
        (*settings).ticks += 1;
        (&raw mut (*settings).last_ns).write_volatile(this.now_ns);
        bpf_loop((*settings).groups, check_group as *mut c_void, (&raw mut this).cast(), 0);
        let spent_ns = bpf_ktime_get_ns() - this.now_ns;
        (*settings).spent_ns += spent_ns;
        if this.known == 0 {
            (*settings).last_ns = 0;
            return 0;
        }
        if this.changed != 0 {
            (*settings).frequent_until_ns = this.now_ns + FREQUENT_NS;
        }
        let is_frequent = this.waiting != 0 || this.now_ns < (*settings).frequent_until_ns;
        let pause = pause_ns(&*settings, this.checked, spent_ns, is_frequent);
        (*settings).due_ns = this.now_ns + pause;
        bpf_timer_start(&raw mut (*value).timer, pause, 0);
        if (&raw const (*settings).requested_ns).read_volatile() >= this.now_ns {
            bpf_timer_start(&raw mut (*value).timer, 0, 0);
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
    /// Members whose links are up and that are not live yet.
    waiting: u64,
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
        let mut group = GroupCheck {
            now_ns: (*this).now_ns,
            index,
            pad: 0,
            live: before & armed.bits,
            known: 0,
            waiting: 0,
        };
        let members = u64::BITS - armed.bits.leading_zeros();
        (*this).checked += u64::from(members);
        bpf_loop(members, check_member as *mut c_void, (&raw mut group).cast(), 0);
        (*this).known |= group.known;
        (*this).waiting |= group.waiting;
        let after = group.live;
        let captured = if is_captured(&*watched) { CAPTURED.bits } else { 0 };
        if after | captured != word {
            (&raw mut (*live_of_group).bits).write_volatile(after | captured);
        }
        if after != before {
            (*this).changed = 1;
            if let Some(mut entry) = hints.reserve(0) {
                entry.write(Hint { kind: HintKind::Live as u32, group: index, at_ns: group.now_ns });
                entry.submit(0);
            }
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
                (*group).waiting |= bit;
            } else {
                let own = (&raw const (*watched).devices[member][0].updelay).read_volatile();
                let of_group = (&raw const (*watched).updelay_ns).read_volatile();
                if (*group).now_ns - *since >= updelay_ns(own, of_group, (*group).live == 0) {
                    (*group).live |= bit;
                } else {
                    (*group).waiting |= bit;
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
