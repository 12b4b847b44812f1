//! The last probes of one member in one family: their outcomes, and which replies are genuine.
//!
//! | probe | sent | not sent | answered | judged at its deadline | judged late |
//! |---|---|---|---|---|---|
//! | wanted | **pending** | **unsent** | forged | **unsent** | **unsent** |
//! | pending | – | – | **answered** | **lost** | **void** |
//! | lost | – | – | **answered** | – | – |
//! | void | – | – | **answered** | – | – |
//! | answered | – | – | duplicate | – | – |
//! | unsent | – | – | forged | – | – |
//!
//! A reply after its deadline is still a reply: it revokes the loss, unless a decision was based on it, and shows that the
//! target takes longer (docs/reference.md 3.4). Void, unsent and undecided probes do not count: they neither end a row of
//! losses or replies nor belong to it.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use super::{FAILURES, Proof};
use crate::{core::Time, types::ProbeOutcome};

/// Number of probes in the history (docs/reference.md 0.4, `PROBE_STATS_COUNT`).
pub const LENGTH: usize = 52;

/// Progress of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeProgress {
    /// Requested from the caller.
    Wanted,
    /// Sent, and may be answered in time.
    Pending,
    /// Answered, with this round-trip time.
    Answered(Duration),
    /// Not answered in time.
    Lost,
    /// The daemon was delayed and cannot tell whether it was answered in time.
    Discarded,
    /// It could not be sent.
    Unsent,
}

impl ProbeProgress {
    /// The result, once there is one.
    pub fn outcome(self) -> Option<ProbeOutcome> {
        match self {
            Self::Wanted | Self::Pending => None,
            Self::Answered(_) => Some(ProbeOutcome::Answered),
            Self::Lost => Some(ProbeOutcome::Lost),
            Self::Discarded => Some(ProbeOutcome::Discarded),
            Self::Unsent => Some(ProbeOutcome::Unsent),
        }
    }

    /// The round-trip time, if the probe was answered.
    pub fn rtt(self) -> Option<Duration> {
        if let Self::Answered(rtt) = self { Some(rtt) } else { None }
    }
}

/// A probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Number: starts with 1, 0 follows 65535.
    pub sequence: u16,
    /// Target of the probe.
    pub target: IpAddr,
    /// When it was sent, or requested.
    pub sent: Time,
    /// When it is lost unless answered.
    pub deadline: Time,
    /// What an echo reply must contain.
    pub cookie: u64,
    /// Progress.
    pub fate: ProbeProgress,
}

/// Classification of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It answers a probe.
    Genuine {
        /// The probe's number.
        sequence: u16,
        /// Round-trip time.
        rtt: Duration,
        /// Whether no later probe of the same target was answered before: only then it shows the current round-trip
        /// time.
        newest: bool,
    },
    /// The probe was answered before.
    Duplicate,
    /// It matches no probe.
    Forged,
}

/// Number of probes decided at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Judged {
    /// Lost.
    pub lost: u32,
    /// Void, because they were judged late.
    pub void: u32,
    /// Never sent.
    pub unsent: u32,
}

/// A probe that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// Target of the probe.
    pub target: IpAddr,
    /// When it was sent.
    pub sent: Time,
}

/// The consecutive losses of a failure, newest first.
pub type Losing = [Loss; FAILURES as usize];

/// The last probes, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    probes: VecDeque<Probe>,
    sequence: u16,
}

impl History {
    /// The probes, oldest first.
    pub fn probes(&self) -> impl DoubleEndedIterator<Item = &Probe> {
        self.probes.iter()
    }

    /// Deletes all probes. Numbers continue.
    pub fn clear(&mut self) {
        self.probes.clear();
    }

    /// Requests a probe; its number. The caller has until `deadline` to report it sent.
    pub fn want(&mut self, target: IpAddr, now: Time, deadline: Time) -> u16 {
        self.sequence = self.sequence.wrapping_add(1);
        if self.probes.len() == LENGTH {
            self.probes.pop_front();
        }
        let sequence = self.sequence;
        self.probes.push_back(Probe {
            sequence,
            target,
            sent: now,
            deadline,
            cookie: 0,
            fate: ProbeProgress::Wanted,
        });
        sequence
    }

