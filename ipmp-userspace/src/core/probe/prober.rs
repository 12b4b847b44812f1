//! The prober of one member in one family: when it probes which target, and the results.
//!
//! ```text
//!                        round due                         sent, or not
//!   resting ──► waiting ───────────────────► probe wanted ───────────────► waiting
//!      ▲           │
//!      └───────────┘  link down, offline, or no method to probe: outstanding probes are deleted
//! ```
//!
//! Rounds are on a grid as wide as the interval, with an offset that differs by member and family. A late round does not
//! move the grid, and if the next one is then nearer than half an interval, it is skipped: rounds never bunch.
//!
//! Each round is early by chance, by an eighth of an interval at most, or by three eighths while a member loses probes: with
//! fixed offsets, a target that limits its replies would drop the probes of always the same member. Never late: five rounds
//! take the failure detection time at most.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use super::{
    FAILURES, ProbeSource, Proof, QUIET, REPAIRS, SETTLE,
    burst::{Burst, LENGTH},
    history::{Answer, History, Judged, Probe},
    size::{self, Sizes},
    targets::Targets,
};
use crate::{
    core::Time,
    types::{TargetFault, TargetMode},
};

/// Offsets in an interval: 16 members in 2 families.
pub(in crate::core) const PLACES: u32 = 32;
/// Subdivisions of each offset, for different groups.
pub(in crate::core) const SHARES: u32 = 32;

/// Control requests whose answers are awaited, at most.
const CONTROLS: usize = 4;

/// Statistics of a prober.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Probes sent.
    pub sent: u64,
    /// Probes answered, in time or not.
    pub answered: u64,
    /// Probes that were lost; a late reply does not lower it.
    pub lost: u64,
    /// Probes that do not count: judged too late, or of an unreliable target.
    pub void: u64,
    /// Probes that could not be sent.
    pub unsent: u64,
    /// Rounds that were skipped because the caller was late.
    pub missed: u64,
    /// How often that happened.
    pub occasions: u64,
    /// Replies that match no probe.
    pub forged: u64,
    /// Duplicate replies.
    pub duplicate: u64,
}

/// A request by another method beside an echo request, after several losses: its answer shows that the path is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Control {
    target: IpAddr,
    /// The probe that it was sent with.
    sequence: u16,
    sent: Time,
    answered: bool,
}

/// What a round does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// A probe with this number to this target.
    Probe {
        /// Number of the probe.
        sequence: u16,
        /// Target of the probe.
        target: IpAddr,
    },
    /// There are targets, but none can be probed now.
    Stuck,
    /// There are no targets.
    Idle,
}

/// The probing of one member in one family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prober {
    /// How it probes; `None` while its test address is awaited or not unique.
    pub(in crate::core) means: Option<ProbeSource>,
    pub(in crate::core) targets: Targets,
    pub(in crate::core) history: History,
    /// Whether it has failed and is not repaired yet.
    pub(in crate::core) failed: bool,
    pub(in crate::core) counters: Counters,
    /// Whether any probe was ever answered.
    answered: bool,
    /// When the member joined.
    joined: Time,
    /// When the next round is due; `None` while it rests.
    pub(in crate::core) next: Option<Time>,
    /// When it started discovery last.
    discovered: Option<Time>,
    /// The control requests that were sent last: a probe may be undecided when the next ones are sent.
    controls: VecDeque<Control>,
    /// The burst that follows a lost probe, while it runs.
    pub(in crate::core) burst: Option<Burst>,
    /// The lost probe that started the last burst.
    pub(in crate::core) tested: Option<u16>,
    /// A burst in this row of losses was void.
    pub(in crate::core) was_void: bool,
    /// The sizes that pass.
    pub(in crate::core) sizes: Sizes,
    /// When evidence started a burst last.
    suspected: Option<Time>,
    /// Missed rounds that were not reported yet, and when some were reported last.
    unreported: u32,
    reported_missed: Option<Time>,
}

impl Prober {
    /// The prober of a member that joined then. `failed`: it has to be repaired first.
    pub(in crate::core) fn new(joined: Time, failed: bool) -> Self {
        Self {
            means: None,
            targets: Targets::default(),
            history: History::default(),
            failed,
            counters: Counters::default(),
            answered: false,
            joined,
            next: None,
            discovered: None,
            controls: VecDeque::new(),
            burst: None,
            tested: None,
            was_void: false,
            sizes: Sizes::default(),
            suspected: None,
            unreported: 0,
            reported_missed: None,
        }
    }

    /// How it probes; `None` while its test address is awaited or not unique.
    pub fn means(&self) -> Option<ProbeSource> {
        self.means
    }

