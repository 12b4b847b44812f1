//! The active members, and their roles: steering slots, multicast and broadcast, and data addresses.

use std::net::IpAddr;

use ipmp_common::steer::{MemberSet, Preference};

use super::members::Members;
use crate::core::{binding::Bindings, cast::Cast, member::Member, slots::Slots};

/// What the active members do.
#[derive(Clone, Debug, Default)]
pub(super) struct Roles {
    /// Members that transmit, longest active first.
    active: Vec<u8>,
    slots: Slots,
    cast: Cast,
    v4: Bindings,
    v6: Bindings,
}

impl Roles {
    /// The roles as an earlier daemon left them in the maps. A takeover that happened in the datapath stands.
    pub(super) fn adopted(
        members: &Members,
        slots: Slots,
        cast: Preference,
        inbound: &[(IpAddr, Preference)],
        preferred: &[(IpAddr, u8)],
    ) -> Self {
        // The cast list has the active members in the order in which they became active.
        let mut active: Vec<u8> =
            members.iter().filter(|member| member.active()).map(Member::number).collect();
        let order: Vec<u8> = cast.members().collect();
        active.sort_by_key(|member| order.iter().position(|other| other == member));
        let mask: MemberSet = active.iter().copied().collect();
        let mut roles = Self { cast: Cast::adopted(cast, &active), active, slots, ..Self::default() };
        for &(address, member) in preferred {
            roles.prefer(address, Some(member));
        }
        for &(address, list) in inbound {
            roles.family_mut(address).restore(address, list.first_in(mask));
        }
        roles
    }

    pub(super) fn active(&self) -> &[u8] {
        &self.active
    }

    pub(super) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(super) fn cast(&self) -> &Cast {
        &self.cast
    }

    pub(super) fn inbound(&self, address: IpAddr) -> Option<u8> {
        if address.is_ipv4() { self.v4.member(address) } else { self.v6.member(address) }
    }

    /// The member that an address prefers.
    pub(super) fn preferred(&self, address: IpAddr) -> Option<u8> {
        if address.is_ipv4() { self.v4.preferred(address) } else { self.v6.preferred(address) }
    }

    pub(super) fn prefer(&mut self, address: IpAddr, member: Option<u8>) {
        self.family_mut(address).prefer(address, member);
    }

    pub(super) fn forget_member(&mut self, number: u8) {
        self.v4.forget_member(number);
        self.v6.forget_member(number);
    }

    /// Moves each address to the member that it prefers.
    pub(super) fn return_to_preferred(&mut self) {
        self.v4.return_to_preferred(&self.active);
        self.v6.return_to_preferred(&self.active);
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (IpAddr, Option<u8>)> {
        self.v4.iter().chain(self.v6.iter())
    }

    /// The data addresses with their members and lists. `before` is the list that an address had.
    pub(super) fn inbound_lists(
        &self,
        numbers: &[u8],
        before: impl Fn(IpAddr) -> Preference,
    ) -> Vec<(IpAddr, Option<u8>, Preference)> {
        let mut lists = self.v4.lists(&self.active, numbers, &before);
        lists.extend(self.v6.lists(&self.active, numbers, &before));
        lists
    }

    pub(super) fn add_address(&mut self, address: IpAddr) {
        let active = self.active.clone();
        self.family_mut(address).add(address, &active);
    }

    pub(super) fn remove_address(&mut self, address: IpAddr) {
        let active = self.active.clone();
        self.family_mut(address).remove(address, &active);
    }

    /// Members or weights have changed.
    pub(super) fn rebuild_slots(&mut self, members: &Members) {
        let weights: Vec<(u8, u32)> =
            members.iter().map(|member| (member.number(), member.weight())).collect();
        self.slots = self.slots.rebuild(&weights);
    }

    pub(super) fn refresh_cast(&mut self, numbers: &[u8]) {
        self.cast.refresh(&self.active, numbers);
    }

    /// Brings the active list in line with the members, and moves the addresses of those that it loses. With `failback`,
    /// addresses return to the members that they prefer.
    pub(super) fn reconcile(&mut self, members: &Members, failback: bool) {
        let is_active = |number| members.get(number).is_some_and(Member::active);
        for number in self.active.clone() {
            if !is_active(number) {
                self.deactivate(number);
            }
        }
        for number in members.numbers() {
            if is_active(number) && !self.active.contains(&number) {
                self.active.push(number);
                // First those that prefer a member, then balance: the balance must not move one that returns anyway.
                if failback {
                    self.return_to_preferred();
                }
                self.v4.activate(number, &self.active);
                self.v6.activate(number, &self.active);
            }
        }
        if failback {
            self.return_to_preferred();
        }
    }

    fn deactivate(&mut self, number: u8) {
        self.active.retain(|&active| active != number);
        self.v4.deactivate(number, &self.active);
        self.v6.deactivate(number, &self.active);
    }

    fn family_mut(&mut self, address: IpAddr) -> &mut Bindings {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}
