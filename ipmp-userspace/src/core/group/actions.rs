//! From what a group has become to the actions that publish it.

use super::Group;
use crate::{
    core::{Action, Cause, Event, member::Member},
    types::Failback,
};

impl Group {
    /// Everything that differs from what was published: what prevents losses first, reports last. Ends each input.
    pub(super) fn actions(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let mtu = self.published.mtu(&self.members);
        let set_mtu =
            |is_lower| mtu.filter(|&(_, lowered)| lowered == is_lower).map(|(mtu, _)| Action::SetMtu(mtu));
        actions.extend(set_mtu(true));

        actions.extend(self.published.masks(self.usable_word(), self.reserve()));
        actions.extend(self.published.slots(self.roles.slots()));
        let numbers = self.members.numbers();
        self.roles.refresh_cast(&numbers);
        actions.extend(self.published.cast(self.roles.cast().list()));
        let lists = self.roles.inbound_lists(&numbers, |address| self.published.inbound(address));
        let moves = self.published.addresses(&self.members, lists, self.new_mac.take(), &mut actions);
        actions.extend(self.published.active(self.roles.active()));
        for (address, (from, to)) in moves {
            let preferred = self.members.name(self.roles.preferred(address));
            let cause = self.cause_of_move(&from, &to, preferred.as_ref() == Some(&to));
            self.report(cause, |group| Event::AddressMoved {
                address,
                group,
                from: Some(from),
                to: Some(to),
            });
        }

        actions.extend(self.published.carrier(!self.roles.active().is_empty()));
        actions.extend(self.published.states(&self.members));
        actions.extend(set_mtu(false));
        actions.extend(self.probing.take_actions());
        for (number, cause) in self.published.inactive() {
            let Some(member) = self.members.get(number) else { continue };
            let (name, is_inactive, is_active) =
                (member.name().to_owned(), member.inactive(), member.active());
            if is_inactive {
                self.report(cause, |group| Event::Deactivated { member: name, group });
            } else if is_active {
                self.report(cause, |group| Event::Activated { member: name, group });
            }
        }
        if let Some((from, to)) = self.published.cast_holder(self.members.name(self.roles.cast().member())) {
            let cause = self.cause_of_move(&from, &to, false);
            self.report(cause, |group| Event::CastMoved { group, from: Some(from), to: Some(to) });
        }
        actions.extend(self.reports.drain(..).map(|(event, cause)| Action::Report(event, cause)));
        self.due = self.next_deadline();
        actions
    }

    /// `is_preferred`: the role is an address that prefers its new member.
    fn cause_of_move(&self, from: &str, to: &str, is_preferred: bool) -> Cause {
        let member = from.to_owned();
        match self.members.named(from) {
            None => Cause::MemberLeft { member },
            Some(before) if before.absent() => Cause::MemberAbsent { member },
            Some(before) if before.offline().is_some() => Cause::MemberOffline { member },
            Some(before) if !before.receives() => Cause::ProgramMissing { member },
            Some(before) if self.members.avoids(before) && before.unreached_router().is_some() => {
                Cause::RouterUnreached { member }
            }
            Some(before) if self.members.avoids(before) && before.hole().is_some() => {
                Cause::MtuHole { member }
            }
            Some(before) if self.members.avoids(before) => Cause::Degraded { member },
            Some(before) if before.functions() => {
                let member = to.to_owned();
                if is_preferred { Cause::Preferred { member } } else { Cause::Balance { member } }
            }
            Some(_) => Cause::MemberFailed { member },
        }
    }

    /// Records what [`Self::actions`] reports at the end.
    pub(super) fn report(&mut self, cause: Cause, event: impl FnOnce(String) -> Event) {
        self.reports.push((event(self.name.clone()), cause));
    }

    /// Brings the active list, and with it the roles, in line with the members.
    pub(super) fn reconcile(&mut self, cause: &Cause) {
        self.members.ensure_active();
        self.members.keep_out(&self.settings);
        self.published.record_inactive(self.members.set(Member::inactive), cause);
        self.roles.reconcile(&self.members, self.settings.failback != Failback::No);
    }
}
