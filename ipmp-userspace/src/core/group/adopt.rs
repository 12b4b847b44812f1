//! Adopting a group that an earlier daemon left in the kernel.

use super::{Group, published::Published, roles::Roles};
use crate::{
    core::{Action, Adopted, Cause, Settings, Time, member::Member},
    types::{MemberState, OfflineCause},
};

impl Group {
    /// The group that the maps describe, and the actions that bring the kernel up to date.
    ///
    /// First the group is as the maps have it, then it receives today's links: what happened while no daemon was running
    /// is an ordinary input, with its events. A role that moved in the datapath stays where it is. Verdicts stand until
    /// something disproves them: an offline member stays offline, a member in hold-down waits for a full window. Every
    /// address is announced again, since a killed daemon may not have finished.
    pub fn adopt(
        now: Time,
        name: impl Into<String>,
        settings: Settings,
        adopted: Adopted,
    ) -> (Self, Vec<Action>) {
        let mut group = Self::new(name, settings);
        group.now = now;
        for (attachment, state) in &adopted.members {
            group.members.add(Member::adopted(now, attachment, *state, &adopted, &settings));
        }
        for number in group.members.numbers() {
            let Some(member) = group.members.get(number) else { continue };
            let cause = match group.members.with_mac_of(member) {
                Some(_) => OfflineCause::DuplicateMac,
                None => OfflineCause::Operator,
            };
            if let Some(member) = group.members.get_mut(number) {
                member.set_offline_cause(cause);
            }
        }
        group.members.keep_out(&settings);
        group.reported_unusable = !group.members.any_functions()
            && group
                .members
                .iter()
                .any(|member| matches!(member.state(), MemberState::Failed | MemberState::Absent));
        group.roles = Roles::adopted(
            &group.members,
            adopted.slots.clone(),
            adopted.cast,
            &adopted.inbound,
            &adopted.preferred,
        );
        group.published = Published::adopted(&adopted, &group.members);

        for (attachment, _) in &adopted.members {
            group.set_link(now, attachment.member, attachment.link);
        }
        group.set_live(now, adopted.live);
        group.refresh(false, &Cause::Trigger);
        group.roles.rebuild_slots(&group.members);
        group.resume_transitions(&adopted);
        let actions = group.actions();
        (group, actions)
    }
}
