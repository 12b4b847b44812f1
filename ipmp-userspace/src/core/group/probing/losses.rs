//! Members that lose far more packets than others, while they function.
//!
//! [`crate::core::probe::loss`] has the rules of one member. Here its probes are counted, and it is compared with the members that
//! function and are not degraded themselves: two bad members of three are both named. What is counted is forgotten when the member
//! is out of service or its link is lost, since another path may come back.
//!
//! A result shows nothing about a member, and is not counted, if its target is known to drop some requests, or to reply to other
//! members only: such a target is reported as unreliable, or as a split.

use std::{collections::BTreeMap, net::IpAddr};

use ipmp_common::steer::MemberSet;

use super::Group;
use crate::{
    core::{
        Cause, Event, Time,
        member::{Loss, Member},
        probe::{
            loss::{
                self, CONFIDENCE, Change, Compared, Comparison, Count, Degradation, Verdict, WINDOWS, Windows,
            },
            segments::{self, Segments},
        },
    },
    types::{LossEvidence, Percent},
};

/// Targets of a member whose results are kept, at most.
const TARGETS: usize = 16;

/// What one member loses.
#[derive(Clone, Debug, Default)]
struct MemberLosses {
    targets: Vec<(IpAddr, Windows<Count>)>,
    /// Of its TCP connections, if there were any.
    segments: Option<Box<Windows<Segments>>>,
    verdict: Verdict,
}

impl MemberLosses {
    fn count(&mut self, now: Time, target: IpAddr, count: Count) {
        let known = self.targets.iter().position(|(known, _)| *known == target);
        let place = known.unwrap_or_else(|| {
            if self.targets.len() == TARGETS {
                self.targets.remove(0);
            }
            self.targets.push((target, Windows::default()));
            self.targets.len() - 1
        });
        self.targets[place].1.update(now, |value| value.add(count));
        self.verdict.count(LossEvidence::Probes, count);
    }

    fn count_segments(&mut self, now: Time, segments: &Segments) {
        self.segments.get_or_insert_default().update(now, |value| value.add(segments));
        if let Some(count) = segments.count() {
            self.verdict.count(LossEvidence::Segments, count);
        }
    }

    fn target(&self, target: IpAddr) -> Option<&Windows<Count>> {
        self.targets.iter().find(|(known, _)| *known == target).map(|(_, windows)| windows)
    }

    /// What was counted before shows nothing about the path now.
    fn forget(&mut self) {
        self.targets.clear();
        self.segments = None;
    }
}

/// What the members lose, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    members: BTreeMap<u8, MemberLosses>,
    /// The period in which they were judged last.
    judged: u64,
}

impl Losses {
    fn degraded(&self, number: u8) -> Option<&Degradation> {
        self.members.get(&number)?.verdict.degraded()
    }

    /// Compares a member with others over each window.
    fn compare(&self, now: Time, number: u8, others: &[u8]) -> Vec<Compared> {
        let Some(own) = self.members.get(&number) else { return Vec::new() };
        let others: Vec<&MemberLosses> = others.iter().filter_map(|other| self.members.get(other)).collect();
        let of_window = |(window, length)| {
            let mut with = Comparison::default();
            let mut each = vec![Count::default(); others.len()];
            for (target, windows) in &own.targets {
                for (bucket, own) in windows.values(now, window).filter(|(_, own)| own.sent > 0.0) {
                    let mut sum = Count::default();
                    for (other, each) in others.iter().zip(&mut each) {
                        let value = other.target(*target).and_then(|windows| windows.value(window, bucket));
                        sum.add(value.unwrap_or_default());
                        each.add(value.unwrap_or_default());
                    }
                    with.add(own, sum);
                }
            }
            // One that has just joined shows little.
            let known = each.iter().filter(|each| each.sent * 2.0 >= with.own().sent);
            let best = known.map(|each| each.bounds(CONFIDENCE).0).reduce(f64::min).unwrap_or_default();
            Compared { of: LossEvidence::Probes, window: length, with, best }
        };
        let probes = WINDOWS.into_iter().enumerate().map(of_window);
        let probes = probes.filter(|compared| compared.with.own().sent > 0.0);
        let segments = own.segments.as_ref().map(|own| {
            let others: Vec<_> = others.iter().filter_map(|other| other.segments.as_deref()).collect();
            segments::compare(now, own, &others)
        });
        probes.chain(segments.into_iter().flatten()).collect()
    }
}

