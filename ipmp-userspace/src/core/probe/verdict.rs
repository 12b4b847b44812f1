//! Whether lost probes are the member's own failure.
//!
//! The reference fails a member when five probes in a row are lost, and fails the whole group when no other member
//! received replies meanwhile (docs/reference.md 2.5): a router that reboots takes every group down that probes it alone.
//! Here a row of losses counts against a member only if *another* one in service received replies, in the same family,
//! while the row lasted. Otherwise the target is unreachable, or the whole network is, and the members are judged by their
//! links until one receives a reply.
//!
//! A loss is *contradicted* if the same target has answered a probe of another member that was sent less than an interval
//! before or after; or, if that member does not probe this target, if any of its own has answered. [`CONTRADICTED`] of the
//! five must be. All are if one member alone is silent, since all probe the same target in the same interval. One or two
//! are if both failed by the same event, or if the target has just come back and one member was the first to probe it.
//!
//! ```text
//!   member        1 ✗     2 ✗     3 ✗     4 ✗     5 ✗
//!   another   ✓       ✓       ✓       ✓       ✓          its own failure
//!   another   ✓       ✗       ✗       ✗       ✗          failed together: 1 contradicted
//!   another   ✗       ✗       ✗       ✗       ✗       ✓  the target is back: 5 contradicted
//! ```

use std::time::Duration;

use super::{
    history::{History, Losing},
    targets::Targets,
};

/// How many losses of the five must be contradicted.
pub const CONTRADICTED: usize = 3;

/// Whether a row of losses is the member's own failure: others received replies meanwhile.
pub fn is_own<'a>(
    losing: &Losing,
    interval: Duration,
    others: impl Iterator<Item = (&'a History, &'a Targets)> + Clone,
) -> bool {
    let contradicted = losing.iter().filter(|loss| {
        others.clone().any(|(history, targets)| {
            let target = targets.probes(loss.target).then_some(loss.target);
            history.answered_around(loss.sent, interval, target)
        })
    });
    contradicted.count() >= CONTRADICTED
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{
        core::{Time, probe::Proof},
        types::TargetMode,
    };

    const INTERVAL: Duration = Duration::from_millis(20);

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(100_000 + ms))
    }

    fn target(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn targets(lasts: &[u8]) -> Targets {
        let mut targets = Targets::default();
        targets.set(at(0), TargetMode::Routes, &lasts.iter().copied().map(target).collect::<Vec<_>>());
        targets
    }

    /// A member that probes one of these targets every 20 ms from `phase` on, and receives replies while `answered` is true.
    fn history(lasts: &[u8], phase: u64, rounds: u64, answered: impl Fn(u64, u8) -> bool) -> History {
        let mut history = History::default();
        for (sent, &last) in (0..rounds).map(|round| phase + 20 * round).zip(lasts.iter().cycle()) {
            let sequence = history.want(target(last), at(sent), at(sent + 20));
            history.sent(sequence, Some(7), at(sent), Duration::from_millis(2));
            if answered(sent, last) {
                history.answer(target(last), Proof::Echo { sequence, cookie: 7 }, at(sent + 1));
            }
            history.judge(at(sent + 2), Duration::from_millis(5));
        }
        history
    }

    fn own(mine: &History, lasts: &[u8], others: &[&History]) -> bool {
        let targets = targets(lasts);
        let losing = mine.losing().expect("five losses");
        is_own(&losing, INTERVAL, others.iter().map(|other| (*other, &targets)))
    }

    #[test]
    fn member_silent_alone_fails_at_its_fifth_loss_for_all_phases() {
        for lasts in [&[1][..], &[1, 2], &[1, 2, 3, 4, 5]] {
            for phase in 0..20u64 {
                for other in 0..20 {
                    // Until just after the fifth loss.
                    let rounds = (phase + 82 - other).div_ceil(20_u64);
                    let silent = history(lasts, phase, 5, |_, _| false);
                    let good = history(lasts, other, rounds, |_, _| true);
                    assert!(own(&silent, lasts, &[&good]), "{lasts:?} {phase} {other}");
                    let unlucky = history(lasts, other, rounds, |sent, _| sent / 20 != 2);
                    let dead = history(lasts, 0, 5, |_, _| false);
                    assert!(own(&silent, lasts, &[&dead, &unlucky]), "{lasts:?} {phase} {other}");
                }
            }
        }
    }

    #[test]
    fn members_silent_together_do_not_fail_for_all_phases() {
        for lasts in [&[1][..], &[1, 2], &[1, 2, 3, 4, 5]] {
            for phase in (0..20).step_by(3) {
                for other in 0..20 {
                    for end in 100..140 {
                        let mine = history(lasts, phase, 15, |sent, _| sent + 1 < end);
                        let theirs = history(lasts, other, 15, |sent, _| sent + 1 < end);
                        assert!(!own(&mine, lasts, &[&theirs]), "{lasts:?} {phase} {other} {end}");
                    }
                }
            }
        }
    }

    #[test]
    fn targets_that_come_back_fail_no_member() {
        for lasts in [&[1][..], &[1, 2], &[1, 2, 3, 4, 5]] {
            for back in lasts.iter().map(|last| *last..=*last).chain([1..=9]) {
                for (phase, other) in
                    (0..20).step_by(4).flat_map(|phase| (0..20).step_by(3).map(move |other| (phase, other)))
                {
                    for moment in (200..300).step_by(7) {
                        // As long as the one has not been answered again, whatever the other has seen.
                        let answers = |sent, last| sent >= moment && back.contains(&last);
                        let theirs = history(lasts, other, 25, answers);
                        for rounds in 5..25 {
                            let mine = history(lasts, phase, rounds, answers);
                            if mine.losing().is_some() {
                                assert!(
                                    !own(&mine, lasts, &[&theirs]),
                                    "{lasts:?} {back:?} {phase} {other} {moment}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn member_with_own_targets_is_compared_by_time_alone() {
        let silent = history(&[1], 0, 5, |_, _| false);
        let good = history(&[2], 10, 5, |_, _| true);
        assert!(own(&silent, &[2], &[&good]));
        assert!(!own(&silent, &[1, 2], &[&good]), "it probes that target, too, and has not asked it");
    }

    #[test]
    fn no_other_member_is_no_evidence() {
        assert!(!own(&history(&[1], 0, 5, |_, _| false), &[1], &[]));
    }
}
