//! The last probes of one member in one family: their outcomes, and which replies are genuine.
//!
//! | probe | sent | not sent | answered | judged at its deadline | judged late |
//! |---|---|---|---|---|---|
//! | wanted | **pending** | **unsent** | forged | **unsent** | **unsent** |
//! | pending | – | – | **answered** | **lost** | **void** |
//! | lost | – | – | **answered** | – | – |
//! | lost | control request answered: **doubtful** | – | **answered** | – | – |
//! | doubtful | – | – | **answered** | – | – |
//! | void | – | – | **answered** | – | – |
//! | answered | – | – | duplicate | – | – |
//! | unsent | – | – | forged | – | – |
//!
//! A reply after its deadline is still a reply: it revokes the loss, unless a decision was based on it, and shows that the
//! target takes longer (docs/reference.md 3.4). Void, doubtful, unsent and undecided probes do not count: they neither end a row of
//! losses or replies nor belong to it.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use super::{FAILURES, Proof};
use crate::{core::Time, types::ProbeOutcome};

/// Number of probes of rounds in the history (docs/reference.md 0.4, `PROBE_STATS_COUNT`), and of others at most.
pub const LENGTH: usize = 52;

/// Number of probes of a target that show whether it answers some of them.
pub const WINDOW: usize = 20;

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
    /// Not answered in time, but the target answered the control request that was sent with it: it does not count.
    Doubtful,
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
            Self::Discarded | Self::Doubtful => Some(ProbeOutcome::Discarded),
            Self::Unsent => Some(ProbeOutcome::Unsent),
        }
    }

    /// The round-trip time, if the probe was answered.
    pub fn rtt(self) -> Option<Duration> {
        if let Self::Answered(rtt) = self { Some(rtt) } else { None }
    }
}

/// Why a probe was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// A round was due.
    Round,
    /// A burst of the member.
    Burst,
    /// A control probe of another member's burst: it belongs to no row.
    Control,
    /// A test of the sizes that pass ([`size`](super::size)): it belongs to no row.
    Size,
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
    /// Why it was sent.
    pub kind: ProbeKind,
    /// Bytes of its packet, if it is large; `None`: as small as it can be.
    pub size: Option<u32>,
    /// Lost, and so were the control probes of other members: it shows nothing about this one.
    pub disputed: bool,
    /// Its result is counted, or is not to be ([`History::take_rounds`]).
    pub is_taken: bool,
}

impl Probe {
    /// Whether it is a test of the sizes that pass.
    pub fn is_of_search(&self) -> bool {
        self.kind == ProbeKind::Size
    }

    /// Whether its result is part of the row of losses or replies that decides on the member.
    pub fn is_in_row(&self) -> bool {
        !matches!(self.kind, ProbeKind::Control | ProbeKind::Size)
    }