    /// The caller has sent a probe with this cookie, or failed to. It is lost if not answered within `patience`.
    pub fn sent(&mut self, sequence: u16, cookie: Option<u64>, now: Time, patience: Duration) {
        let Some(probe) = self.probe_mut(sequence).filter(|probe| probe.fate == ProbeProgress::Wanted) else {
            return;
        };
        match cookie {
            Some(cookie) => {
                *probe = Probe {
                    sent: now,
                    deadline: now + patience,
                    cookie,
                    fate: ProbeProgress::Pending,
                    ..*probe
                };
            }
            None => probe.fate = ProbeProgress::Unsent,
        }
    }

    /// The target of a probe.
    pub fn target_of(&self, sequence: u16) -> Option<IpAddr> {
        self.probe(sequence).map(|probe| probe.target)
    }

    /// The probe with this number, if it is in the history.
    pub fn probe(&self, sequence: u16) -> Option<&Probe> {
        self.probes.iter().find(|probe| probe.sequence == sequence)
    }

    /// Handles a possible reply from `target`, received at `at`.
    ///
    /// An ARP reply does not identify its request: it counts for the newest probe of its sender.
    pub fn answer(&mut self, target: IpAddr, proof: Proof, at: Time) -> Answer {
        let was_sent = |probe: &Probe| !matches!(probe.fate, ProbeProgress::Wanted | ProbeProgress::Unsent);
        let found = match proof {
            Proof::Echo { sequence, cookie } => self.probes.iter().position(|probe| {
                (probe.sequence, probe.target, probe.cookie) == (sequence, target, cookie) && was_sent(probe)
            }),
            Proof::Mac(_) => self
                .probes
                .iter()
                .rposition(|probe| probe.target == target && was_sent(probe) && probe.sent <= at),
        };
        let Some(found) = found else { return Answer::Forged };
        let answered = |probe: &Probe| matches!(probe.fate, ProbeProgress::Answered(_));
        let newest = !self.probes.range(found + 1..).any(|later| later.target == target && answered(later));
        let probe = &mut self.probes[found];
        if answered(probe) {
            return Answer::Duplicate;
        }
        let rtt = at - probe.sent;
        probe.fate = ProbeProgress::Answered(rtt);
        Answer::Genuine { sequence: probe.sequence, rtt, newest }
    }

    /// Decides the probes whose deadlines have passed. All replies received by now have been handled. A probe judged more
    /// than `slack` after its deadline is void: what delayed the daemon may have delayed the reply.
    pub fn judge(&mut self, now: Time, slack: Duration) -> Judged {
        let mut judged = Judged::default();
        for probe in self.probes.iter_mut().filter(|probe| probe.deadline <= now) {
            match probe.fate {
                ProbeProgress::Wanted => {
                    probe.fate = ProbeProgress::Unsent;
                    judged.unsent += 1;
                }
                ProbeProgress::Pending if now - probe.deadline > slack => {
                    probe.fate = ProbeProgress::Discarded;
                    judged.void += 1;
                }
                ProbeProgress::Pending => {
                    probe.fate = ProbeProgress::Lost;
                    judged.lost += 1;
                }
                _ => {}
            }
        }
        judged
    }

    /// When the next probe must be judged.
    pub fn deadline(&self) -> Option<Time> {
        let undecided = |probe: &&Probe| matches!(probe.fate, ProbeProgress::Wanted | ProbeProgress::Pending);
        self.probes.iter().filter(undecided).map(|probe| probe.deadline).min()
    }

    /// Consecutive losses by now.
    pub fn losses(&self) -> u32 {
        self.row(|_| true, false)
    }

