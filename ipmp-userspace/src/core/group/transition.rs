//! Members in transition: flows move to a member, or leave it, one by one as they become idle
//! (docs/design/leaving-and-returning.md). The datapath moves them; here is decided when it begins and ends.
//!
//! | a member | begins | ends |
//! |---|---|---|
//! | returning | it functions again with `failback=idle`, and others transmit | no flow is active on a less preferred member, or `failback-limit` has passed |
//! | leaving | it is a standby that transmitted, and is inactive since that member functions | no flow is active on it, or `failback-limit` has passed |
//! | draining | `offline --drain` | the same with the time of the request; then it is offline, unless it is the last one that functions |
//!
//! A member that does not function any more is not in transition. If it was drained, it is offline then.

use std::time::Duration;

use ipmp_common::{
    steer::MemberSet,
    transition::{IDLE, Usable},
};

use super::{Group, standby::Origin};
use crate::{
    core::{
        Adopted, Cause, Event, Input, Time,
        member::{Member, Transition},
    },
    types::{Direction, Failback},
};

/// How often the flows are read.
const CHECK: Duration = Duration::from_secs(1);
/// The datapath has seen each active flow after this time.
const LEARNING: Duration = IDLE.saturating_add(Duration::from_millis(50));

impl Group {
    /// Whether [`Input::Moving`] is expected now, before [`Input::Deadline`].
    pub fn awaits_moving(&self, now: Time) -> bool {
        self.transition_deadline().is_some_and(|due| due <= now)
    }

    /// The members that may transmit, and those of them that are in transition.
    pub fn usable_word(&self) -> Usable {
        let moving = |is_returning: bool| {
            self.members.set(|member| {
                let returns = |transition: Transition| transition.direction == Direction::Returning;
                member.transition().is_some_and(|transition| returns(transition) == is_returning)
            })
        };
        // Standbys that flows leave are inactive already.
        let (returning, leaving) = (moving(true).and(self.usable()), moving(false).and(self.functioning()));
        let is_learning =
            |member: &Member| member.transition().is_some_and(|transition| self.now < transition.learnt);
        let usable = Usable { settled: self.usable(), ..Usable::default() };
        let settled = returning.or(leaving).iter().fold(usable, Usable::without).settled;
        let learning = self.members.set(is_learning).and(returning.or(leaving));
        Usable { settled, returning, leaving, learning }
    }

    fn functioning(&self) -> MemberSet {
        self.members.set(Member::functions)
    }

    /// The members that function and transmit.
    fn transmitting(&self) -> MemberSet {
        self.members.set(|member| member.active() && member.functions())
    }

    /// When transitions are checked.
    pub(super) fn transition_deadline(&self) -> Option<Time> {
        let transitions = self.members.iter().filter_map(Member::transition);
        let next = self.moves_checked + CHECK;
        let ends = |transition: Transition| [transition.learnt, transition.limit];
        let due = |time: &Time| *time > self.moves_checked;
        transitions.map(|transition| ends(transition).into_iter().filter(due).fold(next, Time::min)).min()
    }

    fn begin(&mut self, number: u8, direction: Direction, limit: Duration) {
        let (learnt, limit) = (self.now + LEARNING, self.now + limit);
        if self.transition_deadline().is_none() {
            self.moves_checked = self.now;
        }
        if let Some(member) = self.members.get_mut(number) {
            member.set_transition(Some(Transition { direction, learnt, limit }));
        }
    }

    /// A member functions again and transmits. In the datapath it did not until now, and others do.
    pub(super) fn begin_return(&mut self, number: u8, cause: &Cause) {
        let (now, published) = (self.transmitting(), self.published.usable());
        let before = published.settled.or(published.returning);
        let others = before.and(self.functioning()).without(number);
        if others.is_empty() || before.has(number) || !now.has(number) {
            return;
        }
        let limit = self.settings.failback_limit;
        self.begin(number, Direction::Returning, limit);
        for replaced in others.iter().filter(|member| !now.has(*member)) {
            if self.member(replaced).is_some_and(Member::inactive) {
                self.begin(replaced, Direction::Leaving, limit);
            }
        }
        let Some(member) = self.members.name(Some(number)) else { return };
        self.report(cause.clone(), |group| Event::Returning { member, group, limit });
    }

