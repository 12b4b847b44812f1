//! Verdicts by probes: which members have failed, which are repaired, and whether any member can be judged at all.

use super::Group;
use crate::{
    core::{
        Cause, Event, Time,
        group::standby::Origin,
        member::{Condition, Member},
        probe::verdict,
    },
    types::{Family, TargetMode},
};

impl Group {
    /// Decides the probes whose deadlines have passed.
    pub(in crate::core::group) fn judge(&mut self, now: Time) {
        let interval = self.probing.fdt.interval();
        let due = self.watched_until(now);
        self.discard_losses(now);
        let mut excluded = Vec::new();
        for member in self.members.iter_mut() {
            let number = member.number();
            for prober in member.probing_mut().probers_mut() {
                if prober.judge(now, interval).lost > 0
                    && let Some(target) = prober.set_dead_target_aside(now, interval / 4)
                {
                    excluded.push((number, target));
                }
            }
        }
        for (member, family, sequence) in due {
            self.finish_probe(now, member, family, sequence);
        }
        for (number, target) in excluded {
            if !self.is_unreached(now, number, target)
                && let Some(member) = self.member(number).map(|member| member.name().to_owned())
            {
                self.report(Cause::ProbeResults, |_| Event::TargetExcluded { member, target, slow: false });
            }
        }
        self.count_losses(now);
        self.probing.lose_neighbours(&self.members);
        self.start_bursts(now);
    }

    /// Judges the members: which have failed, which are repaired, and whether any can be judged at all.
    pub(super) fn decide(&mut self, now: Time) {
        let unprobed =
            |member: &Member| member.probing().probers().next().is_none() && !member.probing().failed();
        if self.members.iter().all(unprobed) {
            self.probing.targets_unreachable = [false; 2];
            Family::ALL.into_iter().for_each(|family| self.check_split(now, family));
            return;
        }
        // A verdict can make another one possible: a repaired member is evidence. Each member turns twice at most.
        for _ in 0..=self.members.as_slice().len() {
            let numbers = self.members.numbers();
            let turned = numbers.into_iter().filter(|&number| self.decide_on(now, number)).count();
            if turned == 0 {
                break;
            }
        }
        for family in Family::ALL {
            self.check_targets(now, family);
            self.check_split(now, family);
        }
    }

    /// Judges a member; whether that has changed anything.
    fn decide_on(&mut self, now: Time, number: u8) -> bool {
        let mut all_failed = false;
        if self.member(number).is_some_and(Member::in_service) {
            for family in Family::ALL {
                match self.verdict(now, number, family) {
                    Some(Verdict::Repaired) => {
                        if let Some(prober) = self.prober_mut(number, family) {
                            prober.failed = false;
                        }
                    }
                    Some(Verdict::Failed) => {
                        if let Some(prober) = self.prober_mut(number, family) {
                            prober.fail();
                        }
                    }
                    Some(Verdict::AllFailed) => all_failed = true,
                    None => {}
                }
            }
        }
        if all_failed {
            self.fail_all();
            return true;
        }
        let Some(member) = self.members.get_mut(number) else { return false };
        let Some(failed) = member.probing_mut().turn() else { return false };
        if failed {
            self.probes_failed(number)
        } else {
            self.probes_recovered(number)
        }
        true
    }

