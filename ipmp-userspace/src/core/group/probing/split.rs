//! A network that has split behind the members: each reaches other targets.
//!
//! No member has failed then, since each receives replies, but packets are lost on some of them, depending on their
//! destination. It is only reported.
//!
//! A target that replies to one member and not to another is excluded on the other one, as each target without replies, but
//! for [`RETRY`] rounds only: its next reply shows that the network is whole again.

use std::net::IpAddr;

use super::Group;
use crate::{
    core::{
        Cause, Event, Time,
        member::Member,
        probe::{FAILURES, prober::Prober, split::SplitTarget, targets::ACTIVE, verdict},
    },
    types::{Family, TargetFault},
};

/// Rounds for which a target is excluded that replies to another member.
const RETRY: u32 = 2 * FAILURES;

impl Group {
    /// Targets that reply to some members only, while the others receive replies from other targets; empty: no split.
    pub fn split(&self, now: Time, family: Family) -> Vec<SplitTarget> {
        let mut unreached: Vec<IpAddr> = self
            .probers_in_service(family)
            .flat_map(|(_, prober)| prober.targets.all())
            .filter(|target| target.unreached)
            .map(|target| target.address)
            .collect();
        unreached.sort();
        unreached.dedup();
        // Each target has its turn in as many rounds.
        let recent = self.probing.fdt.interval() * (FAILURES + 1) * ACTIVE as u32;
        let split = unreached.into_iter().map(|target| {
            let mut split = SplitTarget { target, reached_by: Vec::new(), not_reached_by: Vec::new() };
            // Members to which it has not replied lately, but which have not excluded it yet.
            let mut losing = Vec::new();
            for (member, prober) in self.probers_in_service(family) {
                let is_unreached = prober.targets.get(target).is_some_and(|target| target.unreached);
                if is_unreached && prober.history.answered_since(now, recent, |other| other != target) {
                    split.not_reached_by.push(member.name().to_owned());
                } else if !is_unreached && prober.history.answered_since(now, recent, |of| of == target) {
                    match prober.history.losses_of(target) {
                        0 | 1 => split.reached_by.push(member.name().to_owned()),
                        losses if losses < FAILURES => losing.push(member.name().to_owned()),
                        _ => {}
                    }
                }
            }
            if split.reached_by.is_empty() {
                split.reached_by = losing;
            }
            split
        });
        split.filter(|split| !split.reached_by.is_empty() && !split.not_reached_by.is_empty()).collect()
    }

    /// A target was excluded on a member because it did not reply. Whether it replied to another one meanwhile.
    pub(super) fn is_unreached(&mut self, now: Time, number: u8, target: IpAddr) -> bool {
        let (family, interval) = (Family::of(target), self.probing.fdt.interval());
        let losing = self.member(number).and_then(|member| member.prober(family)?.history.losing_of(target));
        let others = self
            .probers_in_service(family)
            .filter(|(member, prober)| member.number() != number && prober.targets.probes(target))
            .map(|(_, prober)| (&prober.history, &prober.targets));
        let unreached = losing.is_some_and(|losing| verdict::is_split(&losing, interval, others));
        if let Some(prober) = self.prober_mut(number, family) {
            prober.targets.set_unreached(target, unreached);
            if unreached {
                prober.targets.set_aside_for(now, target, TargetFault::Unresponsive, interval * RETRY);
            }
        }
        unreached
    }

    /// Reports when members reach different targets, and when they do not any more.
    pub(super) fn check_split(&mut self, now: Time, family: Family) {
        let targets = self.split(now, family);
        let was_split = std::mem::replace(&mut self.probing.split[family.index()], !targets.is_empty());
        if !was_split && !targets.is_empty() {
            self.report(Cause::ProbeResults, |group| Event::Split { group, family, targets });
        } else if was_split && targets.is_empty() {
            self.report(Cause::ProbeResults, |group| Event::SplitEnded { group, family });
        }
    }

    /// The members in service that have not failed in a family, and their probers.
    fn probers_in_service(&self, family: Family) -> impl Iterator<Item = (&Member, &Prober)> {
        let in_service = self.members.iter().filter(|member| member.in_service());
        let probers = in_service.filter_map(move |member| Some((member, member.prober(family)?)));
        probers.filter(|(_, prober)| !prober.failed)
    }
}
