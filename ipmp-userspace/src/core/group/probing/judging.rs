//! Judging the members by their probes: who has failed, who is repaired, and whether anybody can be blamed at all.

use super::Group;
use crate::{
    core::{
        Cause, Event, Time,
        group::spare::Back,
        member::{Condition, Member},
        probe::{prober::Prober, verdict},
    },
    types::{Family, TargetMode},
};

impl Group {
    /// Decides on the probes whose time is over.
    pub(in crate::core::group) fn judge(&mut self, now: Time) {
        let interval = self.probes.fdt.interval();
        let due = self.watched_until(now);
        let mut aside = Vec::new();
        for member in &mut self.members {
            for prober in member.probing.probers.iter_mut().flatten() {
                if prober.judge(now, interval).lost > 0
                    && let Some(target) = prober.set_dead_target_aside(now)
                {
                    aside.push((member.attachment.name.clone(), target));
                }
            }
        }
        for (member, family, sequence) in due {
            self.tell_outcome(now, member, family, sequence);
        }
        for (member, target) in aside {
            self.say_because(Cause::ProbeResults, |_| Event::TargetExcluded { member, target, slow: false });
        }
        self.lose_neighbours();
    }

    /// Judges the members: who has failed, who is repaired, and whether anybody can be blamed at all.
    pub(super) fn decide(&mut self, now: Time) {
        if self.members.iter().all(|member| member.probing.all().next().is_none() && !member.probing.failed) {
            self.probes.dark = [false; 2];
            return;
        }
        // A verdict can make another one possible: who is repaired is evidence. Each member turns twice at most.
        for _ in 0..=self.members.len() {
            let numbers: Vec<u8> = self.members.iter().map(Member::number).collect();
            let turned = numbers.into_iter().filter(|&number| self.decide_on(now, number)).count();
            if turned == 0 {
                break;
            }
        }
        for family in Family::ALL {
            self.look_for_light(now, family);
        }
    }

    /// Judges a member; whether that has changed anything.
    fn decide_on(&mut self, now: Time, number: u8) -> bool {
        let mut all = false;
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
                    Some(Verdict::AllFailed) => all = true,
                    None => {}
                }
            }
        }
        if all {
            return self.fail_all();
        }
        let Some(member) = self.member_mut(number) else { return false };
        let failed = member.probing.verdict();
        if std::mem::replace(&mut member.probing.failed, failed) == failed {
            return false;
        }
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
        let losing = prober.history.losing().filter(|_| prober.settled(now))?;
        let others = || self.members.iter().filter(|other| other.number() != number && other.functions());
        let probers = others().filter_map(|other| other.prober(family));
        let evidence = probers.map(|prober| (prober.history(), prober.targets()));
        if verdict::is_own(&losing, self.probes.fdt.interval(), evidence) {
            return Some(Verdict::Failed);
        }
        if self.settings.fail_open {
            return None;
        }
        // As the reference: a member that is not probed is as good as one that is answered.
        let unprobed = others().any(|other| !other.probing.enabled());
        // One that has failed already is neither: it does not take others with it.
        Some(if unprobed || member.probing.failed { Verdict::Failed } else { Verdict::AllFailed })
    }

    /// Nobody is answered, and the operator wants nobody to carry then: all fail at once, and one line says so.
    fn fail_all(&mut self) -> bool {
        let functioning = self.members.iter_mut().filter(|member| member.functions());
        for member in functioning.filter(|member| member.probing.enabled()) {
            member.probing.all_mut().for_each(Prober::fail);
            member.probing.failed = true;
            member.inactive = false;
        }
        self.why = Cause::ProbeResults;
        self.reconcile();
        self.refresh(true);
        true
    }

    fn probes_failed(&mut self, number: u8) {
        let Some(member) = self.member_mut(number) else { return };
        let offline = member.offline.is_some();
        let mut before = member.clone();
        before.probing.failed = false;
        member.inactive = false;
        // Of a member whose link is down, or which was never seen working, no failure is news.
        if before.functions() {
            let name = before.name().to_owned();
            self.why = Cause::ProbesLost { member: name.clone() };
            self.lost_one(&before);
            if self.anybody_functions() || self.members.iter().any(Self::could_be_let_go) {
                self.say(|group| Event::MemberFailed { member: name, group });
            }
            self.refresh(!offline);
        }
        self.reconcile();
    }

    fn probes_recovered(&mut self, number: u8) {
        let Some(member) = self.member(number) else { return };
        if member.condition == Condition::Ok {
            let (name, offline) = (member.name().to_owned(), member.offline.is_some());
            self.why = Cause::ProbesAnswered { member: name.clone() };
            self.say(|group| Event::MemberRepaired { member: name, group });
            if !offline {
                self.came_back(number, Back::Repaired);
            }
            self.refresh(false);
        }
        self.reconcile();
    }

    /// Says when nobody is answered any more, and when somebody is again.
    fn look_for_light(&mut self, now: Time, family: Family) {
        let judged = || {
            let members = self.members.iter().filter(|member| member.functions());
            let probers = members.filter_map(|member| member.prober(family));
            probers.filter(|prober| prober.capable() && prober.settled(now))
        };
        let anybody = judged().next().is_some();
        // One that has failed shows, too, whether there is somebody to answer.
        let working = || {
            let members = self.members.iter().filter(|member| member.in_service());
            members.filter_map(|member| member.prober(family)).filter(|prober| prober.capable())
        };
        let light = working().any(|prober| prober.history.losses() == 0 && prober.history.answered());
        let dark = anybody && !light && judged().all(|prober| prober.history.losing().is_some());
        let hosts_alone = judged().all(|prober| prober.targets.mode() == TargetMode::Multicast);
        let was = self.probes.dark[family.index()];
        if dark && !was {
            self.probes.dark[family.index()] = true;
            self.say_because(Cause::ProbeResults, |group| Event::NoTargetReplies { group, family });
            if hosts_alone {
                self.forget_hosts([family]);
            }
        } else if was && (light || !anybody) {
            self.probes.dark[family.index()] = false;
            if light {
                self.say_because(Cause::ProbeResults, |group| Event::TargetsReply { group, family });
            }
        }
    }
}

/// What probes say of a member in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Failed,
    AllFailed,
    Repaired,
}
