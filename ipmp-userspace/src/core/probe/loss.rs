//! How many packets are lost on the path of a member, and whether that is far more than on others.
//!
//! Losses are counted over [`WINDOWS`], each of which is a ring of buckets: memory does not grow with time, and all members have the
//! same buckets. A share is an estimate, so its bounds decide, those of Wilson's score interval (E. B. Wilson, "Probable Inference,
//! the Law of Succession, and Statistical Inference", JASA 22, 1927), which hold for few packets and for shares near zero, too.
//!
//! Members are compared target by target and bucket by bucket: a target that replies seldom, or an outage behind all members,
//! shows nothing about one of them. The others' share is the one they would have had with the packets of the member (direct
//! standardisation), and its size follows from the packets that they sent (L. Kish, "Survey Sampling", 1965).
//!
//! What counts are probes, and segments of TCP ([`super::segments`]), each compared with its like.
//!
//! A member is degraded once the lower bound of its share exceeds the permitted one and the upper bound of the others. What ends
//! that is a CUSUM (E. S. Page, "Continuous Inspection Schemes", Biometrika 41, 1954): it adds up how much better each result fits a
//! path that loses a tenth of that. So a member that loses 30 % returns after about fifty replies, and one that loses 1 % after
//! about two thousand.

use std::time::Duration;

use crate::{core::Time, types::LossEvidence};

/// The times over which losses are counted.
pub const WINDOWS: [Duration; 3] =
    [Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(3600)];
/// Buckets of a window.
const BUCKETS: u64 = 10;
/// Members are judged this often: when the shortest buckets end.
const PERIOD: Duration = Duration::from_secs(6);
/// Standard deviations from a share to its bounds: one share of a thousand is outside. The difference of two equal shares exceeds
/// both in one of a hundred thousand comparisons or fewer.
pub const CONFIDENCE: f64 = 3.29;
/// Where all others lose packets, too, a degraded one loses so many times as many over the longest window. A target that limits its
/// replies drops those of one member more often than those of another for minutes.
const FAR: f64 = 3.0;
/// A degraded member is not worse than the others any more once these lose this share of what it loses.
const SHARED: f64 = 0.5;
/// Score at which a degraded member is in order again: the results fit that a thousand times better.
const SCORE: f64 = 6.9;
/// Each time that it is degraded again within this time, it needs twice the score of the time before.
const RELAPSE: Duration = Duration::from_secs(3600);
/// The highest score that is needed.
const MOST: f64 = 16.0 * SCORE;

/// Packets, and how many of them were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    /// Packets sent.
    pub sent: f64,
    /// Packets lost.
    pub lost: f64,
}

