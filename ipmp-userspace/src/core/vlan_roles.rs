//! Which member's MAC answers for which address on a VLAN of the group: bound as data addresses are ([`binding`](super::binding)),
//! all VLANs together, so that one address in each of many VLANs is spread as well.

use std::{collections::BTreeMap, net::IpAddr};

use ipmp_common::{
    maps::MAX_VLAN_ADDRESSES,
    steer::{MemberSet, Preference},
};

use super::binding::Bindings;

/// A VLAN of a group, and an address on it.
pub type VlanAddress = (u16, IpAddr);

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanAction {
    /// Write the inbound role of an address.
    SetInbound(VlanAddress, Preference),
    /// Delete an address.
    Forget(VlanAddress),
    /// Announce that this member's MAC answers for the address.
    Announce(VlanAddress, u8),
    /// Stop announcing an address.
    StopAnnouncing(VlanAddress),
}

#[derive(Clone, Copy, Debug)]
struct Published {
    list: Preference,
    /// The member, and its MAC, with which it is announced.
    announced: Option<(u8, [u8; 6])>,
}

/// The addresses on the VLANs of a group.
#[derive(Clone, Debug, Default)]
pub struct VlanRoles {
    /// The active members, longest active first.
    active: Vec<u8>,
    /// All members, in the order in which they joined, with their MACs.
    members: Vec<(u8, [u8; 6])>,
    v4: Bindings<VlanAddress>,
    v6: Bindings<VlanAddress>,
    published: BTreeMap<VlanAddress, Published>,
    /// What an earlier daemon left in the map, until the address is added again.
    adopted: BTreeMap<VlanAddress, Preference>,
}

impl VlanRoles {
    /// No addresses yet, except those that an earlier daemon left in the map.
    pub fn adopted(lists: impl IntoIterator<Item = (VlanAddress, Preference)>) -> Self {
        let adopted: BTreeMap<_, _> = lists.into_iter().collect();
        let published =
            adopted.iter().map(|(address, list)| (*address, Published { list: *list, announced: None }));
        Self { published: published.collect(), adopted, ..Self::default() }
    }

    /// Addresses that the earlier daemon left, and that were not added by now, do not exist.
    pub fn forget_adopted(&mut self) {
        self.adopted.clear();
    }

    /// Adds an address. False if there are too many.
    pub fn add(&mut self, address: VlanAddress) -> bool {
        if self.contains(address) {
            return true;
        }
        if self.published.len() >= MAX_VLAN_ADDRESSES as usize && !self.adopted.contains_key(&address) {
            return false;
        }
        let active: MemberSet = self.active.iter().copied().collect();
        let list = self.adopted.remove(&address);
        let order = self.active.clone();
        let bindings = self.family_mut(address);
        match list.and_then(|list| list.first_in(active)) {
            Some(member) => bindings.restore(address, Some(member)),
            None => bindings.add(address, &order),
        }
        true
    }

    /// Removes an address.
    pub fn remove(&mut self, address: VlanAddress) {
        let active = self.active.clone();
        self.family_mut(address).remove(address, &active);
    }

    /// Follows the active members, longest active first, and all members with their MACs. Whether anything has changed.
    pub fn follow(&mut self, active: &[u8], members: Vec<(u8, [u8; 6])>) -> bool {
        if self.active == active && self.members == members {
            return false;
        }
        for number in self.active.clone().into_iter().filter(|number| !active.contains(number)) {
            self.active.retain(|other| *other != number);
            self.v4.deactivate(number, &self.active);
            self.v6.deactivate(number, &self.active);
        }
        for &number in active {
            if !self.active.contains(&number) {
                self.active.push(number);
                self.v4.activate(number, &self.active);
                self.v6.activate(number, &self.active);
            }
        }
        self.active = active.to_vec();
        self.members = members;
        true
    }

    /// What differs from what was returned before: first what the datapath needs.
    pub fn actions(&mut self) -> Vec<VlanAction> {
        let numbers: Vec<u8> = self.members.iter().map(|(number, _)| *number).collect();
        let before = |address| self.published.get(&address).map_or(Preference::EMPTY, |known| known.list);
        let mut lists = self.v4.lists(&self.active, &numbers, before);
        lists.extend(self.v6.lists(&self.active, &numbers, before));
        let (mut actions, mut announcements) = (Vec::new(), Vec::new());
        let mut removed = std::mem::take(&mut self.published);
        for (address, member, list) in lists {
            let known = removed.remove(&address);
            if known.is_none_or(|known| known.list != list) {
                actions.push(VlanAction::SetInbound(address, list));
            }
            let holder = self.members.iter().find(|(number, _)| Some(*number) == member).copied();
            if known.and_then(|known| known.announced) != holder {
                announcements.push(match holder {
                    Some((number, _)) => VlanAction::Announce(address, number),
                    None => VlanAction::StopAnnouncing(address),
                });
            }
            self.published.insert(address, Published { list, announced: holder });
        }
        for (address, known) in removed {
            if self.adopted.contains_key(&address) {
                self.published.insert(address, known);
                continue;
            }
            actions.push(VlanAction::Forget(address));
            announcements.push(VlanAction::StopAnnouncing(address));
        }
        actions.append(&mut announcements);
        actions
    }

