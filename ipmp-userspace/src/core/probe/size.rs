//! The sizes of packets that pass between a member and its targets.
//!
//! A path may pass small packets and drop large ones, for example behind a switch port with a smaller MTU. Small probes do not
//! show that, and connections hang. So every [`EVERY`]th round of a member is as large as the MTU of the group permits, and
//! must not be fragmented. A reply is as large as its request, so it shows both directions.
//!
//! ```text
//!                first reply of the target
//!   unknown ─────────────────────────────► search ──► the full size passes ◄──────────────┐
//!                                            ▲ │                 │ a large probe is lost,   │ AGAIN replies
//!                                            │ │                 │ and a later small one    │ of that size
//!                                            └─┼─────────────────┘ is answered              │
//!                                              └──────────────► a smaller size passes ──────┘
//! ```
//!
//! A search tests one size at a time, the full size first. A size is lost if [`MISSES`] probes of it are, and the small probe
//! that follows each of them is answered. If the full size is lost, the largest size that passes is found by bisection. Where
//! the target drops small probes, too, a search shows nothing and ends.
//!
//! What passes on one member is compared with what passes to the same target on others (`core::group::probing::sizes`): the
//! target itself may drop large requests.

use std::{net::IpAddr, time::Duration};

use ipmp_common::probe::{HEADER, PAYLOAD};

use super::{
    PATIENCE,
    history::{History, Probe, ProbeProgress},
};
use crate::{core::Time, types::Family};

/// A round of so many is large. No number of targets that are probed in turn divides it, so each target has large ones.
pub const EVERY: u32 = 7;
/// Sizes are tested with probe intervals of at least this. With shorter ones, a group may send its targets more requests than they
/// answer already.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// Minimum time between two large rounds: with short intervals large probes would be much traffic.
pub const APART: Duration = Duration::from_millis(500);
/// Probes of a size that must be lost until the size is.
pub const MISSES: u32 = 3;
/// Times in a row that a test shows nothing until a search ends.
pub const DOUBTS: u32 = 3;
/// Time from one lost probe of a search to the next one: targets that limit their replies answer eight in a second.
pub const STEP: Duration = Duration::from_millis(250);
/// Time from a reply to the next probe of a search.
pub const SPACING: Duration = Duration::from_millis(20);
/// Time from one test of a hole to the next one, at least, and after a search that showed nothing.
pub const RETRY: Duration = Duration::from_secs(10);
/// The same where no member has replies to larger packets: the target drops them, or the whole network does.
pub const LIMIT_RETRY: Duration = Duration::from_secs(60);
/// Replies in a row after which a size that was lost passes again.
pub const AGAIN: u32 = 3;
/// Additional time for the reply to a large probe: the time for each byte, twice, at 10 Mbit/s.
const PER_BYTE: Duration = Duration::from_nanos(1600);
/// Minimum time for the replies to the probes of a search, which belong to no row.
const SEARCH_PATIENCE: Duration = Duration::from_millis(125);

/// Bytes of a small probe's packet.
pub const fn smallest(family: Family) -> u32 {
    let header = match family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    (header + HEADER + PAYLOAD) as u32
}

/// Every how many rounds one is large.
pub fn rounds_between(interval: Duration) -> u32 {
    let least = APART.as_nanos().div_ceil(interval.as_nanos().max(1)) as u32;
    (least.max(EVERY)..).find(|rounds| [2, 3, 5].iter().all(|divisor| rounds % divisor != 0)).unwrap_or(EVERY)
}

/// Time for the reply to a probe. `took` is the round-trip time of small ones.
pub fn patience(took: Option<Duration>, interval: Duration, probe: &Probe) -> Duration {
    let took = took.unwrap_or(interval).max(PATIENCE);
    match probe.size {
        _ if probe.is_of_search() => (2 * took).max(SEARCH_PATIENCE),
        Some(size) => (took + PER_BYTE * size).min(interval),
        None => took.min(interval),
    }
}

/// The sizes that pass between a member and a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathSize {
    /// The target.
    pub target: IpAddr,
    /// Bytes of the largest packet that passes; 0: unknown.
    pub passes: u32,
    /// Since when that is known.
    pub passes_since: Time,
    /// When the last probe of that size was sent that was answered.
    pub proven: Option<Time>,
    /// Bytes of the smallest packet that is known to be lost; `None`: the full size passes, or nothing is known yet.
    pub lost: Option<u32>,
    /// When the search began that found it, and when its last probe was lost.
    pub lost_since: Time,
    /// See `lost_since`.
    pub lost_at: Time,
    /// A larger packet passes to this target on another member.
    pub hole: bool,
    /// Replies in a row to tests of a size that was lost.
    again: u32,
    /// When a lost size was tested last, or a search showed nothing.
    tried: Option<Time>,
    /// A packet of this size is to be tested.
    wanted: Option<u32>,
}

