//! Round-trip times of a target: the estimator of the reference (docs/reference.md 3.7).
//!
//! Average and mean deviation are kept as TCP keeps them: the error of each sample moves the average by an eighth and
//! the deviation by a quarter. The *conservative* round-trip time is the average plus four deviations: a later reply
//! is a loss. After the first sample it is three times that sample.

use std::time::Duration;

/// The round-trip times of one target from one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rtt {
    /// Eight times the average and four times the deviation, in nanoseconds, once there was a sample.
    scaled: Option<(u64, u64)>,
    /// An outlier: it counts if the next sample is one, too.
    deferred: Option<Duration>,
}

impl Rtt {
    /// Adds a sample. One that would make the conservative time longer than a probe interval is deferred once: it counts
    /// together with the next if that one is an outlier, too, and is dropped otherwise.
    pub fn sample(&mut self, rtt: Duration, interval: Duration) {
        let after = self.with(rtt);
        if after.conservative().is_none_or(|conservative| conservative <= interval) {
            *self = after;
            return;
        }
        match self.deferred {
            None => self.deferred = Some(rtt),
            Some(first) => *self = self.with(first).with(rtt),
        }
    }

    /// Average.
    pub fn average(&self) -> Option<Duration> {
        self.scaled.map(|(average, _)| Duration::from_nanos(average / 8))
    }

    /// Mean deviation.
    pub fn deviation(&self) -> Option<Duration> {
        self.scaled.map(|(_, deviation)| Duration::from_nanos(deviation / 4))
    }

    /// Average plus four deviations. The reference cuts it to whole milliseconds; ours is exact.
    pub fn conservative(&self) -> Option<Duration> {
        self.scaled.map(|(average, deviation)| Duration::from_nanos(average / 8 + deviation))
    }

    /// With this sample, and no deferred one.
    fn with(&self, rtt: Duration) -> Self {
        // An hour is more than any sample that is taken, and leaves room for every sum below.
        let sample = rtt.min(Duration::from_secs(3600)).as_nanos() as u64;
        let scaled = match self.scaled {
            None => (8 * sample, 2 * sample),
            Some((average, deviation)) => {
                let error = sample.abs_diff(average / 8);
                let moved = if sample >= average / 8 { average + error } else { average - error };
                (moved, deviation + error - deviation / 4)
            }
        };
        Self { scaled: Some(scaled), deferred: None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn first_sample_is_tripled_and_next_ones_are_weighted() {
        let mut rtt = Rtt::default();
        assert_eq!((rtt.average(), rtt.deviation(), rtt.conservative()), (None, None, None));
        rtt.sample(ms(8), SECOND);
        assert_eq!(rtt.average(), Some(ms(8)));
        assert_eq!(rtt.deviation(), Some(ms(4)));
        assert_eq!(rtt.conservative(), Some(ms(24)));
        // Error 8 ms: 8 + 8/8 = 9, 4 + (8 - 4)/4 = 5.
        rtt.sample(ms(16), SECOND);
        assert_eq!((rtt.average(), rtt.deviation()), (Some(ms(9)), Some(ms(5))));
        assert_eq!(rtt.conservative(), Some(ms(29)));
        // Error 8 ms down: 9 - 1 = 8, 5 + (8 - 5)/4 = 5.75.
        rtt.sample(ms(1), SECOND);
        assert_eq!((rtt.average(), rtt.deviation()), (Some(ms(8)), Some(Duration::from_micros(5750))));
    }

    #[test]
    fn outlier_counts_when_next_sample_is_one() {
        let mut rtt = Rtt::default();
        rtt.sample(ms(1), ms(20));
        let before = rtt.conservative();
        rtt.sample(ms(500), ms(20));
        assert_eq!(rtt.conservative(), before, "put off");
        rtt.sample(ms(1), ms(20));
        rtt.sample(ms(500), ms(20));
        assert!(rtt.conservative() < Some(ms(20)), "the one before was forgotten");
        rtt.sample(ms(500), ms(20));
        assert!(rtt.conservative() > Some(ms(500)));
        assert_eq!(rtt.deferred, None);
    }

    proptest! {
        #[test]
        fn average_is_within_samples_without_overflow(samples in proptest::collection::vec(any::<u64>(), 1..200)) {
            let mut rtt = Rtt::default();
            let longest = Duration::MAX;
            let samples: Vec<Duration> = samples.into_iter().map(Duration::from_nanos).collect();
            for &sample in &samples {
                rtt.sample(sample, longest);
            }
            let capped = samples.iter().map(|sample| (*sample).min(Duration::from_secs(3600)));
            let average = rtt.average().unwrap();
            prop_assert!(average <= capped.clone().max().unwrap());
            // Each step of the scaled sum rounds its eighth down.
            prop_assert!(average + Duration::from_nanos(1) >= capped.min().unwrap());
            prop_assert!(rtt.conservative().unwrap() >= average);
        }
    }
}
