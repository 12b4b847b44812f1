//! Which of the functioning members transmit: standbys, and failed members when none functions
//! (docs/reference.md 2.6, 2.7).
//!
//! | a member | result |
//! |---|---|
//! | standby, functions | inactive, while as many members transmit as there are members that are no standby |
//! | no standby, functions after it joined, was offline, or with `failback` | transmits; if too many do, a standby becomes inactive |
//! | no standby, is repaired without `failback`, and others function | inactive |
//! | no standby, is repaired without `failback`, and none functions | transmits |
//! | that transmitted fails | an inactive member replaces it: the standby that joined last, else the member that joined first |
//!
//! A member that is drained does not count as one that transmits.
//!
//! A member that loses some packets, large ones ([`Hole`](crate::core::member::Hole)) or those to the default router, does not transmit
//! while another one functions that loses less, and an inactive one replaces it.
//!
//! Inactive members are the datapath's reserve: it falls back on them by itself. While any member functions, those that
//! do not are kept out if a restored link is not enough for them to transmit: those that are probed, standbys, and all
//! without `failback`. While none functions, any member with a link transmits, even if its probes failed (`fail_open`).

use ipmp_common::steer::MemberSet;

use super::{Settings, members::Members};
use crate::{
    core::member::{Condition, Member},
    types::Failback,
};

/// Where a member that functions now comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Joined,
    Repaired,
    /// It was offline.
    Online,
}

impl Members {
    /// A member functions now: decides whether it transmits, and whether a standby no longer does.
    pub(super) fn came_back(&mut self, number: u8, from: Origin, settings: &Settings) {
        let others = || self.iter().filter(|member| member.number() != number);
        let others_function = others().any(Member::functions);
        let transmitting = others().filter(|member| self.transmits(member)).count();
        let wanted = self.wanted();
        let is_avoided = self.get(number).is_some_and(|member| self.avoids(member));
        let least = self.least_flaw();
        let failback = settings.failback != Failback::No || from == Origin::Online;
        let Some(member) = self.get_mut(number) else { return };
        if is_avoided {
            member.set_inactive(false);
        } else if member.standby() {
            member.set_inactive(transmitting > 0 && transmitting >= wanted);
        } else {
            member.set_inactive(!failback && from == Origin::Repaired && others_function);
            if failback && transmitting >= wanted {
                let surplus = self
                    .iter_mut()
                    .find(|other| other.number() != number && other.standby() && transmits(other, least));
                if let Some(standby) = surplus {
                    standby.set_inactive(true);
                }
            }
        }
    }

    /// A member failed or left, `before` being what it was: an inactive one replaces it if it transmitted.
    pub(super) fn replace(&mut self, before: &Member) {
        if !self.transmits(before) {
            return;
        }
        let transmitting = self.iter().filter(|member| self.transmits(member)).count();
        let has_left = self.get(before.number()).is_none();
        // When a member leaves, one less is wanted, unless it was a standby.
        if !has_left || before.standby() || transmitting < self.wanted() {
            self.activate_standby();
        }
    }

    /// The operator makes a member a standby, or no longer; whether that is a change.
    pub(super) fn set_standby(&mut self, number: u8, standby: bool) -> bool {
        let Some(member) = self.get_mut(number) else { return false };
        if !member.set_standby(standby) {
            return false;
        }
        let functions = member.functions();
        if standby && functions {
            let others = self.iter().filter(|member| member.number() != number);
            let transmitting = others.filter(|member| self.transmits(member)).count();
            let wanted = self.wanted();
            if let Some(member) = self.get_mut(number) {
                member.set_inactive(transmitting > 0 && transmitting >= wanted);
            }
        }
        true
    }

    /// Members that are inactive only because repaired members do not fail back.
    pub(super) fn without_failback(&self) -> Vec<u8> {
        self.iter().filter(|member| member.inactive() && !member.standby()).map(Member::number).collect()
    }

    /// Makes sure that one member transmits, if any functions.
    pub(super) fn ensure_active(&mut self) {
        if !self.iter().any(|member| self.transmits(member)) {
            self.activate_standby();
        }
    }

    /// Decides which members must not transmit although they are not offline.
    pub(super) fn keep_out(&mut self, settings: &Settings) {
        let (any_functions, least) = (self.any_functions(), self.least_flaw());
        for member in self.iter_mut() {
            let is_standby = member.inactive() || member.probing().failed() || !member.receives();
            let link_is_not_enough = match member.condition() {
                Condition::Ok => false,
                Condition::New => member.standby(),
                Condition::Down | Condition::Returning | Condition::Held => {
                    member.standby() || settings.failback != Failback::Yes
                }
            };
            let fails_closed = member.probing().failed() && !settings.fail_open;
            let is_avoided = is_worse(member, least);
            let others_do = any_functions && (is_standby || link_is_not_enough || is_avoided);
            member.set_kept_out(fails_closed || others_do);
        }
    }

    /// The members that the datapath falls back on: inactive ones; without any, those that lose some packets; without any, members in hold-down; without any, those whose probes failed; without any, those whose program is missing.
    pub(super) fn reserve(&self, settings: &Settings) -> MemberSet {
        let probes_failed = |member: &Member| {
            member.offline().is_none() && member.probing().failed() && member.kept_out() && settings.fail_open
        };
        let inactive = |member: &Member| member.inactive() && member.functions();
        let without_program =
            |member: &Member| member.offline().is_none() && !member.receives() && !probes_failed(member);
        let tiers = [
            self.set(inactive),
            self.set(|member| member.functions() && self.avoids(member)),
            self.set(Member::is_in_hold_down),
            self.set(probes_failed),
            self.set(without_program),
        ];
        let present = self.set(|member| !member.absent());
        tiers.into_iter().map(|tier| tier.and(present)).find(|tier| !tier.is_empty()).unwrap_or_default()
    }

    fn activate_standby(&mut self) {
        let inactive =
            || self.iter().filter(|member| member.functions() && member.inactive() && !self.avoids(member));
        let next = inactive().rev().find(|member| member.standby()).or_else(|| inactive().next());
        let next = next.map(Member::number);
        if let Some(member) = next.and_then(|next| self.get_mut(next)) {
            member.set_inactive(false);
        }
    }

    /// The least flaw of a member that functions.
    fn least_flaw(&self) -> Option<u8> {
        self.iter().filter(|member| member.functions()).map(Member::flaw).min()
    }

    /// Whether a member loses packets that pass on another one.
    pub(super) fn avoids(&self, member: &Member) -> bool {
        is_worse(member, self.least_flaw())
    }

    fn transmits(&self, member: &Member) -> bool {
        transmits(member, self.least_flaw())
    }

    /// How many members should transmit.
    fn wanted(&self) -> usize {
        self.iter().filter(|member| !member.standby()).count()
    }
}

/// `least`: the least flaw of a member that functions.
fn transmits(member: &Member, least: Option<u8>) -> bool {
    member.functions() && !member.inactive() && !member.drains() && !is_worse(member, least)
}

fn is_worse(member: &Member, least: Option<u8>) -> bool {
    least.is_some_and(|least| member.flaw() > least)
}

#[cfg(test)]
mod tests;