    /// Targets of its probes.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Its last probes.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The sizes that pass to its targets.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Statistics.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether its family has failed and is not repaired yet.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// When its next round is due; `None` while it rests.
    pub fn next(&self) -> Option<Time> {
        self.next
    }

    /// Whether it probes, or would with a link and a target.
    pub fn enabled(&self) -> bool {
        self.means.is_some()
    }

    /// Whether it probes and has targets: only then its verdict counts.
    pub fn capable(&self) -> bool {
        self.enabled() && !self.targets.is_empty()
    }

    /// When the member joined.
    pub fn joined(&self) -> Time {
        self.joined
    }

    /// The results of rounds by now that show how many packets are lost: the target, and whether the probe was lost. Those of a
    /// path that has failed, or has not functioned yet, do not.
    pub(in crate::core) fn take_rounds(&mut self) -> Vec<(IpAddr, bool)> {
        if self.failed || !self.answered {
            self.history.skip_rounds();
        }
        self.history.take_rounds()
    }

    /// Whether losses count yet.
    pub fn settled(&self, now: Time) -> bool {
        self.answered || now - self.joined >= SETTLE
    }

    /// Changes how it probes: targets and history of the previous method are deleted.
    pub(in crate::core) fn set_means(&mut self, means: Option<ProbeSource>) {
        self.means = means;
        self.targets = Targets::default();
        self.sizes = Sizes::default();
        self.rest();
    }

    /// Sets the targets. Without any, the history is deleted.
    pub(in crate::core) fn set_targets(&mut self, now: Time, mode: TargetMode, addresses: &[IpAddr]) {
        let none_before = self.targets.is_empty();
        self.targets.set(now, mode, addresses);
        if self.targets.is_empty() {
            self.history.clear();
        } else if none_before {
            // The next round of an idle prober may be far away.
            self.realign();
        }
    }

    /// Starts probing, unless it runs. Members and families have different offsets (`place`), and so have groups
    /// (`share`).
    pub(in crate::core) fn wake(&mut self, now: Time, interval: Duration, place: u8, share: u32) {
        if self.next.is_none() && self.enabled() {
            // With reversed bits, neighbouring numbers are furthest apart.
            let place = u32::from(place.reverse_bits() >> 3) % PLACES;
            let offset = interval * (place * SHARES + share % SHARES) / (PLACES * SHARES);
            let rounds = turn(Time(now.0.saturating_sub(offset)), interval);
            let last = Time(offset + times(interval, rounds));
            self.next = Some(if last < now { last + interval } else { last });
        }
    }

    /// The interval has changed: rounds start anew at the next [`Self::wake`].
    pub(in crate::core) fn realign(&mut self) {
        self.next = None;
    }

    /// Stops probing until the next [`Self::wake`].
    pub(in crate::core) fn rest(&mut self) {
        self.next = None;
        self.burst = None;
        self.sizes.stop();
        self.history.clear();
        self.targets.forget_unreached();
    }

    /// The member has failed: round-trip times are forgotten, since another path may come back.
    pub(in crate::core) fn fail(&mut self) {
        self.failed = true;
        self.burst = None;
        self.sizes.stop();
        self.targets.forget_times();
    }

    /// When the next round or judgement is due.
    pub fn deadline(&self) -> Option<Time> {
        let burst = self.burst.as_ref().and_then(Burst::due);
        [self.next, self.history.deadline(), burst, self.sizes.due()].into_iter().flatten().min()
    }

    /// The burst that runs.
    pub fn burst(&self) -> Option<&Burst> {
        self.burst.as_ref()
    }

    /// The lost probe that a burst would follow: the newest one, if no burst has followed it yet.
    pub fn untested_loss(&self, now: Time) -> Option<(u16, IpAddr, Time)> {
        if self.failed || self.burst.is_some() || !self.capable() || !self.settled(now) {
            return None;
        }
        let loss = self.history.newest_loss().filter(|loss| self.tested != Some(loss.sequence))?;
        // It is known that only other members reach it.
        if self.targets.get(loss.target).is_some_and(|target| target.unreached) {
            return None;
        }
        Some((loss.sequence, loss.target, loss.sent))
    }

    /// Whether a target that has replied to the last probe has not had its turn again: losses of the other targets alone are those of a
    /// member behind a split network. Jitter can send two probes to one target in its turn, so five of them do not always reach all
    /// targets. Ends when a failure must be detected.
    pub fn awaits_turn(&self, now: Time, interval: Duration) -> bool {
        let within = interval * FAILURES;
        let has_replied = |of: IpAddr| {
            self.history.last_answered(of) && self.history.answered_since(now, within, |target| target == of)
        };
        self.targets.active().any(|target| has_replied(target.address))
    }