impl PathSize {
    fn new(target: IpAddr, now: Time) -> Self {
        Self {
            target,
            passes: 0,
            passes_since: now,
            proven: None,
            lost: None,
            lost_since: now,
            lost_at: now,
            hole: false,
            again: 0,
            tried: None,
            wanted: None,
        }
    }

    /// Whether what passes is known.
    pub fn is_known(&self) -> bool {
        self.passes > 0
    }

    /// Whether a search ended before it found the largest size that passes.
    pub fn is_unfinished(&self) -> bool {
        self.lost.is_some_and(|lost| lost - self.passes > 1)
    }

    fn set_passes(&mut self, now: Time, passes: u32) {
        if std::mem::replace(&mut self.passes, passes) != passes {
            self.passes_since = now;
        }
    }

    /// Whether a search may start: none showed nothing lately.
    fn may_search(&self, now: Time) -> bool {
        self.tried.is_none_or(|tried| now - tried >= RETRY)
    }

    /// Whether a lost size may be tested again.
    fn may_test(&self, now: Time) -> bool {
        let pause = if self.hole { RETRY } else { LIMIT_RETRY };
        self.lost.is_some() && self.tried.is_none_or(|tried| now - tried >= pause)
    }

    /// The size to search from, if what passes is not known: a search has not begun, or has ended early.
    fn unsearched(&self, full: u32) -> Option<u32> {
        match self.lost {
            None => (self.passes < full).then_some(full),
            Some(lost) => (lost - self.passes > 1).then_some(self.passes + (lost - self.passes) / 2),
        }
    }
}

/// A probe that was sent, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sent {
    target: IpAddr,
    sequence: u16,
    size: u32,
}

/// A probe to be sent beside those of rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeProbe {
    /// Target.
    pub target: IpAddr,
    /// Bytes of its packet; `None`: a small one.
    pub size: Option<u32>,
}

/// What a search waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// The time of its next probe; after a lost large one, the sequence of that, a small one is due.
    Due(Time, Option<u16>),
    /// The result of a probe of the tested size.
    Large(u16),
    /// The result of the small probe that follows.
    Small { large: u16, small: u16 },
}

/// The search for the largest packet that passes to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Search {
    target: IpAddr,
    since: Time,
    /// Passes.
    low: u32,
    /// Is lost, or is larger than the full size.
    high: u32,
    /// The size that is tested.
    size: u32,
    misses: u32,
    doubts: u32,
    /// The smallest lost size was lost at the end of the search, too.
    is_verified: bool,
    phase: Phase,
}

/// Result of a step of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Running,
    /// The tested size passes; when the probe was sent.
    Passed(Time),
    /// It is lost.
    Lost,
    /// The search shows nothing.
    Ended,
}

impl Search {
    fn new(now: Time, target: IpAddr, size: u32, (low, high): (u32, u32)) -> Self {
        let phase = Phase::Due(now, None);
        Self { target, since: now, low, high, size, misses: 0, doubts: 0, is_verified: false, phase }
    }

    /// Considers the results of its probes.
    fn step(&mut self, now: Time, history: &History) -> Step {
        let answered = |sequence| history.probe(sequence).filter(|probe| probe.fate.rtt().is_some());
        let fate = |sequence| history.probe(sequence).map_or(ProbeProgress::Unsent, |probe| probe.fate);
        match self.phase {
            Phase::Due(..) => Step::Running,
            // A late reply is a reply.
            Phase::Large(large) | Phase::Small { large, .. } if answered(large).is_some() => {
                (self.misses, self.doubts) = (0, 0);
                self.phase = Phase::Due(now + SPACING, None);
                Step::Passed(answered(large).map_or(now, |probe| probe.sent))
            }
            Phase::Large(large) => match fate(large) {
                ProbeProgress::Wanted | ProbeProgress::Pending => Step::Running,
                ProbeProgress::Lost | ProbeProgress::Doubtful => {
                    self.phase = Phase::Due(now, Some(large));
                    Step::Running
                }
                _ => self.doubt(now),
            },
            Phase::Small { small, .. } => match fate(small) {
                ProbeProgress::Wanted | ProbeProgress::Pending => Step::Running,
                ProbeProgress::Answered(_) => {
                    self.misses += 1;
                    self.doubts = 0;
                    self.phase = Phase::Due(now + STEP, None);
                    match self.misses {
                        MISSES if history.drops_some(self.target) => Step::Ended,
                        MISSES => {
                            self.misses = 0;
                            Step::Lost
                        }
                        _ => Step::Running,
                    }
                }
                _ => self.doubt(now),
            },
        }
    }

