//! Confirmation bursts: after a lost probe, which member is tested through which other one, and the results.
//!
//! A burst tests one member in one family. Its probes go to the targets of the member in turn, as those of its rounds do: a
//! target that does not reply to one member only is no failure of the member. If no other member receives replies of the target,
//! none is sent, and the loss is disputed. If the target is known to drop some requests, the rounds decide as with
//! `confirm=even`.

use std::net::IpAddr;

use super::{
    Group,
    rounds::{Request, send},
};
use crate::{
    core::{
        Time,
        member::Member,
        probe::{
            burst::{Burst, LENGTH, Progress, SHORTEST},
            history::ProbeKind,
            prober::Prober,
            targets::Targets,
        },
    },
    types::{Confirm, Family},
};

impl Group {
    /// Whether bursts are sent at all.
    pub(super) fn has_bursts(&self) -> bool {
        self.settings.confirm == Confirm::Fast && self.probing.fdt.current() >= SHORTEST
    }

    /// Starts the bursts of members that have lost a probe.
    pub(super) fn start_bursts(&mut self, now: Time) {
        if !self.has_bursts() {
            return;
        }
        let interval = self.probing.fdt.interval();
        for number in self.members.numbers() {
            for family in Family::ALL {
                let member = self.member(number).filter(|member| member.functions());
                let prober = member.and_then(|member| member.prober(family));
                // A burst takes the place of rounds: where it takes longer than one, the rounds decide after a void one.
                let prober = prober.filter(|prober| !prober.was_void || interval >= LENGTH);
                let Some(loss) = prober.and_then(|prober| prober.untested_loss(now)) else { continue };
                let is_unreliable = self.unreliable_targets(now).any(|(target, _)| target == loss.1);
                let draw = self.probing.random();
                if is_unreliable {
                    continue;
                }
                let control = self.control_member(number, family, loss.1, draw, None);
                let burst = control.map(|control| Burst::new(now, loss, control, || self.probing.random()));
                if let Some(prober) = self.prober_mut(number, family) {
                    prober.tested = Some(loss.0);
                    if burst.is_none() {
                        prober.history.dispute(loss.0);
                    }
                    prober.burst = burst;
                }
            }
        }
    }

    /// A member through which control probes to this target can be sent: one that has received a reply to its last probe, and
    /// that evidence does not suspect, if there is one. If it does not probe this target, one of its own.
    pub(super) fn control_member(
        &self,
        number: u8,
        family: Family,
        target: IpAddr,
        draw: u64,
        tried: Option<&Burst>,
    ) -> Option<u8> {
        let is_good = |member: &&Member| {
            member.number() != number
                && member.functions()
                && tried.is_none_or(|burst| !burst.has_tried(member.number()))
                && member.prober(family).is_some_and(|prober| receives_replies(prober, target))
        };
        let good: Vec<u8> = self.members.iter().filter(is_good).map(Member::number).collect();
        let has = |is: fn(&Prober, IpAddr) -> bool| {
            move |number: &u8| self.prober(*number, family).is_some_and(|prober| is(prober, target))
        };
        let good = preferred(good, has(|prober, target| prober.targets.probes(target)));
        let good = preferred(good, has(|prober, _| prober.burst.is_none()));
        let at = draw.checked_rem(good.len() as u64)?;
        good.get(at as usize).copied()
    }

    /// Ends the bursts that have a result.
    pub(super) fn conclude_bursts(&mut self, now: Time) {
        for number in self.members.numbers() {
            for family in Family::ALL {
                let Some(prober) = self.prober(number, family) else { continue };
                let Some(burst) = prober.burst.as_ref() else { continue };
                let control = self.prober(burst.control_member(), family);
                let progress = burst.progress(&prober.history, control.map(|control| &control.history));
                if matches!(progress, Progress::InDoubt | Progress::Discarded)
                    && self.change_control_member(now, number, family)
                {
                    continue;
                }
                let Some(prober) = self.prober_mut(number, family) else { continue };
                if matches!(progress, Progress::Running | Progress::InDoubt) {
                    continue;
                }
                let Some(burst) = prober.burst.take() else { continue };
                match progress {
                    Progress::Confirmed => prober.fail(),
                    Progress::Discarded => {
                        prober.discard_burst(&burst);
                    }
                    Progress::Void => {
                        prober.void_burst(&burst);
                    }
                    Progress::Answered | Progress::Running | Progress::InDoubt => {}
                }
            }
        }
    }

    /// The control member of a burst has lost a control probe: another one continues. Whether there is one.
    fn change_control_member(&mut self, now: Time, number: u8, family: Family) -> bool {
        let draw = self.probing.random();
        let Some(burst) = self.prober(number, family).and_then(|prober| prober.burst.clone()) else {
            return false;
        };
        let control = self.control_member(number, family, burst.target(), draw, Some(&burst));
        let Some(control) = control else { return false };
        let mut burst = burst;
        burst.change_control_member(now, control, || self.probing.random());
        if let Some(prober) = self.prober_mut(number, family) {
            prober.burst = Some(burst);
        }
        true
    }

