//! What probes mean for the members of a group. [`crate::core::probe`] has the rules for one member.
//!
//! The table has a member and its peer, another member that functions (docs/reference.md 2.13; deviations below). Changes
//! of the member's state are bold, the letters are the events that are reported.
//!
//! | the member | peer | link down | link up | 5 losses | 10 answers | no targets | a target | no test address | a test address | offline | online |
//! |---|---|---|---|---|---|---|---|---|---|---|---|
//! | ok | yes | **failed** DF | – | **failed** F | – | **unknown** | – | – | – | **offline** O | n |
//! | ok | no | **failed** DX | – | K | – | **unknown** | – | – | – | l | n |
//! | no targets | yes | **failed** DF | – | – | – | – | **ok** | **ok** | – | **offline** O | n |
//! | no targets | no | **failed** DX | – | – | – | – | **ok** | **ok** | – | l | n |
//! | failed | yes | D | – | – | **ok** R | – | – | **ok** R | – | **offline** O | n |
//! | failed | no | D | – | – | **ok** RS | – | – | **ok** RS | – | **offline** O | n |
//! | failed, no targets | yes | D | – | – | – | – | – | **ok** R | – | **offline** O | n |
//! | failed, no targets | no | D | – | – | – | – | – | **ok** RS | – | **offline** O | n |
//! | link down | any | – | U | – | – | – | – | – | – | **offline** O | n |
//! | offline | yes | DF | – | – | – | – | – | – | – | a | **ok** I |
//! | offline | no | D | – | – | – | – | – | – | – | a | **ok** IS |
//! | not probed | yes | **failed** DF | – | – | – | – | – | – | – | **offline** O | n |
//! | not probed | no | **failed** DX | – | – | – | – | – | – | – | l | n |
//! | not probed, link down | yes | – | **ok** UR | – | – | – | – | – | – | **offline** O | n |
//! | not probed, link down | no | – | **ok** URS | – | – | – | – | – | – | **offline** O | n |
//!
//! Events: **D** link down, **U** link up, **F** failure, **R** repair, **X** all unusable, **S** at least one usable,
//! **K** no target replies, **O** offline, **I** online. Refusals: **n** it is not offline, **a** it is offline already,
//! **l** no other member functions.
//!
//! Deviations from the reference: a member does not fail by losses while no other member receives replies (5 losses
//! without a peer; there the reference fails the whole group, as we do with `fail_open` off), offline and online are
//! reported, and the loss of a test address obtained by DHCP does not repair a member.

mod confirm;
mod directions;
mod evidence;
mod full_frames;
mod losses;
mod rounds;
mod selection;
mod sizes;
mod split;
mod unreliable;
mod verdicts;
mod watch;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{Group, Settings, members::Members, standby::Origin};
use crate::{
    core::{
        Action, Cause, Event, Time,
        member::{Condition, Member},
        probe::{
            GRACE, ProbeSource, Proof, TestAddress,
            evidence::Timeouts,
            fdt::Fdt,
            history::{Answer, LENGTH},
            outcome::FinishedProbe,
            prober::Prober,
            targets::Known,
        },
    },
    types::{Failback, Family, ProbeState, TargetFault},
};
use directions::Directions;
use full_frames::FullFrames;
use losses::Losses;
use selection::Neighbour;

/// Failure detection times below this are reported because of the load on the targets.
const HIGH_RATE_FDT: Duration = Duration::from_millis(100);

