//! Who of those that function carries: standbys, spares, and nobody but the failed (reference 2.6, 2.7).
//!
//! | a member | done |
//! |---|---|
//! | standby, works | a spare, while as many carry as there are members that are no standby |
//! | no standby, works after it joined, was offline, or with `failback` | carries; if too many do, a standby becomes a spare |
//! | no standby, is repaired without `failback`, and others function | a spare |
//! | no standby, is repaired without `failback`, and nobody functions | carries |
//! | that carried is lost | a spare carries: the standby that joined last, else whoever joined first |
//!
//! Spares are the datapath's reserve: it falls back on them by itself. While anybody functions, members that do not are
//! kept out if a link that is back is not enough for them to carry: those that are probed, standbys, and all without
//! `failback`. While nobody functions, whoever has a link carries, even if its probes failed (`fail_open`).

use ipmp_common::steer::MemberSet;

use super::Group;
use crate::core::member::{Condition, Member};

/// Where a member that functions comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// It joined.
    Joined,
    /// It had failed.
    Repaired,
    /// It was offline.
    Online,
}

impl Group {
    /// A member functions now: whether it carries, and who does not any more.
    pub(super) fn came_back(&mut self, number: u8, from: Back) {
        let others = || self.members.iter().filter(|member| member.number() != number);
        let others_function = others().any(Member::functions);
        let carrying = others().filter(|member| member.functions() && !member.inactive).count();
        let wanted = self.members.iter().filter(|member| !member.standby).count();
        let failback = self.settings.failback || from == Back::Online;
        let Some(member) = self.member_mut(number) else { return };
        if member.standby {
            member.inactive = carrying > 0 && carrying >= wanted;
        } else {
            member.inactive = !failback && from == Back::Repaired && others_function;
            if failback && carrying >= wanted {
                let standby = |other: &&mut Member| {
                    other.number() != number && other.standby && other.functions() && !other.inactive
                };
                if let Some(standby) = self.members.iter_mut().find(standby) {
                    standby.inactive = true;
                }
            }
        }
        self.reconcile();
    }

    /// A member is lost, or has left, that was this: a spare takes its place, if it carried.
    pub(super) fn lost_one(&mut self, was: &Member) {
        if was.functions() && !was.inactive {
            let wanted = self.members.iter().filter(|member| !member.standby).count();
            let carrying = self.members.iter().filter(|m| m.functions() && !m.inactive).count();
            let left = self.member(was.number()).is_none();
            // With a member that leaves, one less is wanted, unless it was a standby.
            if !left || was.standby || carrying < wanted {
                self.activate_spare();
            }
        }
        self.reconcile();
    }

    /// The operator makes a member a standby, or no longer.
    pub(super) fn set_standby(&mut self, number: u8, standby: bool) {
        let Some(member) = self.member_mut(number) else { return };
        if std::mem::replace(&mut member.standby, standby) == standby {
            return;
        }
        let functions = member.functions();
        member.inactive &= standby;
        if standby && functions {
            let carrying = self.members.iter().filter(|m| m.functions() && !m.inactive);
            let carrying = carrying.filter(|member| member.number() != number).count();
            let wanted = self.members.iter().filter(|member| !member.standby).count();
            if let Some(member) = self.member_mut(number) {
                member.inactive = carrying > 0 && carrying >= wanted;
            }
        }
        self.reconcile();
    }

    /// The operator wants repaired members back at once: those that were kept as spares, too.
    pub(super) fn release_spares(&mut self) {
        let spares = self.members.iter().filter(|member| member.inactive && !member.standby);
        for number in spares.map(Member::number).collect::<Vec<_>>() {
            self.came_back(number, Back::Online);
        }
    }

    fn activate_spare(&mut self) {
        let spares = || self.members.iter().filter(|member| member.functions() && member.inactive);
        let next = spares().rev().find(|member| member.standby).or_else(|| spares().next());
        let next = next.map(Member::number);
        if let Some(member) = next.and_then(|next| self.member_mut(next)) {
            member.inactive = false;
        }
    }

    /// Brings the active list, and with it the roles, in line with what the members are.
    pub(super) fn reconcile(&mut self) {
        if self.members.iter().all(|member| !member.functions() || member.inactive) {
            self.activate_spare();
        }
        self.keep_out();
        let carries = |group: &Self, number| group.member(number).is_some_and(Member::active);
        for number in self.active.clone() {
            if !carries(self, number) {
                self.deactivate(number);
            }
        }
        for number in self.members.iter().map(Member::number).collect::<Vec<_>>() {
            if carries(self, number) && !self.active.contains(&number) {
                self.activate(number);
            }
        }
    }

    /// Decides who shall not carry although nobody has taken it out.
    pub(super) fn keep_out(&mut self) {
        let anybody = self.anybody_functions();
        let (failback, fail_open) = (self.settings.failback, self.settings.fail_open);
        for member in &mut self.members {
            let spare = member.inactive || member.probing.failed;
            let link_is_not_enough = match member.condition {
                Condition::Ok => false,
                Condition::New => member.standby,
                Condition::Down | Condition::Returning | Condition::Held => member.standby || !failback,
            };
            let shut = member.probing.failed && !fail_open;
            member.kept_out = shut || (anybody && (spare || link_is_not_enough));
        }
    }

    /// Whom the datapath falls back on: spares; without any, members that are held down; without any, those that failed.
    pub(super) fn reserve(&self) -> MemberSet {
        let fallen = |member: &Member| {
            member.offline.is_none() && member.probing.failed && member.kept_out && self.settings.fail_open
        };
        let spare = |member: &Member| member.inactive && member.functions();
        let set = |these: &dyn Fn(&Member) -> bool| -> MemberSet {
            self.members.iter().filter(|member| these(member)).map(Member::number).collect()
        };
        let tiers = [set(&spare), set(&Member::held_down), set(&fallen)];
        tiers.into_iter().find(|tier| !tier.is_empty()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