    /// The operator drains a member. A standby replaces it at once.
    pub(super) fn drain(&mut self, number: u8, limit: Duration) {
        let Some(before) = self.member(number).cloned() else { return };
        if !self.transmitting().has(number) {
            self.set_offline(number, &Cause::Trigger);
            return;
        }
        self.begin(number, Direction::Draining, limit);
        self.members.replace(&before);
        self.reconcile(&Cause::Trigger);
        let member = before.name().to_owned();
        self.report(Cause::Trigger, |group| Event::Draining { member, group, limit });
    }

    /// The operator puts a member back that is drained.
    pub(super) fn end_drain(&mut self, number: u8) {
        self.stop(number);
        self.members.came_back(number, Origin::Online, &self.settings);
        self.reconcile(&Cause::Trigger);
        if self.settings.failback == Failback::Idle {
            self.begin_return(number, &Cause::Trigger);
        }
    }

    /// The group has another setting `failback`: the others have no flows that move one by one.
    pub(super) fn stop_returns(&mut self) {
        for number in self.members.numbers() {
            if !self.member(number).is_some_and(Member::drains) {
                self.stop(number);
            }
        }
    }

    fn stop(&mut self, number: u8) {
        if let Some(member) = self.members.get_mut(number) {
            member.set_transition(None);
        }
    }

    /// Ends the transitions of members whose flows have moved.
    pub(super) fn end_transitions(&mut self, moving: MemberSet) {
        for number in self.members.numbers() {
            let transition = self.member(number).and_then(Member::transition);
            if transition.is_some_and(|transition| self.now >= transition.learnt) && !moving.has(number) {
                self.end(number, true);
            }
        }
    }

    /// Ends the transitions whose time has passed, and those of members that do not function.
    pub(super) fn follow_transitions(&mut self, is_deadline: bool) {
        for number in self.members.numbers() {
            let Some(member) = self.member(number) else { continue };
            let Some(transition) = member.transition() else { continue };
            let continues = match transition.direction {
                Direction::Returning => member.active() && member.functions(),
                Direction::Leaving => member.inactive() && member.functions(),
                Direction::Draining => member.functions(),
            };
            if !continues || self.now >= transition.limit {
                self.end(number, false);
            }
        }
        if is_deadline {
            self.moves_checked = self.now;
        }
    }

    fn end(&mut self, number: u8, is_idle: bool) {
        let Some(member) = self.member(number) else { return };
        let Some(Transition { direction, .. }) = member.transition() else { return };
        let (name, functions) = (member.name().to_owned(), member.functions());
        match direction {
            Direction::Draining => {
                // Another member may have failed meanwhile: the last one stays, and the drain continues.
                if self.check(&Input::Offline { member: number }).is_ok() {
                    self.set_offline(number, &Cause::Drained { member: name });
                }
            }
            Direction::Leaving => self.stop(number),
            Direction::Returning => {
                self.stop(number);
                if functions {
                    self.report(Cause::Trigger, |group| Event::Returned { member: name, group, is_idle });
                }
            }
        }
    }

    /// Continues the transitions that an earlier daemon left. Flows are learnt again: those that are known stay where they are.
    pub(super) fn resume_transitions(&mut self, adopted: &Adopted) {
        let limit = self.settings.failback_limit;
        let drained: MemberSet = adopted.draining.keys().copied().collect();
        for number in adopted.usable.in_transition().or(drained).iter() {
            let Some(member) = self.member(number).filter(|member| member.functions()) else { continue };
            match adopted.draining.get(&number) {
                Some(end) if adopted.usable.leaving.has(number) || *end > self.now => {
                    self.begin(number, Direction::Draining, *end - self.now);
                }
                _ if adopted.usable.returning.has(number) && member.active() => {
                    self.begin(number, Direction::Returning, limit);
                }
                _ if member.inactive() => self.begin(number, Direction::Leaving, limit),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
