use proptest::prelude::*;

use super::*;
use crate::core::probe::{Proof, history::ProbeKind};

const SMALL: u32 = 48;

fn target() -> IpAddr {
    IpAddr::from([10, 0, 0, 1])
}

/// A member and a target; packets of at most `passes` bytes are answered, unless `loses` says that this one is lost.
struct Path {
    sizes: Sizes,
    history: History,
    now: Time,
    full: u32,
    passes: u32,
    /// Probes beside the rounds.
    probes: Vec<Option<u32>>,
}

impl Path {
    fn new(full: u32, passes: u32) -> Self {
        let now = Time(Duration::from_secs(1000));
        Self { sizes: Sizes::default(), history: History::default(), now, full, passes, probes: Vec::new() }
    }

    fn send(&mut self, kind: ProbeKind, size: Option<u32>, is_lost: bool) -> u16 {
        let sequence = self.history.want_of(kind, target(), self.now, self.now + STEP);
        self.history.set_size(sequence, size);
        self.history.sent(sequence, Some(9), self.now, SEARCH_PATIENCE);
        if size.is_none_or(|size| size <= self.passes) && !is_lost {
            self.history.answer(target(), Proof::Echo { sequence, cookie: 9 }, self.now + SPACING);
        }
        sequence
    }

    /// A round, and what follows in two seconds.
    fn round(&mut self, mut is_lost: impl FnMut() -> bool) {
        let interval = Duration::from_secs(2);
        let end = self.now + interval;
        let size = self.sizes.round(target(), interval, self.full);
        let sequence = self.send(ProbeKind::Round, size, is_lost());
        if let Some(size) = size {
            self.sizes.round_sent(target(), sequence, size);
        }
        while self.now < end {
            self.history.judge(self.now, interval);
            self.sizes.update(self.now, &self.history, (SMALL, self.full), &[target()], |_| true);
            let full = self.full;
            if let Some(probe) = self.sizes.next(self.now, |_| full) {
                let sequence = self.send(ProbeKind::Size, probe.size, is_lost());
                self.sizes.sent(probe, sequence);
                self.probes.push(probe.size);
            }
            self.now = self.now + Duration::from_millis(5);
        }
    }

    fn rounds(&mut self, count: u32) {
        (0..count).for_each(|_| self.round(|| false));
    }

    fn path(&self) -> PathSize {
        *self.sizes.path(target()).expect("a path")
    }
}

#[test]
fn every_round_between_is_coprime_to_numbers_of_targets() {
    for (ms, rounds) in [(2000, 7), (200, 7), (72, 7), (71, 11), (20, 29), (2, 251)] {
        assert_eq!(rounds_between(Duration::from_millis(ms)), rounds, "{ms} ms");
    }
    for ms in 1..3000 {
        let rounds = rounds_between(Duration::from_millis(ms));
        assert!((2..=5).all(|targets| !rounds.is_multiple_of(targets)), "{ms} ms: {rounds}");
        assert!(Duration::from_millis(ms) * rounds >= APART);
    }
}

#[test]
fn full_size_is_proven_by_one_probe_and_then_by_every_seventh_round() {
    let mut path = Path::new(1500, 9000);
    path.rounds(1);
    assert_eq!(path.probes, [Some(1500)], "the first test");
    path.rounds(70);
    assert_eq!(path.probes.len(), 1, "rounds are no additional probes");
    let large =
        path.history.probes().filter(|probe| probe.size == Some(1500) && !probe.is_of_search()).count();
    assert!((6..=8).contains(&large), "{large} of the last 52 rounds");
    let proven = path.path().proven.unwrap();
    assert!(path.now - proven <= Duration::from_secs(14) && path.path().lost.is_none());
}

#[test]
fn failed_path_starts_no_search() {
    let mut path = Path::new(1500, 9000);
    path.rounds(1);
    for _ in 0..100 {
        path.round(|| true);
    }
    assert_eq!((path.probes.len(), path.path().lost), (1, None));
}

#[test]
fn larger_mtu_is_tested_and_smaller_one_is_proven() {
    let mut path = Path::new(1500, 9000);
    path.rounds(10);
    path.full = 9000;
    path.rounds(2);
    assert_eq!((path.path().passes, path.path().lost), (9000, None));
    path.full = 1400;
    path.rounds(2);
    assert_eq!((path.path().passes, path.path().lost), (1400, None));
}

#[test]
fn size_that_passes_again_needs_three_replies() {
    let mut path = Path::new(1500, 1400);
    path.rounds(20);
    assert_eq!((path.path().passes, path.path().lost), (1400, Some(1401)));
    path.sizes.path_mut(target()).unwrap().hole = true;
    path.passes = 1500;
    let start = path.now;
    while path.path().lost.is_some() {
        path.rounds(1);
        assert!(path.now - start < Duration::from_secs(60), "{:?}", path.path());
    }
    assert!(path.now - start >= 2 * RETRY, "{:?}", path.now - start);
    assert_eq!(path.path().passes, 1500);
}

#[test]
fn moment_without_large_replies_is_no_limit() {
    let mut path = Path::new(1500, 9000);
    path.rounds(10);
    // The target drops large requests until the full size is lost, and no longer.
    path.passes = 100;
    while path.path().lost.is_none() {
        path.round(|| false);
        if path.sizes.search.is_some_and(|search| search.misses == MISSES - 1) {
            path.passes = 9000;
        }
        assert!(path.probes.len() < 100);
    }
    path.passes = 9000;
    path.rounds(20);
    assert_eq!((path.path().passes, path.path().lost), (1500, None), "{:?}", path.probes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn largest_size_is_found_in_bounded_time(full in 1280..9001u32, share in 0.1..0.999f64, late in any::<bool>()) {
        let passes = SMALL.max((f64::from(full) * share) as u32).min(full - 1);
        let mut path = Path::new(full, if late { full } else { passes });
        path.rounds(10);
        if late {
            prop_assert_eq!(path.path().passes, full);
        }
        path.passes = passes;
        path.rounds(7 + 8);
        prop_assert_eq!((path.path().passes, path.path().lost), (passes, Some(passes + 1)), "{:?}", path.probes);
        prop_assert!(path.probes.len() <= 100, "{:?}", path.probes);
    }

    /// With 1 % loss in each direction, for ten minutes.
    #[test]
    fn random_losses_are_no_limit(seed in any::<u64>(), full in 1280..9001u32) {
        let mut path = Path::new(full, full);
        let mut state = seed;
        for _ in 0..300 {
            path.round(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % 50 == 0
            });
        }
        prop_assert_eq!((path.path().passes, path.path().lost), (full, None), "{:?}", path.probes);
    }
}
