//! The failure detection time of a group, and how slow targets change it (docs/reference.md 3.8).
//!
//! Five probes must be lost one after another, so the probe interval is a fifth of it. A target with a longer round-trip
//! time could be lost although it replies: then the interval becomes twice that time. When every target replies within a
//! quarter of the interval again, and the time was not raised for a minute, it is halved, down to the configured value.
//! Unlike in the reference there is a maximum: beyond [`LONGEST`] users would notice a failure first.

use std::time::Duration;

use super::FAILURES;
use crate::core::Time;

/// Minimum.
pub const SHORTEST: Duration = Duration::from_millis(10);
/// Maximum to which it is raised, unless more is configured.
pub const LONGEST: Duration = Duration::from_secs(60);
/// Default.
pub const DEFAULT: Duration = Duration::from_secs(10);
/// Time after a raise in which it is not lowered.
pub const SETTLE: Duration = Duration::from_secs(60);

/// The failure detection time of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fdt {
    configured: Duration,
    current: Duration,
    raised: Option<Time>,
}

impl Fdt {
    /// With a configured value; [`SHORTEST`] if that is less.
    pub fn new(configured: Duration) -> Self {
        let configured = configured.max(SHORTEST);
        Self { configured, current: configured, raised: None }
    }

    /// Configured value.
    pub fn configured(&self) -> Duration {
        self.configured
    }

    /// Current value.
    pub fn current(&self) -> Duration {
        self.current
    }

    /// Probe interval, of each member and family.
    pub fn interval(&self) -> Duration {
        self.current / FAILURES
    }

    /// Sets the configured value. The same value again changes nothing.
    pub fn set(&mut self, configured: Duration) {
        if configured.max(SHORTEST) != self.configured {
            *self = Self::new(configured);
        }
    }

    /// Conservative round-trip time of a target; the new value, if it had to be raised.
    pub fn raise(&mut self, now: Time, conservative: Duration) -> Option<Duration> {
        if conservative <= self.interval() {
            return None;
        }
        let wanted = conservative.saturating_mul(2 * FAILURES).min(LONGEST.max(self.configured));
        if wanted <= self.current {
            return None;
        }
        self.current = wanted;
        self.raised = Some(now);
        Some(wanted)
    }

    /// Conservative round-trip time of the slowest target; the new value, if it could be lowered.
    pub fn lower(&mut self, now: Time, slowest: Duration) -> Option<Duration> {
        let settled = self.raised.is_none_or(|raised| now - raised > SETTLE);
        if self.current <= self.configured || !settled || slowest > self.interval() / 4 {
            return None;
        }
        self.current = (self.current / 2).max(self.configured);
        Some(self.current)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(1000 + seconds))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn interval_is_a_fifth() {
        assert_eq!(Fdt::new(DEFAULT).interval(), ms(2000));
        assert_eq!(Fdt::new(ms(100)).interval(), ms(20));
        assert_eq!(Fdt::new(ms(1)).interval(), ms(2), "ten milliseconds is the least");
    }

    #[test]
    fn slow_target_raises_interval_to_twice_its_rtt() {
        let mut fdt = Fdt::new(ms(100));
        assert_eq!(fdt.raise(at(0), ms(20)), None, "one interval is not too long");
        assert_eq!(fdt.raise(at(0), ms(30)), Some(ms(300)));
        assert_eq!((fdt.interval(), fdt.configured()), (ms(60), ms(100)));
        assert_eq!(fdt.raise(at(1), ms(3_600_000)), Some(LONGEST));
        assert_eq!(
            fdt.raise(at(1), ms(3_600_000)),
            None,
            "it is as long as it gets, and that is not said again"
        );
    }

    #[test]
    fn configured_value_above_maximum_is_not_limited() {
        let mut fdt = Fdt::new(ms(120_000));
        assert_eq!(fdt.raise(at(0), ms(30_000)), None);
        assert_eq!(fdt.current(), ms(120_000));
    }

    #[test]
    fn value_is_halved_a_minute_after_raise_down_to_configured() {
        let mut fdt = Fdt::new(ms(100));
        fdt.raise(at(0), ms(30));
        assert_eq!(fdt.lower(at(60), ms(1)), None, "more than a minute");
        assert_eq!(fdt.lower(at(61), ms(16)), None, "not within a quarter of 60 ms");
        assert_eq!(fdt.lower(at(61), ms(15)), Some(ms(150)));
        assert_eq!(fdt.lower(at(61), ms(1)), Some(ms(100)));
        assert_eq!(fdt.lower(at(61), ms(1)), None);
    }

    #[test]
    fn same_value_keeps_current_and_new_value_resets_it() {
        let mut fdt = Fdt::new(ms(100));
        fdt.raise(at(0), ms(30));
        fdt.set(ms(100));
        assert_eq!(fdt.current(), ms(300));
        fdt.set(ms(200));
        assert_eq!(fdt, Fdt::new(ms(200)));
    }

    proptest! {
        #[test]
        fn value_stays_between_configured_and_maximum(
            asked in 1..200_000u64, steps in proptest::collection::vec((0..100u64, any::<u32>(), any::<bool>()), 0..50),
        ) {
            let mut fdt = Fdt::new(ms(asked));
            let mut now = 0;
            for (wait, took, up) in steps {
                now += wait;
                let took = Duration::from_micros(took.into());
                if up { fdt.raise(at(now), took) } else { fdt.lower(at(now), took) };
                prop_assert!(fdt.current() >= fdt.configured());
                prop_assert!(fdt.current() <= LONGEST.max(fdt.configured()));
            }
        }
    }
}