    /// The target to which a burst by evidence would send its first probe: that of the newest reply. `None`: no burst is due.
    pub fn suspected_target(&self, now: Time, interval: Duration) -> Option<IpAddr> {
        // Where a burst takes longer than an interval, rounds must have their turn.
        let pause = interval.max(2 * LENGTH);
        let is_early = self.suspected.is_some_and(|last| now - last < pause);
        if is_early || self.failed || self.burst.is_some() || !self.capable() || !self.settled(now) {
            return None;
        }
        let of_newest = self.history.newest_answered_target()?;
        Some(of_newest).filter(|target| self.targets.probes(*target))
    }

    /// Evidence has started a burst.
    pub(in crate::core) fn suspect(&mut self, now: Time, burst: Burst) {
        self.suspected = Some(now);
        self.burst = Some(burst);
    }

    /// The target was silent: the probes of a burst do not count, and the lost probe before it shows nothing about the member.
    pub(in crate::core) fn discard_burst(&mut self, burst: &Burst) {
        self.counters.void += u64::from(self.history.discard(burst.probes()));
        if let Some(first) = burst.first() {
            self.history.dispute(first);
        }
    }

    /// The probes of a burst do not count: it shows nothing.
    pub(in crate::core) fn void_burst(&mut self, burst: &Burst) {
        self.counters.void += u64::from(self.history.discard(burst.probes()));
        self.was_void |= burst.first().is_some();
    }

    /// The rounds that are due are left out: a burst is under way.
    pub(in crate::core) fn skip_rounds(&mut self, now: Time, interval: Duration) {
        if let Some(due) = self.next.filter(|due| *due <= now) {
            let passed = (now - due).as_nanos() / interval.as_nanos().max(1);
            self.next = Some(due + interval.saturating_mul(passed as u32 + 1));
        }
    }

    /// A control request is sent with a probe.
    pub(in crate::core) fn control(&mut self, now: Time, target: IpAddr, sequence: u16) {
        if self.controls.len() == CONTROLS {
            self.controls.pop_front();
        }
        self.controls.push_back(Control { target, sequence, sent: now, answered: false });
    }

    /// Whether an answer to a control request to this target is awaited.
    pub fn awaits_control(&self, target: IpAddr) -> bool {
        self.controls.iter().any(|control| control.target == target && !control.answered)
    }

    /// The target of a control request has answered at `at`: it counts for the newest one.
    pub(in crate::core) fn control_answered(&mut self, target: IpAddr, at: Time) {
        let mut sent = self.controls.iter_mut().rev();
        if let Some(control) = sent.find(|control| control.target == target && at >= control.sent) {
            control.answered = true;
        }
    }

    /// The target of a control request that was answered, if the probe that it was sent with was not: the loss does not count.
    pub(in crate::core) fn discard_loss(&mut self, now: Time) -> Option<IpAddr> {
        let answered = self.controls.iter().filter(|control| control.answered);
        let lost: Vec<IpAddr> = answered
            .filter(|control| self.history.discard_loss(control.sequence, now))
            .map(|control| control.target)
            .collect();
        self.counters.void += lost.len() as u64;
        lost.last().copied()
    }

    /// Decides the probes whose deadlines have passed.
    pub(in crate::core) fn judge(&mut self, now: Time, interval: Duration) -> Judged {
        let judged = self.history.judge(now, interval / 4);
        self.counters.lost += u64::from(judged.lost);
        self.counters.void += u64::from(judged.void);
        self.counters.unsent += u64::from(judged.unsent);
        judged
    }

    /// The round that is due, if one is, and how many were missed before it. Targets that `can` denies are skipped. The next
    /// round is earlier than an interval from now by `early`.
    pub(in crate::core) fn round(
        &mut self,
        now: Time,
        interval: Duration,
        idle: Duration,
        early: Duration,
        can: impl Fn(IpAddr) -> bool,
    ) -> Option<(Round, u32)> {
        let due = self.next.filter(|due| *due <= now)?;
        let round = match self.targets.next(now, turn(now, interval), can) {
            Some(target) => {
                let sequence = self.history.want(target, now, now + interval);
                Round::Probe { sequence, target }
            }
            None if self.targets.is_empty() => Round::Idle,
            None => Round::Stuck,
        };
        let step = if round == Round::Idle { idle } else { interval };
        // As many steps as lead more than half a step into the future.
        let late = (now - due).saturating_add(step / 2);
        let skipped = (late.as_nanos() / step.as_nanos().max(1)) as u32;
        let early = if round == Round::Idle { Duration::ZERO } else { early };
        self.next = Some(Time((due + step.saturating_mul(skipped.saturating_add(1))) - Time(early)));
        self.counters.missed += u64::from(skipped);
        self.counters.occasions += u64::from(skipped > 0);
        Some((round, skipped))
    }

