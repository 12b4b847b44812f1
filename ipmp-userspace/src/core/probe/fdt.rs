//! The failure detection time of a group, and what slow targets make of it (reference 3.8).
//!
//! Five probes must be lost one after another, so a fifth of it lies between two probes. A target that takes longer
//! than that could be lost without being dead: then the interval becomes twice what it takes. When every target
//! answers within a quarter of the interval again, and nothing was raised for a minute, the time is halved, down to
//! what was asked for. There is a limit upwards, which the reference has not: beyond [`LONGEST`] a failure would be
//! noticed by anybody but us.

use std::time::Duration;

use super::FAILURES;
use crate::core::Time;

/// The shortest that may be asked for.
pub const SHORTEST: Duration = Duration::from_millis(10);
/// The longest that it is raised to, unless more was asked for.
pub const LONGEST: Duration = Duration::from_secs(60);
/// What it is unless somebody asks for another.
pub const DEFAULT: Duration = Duration::from_secs(10);
/// How long after it was raised it is not lowered.
pub const SETTLE: Duration = Duration::from_secs(60);

/// The failure detection time of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fdt {
    configured: Duration,
    current: Duration,
    raised: Option<Time>,
}

impl Fdt {
    /// What the operator asks for; less than [`SHORTEST`] is taken as that.
    pub fn new(configured: Duration) -> Self {
        let configured = configured.max(SHORTEST);
        Self { configured, current: configured, raised: None }
    }

    /// What the operator asked for.
    pub fn configured(&self) -> Duration {
        self.configured
    }

    /// What it is now.
    pub fn current(&self) -> Duration {
        self.current
    }

    /// From one probe to the next, for each member and family.
    pub fn interval(&self) -> Duration {
        self.current / FAILURES
    }

    /// The operator asks for another. The same again changes nothing.
    pub fn set(&mut self, configured: Duration) {
        if configured.max(SHORTEST) != self.configured {
            *self = Self::new(configured);
        }
    }

    /// A target takes this long, conservatively: the new time, if it had to be raised.
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

    /// The slowest of all targets takes this long, conservatively: the new time, if it could be lowered.
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
    fn a_fifth_lies_between_two_probes() {
        assert_eq!(Fdt::new(DEFAULT).interval(), ms(2000));
        assert_eq!(Fdt::new(ms(100)).interval(), ms(20));
        assert_eq!(Fdt::new(ms(1)).interval(), ms(2), "ten milliseconds is the least");
    }

    #[test]
    fn a_slow_target_raises_it_to_twice_what_the_target_takes() {
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
    fn a_time_that_was_asked_for_is_no_more_than_that_limited() {
        let mut fdt = Fdt::new(ms(120_000));
        assert_eq!(fdt.raise(at(0), ms(30_000)), None);
        assert_eq!(fdt.current(), ms(120_000));
    }

    #[test]
    fn it_is_halved_a_minute_after_it_was_raised_and_not_below_what_was_asked_for() {
        let mut fdt = Fdt::new(ms(100));
        fdt.raise(at(0), ms(30));
        assert_eq!(fdt.lower(at(60), ms(1)), None, "more than a minute");
        assert_eq!(fdt.lower(at(61), ms(16)), None, "not within a quarter of 60 ms");
        assert_eq!(fdt.lower(at(61), ms(15)), Some(ms(150)));
        assert_eq!(fdt.lower(at(61), ms(1)), Some(ms(100)));
        assert_eq!(fdt.lower(at(61), ms(1)), None);
    }

    #[test]
    fn the_same_again_keeps_what_was_learnt_and_another_starts_anew() {
        let mut fdt = Fdt::new(ms(100));
        fdt.raise(at(0), ms(30));
        fdt.set(ms(100));
        assert_eq!(fdt.current(), ms(300));
        fdt.set(ms(200));
        assert_eq!(fdt, Fdt::new(ms(200)));
    }

    proptest! {
        #[test]
        fn it_stays_between_what_was_asked_for_and_the_limit(
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