    fn doubt(&mut self, now: Time) -> Step {
        self.doubts += 1;
        self.phase = Phase::Due(now + STEP, None);
        if self.doubts == DOUBTS { Step::Ended } else { Step::Running }
    }

    /// Chooses the next size; whether there is one. At the end the smallest lost size is tested again: the target may have
    /// dropped large requests for a moment only.
    fn continues(&mut self, full: u32) -> bool {
        if self.high - self.low > 1 {
            self.size = self.low + (self.high - self.low) / 2;
            return true;
        }
        self.size = self.high;
        !self.is_verified && self.high <= full
    }
}

/// The sizes that pass between a member and its targets in a family, and their tests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sizes {
    paths: Vec<PathSize>,
    /// Rounds since the last large one.
    rounds: u32,
    /// The last large round, until its result is known.
    round: Option<Sent>,
    /// A test of a size that was lost.
    test: Option<Sent>,
    search: Option<Search>,
}

impl Sizes {
    /// What is known, target by target.
    pub fn paths(&self) -> &[PathSize] {
        &self.paths
    }

    /// What is known of a target.
    pub fn path(&self, target: IpAddr) -> Option<&PathSize> {
        self.paths.iter().find(|path| path.target == target)
    }

    pub(in crate::core) fn path_mut(&mut self, target: IpAddr) -> Option<&mut PathSize> {
        self.paths.iter_mut().find(|path| path.target == target)
    }

    /// Whether the size that passes to a target is being searched, or is to be.
    pub fn searches(&self, target: IpAddr) -> bool {
        self.search.is_some_and(|search| search.target == target)
            || self.path(target).is_some_and(|path| path.wanted.is_some())
    }

    /// When the next probe of a search is due.
    pub fn due(&self) -> Option<Time> {
        match self.search?.phase {
            Phase::Due(due, _) => Some(due),
            Phase::Large(_) | Phase::Small { .. } => None,
        }
    }

    /// The probes that were sent have no results any more. What was found stays.
    pub(in crate::core) fn stop(&mut self) {
        (self.round, self.test, self.search) = (None, None, None);
        self.paths.iter_mut().for_each(|path| path.wanted = None);
    }

    /// Wants a packet of this size tested, unless a search showed nothing lately.
    pub(in crate::core) fn want(&mut self, now: Time, target: IpAddr, size: u32) {
        let is_running = self.searches(target);
        if let Some(path) = self.path_mut(target).filter(|path| !is_running && path.may_search(now)) {
            path.wanted = Some(size);
        }
    }

    /// The size of the round that is due to this target, if it is large: what passes, at most `full`.
    pub(in crate::core) fn round(&mut self, target: IpAddr, interval: Duration, full: u32) -> Option<u32> {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds < rounds_between(interval) || self.round.is_some() {
            return None;
        }
        let size = self.path(target).filter(|path| path.is_known())?.passes.min(full);
        self.rounds = 0;
        Some(size)
    }

    /// The large round has this number.
    pub(in crate::core) fn round_sent(&mut self, target: IpAddr, sequence: u16, size: u32) {
        self.round = Some(Sent { target, sequence, size });
    }

    /// Considers all results by now. `full` is the full size of the member, `small` that of a small probe. `targets` are
    /// those that are probed, `known` all of them.
    pub(in crate::core) fn update(
        &mut self,
        now: Time,
        history: &History,
        (small, full): (u32, u32),
        targets: &[IpAddr],
        known: impl Fn(IpAddr) -> bool,
    ) {
        self.paths.retain(|path| known(path.target));
        for &target in targets {
            if self.path(target).is_none() && history.last_answered(target) {
                self.paths.push(PathSize::new(target, now));
            }
        }
        let searched = self.search.map(|search| search.target);
        for path in &mut self.paths {
            if path.passes >= full {
                path.set_passes(now, full);
                path.lost = None;
            } else if searched != Some(path.target) && path.may_search(now) && targets.contains(&path.target)
            {
                path.wanted = path.wanted.or(path.unsearched(full));
            }
        }
        self.conclude_round(history);
        self.conclude_test(now, history, full);
        self.conclude_search(now, history, full);
        self.start_search(now, (small, full));
    }