/// What the probers of all members share.
#[derive(Clone, Debug)]
pub(super) struct GroupProbing {
    fdt: Fdt,
    known: Known,
    /// Targets of ARP and ND probes whose MAC was requested.
    neighbours: BTreeMap<IpAddr, Neighbour>,
    /// By family: no target replies on any member, so that no member is judged by its probes.
    targets_unreachable: [bool; 2],
    /// By family: members reach different targets.
    split: [bool; 2],
    /// By family: the next hop of the default route.
    default_routers: [Option<IpAddr>; 2],
    /// Addresses, targets or members have changed since probers were assigned.
    stale: bool,
    /// What this input wants sent.
    requests: Vec<Action>,
    /// State of the generator of jitter; `None`: without jitter, as in tests of exact times.
    jitter: Option<u64>,
    /// Targets that answered a control request and not the echo request beside it, and when that was found last.
    unreliable: BTreeMap<IpAddr, Time>,
    /// Targets that answer large packets on no member.
    limited: BTreeSet<IpAddr>,
    /// Timeouts of TCP.
    timeouts: Timeouts,
    /// How many packets the members lose.
    losses: Losses,
    /// In which direction members have failed.
    directions: Directions,
    /// Frames of full size between members.
    full_frames: FullFrames,
    /// What raised the failure detection time last.
    slowest: Option<Slow>,
    /// A client wants a report of every probe.
    watched: bool,
    /// Probes that this input finished, while a client wants them.
    finished: Vec<FinishedProbe>,
}

/// A target that is slower than the configured failure detection time allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// On which member.
    pub member: String,
    /// The target.
    pub target: IpAddr,
    /// Its round-trip time then, a conservative estimate.
    pub took: Duration,
    /// When the failure detection time was raised for it.
    pub at: Time,
}

impl GroupProbing {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            fdt: Fdt::new(settings.fdt),
            known: Known::default(),
            neighbours: BTreeMap::new(),
            targets_unreachable: [false; 2],
            split: [false; 2],
            default_routers: [None; 2],
            stale: false,
            requests: Vec::new(),
            jitter: None,
            unreliable: BTreeMap::new(),
            limited: BTreeSet::new(),
            timeouts: Timeouts::default(),
            losses: Losses::default(),
            directions: Directions::default(),
            full_frames: FullFrames::default(),
            slowest: None,
            watched: false,
            finished: Vec::new(),
        }
    }

    /// Addresses, targets or members have changed: the probers are assigned anew at the end of this input.
    pub(super) fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// Whether members reach different targets.
    pub(super) fn is_split(&self) -> bool {
        self.split.contains(&true)
    }

    /// What this input wants sent and reported.
    pub(super) fn take_actions(&mut self) -> impl Iterator<Item = Action> {
        self.requests.drain(..).chain(self.finished.drain(..).map(Action::ProbeOver))
    }
}

impl Group {
    /// The failure detection time, current and configured; `None` while no member is probed.
    pub fn fdt(&self) -> Option<Fdt> {
        self.members.iter().any(|member| member.probing().enabled()).then_some(self.probing.fdt)
    }

    /// Why the failure detection time is longer than configured, while it is.
    pub fn slowest(&self) -> Option<&Slow> {
        let raised = self.probing.fdt.current() > self.probing.fdt.configured();
        self.probing.slowest.as_ref().filter(|_| raised)
    }

    /// Whether no target replies on any member, so that no member is judged by its probes.
    pub fn targets_unreachable(&self, family: Family) -> bool {
        self.probing.targets_unreachable[family.index()]
    }