    /// Sends the packets of bursts that are due.
    pub(super) fn send_bursts(&mut self, now: Time, doubts: &[(u8, IpAddr)]) {
        let interval = self.probing.fdt.interval();
        for number in self.members.numbers() {
            for family in Family::ALL {
                let Some(prober) = self.prober_mut(number, family) else { continue };
                let Some(burst) = prober.burst.as_mut() else { continue };
                let Some((is_control, count)) = burst.next(now) else { continue };
                let (control, first) = (burst.control_member(), burst.target());
                // A first lost probe was one of the member's own.
                let turn = count + usize::from(!is_control && burst.first().is_some());
                let sender = if is_control { control } else { number };
                let chosen = self.burst_target(number, control, family, first, (is_control, turn));
                let mac = |target| {
                    let neighbour = self.probing.neighbours.get(&target)?;
                    neighbour.found.map(|(mac, _)| mac)
                };
                let mac = chosen.and_then(mac);
                let (Some(target), Some(of_sender)) = (chosen, self.members.get_mut(sender)) else {
                    // The control member itself has lost a probe of the target meanwhile.
                    if !self.change_control_member(now, number, family) {
                        self.end_burst(number, family);
                    }
                    continue;
                };
                let Some(of_sender) = of_sender.probing_mut().prober_mut(family) else {
                    self.end_burst(number, family);
                    continue;
                };
                let kind = if is_control { ProbeKind::Control } else { ProbeKind::Burst };
                let sequence = of_sender.history.want_of(kind, target, now, now + interval);
                let is_doubtful = !is_control && doubts.contains(&(sender, target));
                let request = Request {
                    number: sender,
                    target,
                    sequence,
                    mac,
                    size: None,
                    is_doubtful,
                    is_extra: true,
                };
                send(of_sender, request, now, interval, &mut self.probing.requests);
                if let Some(burst) = self.prober_mut(number, family).and_then(|of| of.burst.as_mut()) {
                    burst.requested(is_control, sequence);
                }
            }
        }
    }

    /// The target of the next probe or control probe of a burst: in turn, from that of the first lost probe on, those that
    /// have replied to the sender last, or to the control member.
    fn burst_target(
        &self,
        number: u8,
        control: u8,
        family: Family,
        first: IpAddr,
        (is_control, turn): (bool, usize),
    ) -> Option<IpAddr> {
        let (own, control) = (self.prober(number, family)?, self.prober(control, family)?);
        let replies = |target: &IpAddr| control.history.last_answered(*target);
        let replied = |target: &IpAddr| own.history.last_answered(*target);
        let active = |targets: &Targets| targets.active().map(|target| target.address).collect::<Vec<_>>();
        let (mine, controls) = (active(&own.targets), active(&control.targets));
        let targets: Vec<IpAddr> = match (controls.contains(&first), is_control) {
            (true, true) => {
                let shared = mine.into_iter().filter(|target| controls.contains(target));
                shared.filter(replies).collect()
            }
            // In a split network the control member does not reach all of them.
            (true, false) => mine.into_iter().filter(|target| replies(target) || replied(target)).collect(),
            (false, true) => controls.into_iter().filter(replies).collect(),
            (false, false) => mine,
        };
        let start = targets.iter().position(|target| *target == first).unwrap_or(0);
        targets.get((start + turn).checked_rem(targets.len())?).copied()
    }

    /// A burst cannot continue: no other member receives replies.
    fn end_burst(&mut self, number: u8, family: Family) {
        if let Some(prober) = self.prober_mut(number, family)
            && let Some(burst) = prober.burst.take()
        {
            prober.discard_burst(&burst);
        }
    }

    pub(super) fn prober(&self, number: u8, family: Family) -> Option<&Prober> {
        self.member(number)?.prober(family)
    }
}

/// Whether a member has received a reply to its last probe of this target; if it does not probe that, to its last probe.
fn receives_replies(prober: &Prober, target: IpAddr) -> bool {
    let history = &prober.history;
    let replies = |target| history.last_answered(target);
    let of_another = || prober.targets.active().any(|other| replies(other.address));
    let is_good = || {
        if prober.targets.probes(target) { replies(target) } else { history.losses() == 0 && of_another() }
    };
    // A burst after a loss shows a member that does not; one by evidence none, until it loses a probe.
    let has_lost = prober.burst.as_ref().is_some_and(|burst| burst.first().is_some());
    prober.capable() && !prober.failed && !has_lost && is_good()
}

/// Those of the members that are so, if any is; else all.
fn preferred(members: Vec<u8>, is_so: impl Fn(&u8) -> bool) -> Vec<u8> {
    let (best, others): (Vec<u8>, Vec<u8>) = members.into_iter().partition(is_so);
    if best.is_empty() { others } else { best }
}
