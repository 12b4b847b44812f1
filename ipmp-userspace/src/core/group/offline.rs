//! Members out of service: offline by the operator, or because of a duplicate MAC.

use super::{Group, standby::Origin};
use crate::{
    core::{Cause, Event, Input, Refusal, member::Member},
    types::{GroupState, OfflineCause},
};

impl Group {
    /// Sets a member offline whose MAC another one has (docs/reference.md 2.11).
    pub(super) fn refuse_duplicate_mac(&mut self, number: u8) {
        let Some(member) = self.member(number).filter(|member| member.offline().is_none()) else { return };
        let Some(other) = self.members.with_mac_of(member) else { return };
        let (member, other) = (member.name().to_owned(), other.name().to_owned());
        let cause = Cause::DuplicateMac { member: member.clone(), other };
        self.report(cause.clone(), |group| Event::DuplicateMac { member, group });
        let lost = self.take_out(number, OfflineCause::DuplicateMac, &cause);
        self.refresh(lost, &cause);
    }

    /// Sets the members online whose MAC no other one has any more.
    pub(super) fn accept_unique_macs(&mut self) {
        for number in self.members.numbers() {
            let Some(member) = self.member(number) else { continue };
            if member.offline() == Some(OfflineCause::DuplicateMac)
                && self.members.with_mac_of(member).is_none()
            {
                let name = member.name().to_owned();
                let cause = Cause::UniqueMac { member: name.clone() };
                self.report(cause.clone(), |group| Event::UniqueMac { member: name, group });
                self.put_back(number, cause);
            }
        }
    }

    /// Refuses an input that must not be handled. One member has to remain, as if_mpadm requires (docs/reference.md 2.12).
    pub(super) fn check(&self, input: &Input) -> Result<(), Refusal> {
        let (Input::Offline { member } | Input::Drain { member, .. } | Input::Online { member }) = input
        else {
            return Ok(());
        };
        let Some(member) = self.member(*member) else { return Ok(()) };
        let name = || member.name().to_owned();
        if matches!(input, Input::Online { .. }) {
            return match member.offline() {
                None if member.drains() => Ok(()),
                None => Err(Refusal::NotOffline(name())),
                Some(OfflineCause::DuplicateMac) => Err(Refusal::DuplicateMac(name())),
                Some(OfflineCause::Operator) if self.members.with_mac_of(member).is_some() => {
                    Err(Refusal::DuplicateMac(name()))
                }
                Some(OfflineCause::Operator) => Ok(()),
            };
        }
        if member.offline().is_some() {
            return Err(Refusal::AlreadyOffline(name()));
        }
        // Those that are drained will be offline, too.
        let is_other = |other: &&Member| other.number() != member.number() && !other.drains();
        let mut others = self.members.iter().filter(is_other);
        let enough = match self.state() {
            GroupState::Failed => others.any(|other| other.offline().is_none() && !other.absent()),
            GroupState::Ok | GroupState::Degraded | GroupState::Split => others.any(Member::functions),
        };
        if enough { Ok(()) } else { Err(Refusal::LastFunctioning(name())) }
    }

    pub(super) fn set_offline(&mut self, number: u8, cause: &Cause) {
        let Some(member) = self.members.name(Some(number)) else { return };
        self.report(cause.clone(), |group| Event::Offline { member, group });
        let lost = self.take_out(number, OfflineCause::Operator, cause);
        self.accept_unique_macs();
        self.refresh(lost, cause);
    }

    pub(super) fn set_online(&mut self, number: u8) {
        let Some(member) = self.members.name(Some(number)) else { return };
        self.report(Cause::Trigger, |group| Event::Online { member, group });
        if self.member(number).is_some_and(Member::drains) {
            self.end_drain(number);
            return;
        }
        self.put_back(number, Cause::Trigger);
    }

    /// Takes a member out of service; whether it functioned.
    fn take_out(&mut self, number: u8, offline: OfflineCause, cause: &Cause) -> bool {
        let Some(member) = self.members.get_mut(number) else { return false };
        let before = member.clone();
        member.set_offline(offline);
        member.set_transition(None);
        self.probing.mark_stale();
        self.members.replace(&before);
        self.reconcile(cause);
        before.functions()
    }

    fn put_back(&mut self, number: u8, cause: Cause) {
        self.probing.mark_stale();
        let Some(member) = self.members.get_mut(number) else { return };
        let turn = member.set_online();
        let functions = |group: &Self| group.member(number).is_some_and(Member::functions);
        if turn.is_none() && functions(self) {
            self.came_back(number, Origin::Online, &cause);
            self.refresh(false, &cause);
        }
        self.turned(number, turn, None, cause.clone());
        if turn.is_some() && functions(self) {
            // Its link had come back while it was offline; still, it comes from offline.
            self.came_back(number, Origin::Online, &cause);
        }
        self.reconcile(&cause);
    }
}