    /// Whether sizes are tested: by ICMP echo, while the probes have not failed, and not with rounds that follow each other so
    /// fast that a rate limit of the target would answer too few. ARP and Neighbour Discovery have no size.
    pub(in crate::core) fn tests_sizes(&self, interval: Duration) -> bool {
        let is_echo = matches!(self.means, Some(ProbeSource::Echo { .. }));
        is_echo && !self.failed && interval >= size::INTERVAL
    }

    /// The size of the round with this number, if it is large: at most `full`.
    pub(in crate::core) fn enlarge_round(
        &mut self,
        sequence: u16,
        target: IpAddr,
        interval: Duration,
        full: u32,
    ) -> Option<u32> {
        if !self.tests_sizes(interval) {
            return None;
        }
        let size = self.sizes.round(target, interval, full)?;
        self.history.set_size(sequence, Some(size));
        self.sizes.round_sent(target, sequence, size);
        Some(size)
    }

    /// Rounds were skipped; how many to report, at most once in [`QUIET`]. A busy machine misses many, and a message for each
    /// would add load.
    pub(in crate::core) fn report_missed(&mut self, now: Time, skipped: u32) -> Option<u32> {
        self.unreported = self.unreported.saturating_add(skipped);
        if self.reported_missed.is_some_and(|reported| now - reported < QUIET) {
            return None;
        }
        self.reported_missed = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }

    /// Whether discovery is due, `pause` after the last one: if it knows no host, or one that is no router.
    pub(in crate::core) fn discovers(&mut self, now: Time, pause: Duration) -> bool {
        let wanted = self.targets.mode() == TargetMode::Multicast && self.targets.all().len() < 2;
        let due = wanted && self.discovered.is_none_or(|discovered| now - discovered >= pause);
        if due {
            self.discovered = Some(now);
        }
        due
    }

    /// The caller has sent a probe, or failed to.
    pub(in crate::core) fn sent(
        &mut self,
        sequence: u16,
        cookie: Option<u64>,
        now: Time,
        interval: Duration,
    ) {
        let Some(probe) = self.history.probe(sequence).copied() else { return };
        match cookie {
            // Counters show losses, and tests of sizes are lost where larger packets do not pass.
            _ if probe.is_of_search() => {}
            Some(_) => self.counters.sent += 1,
            None => self.counters.unsent += 1,
        }
        // While it has failed there are no round-trip times, and every probe has the whole interval.
        let took = self.targets.get(probe.target).and_then(|target| target.rtt.conservative());
        let patience = size::patience(took.filter(|_| !self.failed), interval, &probe);
        self.history.sent(sequence, cookie, now, patience);
    }

    /// Handles a possible reply.
    pub(in crate::core) fn answer(&mut self, target: IpAddr, proof: Proof, at: Time) -> Answer {
        let answer = self.history.answer(target, proof, at);
        match answer {
            Answer::Genuine { sequence, .. } => {
                let probe = self.history.probe(sequence);
                let is_counted = probe.is_some_and(|probe| !probe.is_of_search());
                if probe.is_some_and(Probe::is_in_row) {
                    self.targets.replied(at, target, self.history.answers_of(target));
                }
                self.counters.answered += u64::from(is_counted);
                self.answered = true;
                self.was_void = false;
            }
            Answer::Duplicate => self.counters.duplicate += 1,
            Answer::Forged => self.counters.forged += 1,
        }
        answer
    }

    /// Excludes a target that has not replied lately while others have.
    pub(in crate::core) fn set_dead_target_aside(&mut self, now: Time, slack: Duration) -> Option<IpAddr> {
        let is_dead =
            |target: &IpAddr| self.history.losses_of(*target) >= FAILURES && self.targets.probes(*target);
        // Probes that were sent later may have results already: a target without a round-trip time has a whole interval to reply.
        let target = self.history.lost_beside_replies(now, slack).find(is_dead)?;
        self.targets.set_aside(now, target, TargetFault::Unresponsive);
        Some(target)
    }

    /// Whether there are enough consecutive replies for a repair: of all targets, or of the last one.
    pub(in crate::core) fn repaired(&self) -> bool {
        let of_last = || self.history.last_target().map_or(0, |target| self.history.answers_of(target));
        self.history.answers() >= REPAIRS || of_last() >= REPAIRS
    }
}

/// How many intervals have passed since the start of the clock.
fn turn(now: Time, interval: Duration) -> u64 {
    (now.0.as_nanos() / interval.as_nanos().max(1)) as u64
}

/// So many intervals.
fn times(interval: Duration, count: u64) -> Duration {
    Duration::from_nanos((interval.as_nanos() * u128::from(count)) as u64)
}

#[cfg(test)]
mod tests;