impl Count {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
    }

    /// The bounds of the share that is lost, `z` standard deviations away from it (Wilson).
    pub fn bounds(self, z: f64) -> (f64, f64) {
        if self.sent <= 0.0 {
            return (0.0, 1.0);
        }
        let (size, share) = (self.sent, self.share());
        let centre = share + z * z / (2.0 * size);
        let margin = z * (share * (1.0 - share) / size + (z / (2.0 * size)).powi(2)).sqrt();
        let scale = 1.0 + z * z / size;
        (((centre - margin) / scale).max(0.0), ((centre + margin) / scale).min(1.0))
    }

    /// The same share of so many times fewer packets.
    #[must_use]
    pub fn by_fewer(self, times: f64) -> Self {
        Self { sent: self.sent / times, lost: self.lost / times }
    }

    /// The share that is lost.
    pub fn share(self) -> f64 {
        if self.sent > 0.0 { (self.lost / self.sent).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// What a member lost, and what others lost at the same times towards the same targets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Comparison {
    own: Count,
    /// What the member would have lost with the shares of the others.
    expected: f64,
    /// Square of the packets sent, by those that the others sent.
    spread: f64,
}

impl Comparison {
    /// Adds what was sent to one target at one time.
    pub fn add(&mut self, own: Count, others: Count) {
        self.add_part(own, own, others);
    }

    /// Adds a part of what was sent to one target at one time; the parts together are `whole`.
    pub fn add_part(&mut self, part: Count, whole: Count, others: Count) {
        if part.sent > 0.0 && others.sent > 0.0 {
            self.own.add(part);
            self.expected += part.sent * others.share();
            self.spread += part.sent * whole.sent / others.sent;
        }
    }

    /// Adds another comparison.
    pub fn merge(&mut self, other: Self) {
        self.own.add(other.own);
        self.expected += other.expected;
        self.spread += other.spread;
    }

    /// The same shares, by so many times fewer packets of the member and of the others.
    #[must_use]
    pub fn by_fewer(self, own: f64, others: f64) -> Self {
        Self {
            own: self.own.by_fewer(own),
            expected: self.expected / own,
            spread: self.spread * others / (own * own),
        }
    }

    /// What the member lost.
    pub fn own(&self) -> Count {
        self.own
    }

    /// What the others lost.
    pub fn others(&self) -> Count {
        let sent = if self.spread > 0.0 { self.own.sent * self.own.sent / self.spread } else { 0.0 };
        Count { sent, lost: if self.own.sent > 0.0 { sent * self.expected / self.own.sent } else { 0.0 } }
    }

    /// Whether the member loses more than `limit` and more than the others, as sure as [`CONFIDENCE`] makes it.
    fn is_worse(&self, limit: f64) -> bool {
        let (least, _) = self.own.bounds(CONFIDENCE);
        let (_, most) = self.others().bounds(CONFIDENCE);
        least > limit && least > most
    }
}

/// The comparison of a member with others over a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// What was compared.
    pub of: LossEvidence,
    /// Over which time.
    pub window: Duration,
    /// The comparison.
    pub with: Comparison,
    /// The lower bound of the share that the best of the others loses.
    pub best: f64,
}

/// Values by time, over each of [`WINDOWS`].
#[derive(Clone, Debug)]
pub struct Windows<T>([[(u64, T); BUCKETS as usize]; WINDOWS.len()]);

impl<T: Copy + Default> Default for Windows<T> {
    fn default() -> Self {
        Self([[(0, T::default()); BUCKETS as usize]; WINDOWS.len()])
    }
}

impl<T: Copy + Default> Windows<T> {
    /// Changes the values of this time.
    pub fn update(&mut self, now: Time, change: impl Fn(&mut T)) {
        for (window, ring) in WINDOWS.into_iter().zip(&mut self.0) {
            let number = bucket(now, window);
            let (of, value) = &mut ring[(number % BUCKETS) as usize];
            if *of != number {
                (*of, *value) = (number, T::default());
            }
            change(value);
        }
    }

    /// The values of a window, with the numbers of their buckets.
    pub fn values(&self, now: Time, window: usize) -> impl Iterator<Item = (u64, T)> {
        let newest = bucket(now, WINDOWS[window]);
        let is_recent =
            move |(number, _): &&(u64, T)| newest.checked_sub(*number).is_some_and(|age| age < BUCKETS);
        self.0[window].iter().filter(is_recent).copied()
    }

    /// The value of a bucket, if there is one.
    pub fn value(&self, window: usize, number: u64) -> Option<T> {
        let (of, value) = self.0[window][(number % BUCKETS) as usize];
        (of == number).then_some(value)
    }
}

/// The number of the bucket of this time.
fn bucket(now: Time, window: Duration) -> u64 {
    now.0.as_secs() / (window.as_secs() / BUCKETS)
}

/// The number of the period in which members are judged once.
pub fn period(now: Time) -> u64 {
    now.0.as_secs() / PERIOD.as_secs()
}

/// Whether a member is degraded, and how far it is from the end of that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    degraded: Option<Degradation>,
    /// When it ended last, and the score that it needed.
    ended: Option<(Time, f64)>,
}

/// A member loses far more than others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Degradation {
    /// The comparison that shows it best.
    pub by: Compared,
    /// The share that it loses at least.
    pub level: f64,
    /// Whether it loses probes.
    by_probes: bool,
    score: f64,
    needed: f64,
}

