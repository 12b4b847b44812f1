//! The timer of the sentinel, and requests that it ticks at once.

use aya_ebpf::{
    bindings::bpf_timer,
    helpers::generated::{bpf_ktime_get_ns, bpf_timer_start},
};
use ipmp_common::maps::ClockSettings;

/// The value of the map `clock`: settings, and the timer itself.
#[repr(C)]
pub struct Clock {
    /// Settings and statistics.
    pub settings: ClockSettings,
    /// The timer.
    pub timer: bpf_timer,
}

/// Requests a tick. False: one is requested already.
///
/// A tick that runs meanwhile may have read the link before it changed, and starts the timer again for later. So it then compares
/// `requested_ns` with the time when it began, and starts the timer with 0 ns itself: the lock of the timer orders the two starts. Of two
/// requests at the same time the older one may stay: what is lost is then one request in a tick that takes microseconds.
///
/// # Safety
/// `value` must be a value of the map `clock`.
#[inline(always)]
pub unsafe fn request_tick(value: *mut Clock) -> bool {
    // SAFETY: fields of the value, which other processors write, too.
    unsafe {
        let settings = &raw mut (*value).settings;
        let last = (&raw const (*settings).last_ns).read_volatile();
        if (&raw const (*settings).requested_ns).read_volatile() > last {
            return false;
        }
        (&raw mut (*settings).requested_ns).write_volatile(bpf_ktime_get_ns());
        bpf_timer_start(&raw mut (*value).timer, 0, 0);
    }
    true
}
