//! Adopting a group that an earlier daemon left in the kernel.

use ipmp_common::{maps::MemberStatus, steer::MemberSet};

use super::{Group, published::Published, roles::Roles};
use crate::{
    core::{
        Action, Adopted, Attachment, Cause, Settings, Time,
        flap::Flap,
        member::{Condition, Member},
        probe::{TestAddress, prober::Prober},
    },
    types::{Family, LinkState, MemberState, OfflineCause},
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
        for (attachment, state) in &adopted.members {
            let number = attachment.member;
            let mut member = adopted_member(now, attachment, *state, &adopted, &settings);
            if *state == MemberStatus::Failed {
                adopt_failure(&mut member, adopted.live.has(number), adopted.probed);
            }
            group.members.add(member);
        }
        for number in group.members.numbers() {
            let Some(member) = group.members.get(number) else { continue };
            let cause = match group.members.with_mac_of(member) {
                Some(_) => OfflineCause::DuplicateMac,
                None => OfflineCause::Operator,
            };
            if let Some(member) = group.members.get_mut(number) {
                member.offline = member.offline.and(Some(cause));
            }
        }
        group.members.keep_out(&settings);
        group.reported_unusable = !group.members.any_functions()
            && group
                .members
                .iter()
                .any(|member| matches!(member.state(), MemberState::Failed | MemberState::Absent));
        group.roles = Roles::adopted(&group.members, adopted.slots.clone(), adopted.cast, &adopted.inbound);
        group.published = Published::adopted(&adopted, &group.members);

        for (attachment, _) in &adopted.members {
            group.set_link(now, attachment.member, attachment.link);
        }
        group.set_live(now, adopted.live);
        group.refresh(false, &Cause::Trigger);
        group.roles.rebuild_slots(&group.members);
        let actions = group.actions();
        (group, actions)
    }
}

/// A member as it was when the map was written; its link of today is an input afterwards.
fn adopted_member(
    now: Time,
    attachment: &Attachment,
    state: MemberStatus,
    adopted: &Adopted,
    settings: &Settings,
) -> Member {
    let (number, link) = (attachment.member, attachment.link);
    let (usable, standby) = (adopted.usable.has(number), adopted.standby.has(number));
    let attachment = Attachment { link: LinkState::Unknown, ..attachment.clone() };
    let mut member = Member::new(Time::default(), attachment);
    member.standby = standby;
    if adopted.absent.has(number) {
        member.absent = true;
        member.attachment.link = LinkState::Down;
        member.condition = Condition::Down;
        member.offline = (state == MemberStatus::Offline).then_some(OfflineCause::Operator);
        return member;
    }
    match state {
        MemberStatus::Ok => {
            member.live = true;
            member.condition = Condition::Ok;
            // Members that are no standby are inactive only where repaired members do not fail back.
            member.inactive = !usable && (standby || !settings.failback);
        }
        MemberStatus::Failed if !usable => {
            member.condition = Condition::Held;
            member.flap = Flap::adopted(now, settings);
        }
        MemberStatus::Failed => {
            member.attachment.link = LinkState::Down;
            member.condition = Condition::Down;
        }
        MemberStatus::Offline => {
            member.offline = Some(OfflineCause::Operator);
            if link == LinkState::Down {
                member.attachment.link = LinkState::Down;
                member.condition = Condition::Down;
            }
        }
        MemberStatus::Unknown | MemberStatus::Vacant => {}
    }
    member
}

/// A failed member was probed: only ten replies disprove that, not its link or a time.
fn adopt_failure(member: &mut Member, live: bool, probed: [MemberSet; 2]) {
    let number = member.number();
    for family in Family::ALL.into_iter().filter(|family| probed[family.index()].has(number)) {
        member.probing.addresses[family.index()] = TestAddress::Awaited;
        member.probing.probers[family.index()] = Some(Prober::new(Time::default(), true));
        member.probing.failed = true;
    }
    if member.probing.failed {
        member.flap = Flap::default();
        member.live = live;
        member.condition = if live { Condition::Ok } else { Condition::Down };
        member.attachment.link = if live { LinkState::Unknown } else { LinkState::Down };
    }
}
