//! Members whose ingress program is missing: the group receives nothing through them.

use super::{Group, standby::Origin};
use crate::core::{Cause, Event};

impl Group {
    /// The ingress program of a member is missing, or attached again. Without it the member counts as failed.
    pub(super) fn set_program(&mut self, number: u8, attached: bool) {
        let Some(member) = self.members.get_mut(number).filter(|member| member.receives() != attached) else {
            return;
        };
        let before = member.clone();
        member.set_receives(attached);
        let name = member.name().to_owned();
        let functions = member.functions();
        if attached {
            let cause = Cause::ProgramAttached { member: name.clone() };
            if functions {
                self.report(cause.clone(), |group| Event::MemberRepaired { member: name, group });
                self.came_back(number, Origin::Repaired, &cause);
            }
            self.refresh(false, &cause);
        } else {
            member.set_inactive(false);
            let cause = Cause::ProgramMissing { member: name.clone() };
            self.members.replace(&before);
            self.reconcile(&cause);
            if before.functions() {
                if self.members.any_can_replace() {
                    self.report(cause.clone(), |group| Event::MemberFailed { member: name, group });
                }
                self.refresh(true, &cause);
            }
        }
    }
}