    fn is_lost_in_burst(&self) -> bool {
        self.kind == ProbeKind::Burst && self.fate == ProbeProgress::Lost
    }
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

/// Number of probes decided at once, without tests of sizes.
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
    /// The target did not reply to other members either.
    pub disputed: bool,
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
        self.want_of(ProbeKind::Round, target, now, deadline)
    }

    /// As [`Self::want`], for a probe of this kind.
    pub fn want_of(&mut self, kind: ProbeKind, target: IpAddr, now: Time, deadline: Time) -> u16 {
        self.sequence = self.sequence.wrapping_add(1);
        let is_full = |probes: &VecDeque<Probe>| {
            let rounds = probes.iter().filter(|probe| probe.kind == ProbeKind::Round).count();
            rounds >= LENGTH || probes.len() >= 2 * LENGTH
        };
        while is_full(&self.probes) {
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
            kind,
            size: None,
            disputed: false,
            is_taken: false,
        });
        sequence
    }

    /// A probe that was requested is as large as this.
    pub fn set_size(&mut self, sequence: u16, size: Option<u32>) {
        if let Some(probe) = self.probe_mut(sequence) {
            probe.size = size;
        }
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
            let count = u32::from(!probe.is_of_search());
            match probe.fate {
                ProbeProgress::Wanted => {
                    probe.fate = ProbeProgress::Unsent;
                    judged.unsent += count;
                }
                ProbeProgress::Pending if now - probe.deadline > slack => {
                    probe.fate = ProbeProgress::Discarded;
                    judged.void += count;
                }
                ProbeProgress::Pending => {
                    probe.fate = ProbeProgress::Lost;
                    judged.lost += count;
                }
                _ => {}
            }
        }
        judged
    }

    /// The control request that was sent with a probe was answered: the path is good, and the probe is no loss. Whether it was
    /// one, or would be now.
    pub fn discard_loss(&mut self, sequence: u16, now: Time) -> bool {
        let is_loss = |probe: &&mut Probe| match probe.fate {
            ProbeProgress::Lost => true,
            ProbeProgress::Pending => probe.deadline <= now,
            _ => false,
        };
        let Some(probe) = self.probe_mut(sequence).filter(is_loss) else { return false };
        probe.fate = ProbeProgress::Doubtful;
        true
    }

    /// The newest probe that was decided, if it was lost.
    pub fn newest_loss(&self) -> Option<&Probe> {
        self.decided().next().filter(|probe| probe.fate == ProbeProgress::Lost)
    }

    /// Probes that were lost do not count; how many.
    pub fn discard(&mut self, sequences: &[u16]) -> u32 {
        let mut discarded = 0;
        for probe in &mut self.probes {
            let is_loss = matches!(probe.fate, ProbeProgress::Lost | ProbeProgress::Doubtful);
            if is_loss && sequences.contains(&probe.sequence) {
                probe.fate = ProbeProgress::Discarded;
                discarded += 1;
            }
        }
        discarded
    }

    /// The target of a lost probe did not reply to other members either.
    pub fn dispute(&mut self, sequence: u16) {
        if let Some(probe) = self.probe_mut(sequence) {
            probe.disputed = true;
        }
    }

    /// The results of small rounds that were not taken yet, oldest first: the target, and whether the probe was lost. Losses are
    /// taken with the reply that ends their row: without one, they are a failure and no loss of some packets.
    pub fn take_rounds(&mut self) -> Vec<(IpAddr, bool)> {
        let is_reply = |probe: &Probe| probe.is_in_row() && matches!(probe.fate, ProbeProgress::Answered(_));
        let Some(last) = self.probes.iter().rposition(is_reply) else { return Vec::new() };
        let mut rounds = Vec::new();
        for probe in self.probes.range_mut(..=last).filter(|probe| !probe.is_taken) {
            match probe.fate {
                ProbeProgress::Wanted | ProbeProgress::Pending => break,
                _ => probe.is_taken = true,
            }
            let is_lost = match probe.fate {
                ProbeProgress::Answered(_) => false,
                ProbeProgress::Lost | ProbeProgress::Doubtful => true,
                _ => continue,
            };
            // Bursts are sent when others were lost, and large packets may be lost for their size.
            if probe.kind == ProbeKind::Round && probe.size.is_none() {
                rounds.push((probe.target, is_lost));
            }
        }
        rounds
    }

    /// The results that are known are not to be taken.
    pub fn skip_rounds(&mut self) {
        let is_known = |probe: &&mut Probe| probe.fate.outcome().is_some();
        self.probes.iter_mut().filter(is_known).for_each(|probe| probe.is_taken = true);
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

    /// Whether any of the last probes was lost while others were answered, or not enough for a failure.
    pub fn has_lost(&self) -> bool {
        let mut last = self.decided().take(WINDOW).map(|probe| probe.fate == ProbeProgress::Lost);
        self.losses() <= FAILURES && last.any(|is_lost| is_lost)
    }

    /// Consecutive losses of this target by now, in rounds: bursts test members, not targets.
    pub fn losses_of(&self, target: IpAddr) -> u32 {
        self.row(|probe| probe.target == target && !probe.is_lost_in_burst(), false)
    }

    /// Consecutive losses of this target among the probes sent since then.
    pub fn losses_since(&self, target: IpAddr, since: Time) -> u32 {
        self.row(|probe| probe.target == target && probe.sent >= since && !probe.is_lost_in_burst(), false)
    }

    /// Consecutive replies by now.
    pub fn answers(&self) -> u32 {
        self.row(|_| true, true)
    }

    /// Consecutive replies of this target by now.
    pub fn answers_of(&self, target: IpAddr) -> u32 {
        self.row(|probe| probe.target == target, true)
    }

    /// The targets of the probes that were judged as lost within `slack`, where the probes decided before are not all lost, so that
    /// others reply.
    pub fn lost_beside_replies(&self, now: Time, slack: Duration) -> impl Iterator<Item = IpAddr> {
        let lost = |probe: &Probe| probe.fate == ProbeProgress::Lost;
        self.decided().enumerate().filter_map(move |(at, probe)| {
            let is_new = lost(probe) && probe.deadline <= now && now - probe.deadline <= slack;
            let row =
                || self.decided().skip(at).take_while(|probe| lost(probe)).take(FAILURES as usize).count();
            (is_new && row() < FAILURES as usize).then_some(probe.target)
        })
    }

    /// The target of the newest probe that was decided.
    pub fn last_target(&self) -> Option<IpAddr> {
        self.decided().next().map(|probe| probe.target)
    }

    /// The target of the newest probe that was answered.
    pub fn newest_answered_target(&self) -> Option<IpAddr> {
        let mut newest = self.decided().filter(|probe| probe.fate != ProbeProgress::Lost);
        newest.next().map(|probe| probe.target)
    }

    /// The newest losses, if there are enough for a failure.
    pub fn losing(&self) -> Option<Losing> {
        losing(self.decided())
    }

    /// The newest losses of this target in rounds, if there are enough to exclude it.
    pub fn losing_of(&self, target: IpAddr) -> Option<Losing> {
        losing(self.decided().filter(|probe| probe.target == target && !probe.is_lost_in_burst()))
    }

    /// The numbers of the answered probes of these kinds that were sent less than `apart` before or after this moment, oldest first; of
    /// this target, or with `None` of any.
    pub fn answered_around(
        &self,
        moment: Time,
        apart: Duration,
        target: Option<IpAddr>,
        kinds: &[ProbeKind],
    ) -> impl Iterator<Item = u16> {
        let around = self.probes.iter().filter(move |probe| {
            matches!(probe.fate, ProbeProgress::Answered(_))
                && kinds.contains(&probe.kind)
                && target.is_none_or(|target| target == probe.target)
                && (probe.sent - moment).max(moment - probe.sent) < apart
        });
        around.map(|probe| probe.sequence)
    }

    /// Whether the newest probe of this target, control probes included, was answered.
    pub fn last_answered(&self, target: IpAddr) -> bool {
        self.last_of(target).next() == Some(true)
    }

    /// Whether any of the last probes of this target was answered.
    pub fn answers_some(&self, target: IpAddr) -> bool {
        self.last_of(target).any(|answered| answered)
    }

    /// Whether nearly all of the last probes of this target were answered: eight of ten.
    pub fn answers_most(&self, target: IpAddr) -> bool {
        let last: Vec<bool> = self.last_of(target).take(10).collect();
        last.len() >= FAILURES as usize
            && last.iter().filter(|answered| **answered).count() * 5 >= last.len() * 4
    }

    /// Whether any of the last probes of this target was not answered, and a later one was: a path failure would have lost
    /// both.
    pub fn drops_some(&self, target: IpAddr) -> bool {
        let mut later = false;
        self.last_of(target).any(|answered| {
            later |= answered;
            later && !answered
        })
    }

    /// Whether any probe of such a target was answered that was sent less than `since` ago.
    pub fn answered_since(&self, now: Time, since: Duration, of: impl Fn(IpAddr) -> bool) -> bool {
        let mut recent = self.probes.iter().filter(|probe| now - probe.sent < since && of(probe.target));
        recent.any(|probe| matches!(probe.fate, ProbeProgress::Answered(_)))
    }

    /// Whether a small probe of the same target that was sent later was answered.
    pub fn is_answered_later(&self, than: &Probe) -> bool {
        let later =
            |probe: &&Probe| probe.target == than.target && probe.sent > than.sent && probe.size.is_none();
        self.probes.iter().filter(later).any(|probe| matches!(probe.fate, ProbeProgress::Answered(_)))
    }

    /// Whether the last probes of this target were answered, newest first. The loss of a large one may be due to its size.
    fn last_of(&self, target: IpAddr) -> impl Iterator<Item = bool> {
        let counts = |probe: &Probe| probe.size.is_none() || matches!(probe.fate, ProbeProgress::Answered(_));
        let results = self.probes.iter().rev().filter(move |probe| probe.target == target && counts(probe));
        let answered = results.filter_map(|probe| match probe.fate {
            ProbeProgress::Answered(_) => Some(true),
            ProbeProgress::Lost | ProbeProgress::Doubtful => Some(false),
            _ => None,
        });
        answered.take(WINDOW)
    }

    /// Whether any probe in the history was answered.
    pub fn answered(&self) -> bool {
        self.probes.iter().any(|probe| matches!(probe.fate, ProbeProgress::Answered(_)))
    }

    /// Decided probes, newest first, without those that belong to no row.
    fn decided(&self) -> impl Iterator<Item = &Probe> {
        let is_decided = |fate| matches!(fate, ProbeProgress::Answered(_) | ProbeProgress::Lost);
        self.probes.iter().rev().filter(move |probe| probe.is_in_row() && is_decided(probe.fate))
    }

    fn row(&self, of: impl Fn(&Probe) -> bool, answered: bool) -> u32 {
        let row = self.decided().filter(|probe| of(probe));
        row.take_while(|probe| matches!(probe.fate, ProbeProgress::Answered(_)) == answered).count() as u32
    }

    fn probe_mut(&mut self, sequence: u16) -> Option<&mut Probe> {
        self.probes.iter_mut().find(|probe| probe.sequence == sequence)
    }
}

/// The newest of these probes, which are newest first, if they are losses and enough for a failure.
fn losing<'a>(probes: impl Iterator<Item = &'a Probe>) -> Option<Losing> {
    let mut losses = probes.take_while(|probe| probe.fate == ProbeProgress::Lost).map(|probe| Loss {
        target: probe.target,
        sent: probe.sent,
        disputed: probe.disputed,
    });
    let first = losses.next()?;
    let mut losing = [first; FAILURES as usize];
    for loss in &mut losing[1..] {
        *loss = losses.next()?;
    }
    Some(losing)
}

#[cfg(test)]
mod tests;
