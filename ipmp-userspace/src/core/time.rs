//! The clock.

use std::time::Duration;

/// `CLOCK_MONOTONIC` since boot: the only clock, the same that `bpf_ktime_get_ns` reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

impl Time {
    /// The next multiple of a period: what is done once in a period, by however many groups, is due at the same time.
    #[must_use]
    pub fn next_multiple(self, period: Duration) -> Self {
        let passed = Duration::from_nanos((self.0.as_nanos() % period.as_nanos()) as u64);
        Self(self.0 + (period - passed))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_multiple_is_later_by_a_period_at_most() {
        let next = |ms| Time(Duration::from_millis(ms)).next_multiple(Duration::from_secs(3)).0.as_millis();
        assert_eq!([0, 1, 2999, 3000, 3001].map(next), [3000, 3000, 3000, 6000, 6000]);
    }
}
