//! Whether lost probes are the member's own failure.
//!
//! The reference fails a member when five probes in a row are lost, and fails the whole group when no other member
//! received replies meanwhile (docs/reference.md 2.5): a router that reboots takes every group down that probes it alone.
//! Here a row of losses counts against a member only if *another* one in service received replies, in the same family,
//! while the row lasted. Otherwise the target is unreachable, or the whole network is, and the members are judged by their
//! links until one receives a reply.
//!
//! A loss is *contradicted* if the same target has answered a probe of another member that was sent less than an interval
//! before or after; or, if that member does not probe this target, if any of its own has answered. One reply contradicts
//! one loss, although two losses are nearer than an interval to it. [`CONTRADICTED`] of the five must be, by replies to the
//! same member: replies to two members at one moment show no more than one does. All are if one member alone is silent,
//! since all probe the same target in the same interval. One or two are if both failed by the same event, or if the target
//! replied for a moment, or has just come back, and one member was the first to probe it.
//!
//! A loss whose [burst](super::burst) was discarded is never contradicted: the target did not reply to another member at
//! that time.
//!
//! ```text
//!   member        1 ✗     2 ✗     3 ✗     4 ✗     5 ✗
//!   another   ✓       ✓       ✓       ✓       ✓          its own failure
//!   another   ✓       ✗       ✗       ✗       ✗          failed together: loss 1 contradicted
//!   another   ✗       ✗       ✗       ✗       ✗       ✓  the target is back: loss 5
//!   another   ✗       ✗       ✓       ✗       ✗       ✓  a reply in between: losses 2 and 5
//! ```

use std::time::Duration;

use super::{
    history::{History, Losing, Loss, ProbeKind},
    targets::Targets,
};

/// How many losses of the five must be contradicted.
pub const CONTRADICTED: usize = 3;

/// Whether a row of losses is the member's own failure: another one received replies meanwhile.
///
/// Replies in bursts do not count: several members that lose probes of a target that replies for a moment only do not all send
/// bursts, and those that do receive more replies.
pub fn is_own<'a>(
    losing: &Losing,
    interval: Duration,
    mut others: impl Iterator<Item = (&'a History, &'a Targets)>,
) -> bool {
    let replies = |(history, targets)| contradicted(losing, interval, history, targets, &[ProbeKind::Round]);
    others.any(|other| replies(other) >= CONTRADICTED)
}

/// Whether a target replies to another member while it does not reply to this one. Bursts test members, not targets: their
/// replies count, and no loss is disputed.
pub fn is_split<'a>(
    losing: &Losing,
    interval: Duration,
    mut others: impl Iterator<Item = (&'a History, &'a Targets)>,
) -> bool {
    let losing = losing.map(|loss| Loss { disputed: false, ..loss });
    let kinds = [ProbeKind::Round, ProbeKind::Burst, ProbeKind::Control];
    let replies = |(history, targets)| contradicted(&losing, interval, history, targets, &kinds);
    others.any(|other| replies(other) >= CONTRADICTED)
}

/// How many losses the replies to another member contradict.
fn contradicted(
    losing: &Losing,
    interval: Duration,
    history: &History,
    targets: &Targets,
    kinds: &[ProbeKind],
) -> usize {
    let mut used = Vec::with_capacity(losing.len());
    // Oldest first, each with the oldest reply that is left: no other choice makes more pairs.
    for loss in losing.iter().rev().filter(|loss| !loss.disputed) {
        let target = targets.probes(loss.target).then_some(loss.target);
        let mut replies = history.answered_around(loss.sent, interval, target, kinds);
        used.extend(replies.find(|sequence| !used.contains(sequence)));
    }
    used.len()
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
    fn target_that_replies_for_a_moment_between_two_outages_fails_no_member() {
        // The other members, whose phases are 10 ms later, are answered twice: once in between, and before this one when the
        // target is back. Each reply is nearer than an interval to two losses.
        let answers = |sent, _| (50..60).contains(&sent) || sent >= 90;
        let silent = history(&[1], 0, 5, |_, _| false);
        let first = history(&[1], 10, 5, answers);
        assert_eq!(first.probes().filter(|probe| probe.fate.rtt().is_some()).count(), 2);
        assert!(!own(&silent, &[1], &[&first]));
        let second = history(&[1], 12, 5, answers);
        assert!(!own(&silent, &[1], &[&first, &second]));
        // As well if the others have excluded the target, and probe another one that fails and is back with it.
        let of_others = targets(&[2]);
        let first = history(&[2], 10, 5, answers);
        let losing = silent.losing().unwrap();
        assert!(!is_own(&losing, INTERVAL, std::iter::once((&first, &of_others))));
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
