//! The members of a group.

use ipmp_common::steer::MemberSet;

use super::MIN_MTU;

use crate::{
    core::member::{Condition, Member},
    types::GroupState,
};

/// The members, in the order in which they joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Vec<Member>);

impl Members {
    pub(super) fn as_slice(&self) -> &[Member] {
        &self.0
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Member> {
        self.0.iter_mut()
    }

    pub(super) fn get(&self, number: u8) -> Option<&Member> {
        self.iter().find(|member| member.number() == number)
    }

    pub(super) fn get_mut(&mut self, number: u8) -> Option<&mut Member> {
        self.iter_mut().find(|member| member.number() == number)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Member> {
        self.iter().find(|member| member.name() == name)
    }

    pub(super) fn name(&self, number: Option<u8>) -> Option<String> {
        number.and_then(|number| self.get(number)).map(|member| member.name().to_owned())
    }

    pub(super) fn numbers(&self) -> Vec<u8> {
        self.iter().map(Member::number).collect()
    }

    /// The numbers of the members that satisfy a condition.
    pub(super) fn set(&self, condition: impl Fn(&Member) -> bool) -> MemberSet {
        self.iter().filter(|member| condition(member)).map(Member::number).collect()
    }

    pub(super) fn add(&mut self, member: Member) {
        self.0.push(member);
    }

    pub(super) fn remove(&mut self, number: u8) -> Option<Member> {
        let at = self.iter().position(|member| member.number() == number)?;
        Some(self.0.remove(at))
    }

    /// MTU of the group in bytes; `None` without members.
    pub(super) fn mtu(&self) -> Option<u32> {
        self.iter().map(|member| member.mtu().max(MIN_MTU)).min()
    }

    /// A member that loses some packets is not in order, although it functions.
    pub(super) fn state(&self) -> GroupState {
        match self.iter().filter(|member| member.functions()).count() {
            0 => GroupState::Failed,
            _ if self.iter().all(Member::is_in_order) => GroupState::Ok,
            _ => GroupState::Degraded,
        }
    }

    pub(super) fn any_functions(&self) -> bool {
        self.iter().any(Member::functions)
    }

    /// Whether the loss of a member leaves another one: one that functions, or one that only flap protection keeps
    /// out.
    pub(super) fn any_can_replace(&self) -> bool {
        let is_held = |member: &Member| {
            member.offline().is_none() && member.condition() == Condition::Held && member.live()
        };
        self.any_functions() || self.iter().any(is_held)
    }

    /// Another member in service with the same MAC.
    pub(super) fn with_mac_of(&self, member: &Member) -> Option<&Member> {
        let can_have_it = |other: &&Member| {
            other.number() != member.number() && other.offline().is_none() && !other.absent()
        };
        self.iter().filter(can_have_it).find(|other| !member.absent() && other.mac() == member.mac())
    }
}

/// Bytes of a large packet of a member: the MTU of the group, unless that of the member is smaller.
pub(super) fn full_size(member: &Member, mtu: Option<u32>) -> u32 {
    mtu.unwrap_or(MIN_MTU).min(member.mtu())
}