    /// Starts the search that is wanted, unless one runs.
    pub(in crate::core) fn start_search(&mut self, now: Time, (small, full): (u32, u32)) {
        if self.search.is_none()
            && let Some(path) = self.paths.iter_mut().find(|path| path.wanted.is_some())
            && let Some(size) = path.wanted.take()
        {
            let size = size.min(full);
            let low = Some(path.passes).filter(|passes| *passes < size && path.lost.is_some());
            let high = path.lost.filter(|lost| *lost > size).unwrap_or(full + 1).min(full + 1);
            self.search = Some(Search::new(now, path.target, size, (low.unwrap_or(small).max(small), high)));
        }
    }

    fn conclude_round(&mut self, history: &History) {
        let Some(round) = self.round else { return };
        let Some(probe) = history.probe(round.sequence) else {
            self.round = None;
            return;
        };
        let path = self.paths.iter_mut().find(|path| path.target == round.target);
        match (probe.fate, path) {
            (ProbeProgress::Wanted | ProbeProgress::Pending, Some(_)) => {}
            (ProbeProgress::Answered(_), Some(path)) => {
                if round.size >= path.passes {
                    path.proven = path.proven.max(Some(probe.sent));
                }
                self.round = None;
            }
            (ProbeProgress::Lost, Some(path)) => {
                // Until a later small probe is answered, the path may have failed.
                if history.is_answered_later(probe) {
                    path.wanted = Some(round.size);
                    self.round = None;
                }
            }
            _ => self.round = None,
        }
    }

    fn conclude_test(&mut self, now: Time, history: &History, full: u32) {
        let Some(test) = self.test else { return };
        let fate = history.probe(test.sequence).map(|probe| (probe.fate, probe.sent));
        if let Some((ProbeProgress::Wanted | ProbeProgress::Pending, _)) = fate {
            return;
        }
        self.test = None;
        let Some(path) = self.path_mut(test.target).filter(|path| path.lost.is_some()) else { return };
        let Some((ProbeProgress::Answered(_), sent)) = fate else {
            path.again = 0;
            return;
        };
        path.again += 1;
        if path.again == AGAIN {
            path.again = 0;
            path.set_passes(now, test.size);
            path.proven = Some(sent);
            path.lost = Some(test.size + 1).filter(|lost| *lost <= full);
        }
    }

    fn conclude_search(&mut self, now: Time, history: &History, full: u32) {
        let Some(mut search) = self.search.take() else { return };
        let Some(path) = self.path_mut(search.target) else { return };
        match search.step(now, history) {
            Step::Running => self.search = Some(search),
            Step::Ended => path.tried = Some(now),
            Step::Passed(sent) => {
                if search.size == search.high {
                    search.high = full + 1;
                }
                search.low = search.size;
                path.set_passes(now, path.passes.max(search.low));
                path.proven = path.proven.max(Some(sent).filter(|_| search.size >= path.passes));
                search.is_verified = false;
                self.go_on(now, search, full);
            }
            Step::Lost => {
                search.is_verified = true;
                search.high = search.size;
                path.set_passes(now, search.low);
                path.lost = Some(search.high);
                (path.lost_since, path.lost_at, path.tried) = (search.since, now, Some(now));
                self.go_on(now, search, full);
            }
        }
    }

    /// Continues a search with the next size, or ends it.
    fn go_on(&mut self, now: Time, mut search: Search, full: u32) {
        if search.continues(full) {
            self.search = Some(search);
        } else if let Some(path) = self.path_mut(search.target) {
            path.set_passes(now, search.low);
            path.lost = Some(search.high).filter(|lost| *lost <= full);
            path.again = 0;
        }
    }

    /// The probe that is due beside rounds, if one is: of the search, or a test of a size that was lost. `larger` is the size
    /// to which a target that drops larger packets is tested.
    pub(in crate::core) fn next(
        &mut self,
        now: Time,
        larger: impl Fn(&PathSize) -> u32,
    ) -> Option<SizeProbe> {
        if let Some(Search { target, size, phase: Phase::Due(due, lost), .. }) = self.search {
            return (due <= now).then_some(SizeProbe { target, size: lost.is_none().then_some(size) });
        }
        if self.search.is_some() || self.test.is_some() {
            return None;
        }
        let path = self.paths.iter_mut().find(|path| path.may_test(now))?;
        path.tried = Some(now);
        Some(SizeProbe { target: path.target, size: Some(larger(path)) })
    }

    /// The probe that was due has this number.
    pub(in crate::core) fn sent(&mut self, probe: SizeProbe, sequence: u16) {
        match (&mut self.search, probe.size) {
            (Some(search), _) => {
                search.phase = match search.phase {
                    Phase::Due(_, Some(large)) => Phase::Small { large, small: sequence },
                    _ => Phase::Large(sequence),
                }
            }
            (None, Some(size)) => self.test = Some(Sent { target: probe.target, sequence, size }),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests;