/// A change of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is as before.
    None,
    /// The member is degraded.
    Begun,
    /// It is in order again: what was counted before must be forgotten.
    Ended,
}

impl Verdict {
    /// What is known while the member is degraded.
    pub fn degraded(&self) -> Option<&Degradation> {
        self.degraded.as_ref()
    }

    /// Results of a degraded member. Segments that arrive do not show that replies to its probes do, too: those have the other direction.
    pub fn count(&mut self, of: LossEvidence, count: Count) {
        let Some(degraded) = &mut self.degraded else { return };
        if of == LossEvidence::Segments && degraded.by_probes {
            return;
        }
        let (bad, good) = (degraded.level, degraded.level / 10.0);
        let received = count.sent - count.lost;
        let step = received * ((1.0 - good) / (1.0 - bad)).ln() + count.lost * (good / bad).ln();
        degraded.score = (degraded.score + step).max(0.0);
    }

    /// Judges a member by its comparisons with others. Without any, it stays as it is.
    pub fn judge(&mut self, now: Time, limit: f64, compared: &[Compared]) -> Change {
        let least = |compared: &Compared| compared.with.own.bounds(CONFIDENCE).0;
        let shared = |of: LossEvidence| {
            compared.iter().filter(|other| other.of == of).map(|other| other.best).fold(0.0, f64::max)
        };
        let is_far = |of: &&Compared| {
            let shared = shared(of.of);
            shared <= limit || (of.window == WINDOWS[WINDOWS.len() - 1] && least(of) > FAR * shared)
        };
        let worse = compared.iter().filter(|compared| compared.with.is_worse(limit)).filter(is_far);
        let by_probes = worse.clone().any(|compared| compared.of == LossEvidence::Probes);
        let by = worse.max_by(|a, b| least(a).total_cmp(&least(b))).copied();
        let Some(degraded) = &mut self.degraded else {
            let Some(by) = by else { return Change::None };
            let before = self.ended.filter(|(ended, _)| now - *ended < RELAPSE);
            let needed = before.map_or(SCORE, |(_, needed)| (2.0 * needed).min(MOST));
            // A share of 1 has no logarithm.
            self.degraded =
                Some(Degradation { by, level: least(&by).min(0.99), by_probes, score: 0.0, needed });
            return Change::Begun;
        };
        if let Some(by) = by {
            degraded.level = degraded.level.max(least(&by)).min(0.99);
            degraded.by = by;
            degraded.by_probes |= by_probes;
        }
        if degraded.score >= degraded.needed || shared(degraded.by.of) > SHARED * degraded.level {
            self.ended = Some((now, degraded.needed));
            self.degraded = None;
            return Change::Ended;
        }
        Change::None
    }

