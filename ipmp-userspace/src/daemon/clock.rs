//! The clock of the daemon.

use std::time::Duration;

use crate::core::Time;

/// `CLOCK_MONOTONIC`, the clock that `bpf_ktime_get_ns` reads.
pub fn now() -> Time {
    let since_boot = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    Time(since_boot.map(Duration::from).unwrap_or_default())
}

/// The time between two repetitions of what is done for each group, and must not cost more the more of them there are: `period`, once for each
/// `each` groups.
pub fn stretched(period: Duration, groups: usize, each: usize) -> Duration {
    period * groups.div_ceil(each).max(1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn period_is_longer_with_more_groups() {
        let seconds = |groups| stretched(Duration::from_secs(3), groups, 16).as_secs();
        assert_eq!([0, 1, 16, 17, 32, 256].map(seconds), [3, 3, 3, 6, 6, 48]);
    }
}