impl Group {
    /// Probes of a member over each of [`WINDOWS`], and how many of them were lost.
    pub fn lost_probes(&self, now: Time, number: u8) -> [Count; WINDOWS.len()] {
        let mut lost = [Count::default(); WINDOWS.len()];
        for (_, windows) in self.probing.losses.members.get(&number).iter().flat_map(|member| &member.targets)
        {
            for (window, sum) in lost.iter_mut().enumerate() {
                windows.values(now, window).for_each(|(_, value)| sum.add(value));
            }
        }
        lost
    }

    /// Whether what TCP connections lose is counted. Without probes nothing would show that a member without connections is in order
    /// again.
    pub fn counts_segments(&self) -> bool {
        let probed = self.members.iter().filter(|member| member.probing().enabled());
        self.settings.evidence && self.settings.loss_warn.is_some() && probed.count() > 1
    }

    /// The members with which others are compared.
    pub fn loss_peers(&self) -> MemberSet {
        let is_peer =
            |member: &&Member| member.functions() && self.probing.losses.degraded(member.number()).is_none();
        self.members.iter().filter(is_peer).map(Member::number).collect()
    }

    /// Counts the segments that the last sweep found.
    pub(in crate::core::group) fn count_segments(&mut self, now: Time, lost: &segments::Lost) {
        let in_service = self.members.set(Member::in_service);
        for (number, segments) in lost.iter().filter(|(number, _)| in_service.has(**number)) {
            self.probing.losses.members.entry(*number).or_default().count_segments(now, segments);
        }
    }

    /// Counts the probes that have results now.
    pub(super) fn count_losses(&mut self, now: Time) {
        for member in self.members.iter_mut().filter(|member| member.in_service()) {
            let counts = self.probing.losses.members.entry(member.number()).or_default();
            for prober in member.probing_mut().probers_mut() {
                for (target, is_lost) in prober.take_rounds() {
                    let is_shared = prober.targets.get(target).is_some_and(|target| !target.unreached);
                    if is_shared {
                        counts.count(now, target, Count { sent: 1.0, lost: f64::from(u8::from(is_lost)) });
                    }
                }
            }
        }
    }

    /// Judges which members lose far more than others.
    pub(super) fn judge_losses(&mut self, now: Time) {
        let in_service = self.members.set(Member::in_service);
        self.probing.losses.members.retain(|number, _| in_service.has(*number));
        if !self.counts_segments() {
            self.probing.losses.members.values_mut().for_each(|member| member.segments = None);
        }
        let period = loss::period(now);
        if std::mem::replace(&mut self.probing.losses.judged, period) != period {
            for number in self.members.numbers() {
                self.judge_loss(now, number);
            }
        }
        for number in self.members.numbers() {
            self.set_loss(number);
        }
    }

    fn judge_loss(&mut self, now: Time, number: u8) {
        let Some(limit) = self.settings.loss_warn else {
            self.probing.losses.members.values_mut().for_each(|member| member.verdict.end());
            return;
        };
        if !self.member(number).is_some_and(Member::functions) {
            return;
        }
        let peers: Vec<u8> = self.loss_peers().without(number).iter().collect();
        let compared = self.probing.losses.compare(now, number, &peers);
        let Some(member) = self.probing.losses.members.get_mut(&number) else { return };
        if member.verdict.judge(now, limit.ratio(), &compared) == Change::Ended {
            member.forget();
        }
    }

    /// Whether a member is degraded now, and what follows from that.
    fn set_loss(&mut self, number: u8) {
        let Some(member) = self.members.get(number) else { return };
        let before = member.loss();
        let limit = self.settings.loss_fail;
        let loss = self.probing.losses.degraded(number).map(|degraded| Loss {
            of: degraded.by.of,
            window: degraded.by.window,
            lost: Percent::of(degraded.by.with.own().share()),
            others: Percent::of(degraded.by.with.others().share()),
            is_avoided: limit.is_some_and(|limit| degraded.level > limit.ratio()),
        });
        if loss == before {
            return;
        }
        let name = member.name().to_owned();
        let is_new = |loss: &Loss| before.is_none_or(|before| loss.is_avoided && !before.is_avoided);
        let member = name.clone();
        match loss {
            Some(loss) if is_new(&loss) => {
                let Loss { of, window, lost, others, is_avoided } = loss;
                let event = |group| Event::Degraded { member, group, of, window, lost, others, is_avoided };
                self.report(Cause::ProbeResults, event);
            }
            Some(_) => {}
            None => self.report(Cause::ProbeResults, |group| Event::DegradedEnded { member, group }),
        }
        let cause = match loss {
            Some(_) => Cause::Degraded { member: name },
            None => Cause::DegradedEnded { member: name },
        };
        self.change_flaw(number, &cause, |member| member.set_loss(loss));
    }
}

#[cfg(test)]
mod tests;