    fn verdict(&self, now: Time, number: u8, family: Family) -> Option<Verdict> {
        let member = self.member(number)?;
        let prober = member.prober(family).filter(|prober| prober.capable())?;
        if prober.failed {
            return prober.repaired().then_some(Verdict::Repaired);
        }
        // Its result decides.
        if prober.burst.is_some() {
            return None;
        }
        let interval = self.probing.fdt.interval();
        let is_decisive = prober.settled(now) && !prober.awaits_turn(now, interval);
        let losing = prober.history.losing().filter(|_| is_decisive)?;
        let others = || self.members.iter().filter(|other| other.number() != number && other.functions());
        let probers = others().filter_map(|other| other.prober(family));
        let evidence = probers.map(|prober| (prober.history(), prober.targets()));
        if verdict::is_own(&losing, interval, evidence) {
            return Some(Verdict::Failed);
        }
        if self.settings.fail_open {
            return None;
        }
        // As in the reference, a member that is not probed counts like one that receives replies. A member that has
        // failed already does not fail the others.
        let unprobed = others().any(|other| !other.probing().enabled());
        Some(if unprobed || member.probing().failed() { Verdict::Failed } else { Verdict::AllFailed })
    }

    /// No member receives replies, and the group does not fail open: all fail at once, and one event reports it.
    fn fail_all(&mut self) {
        let functioning = self.members.iter_mut().filter(|member| member.functions());
        for member in functioning.filter(|member| member.probing().enabled()) {
            member.probing_mut().fail();
            member.set_inactive(false);
        }
        self.reconcile(&Cause::ProbeResults);
        self.refresh(true, &Cause::ProbeResults);
    }

    fn probes_failed(&mut self, number: u8) {
        let Some(member) = self.members.get_mut(number) else { return };
        let is_offline = member.offline().is_some();
        let mut before = member.clone();
        before.probing_mut().set_failed(false);
        member.set_inactive(false);
        let name = before.name().to_owned();
        let cause = Cause::ProbesLost { member: name.clone() };
        // The failure is no news if the link is down, or if the member never worked.
        if before.functions() {
            self.members.replace(&before);
            self.reconcile(&cause);
            if self.members.any_can_replace() {
                self.report(cause.clone(), |group| Event::MemberFailed { member: name, group });
            }
            self.refresh(!is_offline, &cause);
        }
        self.reconcile(&cause);
    }

    fn probes_recovered(&mut self, number: u8) {
        let Some(member) = self.member(number) else { return };
        let (name, is_offline) = (member.name().to_owned(), member.offline().is_some());
        let cause = Cause::ProbesAnswered { member: name.clone() };
        if member.condition() == Condition::Ok {
            self.report(cause.clone(), |group| Event::MemberRepaired { member: name, group });
            if !is_offline {
                self.came_back(number, Origin::Repaired, &cause);
            }
            self.refresh(false, &cause);
        }
        self.reconcile(&cause);
    }

    /// Reports when no target replies on any member any more, and when one does again.
    fn check_targets(&mut self, now: Time, family: Family) {
        let judged = || {
            let members = self.members.iter().filter(|member| member.functions());
            let probers = members.filter_map(|member| member.prober(family));
            probers.filter(|prober| prober.capable() && prober.settled(now))
        };
        let any_judged = judged().next().is_some();
        // A failed member, too, shows whether targets reply.
        let in_service = self.members.iter().filter(|member| member.in_service());
        let mut working =
            in_service.filter_map(|member| member.prober(family)).filter(|prober| prober.capable());
        let replies = working.any(|prober| prober.history.losses() == 0 && prober.history.answered());
        let unreachable = any_judged && !replies && judged().all(|prober| prober.history.losing().is_some());
        let discovered_only = judged().all(|prober| prober.targets.mode() == TargetMode::Multicast);
        let was_unreachable = self.probing.targets_unreachable[family.index()];
        if unreachable && !was_unreachable {
            self.probing.targets_unreachable[family.index()] = true;
            self.report(Cause::ProbeResults, |group| Event::NoTargetReplies { group, family });
            if discovered_only {
                self.probing.forget_hosts([family]);
            }
        } else if was_unreachable && (replies || !any_judged) {
            self.probing.targets_unreachable[family.index()] = false;
            if replies {
                self.report(Cause::ProbeResults, |group| Event::TargetsReply { group, family });
            }
        }
    }
}

/// What probes show about a member in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Failed,
    AllFailed,
    Repaired,
}
