//! The clock.

use std::time::Duration;

/// `CLOCK_MONOTONIC` since boot: the only clock, the same that `bpf_ktime_get_ns` reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

impl std::ops::Add<Duration> for Time {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl std::ops::Sub for Time {
    type Output = Duration;
    /// Time between two moments; zero if the other is later.
    fn sub(self, other: Self) -> Duration {
        self.0.saturating_sub(other.0)
    }
}