    fn contains(&self, address: VlanAddress) -> bool {
        let bindings = if address.1.is_ipv4() { &self.v4 } else { &self.v6 };
        bindings.iter().any(|(known, _)| known == address)
    }

    fn family_mut(&mut self, address: VlanAddress) -> &mut Bindings<VlanAddress> {
        if address.1.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(vlan: u16, last: u8) -> VlanAddress {
        (vlan, IpAddr::from([10, 20, 0, last]))
    }

    fn members(count: u8) -> Vec<(u8, [u8; 6])> {
        (0..count).map(|number| (number, [2, 0, 0, 0, 0, number])).collect()
    }

    /// The members that announce, in the order of the addresses.
    fn announced(actions: &[VlanAction]) -> Vec<(VlanAddress, u8)> {
        let announce = |action: &VlanAction| match action {
            VlanAction::Announce(address, member) => Some((*address, *member)),
            _ => None,
        };
        actions.iter().filter_map(announce).collect()
    }

    fn three() -> VlanRoles {
        let mut roles = VlanRoles::default();
        assert!(roles.follow(&[0, 1, 2], members(3)));
        // The same address in every VLAN.
        [10, 20, 30].into_iter().for_each(|vlan| assert!(roles.add(address(vlan, 1))));
        roles
    }

    #[test]
    fn addresses_of_all_vlans_are_spread_and_move_with_their_members() {
        let mut roles = three();
        let first = roles.actions();
        assert_eq!(announced(&first), [(address(10, 1), 0), (address(20, 1), 1), (address(30, 1), 2)]);
        assert_eq!(first.iter().filter(|action| matches!(action, VlanAction::SetInbound(..))).count(), 3);
        assert_eq!(roles.actions(), []);
        assert!(!roles.follow(&[0, 1, 2], members(3)));

        roles.follow(&[0, 2], members(3));
        assert_eq!(announced(&roles.actions()), [(address(20, 1), 0)]);
        roles.follow(&[], members(3));
        let stopped = roles.actions();
        let is_stop = |action: &VlanAction| matches!(action, VlanAction::StopAnnouncing(_));
        assert!(stopped.len() == 3 && stopped.iter().all(is_stop), "the lists stay: {stopped:?}");
        roles.follow(&[1], members(3));
        assert_eq!(announced(&roles.actions()).len(), 3);
        let mut renewed = members(3);
        renewed[1].1 = [4; 6];
        roles.follow(&[1], renewed);
        assert_eq!(announced(&roles.actions()).len(), 3, "with another MAC");
        roles.remove(address(20, 1));
        let removed = address(20, 1);
        assert_eq!(roles.actions(), [VlanAction::Forget(removed), VlanAction::StopAnnouncing(removed)]);
    }

    #[test]
    fn lists_of_an_earlier_daemon_stand_and_missing_addresses_are_forgotten() {
        let lists =
            [(address(10, 1), Preference::new(&[2, 1, 0])), (address(20, 1), Preference::new(&[1, 0, 2]))];
        let mut roles = VlanRoles::adopted(lists);
        roles.follow(&[0, 1, 2], members(3));
        roles.add(address(10, 1));
        assert_eq!(announced(&roles.actions()), [(address(10, 1), 2)]);
        roles.forget_adopted();
        let missing = address(20, 1);
        assert_eq!(roles.actions(), [VlanAction::Forget(missing), VlanAction::StopAnnouncing(missing)]);
    }

    #[test]
    fn more_addresses_than_the_map_has_room_for_are_refused() {
        let mut roles = VlanRoles::default();
        roles.follow(&[0, 1], members(2));
        let each = (0..=MAX_VLAN_ADDRESSES).map(|n| (20, IpAddr::from([10, 20, (n >> 8) as u8, n as u8])));
        let added: Vec<bool> = each
            .map(|address| {
                let is_added = roles.add(address);
                roles.actions();
                is_added
            })
            .collect();
        assert_eq!(added.iter().filter(|added| **added).count(), MAX_VLAN_ADDRESSES as usize);
        assert_eq!(added.last(), Some(&false));
    }
}