    /// Consecutive losses of this target by now.
    pub fn losses_of(&self, target: IpAddr) -> u32 {
        self.row(|probe| probe.target == target, false)
    }

    /// Consecutive losses of this target among the probes sent since then.
    pub fn losses_since(&self, target: IpAddr, since: Time) -> u32 {
        self.row(|probe| probe.target == target && probe.sent >= since, false)
    }

    /// Consecutive replies by now.
    pub fn answers(&self) -> u32 {
        self.row(|_| true, true)
    }

    /// Consecutive replies of this target by now.
    pub fn answers_of(&self, target: IpAddr) -> u32 {
        self.row(|probe| probe.target == target, true)
    }

    /// The target of the newest probe that was decided.
    pub fn last_target(&self) -> Option<IpAddr> {
        self.decided().next().map(|probe| probe.target)
    }

    /// The newest losses, if there are enough for a failure.
    pub fn losing(&self) -> Option<Losing> {
        let mut losses = self.decided().take_while(|probe| probe.fate == ProbeProgress::Lost);
        let first = losses.next()?;
        let mut losing = [Loss { target: first.target, sent: first.sent }; FAILURES as usize];
        for loss in &mut losing[1..] {
            let probe = losses.next()?;
            *loss = Loss { target: probe.target, sent: probe.sent };
        }
        Some(losing)
    }

    /// Whether a probe sent less than `apart` before or after this moment was answered; of this target, or with `None` of
    /// any.
    pub fn answered_around(&self, moment: Time, apart: Duration, target: Option<IpAddr>) -> bool {
        self.probes.iter().any(|probe| {
            matches!(probe.fate, ProbeProgress::Answered(_))
                && target.is_none_or(|target| target == probe.target)
                && (probe.sent - moment).max(moment - probe.sent) < apart
        })
    }

    /// Whether any probe in the history was answered.
    pub fn answered(&self) -> bool {
        self.probes.iter().any(|probe| matches!(probe.fate, ProbeProgress::Answered(_)))
    }

    /// Decided probes, newest first.
    fn decided(&self) -> impl Iterator<Item = &Probe> {
        self.probes
            .iter()
            .rev()
            .filter(|probe| matches!(probe.fate, ProbeProgress::Answered(_) | ProbeProgress::Lost))
    }

    fn row(&self, of: impl Fn(&Probe) -> bool, answered: bool) -> u32 {
        let row = self.decided().filter(|probe| of(probe));
        row.take_while(|probe| matches!(probe.fate, ProbeProgress::Answered(_)) == answered).count() as u32
    }

