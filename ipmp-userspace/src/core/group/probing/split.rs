//! A network that has split behind the members: each reaches other targets.
//!
//! No member has failed then, since each receives replies, but packets are lost on some of them, depending on their
//! destination. With `split=prefer-router` the members that do not reach the default router do not transmit while others do
//! that reach it ([`Member::flaw`]), if it is a target.
//!
//! A target that replies to one member and not to another is excluded on the other one, as each target without replies, but
//! for [`RETRY`] rounds only. Random losses are no split, and do not move traffic to and fro:
//!
//! | | needs |
//! |---|---|
//! | a target is unreached on a member | five losses of it in a row there, three of them contradicted by replies to one other member, which has received nearly all replies of the target lately ([`History::answers_most`](crate::core::probe::history::History::answers_most)) |
//! | it is reached again | ten replies of it in a row; each time that it is unreached again within an hour, twice as many as before, 160 at most |
//! | | or it has replied to no other member for a minute |

use std::{net::IpAddr, time::Duration};

use super::Group;
use crate::{
    core::{
        Cause, Event, Time,
        member::Member,
        probe::{
            FAILURES,
            prober::Prober,
            split::SplitTarget,
            targets::{ACTIVE, ASIDE},
            verdict,
        },
    },
    types::{Family, SplitPolicy, TargetFault},
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
        let recent = self.recent();
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

    /// A target was excluded on a member because it did not reply. Whether it replies to another one.
    pub(super) fn is_unreached(&mut self, now: Time, number: u8, target: IpAddr) -> bool {
        let (family, interval) = (Family::of(target), self.probing.fdt.interval());
        let losing = self.member(number).and_then(|member| member.prober(family)?.history.losing_of(target));
        let others = self
            .probers_in_service(family)
            .filter(|(member, prober)| member.number() != number && prober.targets.probes(target))
            .map(|(_, prober)| (&prober.history, &prober.targets));
        let reliable = others.filter(|(history, _)| history.answers_most(target));
        // Once it is unreached, losses of other members do not end that, nor does a failure of the only one that reaches it.
        let was_unreached = self
            .member(number)
            .and_then(|member| member.prober(family)?.targets.get(target))
            .is_some_and(|target| target.unreached);
        let others = self.members.iter().filter(|member| member.number() != number);
        let mut targets = others.filter_map(|member| Some(&member.prober(family)?.targets));
        let within = self.recent().max(ASIDE);
        let is_reached = targets.any(|targets| targets.has_replied(now, target, within));
        let unreached = losing.is_some_and(|losing| verdict::is_split(&losing, interval, reliable))
            || (was_unreached && is_reached);
        if let Some(prober) = self.prober_mut(number, family) {
            prober.targets.set_unreached(now, target, unreached);
            if unreached {
                prober.targets.set_aside_for(now, target, TargetFault::Unresponsive, interval * RETRY);
            } else if is_reached {
                // Its losses are older than the replies to others: the next ones decide.
                prober.targets.set_aside_for(now, target, TargetFault::Unresponsive, interval);
            }
        }
        unreached || is_reached
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

    /// Avoids the members that do not reach the default router while others do, and no longer those for which that has ended.
    pub(super) fn avoid_members_without_router(&mut self) {
        for number in self.members.numbers() {
            let Some(member) = self.members.get(number) else { continue };
            let unreached = |family: Family| {
                let router = self.probing.default_routers[family.index()]?;
                let target = member.prober(family)?.targets.get(router)?;
                (target.unreached && self.settings.split == SplitPolicy::PreferRouter).then_some(router)
            };
            let (before, router) = (member.unreached_router(), Family::ALL.into_iter().find_map(unreached));
            if before == router {
                continue;
            }
            let name = member.name().to_owned();
            let member = name.clone();
            let cause = match (before, router) {
                (None, Some(router)) => {
                    self.report(Cause::ProbeResults, |group| Event::RouterUnreached {
                        member,
                        group,
                        router,
                    });
                    Cause::RouterUnreached { member: name }
                }
                (Some(router), None) => {
                    let event = |group| Event::RouterUnreachedEnded { member, group, router };
                    self.report(Cause::ProbeResults, event);
                    Cause::RouterUnreachedEnded { member: name }
                }
                _ => Cause::ProbeResults,
            };
            self.change_flaw(number, &cause, |member| member.set_unreached_router(router));
        }
    }

    /// In this time each target has its turn several times.
    fn recent(&self) -> Duration {
        self.probing.fdt.interval() * (FAILURES + 1) * ACTIVE as u32
    }

    /// The members in service that have not failed in a family, and their probers.
    fn probers_in_service(&self, family: Family) -> impl Iterator<Item = (&Member, &Prober)> {
        let in_service = self.members.iter().filter(|member| member.in_service());
        let probers = in_service.filter_map(move |member| Some((member, member.prober(family)?)));
        probers.filter(|(_, prober)| !prober.failed)
    }
}