    /// The operator's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn set(&mut self, settings: Settings) {
        let before = std::mem::replace(&mut self.settings, settings);
        if settings.fdt != before.fdt {
            self.probing.fdt.set(settings.fdt);
            realign(&mut self.members);
        }
        self.probing.stale = true;
        if settings.fdt < HIGH_RATE_FDT && settings.fdt != before.fdt {
            let rounds = Duration::from_secs(1).as_nanos() / self.probing.fdt.interval().as_nanos().max(1);
            let per_second = rounds as u32 * self.members.as_slice().len().max(1) as u32;
            let fdt = settings.fdt;
            self.report(Cause::Trigger, |group| Event::HighProbeRate { group, fdt, per_second });
        }
        if settings.failback != Failback::No && before.failback == Failback::No {
            self.fail_back();
        }
        if settings.failback != Failback::Idle {
            self.stop_returns();
        }
        self.reconcile(&Cause::Trigger);
    }

    pub(super) fn set_test_address(&mut self, number: u8, family: Family, address: TestAddress) {
        if let Some(member) = self.members.get_mut(number) {
            member.probing_mut().set_address(family, address);
            self.probing.stale = true;
        }
    }

    pub(super) fn sent(&mut self, now: Time, number: u8, family: Family, sequence: u16, cookie: Option<u64>) {
        let interval = self.probing.fdt.interval();
        if let Some(prober) = self.prober_mut(number, family) {
            prober.sent(sequence, cookie, now, interval);
        }
        if cookie.is_none() {
            self.finish_probe(now, number, family, sequence);
        }
    }

    pub(super) fn answered(&mut self, now: Time, number: u8, target: IpAddr, proof: Proof, at: Time) {
        let family = Family::of(target);
        let mac = self.probing.neighbours.get(&target).and_then(|neighbour| neighbour.found);
        let Some(member) = self.members.get_mut(number).filter(|member| member.in_service()) else { return };
        let Some(prober) = member.probing_mut().prober_mut(family) else { return };
        let fits = match (proof, prober.means) {
            (Proof::Echo { .. }, Some(ProbeSource::Echo { .. })) => true,
            (Proof::Mac(proof), Some(ProbeSource::Arp | ProbeSource::Nd)) => {
                mac.is_some_and(|(mac, _)| mac == proof)
            }
            _ => false,
        };
        if !fits {
            prober.counters.forged += 1;
            return;
        }
        let Answer::Genuine { sequence, rtt, newest } = prober.answer(target, proof, at) else { return };
        // A large packet takes longer.
        let is_small = prober.history.probe(sequence).is_some_and(|probe| probe.size.is_none());
        if newest && is_small {
            self.sample_rtt(now, number, target, rtt);
        }
        self.finish_probe(now, number, family, sequence);
    }

    /// Adjusts the failure detection time to a target's round-trip time.
    fn sample_rtt(&mut self, now: Time, number: u8, target: IpAddr, rtt: Duration) {
        let (family, interval) = (Family::of(target), self.probing.fdt.interval());
        let Some(member) = self.members.get_mut(number) else { return };
        let (name, functions) = (member.name().to_owned(), member.functions());
        let Some(prober) = member.probing_mut().prober_mut(family) else { return };
        // Samples of a failed member, or older than the history, are of no use.
        if !functions || rtt > interval.saturating_mul(LENGTH as u32) {
            return;
        }
        let Some(conservative) = prober.targets.sample(target, rtt, interval) else { return };
        if conservative > interval {
            if prober.targets.is_exceptional(target, interval) {
                prober.targets.set_aside(now, target, TargetFault::Slow);
                let event = Event::TargetExcluded { member: name, target, slow: true };
                self.report(Cause::ProbeResults, |_| event);
            } else if let Some(fdt) = self.probing.fdt.raise(now, conservative) {
                let configured = self.probing.fdt.configured();
                self.probing.slowest =
                    Some(Slow { member: name.clone(), target, took: conservative, at: now });
                realign(&mut self.members);
                self.report(Cause::ProbeResults, |group| Event::FdtRaised {
                    member: name,
                    family,
                    group,
                    configured,
                    fdt,
                });
            }
        } else if conservative < interval / 4 {
            let functioning = self.members.iter().filter(|member| member.functions());
            let probers = functioning.flat_map(|member| member.probing().probers());
            let slowest = probers.filter_map(|prober| prober.targets.slowest()).max().unwrap_or_default();
            if let Some(fdt) = self.probing.fdt.lower(now, slowest) {
                realign(&mut self.members);
                let event = |group| Event::FdtLowered { member: name, family, group, fdt };
                self.report(Cause::ProbeResults, event);
            }
        }
    }

    /// Result of a member's probes: the PROBE column. If no target replies on any member, probes show nothing about one.
    pub fn probe_column(&self, member: &Member) -> ProbeState {
        let capable = |family: &Family| member.prober(*family).is_some_and(Prober::capable);
        let is_unknown =
            Family::ALL.into_iter().filter(capable).all(|family| self.targets_unreachable(family));
        match member.probe_column() {
            ProbeState::Ok if is_unknown => ProbeState::Unknown,
            column => column,
        }
    }

    /// What every input may have changed: the probers and their targets, whether they run, and the verdicts.
    pub(super) fn update_probing(&mut self, now: Time) {
        loop {
            if std::mem::take(&mut self.probing.stale) {
                self.assign_probers(now);
            }
            self.start_and_stop(now);
            self.report_missing_test_addresses(now);
            self.conclude_bursts(now);
            self.decide(now);
            self.check_sizes(now);
            self.avoid_members_without_router();
            self.judge_losses(now);
            self.follow_directions(now);
            self.follow_full_frames(now);
            if !self.probing.stale {
                break;
            }
        }
    }

    /// Changes what is known of the packets that a member loses. If it is worse than before, the member may be replaced; if it is
    /// better, it returns. `cause` is reported for what follows from that.
    pub(super) fn change_flaw(&mut self, number: u8, cause: &Cause, change: impl FnOnce(&mut Member)) {
        let Some(member) = self.members.get_mut(number) else { return };
        let before = member.clone();
        change(member);
        match member.flaw().cmp(&before.flaw()) {
            Ordering::Equal => return,
            Ordering::Greater => self.members.replace(&before),
            Ordering::Less if before.functions() => self.came_back(number, Origin::Repaired, cause),
            Ordering::Less => {}
        }
        self.reconcile(cause);
    }

    /// Probers run while their members are in service.
    fn start_and_stop(&mut self, now: Time) {
        let interval = self.probing.fdt.interval();
        let share =
            self.name.bytes().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        for number in self.members.numbers() {
            let Some(member) = self.members.get_mut(number) else { continue };
            if member.probing().enabled()
                && member.condition() == Condition::Held
                && member.held_until().is_none()
            {
                let turn = member.settle();
                self.turned(number, turn, None, Cause::Trigger);
            }
            let Some(member) = self.members.get_mut(number) else { continue };
            let in_service = member.in_service();
            for family in Family::ALL {
                let Some(prober) = member.probing_mut().prober_mut(family) else { continue };
                if in_service {
                    prober.wake(now, interval, number << 1 | family.index() as u8, share);
                } else if prober.next().is_some() {
                    prober.rest();
                }
            }
        }
    }

    fn report_missing_test_addresses(&mut self, now: Time) {
        let mut missing = Vec::new();
        for member in self.members.iter_mut() {
            if member.probing().report_due(GRACE).is_some_and(|due| due <= now) {
                member.probing_mut().set_reported();
                missing.push(member.name().to_owned());
            }
        }
        for member in missing {
            let cause = Cause::NoTestAddress { member: member.clone() };
            self.report(cause, |_| Event::NoTestAddress { member });
        }
    }

    /// When a probe, a test frame or the report of a missing test address is due.
    pub(super) fn probe_deadline(&self) -> impl Iterator<Item = Time> {
        let probers = self.members.iter().flat_map(|member| member.probing().probers());
        let reports = self.members.iter().filter_map(|member| member.probing().report_due(GRACE));
        probers
            .filter_map(Prober::deadline)
            .chain(reports)
            .chain(self.direction_deadline())
            .chain(self.full_frames_deadline())
    }

    fn prober_mut(&mut self, number: u8, family: Family) -> Option<&mut Prober> {
        self.members.get_mut(number)?.probing_mut().prober_mut(family)
    }
}

/// The interval has changed: all members start anew, at different times.
fn realign(members: &mut Members) {
    members.iter_mut().flat_map(|member| member.probing_mut().probers_mut()).for_each(Prober::realign);
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
