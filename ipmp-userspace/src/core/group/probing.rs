//! What probes make of the members of a group. [`crate::core::probe`] has the rules; this is where the members meet.
//!
//! A member and its company, another member that functions (reference 2.13, with decisions of ours). What changes is
//! bold: the state that is shown, and the lines that are said.
//!
//! | the member | company | link down | link up | 5 losses | 10 answers | no targets | a target | no test address | a test address | offline | online |
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
//! Lines: **D** link down, **U** link up, **F** failure, **R** repair, **X** all unusable, **S** at least one usable,
//! **K** no target answers, **O** offline, **I** online. Refusals: **n** it is not offline, **a** it is offline already,
//! **l** nobody else functions.
//!
//! Where it is not the reference: a member is not blamed for losses while nobody else is answered (5 losses without
//! company; there the reference fails the whole group, as we do with `fail_open` off), offline and online are said, and
//! a test address that a DHCP client has lost repairs nobody.

mod choosing;
mod judging;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use choosing::Neighbour;

use super::{Group, Settings};
use crate::{
    core::{
        Action, Cause, Event, Time,
        member::{Condition, Member},
        probe::{
            DISCOVER, FIND, GRACE, ProbeSource, Proof, TestAddress, Via,
            fdt::Fdt,
            history::{Answer, LENGTH},
            outcome::FinishedProbe,
            prober::{Prober, Round},
            targets::Known,
        },
    },
    types::{Family, TargetFault},
};

/// Below this failure detection time the load on the targets is worth a warning.
const MANY: Duration = Duration::from_millis(100);

/// What a group knows that its members' probers share.
#[derive(Clone, Debug)]
pub(super) struct Probes {
    fdt: Fdt,
    known: Known,
    /// Targets of ARP and ND probes that were asked for.
    neighbours: BTreeMap<IpAddr, Neighbour>,
    /// The families in which nobody is answered, and nobody is to blame.
    dark: [bool; 2],
    /// Addresses, targets or members have changed.
    pub(super) stale: bool,
    /// What this event wants sent.
    pub(super) wanted: Vec<Action>,
    /// Who raised the failure detection time last.
    slowest: Option<Slow>,
    /// Somebody wants to know of every probe.
    pub(super) watched: bool,
    /// The probes that are over with this event, while somebody wants to know.
    pub(super) outcomes: Vec<FinishedProbe>,
}

/// Who is slower than the failure detection time that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// On which member.
    pub member: String,
    /// The target.
    pub target: IpAddr,
    /// How long it took then, conservatively.
    pub took: Duration,
    /// When the time was raised for it.
    pub at: Time,
}

impl Probes {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            fdt: Fdt::new(settings.fdt),
            known: Known::default(),
            neighbours: BTreeMap::new(),
            dark: [false; 2],
            stale: false,
            wanted: Vec::new(),
            slowest: None,
            watched: false,
            outcomes: Vec::new(),
        }
    }
}

impl Group {
    /// The failure detection time as it is now, and as it was asked for; `None` while nobody is probed.
    pub fn fdt(&self) -> Option<Fdt> {
        self.members.iter().any(|member| member.probing.enabled()).then_some(self.probes.fdt)
    }

    /// Why the failure detection time is longer than was asked for, while it is.
    pub fn slowest(&self) -> Option<&Slow> {
        let raised = self.probes.fdt.current() > self.probes.fdt.configured();
        self.probes.slowest.as_ref().filter(|_| raised)
    }

    /// Whether no target answers on any member, so that nobody can be blamed.
    pub fn dark(&self, family: Family) -> bool {
        self.probes.dark[family.index()]
    }