    fn probe_mut(&mut self, sequence: u16) -> Option<&mut Probe> {
        self.probes.iter_mut().find(|probe| probe.sequence == sequence)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);
    const SLACK: Duration = Duration::from_millis(50);

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(100_000 + ms))
    }

    fn router(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 178, last])
    }

    fn echo(sequence: u16) -> Proof {
        Proof::Echo { sequence, cookie: u64::from(sequence) << 32 }
    }

    /// A history with a probe to each of these targets, one every 200 ms, answered or not.
    fn history(probes: &[(u8, bool)]) -> History {
        let mut history = History::default();
        for (step, &(target, answered)) in (0..).zip(probes) {
            let now = at(200 * step);
            let sequence = history.want(router(target), now, now + PATIENCE);
            history.sent(sequence, Some(u64::from(sequence) << 32), now, PATIENCE);
            if answered {
                history.answer(router(target), echo(sequence), now + Duration::from_millis(1));
            }
            history.judge(now + PATIENCE, SLACK);
        }
        history
    }

    /// The table of the module's documentation.
    #[test]
    fn every_outcome_and_event_matches_the_table() {
        use Answer::{Duplicate, Forged};
        let genuine = |ms| Answer::Genuine { sequence: 1, rtt: Duration::from_millis(ms), newest: true };
        let probe = |fate| Probe {
            sequence: 1,
            target: router(1),
            sent: at(0),
            deadline: at(100),
            cookie: 1 << 32,
            fate,
        };
        let answered = |ms| ProbeProgress::Answered(Duration::from_millis(ms));
        // ProbeProgress; the results of sent, not sent, a reply at 200 ms, judged at 150 ms and judged at 151 ms.
        let table = [
            (
                ProbeProgress::Wanted,
                [
                    ProbeProgress::Pending,
                    ProbeProgress::Unsent,
                    ProbeProgress::Wanted,
                    ProbeProgress::Unsent,
                    ProbeProgress::Unsent,
                ],
                Forged,
            ),
            (
                ProbeProgress::Pending,
                [
                    ProbeProgress::Pending,
                    ProbeProgress::Pending,
                    answered(200),
                    ProbeProgress::Lost,
                    ProbeProgress::Discarded,
                ],
                genuine(200),
            ),
            (
                ProbeProgress::Lost,
                [
                    ProbeProgress::Lost,
                    ProbeProgress::Lost,
                    answered(200),
                    ProbeProgress::Lost,
                    ProbeProgress::Lost,
                ],
                genuine(200),
            ),
            (
                ProbeProgress::Discarded,
                [
                    ProbeProgress::Discarded,
                    ProbeProgress::Discarded,
                    answered(200),
                    ProbeProgress::Discarded,
                    ProbeProgress::Discarded,
                ],
                genuine(200),
            ),
            (answered(7), [answered(7); 5], Duplicate),
            (ProbeProgress::Unsent, [ProbeProgress::Unsent; 5], Forged),
        ];
        for (fate, expected, answer) in table {
            let start = History { probes: [probe(fate)].into(), sequence: 1 };
            let mut seen = Vec::new();
            let mut answers = Vec::new();
            for event in 0..5 {
                let mut history = start.clone();
                match event {
                    0 => history.sent(1, Some(1 << 32), at(0), PATIENCE),
                    1 => history.sent(1, None, at(0), PATIENCE),
                    2 => answers.push(history.answer(router(1), echo(1), at(200))),
                    3 => drop(history.judge(at(150), SLACK)),
                    _ => drop(history.judge(at(151), SLACK)),
                }
                seen.push(history.probes[0].fate);
            }
            assert_eq!((seen.as_slice(), answers.as_slice()), (&expected[..], &[answer][..]), "{fate:?}");
        }
    }

    #[test]
    fn numbers_start_with_one_and_wrap() {
        let mut history = History::default();
        assert_eq!(history.want(router(1), at(0), at(1)), 1);
        history.clear();
        assert_eq!(history.want(router(1), at(0), at(1)), 2);
        history.sequence = u16::MAX;
        assert_eq!(history.want(router(1), at(0), at(1)), 0);
    }

    #[test]
    fn forged_replies_are_detected() {
        let mut history = history(&[(1, false), (2, false)]);
        let before = history.clone();
        for (target, sequence, cookie) in [
            (1, 1, 2 << 32), // another probe's cookie
            (1, 1, 0),       // none
            (2, 1, 1 << 32), // another target
            (1, 3, 3 << 32), // a number that was not sent yet
            (9, 2, 2 << 32), // of no probe
        ] {
            let proof = Proof::Echo { sequence, cookie };
            assert_eq!(history.answer(router(target), proof, at(300)), Answer::Forged, "{target} {proof:?}");
            assert_eq!(history, before);
        }
        assert!(matches!(history.answer(router(1), echo(1), at(300)), Answer::Genuine { .. }));
        assert_eq!(history.answer(router(1), echo(1), at(301)), Answer::Duplicate);
    }

    #[test]
    fn arp_reply_counts_for_newest_probe_of_its_sender() {
        let mut history = history(&[(1, false), (2, false), (1, false)]);
        let rtt = Duration::from_millis(30);
        let reply = Proof::Mac([2; 6]);
        let answer = history.answer(router(1), reply, at(400) + rtt);
        assert_eq!(answer, Answer::Genuine { sequence: 3, rtt, newest: true });
        assert_eq!(history.answer(router(1), reply, at(431)), Answer::Duplicate);
        assert_eq!(history.answer(router(3), reply, at(431)), Answer::Forged);
        // One that had been seen before the newest was sent answers the one before.
        assert!(matches!(
            history.answer(router(1), reply, at(399)),
            Answer::Genuine { sequence: 1, newest: false, .. }
        ));
    }

    #[test]
    fn rows_are_counted_from_newest_and_by_target() {
        let history = history(&[(1, true), (2, false), (1, true), (2, false), (1, true)]);
        assert_eq!((history.losses(), history.answers()), (0, 1));
        assert_eq!((history.losses_of(router(2)), history.answers_of(router(1))), (2, 3));
        assert_eq!(history.last_target(), Some(router(1)));
        assert!(history.answered() && !History::default().answered());
    }

    #[test]
    fn void_unsent_or_undecided_probe_does_not_end_a_row() {
        let mut history =
            history(&[(1, true), (1, false), (1, false), (1, false), (1, false), (1, false), (1, false)]);
        history.probes[3].fate = ProbeProgress::Discarded;
        history.probes[5].fate = ProbeProgress::Unsent;
        history.probes[6].fate = ProbeProgress::Pending;
        assert_eq!((history.losses(), history.losing()), (3, None));
    }

    #[test]
    fn five_losses_in_a_row_are_a_failure() {
        let mut probes = vec![(1, true), (1, false), (2, false), (1, false), (2, false)];
        assert_eq!(history(&probes).losing(), None);
        probes.push((1, false));
        let losing = history(&probes).losing().unwrap();
        assert_eq!(losing.map(|loss| loss.sent), [1000, 800, 600, 400, 200].map(at));
        assert_eq!(losing.map(|loss| loss.target), [1, 2, 1, 2, 1].map(router));
        probes.push((1, false));
        assert_eq!(history(&probes).losing().unwrap()[0].sent, at(1200), "the newest five");
    }

    #[test]
    fn answered_around_finds_by_time_and_target() {
        let history = history(&[(1, true), (1, false), (2, true)]);
        let apart = Duration::from_millis(200);
        for (moment, target, found) in [
            (0, None, true),
            (199, Some(1), true),
            (200, None, false),
            (201, Some(2), true),
            (201, Some(1), false),
            (599, None, true),
            (600, None, false),
        ] {
            assert_eq!(
                history.answered_around(at(moment), apart, target.map(router)),
                found,
                "{moment} {target:?}"
            );
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Probe(u8, bool),
        Answer(u16),
        Judge(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3u8, any::<bool>()).prop_map(|(target, sent)| Step::Probe(target, sent)),
            (0..70u16).prop_map(Step::Answer),
            (0..400u64).prop_map(Step::Judge),
        ]
    }

    proptest! {
        #[test]
        fn rows_and_deadlines_match_the_outcomes(steps in proptest::collection::vec(step(), 1..150)) {
            let (mut history, mut now) = (History::default(), 0);
            for step in steps {
                match step {
                    Step::Probe(target, sent) => {
                        let sequence = history.want(router(target), at(now), at(now) + PATIENCE);
                        history.sent(sequence, sent.then_some(u64::from(sequence) << 32), at(now), PATIENCE);
                    }
                    Step::Answer(sequence) => {
                        let target = history.target_of(sequence).unwrap_or(router(0));
                        let genuine = matches!(history.answer(target, echo(sequence), at(now)), Answer::Genuine { .. });
                        prop_assert!(!genuine || history.answered());
                    }
                    Step::Judge(wait) => {
                        now += wait;
                        history.judge(at(now), SLACK);
                        prop_assert!(history.deadline().is_none_or(|deadline| deadline > at(now)));
                    }
                }
                prop_assert!(history.probes.len() <= LENGTH);
                prop_assert!(history.losses() == 0 || history.answers() == 0);
                prop_assert_eq!(history.losing().is_some(), history.losses() >= FAILURES);
            }
        }
    }
}
