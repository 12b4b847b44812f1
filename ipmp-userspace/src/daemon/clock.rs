//! The clock of the daemon.

use std::time::Duration;

use crate::core::Time;

/// `CLOCK_MONOTONIC`, the clock that `bpf_ktime_get_ns` reads.
pub fn now() -> Time {
    let since_boot = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    Time(since_boot.map(Duration::from).unwrap_or_default())
}