    /// How the operator wants it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn set(&mut self, settings: Settings) {
        let before = std::mem::replace(&mut self.settings, settings);
        if settings.fdt != before.fdt {
            self.probes.fdt.set(settings.fdt);
            self.realign();
        }
        self.probes.stale = true;
        if settings.fdt < MANY && settings.fdt != before.fdt {
            let rounds = Duration::from_secs(1).as_nanos() / self.probes.fdt.interval().as_nanos().max(1);
            let per_second = rounds as u32 * self.members.len().max(1) as u32;
            self.say(|group| Event::HighProbeRate { group, fdt: settings.fdt, per_second });
        }
        if settings.failback && !before.failback {
            self.release_spares();
        }
        self.reconcile();
    }

    /// The interval is another: all members begin anew, apart from each other.
    fn realign(&mut self) {
        self.members.iter_mut().flat_map(|member| member.probing.all_mut()).for_each(Prober::realign);
    }

    pub(super) fn set_test_address(&mut self, number: u8, family: Family, address: TestAddress) {
        if let Some(member) = self.member_mut(number) {
            member.probing.addresses[family.index()] = address;
            self.probes.stale = true;
        }
    }

    pub(super) fn sent(&mut self, now: Time, number: u8, family: Family, sequence: u16, cookie: Option<u64>) {
        let interval = self.probes.fdt.interval();
        if let Some(prober) = self.prober_mut(number, family) {
            prober.sent(sequence, cookie, now, interval);
        }
        if cookie.is_none() {
            self.tell_outcome(now, number, family, sequence);
        }
    }

    pub(super) fn answered(&mut self, now: Time, number: u8, target: IpAddr, proof: Proof, at: Time) {
        let family = Family::of(target);
        let mac = self.probes.neighbours.get(&target).and_then(|neighbour| neighbour.found);
        let Some(member) = self.member_mut(number).filter(|member| member.in_service()) else { return };
        let Some(prober) = member.probing.probers[family.index()].as_mut() else { return };
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
        if newest {
            self.learn_time(now, number, target, rtt);
        }
        self.tell_outcome(now, number, family, sequence);
    }

    /// A target took this long to answer: whether the interval is right for it.
    fn learn_time(&mut self, now: Time, number: u8, target: IpAddr, rtt: Duration) {
        let (family, interval) = (Family::of(target), self.probes.fdt.interval());
        let Some(member) = self.member_mut(number) else { return };
        let (name, functions) = (member.name().to_owned(), member.functions());
        let Some(prober) = member.probing.probers[family.index()].as_mut() else { return };
        // While it has failed, or the answer is older than any that is remembered, it teaches nothing.
        if !functions || rtt > interval.saturating_mul(LENGTH as u32) {
            return;
        }
        let Some(conservative) = prober.targets.sample(target, rtt, interval) else { return };
        if conservative > interval {
            if prober.targets.is_exceptional(target, interval) {
                prober.targets.set_aside(now, target, TargetFault::Slow);
                self.say_because(Cause::ProbeResults, |_| Event::TargetExcluded {
                    member: name,
                    target,
                    slow: true,
                });
            } else if let Some(fdt) = self.probes.fdt.raise(now, conservative) {
                let configured = self.probes.fdt.configured();
                self.probes.slowest =
                    Some(Slow { member: name.clone(), target, took: conservative, at: now });
                self.realign();
                self.say_because(Cause::ProbeResults, |group| Event::FdtRaised {
                    member: name,
                    family,
                    group,
                    configured,
                    fdt,
                });
            }
        } else if conservative < interval / 4 {
            let functioning = self.members.iter().filter(|member| member.functions());
            let slowest =
                functioning.flat_map(|member| member.probing.all()).filter_map(|p| p.targets.slowest());
            let slowest = slowest.max().unwrap_or_default();
            if let Some(fdt) = self.probes.fdt.lower(now, slowest) {
                self.realign();
                self.say_because(Cause::ProbeResults, |group| Event::FdtLowered {
                    member: name,
                    family,
                    group,
                    fdt,
                });
            }
        }
    }

    /// What every event may have changed: who is probed and whom, who rests, and what that makes of the members.
    pub(super) fn attend(&mut self, now: Time) {
        loop {
            if std::mem::take(&mut self.probes.stale) {
                self.revise(now);
            }
            self.wake_and_rest(now);
            self.complain(now);
            self.decide(now);
            if !self.probes.stale {
                break;
            }
        }
    }

    /// Probers work while their members are in service.
    fn wake_and_rest(&mut self, now: Time) {
        let interval = self.probes.fdt.interval();
        let share =
            self.name.bytes().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        for number in self.members.iter().map(Member::number).collect::<Vec<_>>() {
            let Some(member) = self.member_mut(number) else { continue };
            if member.probing.enabled()
                && member.condition == Condition::Held
                && member.flap.until().is_none()
            {
                let turn = member.settle();
                self.turned(number, turn, None);
            }
            let Some(member) = self.member_mut(number) else { continue };
            let in_service = member.in_service();
            for family in Family::ALL {
                let Some(prober) = &mut member.probing.probers[family.index()] else { continue };
                if in_service {
                    prober.wake(now, interval, number << 1 | family.index() as u8, share);
                } else if prober.next().is_some() {
                    prober.rest();
                }
            }
        }
    }

    /// Says who has been without a test address for too long.
    fn complain(&mut self, now: Time) {
        for at in 0..self.members.len() {
            let probing = &mut self.members[at].probing;
            if !probing.said_without && probing.without.is_some_and(|since| now - since >= GRACE) {
                probing.said_without = true;
                let member = self.members[at].name().to_owned();
                let why = Cause::NoTestAddress { member: member.clone() };
                self.say_because(why, |_| Event::NoTestAddress { member });
            }
        }
    }

    /// Sends the probes whose time has come.
    pub(super) fn probe_round(&mut self, now: Time) {
        let interval = self.probes.fdt.interval();
        let idle = interval.max(DISCOVER);
        let mut missed = Vec::new();
        for member in &mut self.members {
            let number = member.number();
            for family in Family::ALL {
                let Some(prober) = member.probing.probers[family.index()].as_mut() else { continue };
                let Some(means) = prober.means else { continue };
                let neighbours = &mut self.probes.neighbours;
                let found = |target: &IpAddr| neighbours.get(target).and_then(|neighbour| neighbour.found);
                let by_mac = !matches!(means, ProbeSource::Echo { .. });
                let Some((round, skipped)) =
                    prober.round(now, interval, idle, |target| !by_mac || found(&target).is_some())
                else {
                    continue;
                };
                if skipped > 0
                    && round != Round::Idle
                    && let Some(skipped) = prober.say_missed(now, skipped)
                {
                    missed.push((member.attachment.name.clone(), family, skipped));
                }
                if let Round::Probe { sequence, target } = round {
                    let via = match (means, found(&target)) {
                        (ProbeSource::Echo { source, .. }, _) => Via::Echo(source),
                        (ProbeSource::Arp, Some((mac, _))) => Via::Arp(mac),
                        (ProbeSource::Nd, Some((mac, _))) => Via::Nd(mac),
                        (ProbeSource::Arp | ProbeSource::Nd, None) => continue,
                    };
                    self.probes.wanted.push(Action::Probe { member: number, target, via, sequence });
                }
                if let ProbeSource::Echo { source, .. } = means {
                    if prober.looks(now, idle) {
                        self.probes.wanted.push(Action::FindHosts { member: number, source });
                    }
                    continue;
                }
                for target in prober.targets.active().map(|target| target.address) {
                    let neighbour = neighbours.entry(target).or_default();
                    let due = neighbour.asked.is_none_or(|asked| now - asked >= FIND);
                    if neighbour.found.is_none() && due {
                        neighbour.asked = Some(now);
                        self.probes.wanted.push(Action::FindNeighbour(target));
                    }
                }
            }
        }
        for (member, family, missed) in missed {
            self.say_because(Cause::ProbeResults, |_| Event::ProbesMissed { member, family, missed });
        }
    }

    /// When a probe, or a word, is due.
    pub(super) fn probe_deadline(&self) -> impl Iterator<Item = Time> {
        let probers = self.members.iter().flat_map(|member| member.probing.all());
        let silent = self.members.iter().filter(|member| !member.probing.said_without);
        let words = silent.filter_map(|member| member.probing.without).map(|since| since + GRACE);
        probers.filter_map(Prober::deadline).chain(words)
    }

    fn prober_mut(&mut self, number: u8, family: Family) -> Option<&mut Prober> {
        self.member_mut(number)?.probing.probers[family.index()].as_mut()
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