    /// The member is not judged any more.
    pub fn end(&mut self) {
        self.degraded = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(sent: u32, lost: u32) -> Count {
        Count { sent: sent.into(), lost: lost.into() }
    }

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(360_000 + seconds))
    }

    /// Against the figures of R: `binom::binom.wilson(x, n, conf.level = 0.95)`, and the closed forms for none and all.
    #[test]
    fn bounds_are_those_of_the_score_interval() {
        let z = 1.959_963_985;
        for (lost, sent, least, most) in [
            (1, 10, 0.017_876, 0.404_150),
            (50, 100, 0.403_832, 0.596_168),
            (0, 20, 0.0, z * z / (20.0 + z * z)),
            (20, 20, 20.0 / (20.0 + z * z), 1.0),
        ] {
            let (from, to) = count(sent, lost).bounds(z);
            assert!((from - least).abs() < 1e-5 && (to - most).abs() < 1e-5, "{lost} of {sent}: {from} {to}");
        }
        assert_eq!(count(0, 0).bounds(z), (0.0, 1.0));
    }

    #[test]
    fn values_are_forgotten_after_their_window() {
        let mut windows = Windows::<Count>::default();
        windows.update(at(0), |value| value.add(count(3, 1)));
        windows.update(at(7), |value| value.add(count(2, 0)));
        let sum = |now: u64, window: usize| {
            let mut sum = Count::default();
            windows.values(at(now), window).for_each(|(_, value)| sum.add(value));
            (sum.sent, sum.lost)
        };
        assert_eq!([0, 1, 2].map(|window| sum(59, window)), [(5.0, 1.0); 3]);
        assert_eq!([60, 66].map(|now| sum(now, 0)), [(2.0, 0.0), (0.0, 0.0)]);
        assert_eq!([66, 600].map(|now| sum(now, 1)), [(5.0, 1.0), (0.0, 0.0)]);
        assert_eq!([3599, 3600].map(|now| sum(now, 2)), [(5.0, 1.0), (0.0, 0.0)]);
        let number = bucket(at(7), WINDOWS[0]);
        assert_eq!(windows.value(0, number), Some(count(2, 0)));
        assert_eq!(windows.value(0, number + BUCKETS), None, "the same place in the ring");
    }

    /// One target loses half of the packets of all members, and has more of the packets of one member.
    #[test]
    fn others_are_weighed_by_the_packets_of_the_member() {
        let mut comparison = Comparison::default();
        comparison.add(count(100, 50), count(10, 5));
        comparison.add(count(10, 0), count(100, 0));
        comparison.add(count(1000, 1000), count(0, 0));
        assert_eq!(comparison.own(), count(110, 50), "without what no other member sent to");
        let others = comparison.others();
        assert!((others.share() - 50.0 / 110.0).abs() < 1e-9, "{others:?}");
        assert!((11.0..13.0).contains(&others.sent), "few packets decide: {others:?}");
    }

    fn compared(sent: u32, lost: u32, others: u32) -> [Compared; 1] {
        let mut with = Comparison::default();
        with.add(count(sent, lost), count(2 * sent, others));
        let best = with.others().bounds(CONFIDENCE).0;
        [Compared { of: LossEvidence::Probes, window: WINDOWS[0], with, best }]
    }

    fn degraded() -> Verdict {
        let mut verdict = Verdict::default();
        assert_eq!(verdict.judge(at(0), 0.01, &compared(100, 30, 0)), Change::Begun);
        verdict
    }

    #[test]
    fn loss_of_all_members_and_loss_within_the_limit_degrade_none() {
        let mut verdict = Verdict::default();
        for (limit, of) in [
            (0.01, compared(100, 30, 60)),
            (0.01, compared(100, 3, 0)),
            (0.3, compared(100, 30, 0)),
            (0.01, compared(5, 5, 0)),
        ] {
            assert_eq!(verdict.judge(at(0), limit, &of), Change::None, "{of:?}");
        }
        assert_eq!(verdict.judge(at(0), 0.01, &[]), Change::None);
    }

    #[test]
    fn replies_end_it_and_a_relapse_needs_twice_as_many() {
        let mut verdict = degraded();
        let mut needed = Vec::new();
        for round in 0..3 {
            let mut replies = 0u32;
            while verdict.judge(at(round), 0.01, &compared(100, 30, 0)) == Change::None {
                verdict.count(LossEvidence::Probes, count(1, 0));
                replies += 1;
                assert!(replies < 1000);
            }
            needed.push(replies);
            assert_eq!(verdict.judge(at(round), 0.01, &compared(100, 30, 0)), Change::Begun);
        }
        assert!((30..60).contains(&needed[0]), "{needed:?}");
        assert!(needed.windows(2).all(|two| two[1].abs_diff(2 * two[0]) <= 1), "{needed:?}");
    }

    #[test]
    fn losses_keep_it_and_so_does_lack_of_comparisons() {
        let mut verdict = degraded();
        for _ in 0..1000 {
            verdict.count(LossEvidence::Probes, count(10, 3));
            assert_eq!(verdict.judge(at(6), 0.01, &compared(100, 30, 0)), Change::None);
            assert_eq!(verdict.judge(at(6), 0.01, &[]), Change::None);
        }
        assert_eq!(verdict.judge(at(6), 0.01, &compared(100, 30, 60)), Change::Ended, "all lose as much");
    }
}
