//! Which member's MAC answers for which data address (docs/reference.md 4.3).
//!
//! Each address of a family is bound to one active member. Ties go to the member that has been active longest.
//!
//! | event | binding |
//! |---|---|
//! | address added | to the member with the fewest addresses |
//! | address removed | if a member now has at least two more than the freed one, its most recent address moves there |
//! | a member becomes active | the first gets all; another gets the most recent addresses of the member with most, until it would have as many |
//! | a member becomes inactive | each of its addresses, oldest binding first, moves to the member with the fewest |
//! | none is active | all are unbound |
//!
//! So the members' counts differ by at most one, and a single address never moves back.
//!
//! An address can have a preferred member (`ipmpctl address add --inbound`). Where the table says "the member with the fewest
//! addresses", it goes to its preferred member if that one is active, and while it is bound there it is not moved for balance.
//! With failback it returns there as soon as the member is active.

use std::{collections::BTreeMap, net::IpAddr};

use ipmp_common::steer::{MAX_MEMBERS, Preference};

use super::role;

/// The data addresses of one family, by `K`: an address, or one on a VLAN. `active` is always the list of active members, longest active first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bindings<K = IpAddr> {
    /// Addresses and their members, oldest binding first.
    bound: Vec<(K, u8)>,
    /// Addresses while no member is active, in the order in which they were unbound or added.
    unbound: Vec<K>,
    /// Number of addresses of each member.
    load: [usize; MAX_MEMBERS],
    /// Addresses, added or not, with their preferred members.
    preferred: BTreeMap<K, u8>,
}

impl<K> Default for Bindings<K> {
    fn default() -> Self {
        let (bound, unbound, preferred) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { bound, unbound, load: [0; MAX_MEMBERS], preferred }
    }
}

impl<K: Copy + Ord> Bindings<K> {
    /// Every address and its inbound member.
    pub fn iter(&self) -> impl Iterator<Item = (K, Option<u8>)> {
        let bound = self.bound.iter().map(|&(address, member)| (address, Some(member)));
        bound.chain(self.unbound.iter().map(|&address| (address, None)))
    }

    /// The inbound member of an address.
    pub fn member(&self, address: K) -> Option<u8> {
        self.bound.iter().find(|bound| bound.0 == address).map(|bound| bound.1)
    }

    /// The preferred member of an address.
    pub fn preferred(&self, address: K) -> Option<u8> {
        self.preferred.get(&address).copied()
    }

    /// Sets the preferred member of an address; [`Self::return_to_preferred`] moves it.
    pub fn prefer(&mut self, address: K, member: Option<u8>) {
        match member {
            Some(member) => drop(self.preferred.insert(address, member)),
            None => drop(self.preferred.remove(&address)),
        }
    }

    /// A member has left: no address prefers it.
    pub fn forget_member(&mut self, member: u8) {
        self.preferred.retain(|_, preferred| *preferred != member);
    }

    /// Moves each address to its preferred member, if that one is active.
    pub fn return_to_preferred(&mut self, active: &[u8]) {
        let away = |&(address, member): &(K, u8)| {
            let preferred = self.preferred(address)?;
            (preferred != member && active.contains(&preferred)).then_some((address, member, preferred))
        };
        let moves: Vec<(K, u8, u8)> = self.bound.iter().filter_map(away).collect();
        for (address, from, to) in moves {
            self.bound.retain(|bound| bound.0 != address);
            self.load[usize::from(from)] -= 1;
            self.bind(address, to);
        }
    }

    /// Adds an address with the member that the datapath has for it.
    pub fn restore(&mut self, address: K, member: Option<u8>) {
        match member {
            Some(member) => self.bind(address, member),
            None => self.unbound.push(address),
        }
    }

    /// Adds an address, unless it exists.
    pub fn add(&mut self, address: K, active: &[u8]) {
        if self.iter().any(|(known, _)| known == address) {
            return;
        }
        self.restore(address, self.choose(address, active));
    }

    /// Removes an address.
    pub fn remove(&mut self, address: K, active: &[u8]) {
        self.unbound.retain(|&unbound| unbound != address);
        let Some(at) = self.bound.iter().position(|bound| bound.0 == address) else { return };
        let (_, freed) = self.bound.remove(at);
        self.load[usize::from(freed)] -= 1;
        if let Some(most) = self.most(active)
            && self.load(most) > self.load(freed) + 1
        {
            self.move_latest(most, freed);
        }
    }

    /// A member became active; `active` already contains it.
    pub fn activate(&mut self, member: u8, active: &[u8]) {
        if active == [member] {
            for address in std::mem::take(&mut self.unbound) {
                self.bind(address, member);
            }
            return;
        }
        while let Some(most) = self.most(active)
            && self.load(member) + 1 < self.load(most)
        {
            self.move_latest(most, member);
        }
    }

    /// A member became inactive; `active` no longer contains it.
    pub fn deactivate(&mut self, member: u8, active: &[u8]) {
        let mut released = Vec::with_capacity(self.load(member));
        self.bound.retain(|&(address, of)| {
            if of == member {
                released.push(address);
            }
            of != member
        });
        self.load[usize::from(member)] = 0;
        for address in released {
            self.restore(address, self.choose(address, active));
        }
    }

    /// The list of each address: its member; the one that it would move to; the other active members, the one with the
    /// fewest addresses after that move first; the rest. `before` is the previous list.
    pub fn lists(
        &self,
        active: &[u8],
        members: &[u8],
        before: impl Fn(K) -> Preference,
    ) -> Vec<(K, Option<u8>, Preference)> {
        let mut lists = Vec::with_capacity(self.bound.len() + self.unbound.len());
        for &member in active.iter().filter(|&&member| self.load(member) > 0) {
            // The bindings after the loss of the member.
            let others: Vec<u8> = active.iter().copied().filter(|&other| other != member).collect();
            let mut after = self.clone();
            after.deactivate(member, &others);
            let mut by_load = others.clone();
            by_load.sort_by_key(|&other| after.load(other));
            let mine = self.bound.iter().filter(|bound| bound.1 == member).map(|bound| bound.0);
            // The addresses of the lost member are bound last, in the order in which it had them.
            let moved = after.bound[after.bound.len().saturating_sub(self.load(member))..].iter();
            let mut moved = moved.map(|bound| bound.1);
            for address in mine {
                let leaders = [Some(member), moved.next()].into_iter().flatten();
                let list = role::led_by(leaders.chain(by_load.iter().copied()), members);
                lists.push((address, Some(member), list));
            }
        }
        lists.extend(
            self.unbound.iter().map(|&address| (address, None, role::kept(before(address), members))),
        );
        lists
    }

    fn load(&self, member: u8) -> usize {
        self.load[usize::from(member)]
    }

    fn bind(&mut self, address: K, member: u8) {
        self.bound.push((address, member));
        self.load[usize::from(member)] += 1;
    }

    /// The member for an address: its preferred one if it is active, else the one with the fewest addresses.
    fn choose(&self, address: K, active: &[u8]) -> Option<u8> {
        let preferred = self.preferred(address).filter(|preferred| active.contains(preferred));
        preferred.or_else(|| active.iter().copied().min_by_key(|&member| self.load(member)))
    }

    /// Of the members with an address that may be moved for balance, the one with most addresses.
    fn most(&self, active: &[u8]) -> Option<u8> {
        let has_movable = |&member: &u8| {
            let is_any = self.preferred.is_empty() && self.load(member) > 0;
            is_any || self.latest_movable(member).is_some()
        };
        // The first of those with the maximum: `max_by_key` would take the last.
        active.iter().copied().filter(has_movable).rev().max_by_key(|&member| self.load(member))
    }

    /// The most recent address of a member that does not prefer it.
    fn latest_movable(&self, member: u8) -> Option<usize> {
        self.bound.iter().rposition(|&(address, of)| of == member && self.preferred(address) != Some(member))
    }

    fn move_latest(&mut self, from: u8, to: u8) {
        if let Some(at) = self.latest_movable(from) {
            let (address, _) = self.bound.remove(at);
            self.load[usize::from(from)] -= 1;
            self.bind(address, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 178, last])
    }

    /// The members of addresses 1, 2, 3 and so on.
    fn members_of(bindings: &Bindings, addresses: std::ops::RangeInclusive<u8>) -> Vec<Option<u8>> {
        addresses.map(|last| bindings.member(address(last))).collect()
    }

    fn four() -> Bindings {
        let mut bindings = Bindings::default();
        (1..=4).for_each(|last| bindings.add(address(last), &[0, 1]));
        bindings
    }

    #[test]
    fn address_goes_to_member_with_fewest_then_longest_active() {
        assert_eq!(members_of(&four(), 1..=4), [Some(0), Some(1), Some(0), Some(1)]);
    }

    #[test]
    fn known_address_is_not_bound_twice() {
        let mut bindings = four();
        bindings.add(address(1), &[0, 1]);
        assert_eq!(bindings, four());
    }

    #[test]
    fn removed_address_moves_latest_of_member_with_two_more() {
        let mut bindings = four();
        bindings.remove(address(1), &[0, 1]);
        assert_eq!(members_of(&bindings, 2..=4), [Some(1), Some(0), Some(1)], "one more is not two more");
        bindings.remove(address(3), &[0, 1]);
        assert_eq!(members_of(&bindings, 2..=4), [Some(1), None, Some(0)]);
    }

    #[test]
    fn first_active_gets_all_and_next_gets_latest_until_even() {
        let mut bindings = Bindings::default();
        (1..=5).for_each(|last| bindings.add(address(last), &[]));
        assert_eq!(members_of(&bindings, 1..=5), [None; 5]);
        bindings.activate(7, &[7]);
        assert_eq!(members_of(&bindings, 1..=5), [Some(7); 5]);
        bindings.activate(3, &[7, 3]);
        assert_eq!(members_of(&bindings, 1..=5), [Some(7), Some(7), Some(7), Some(3), Some(3)]);
    }

    #[test]
    fn single_address_never_moves_back() {
        let mut bindings = Bindings::default();
        bindings.add(address(1), &[0, 1]);
        bindings.deactivate(0, &[1]);
        bindings.activate(0, &[1, 0]);
        assert_eq!(bindings.member(address(1)), Some(1));
    }

    #[test]
    fn preferred_member_gets_its_address_and_balance_leaves_it_there() {
        let mut bindings = Bindings::default();
        (1..=3).for_each(|last| bindings.prefer(address(last), Some(0)));
        (1..=4).for_each(|last| bindings.add(address(last), &[0, 1]));
        assert_eq!(members_of(&bindings, 1..=4), [Some(0), Some(0), Some(0), Some(1)]);
        bindings.activate(2, &[0, 1, 2]);
        bindings.remove(address(4), &[0, 1, 2]);
        assert_eq!(members_of(&bindings, 1..=3), [Some(0); 3]);
        bindings.deactivate(0, &[1, 2]);
        assert_eq!(members_of(&bindings, 1..=3), [Some(1), Some(2), Some(1)]);
        bindings.return_to_preferred(&[1, 2, 0]);
        assert_eq!(members_of(&bindings, 1..=3), [Some(0); 3]);
        bindings.forget_member(0);
        bindings.activate(3, &[1, 2, 0, 3]);
        assert_eq!(members_of(&bindings, 1..=3), [Some(0), Some(0), Some(3)]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8),
        Remove(u8),
        Activate(u8),
        Deactivate(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..30u8).prop_map(Step::Add),
            (0..30u8).prop_map(Step::Remove),
            (0..6u8).prop_map(Step::Activate),
            (0..6u8).prop_map(Step::Deactivate),
        ]
    }

    proptest! {
        #[test]
        fn counts_differ_by_at_most_one_and_datapath_agrees(steps in proptest::collection::vec(step(), 1..80)) {
            let (mut bindings, mut active) = (Bindings::default(), Vec::new());
            let members = [0, 1, 2, 3, 4, 5];
            for step in steps {
                apply(step, &mut bindings, &mut active);
                let loads = active.iter().map(|&member| bindings.load(member));
                let spread = loads.clone().max().unwrap_or(0) - loads.clone().min().unwrap_or(0);
                prop_assert!(spread <= 1, "{bindings:?}");
                prop_assert_eq!(loads.sum::<usize>(), bindings.bound.len());
                prop_assert!(bindings.bound.is_empty() || bindings.unbound.is_empty());

                check_lists(&bindings, &active, &members)?;
            }
        }

        #[test]
        fn active_preferred_members_have_their_addresses_and_datapath_agrees(
            preferred in proptest::collection::btree_map(0..30u8, 0..6u8, 0..12),
            steps in proptest::collection::vec(step(), 1..80),
        ) {
            let (mut bindings, mut active) = (Bindings::default(), Vec::new());
            preferred.iter().for_each(|(&last, &member)| bindings.prefer(address(last), Some(member)));
            for step in steps {
                apply(step, &mut bindings, &mut active);
                let loads = active.iter().map(|&member| bindings.load(member));
                prop_assert_eq!(loads.sum::<usize>(), bindings.bound.len());
                for &(address, member) in &bindings.bound {
                    let wanted = bindings.preferred(address).filter(|wanted| active.contains(wanted));
                    prop_assert_eq!(wanted.unwrap_or(member), member, "{:?}", bindings);
                }
                check_lists(&bindings, &active, &[0, 1, 2, 3, 4, 5])?;
            }
        }
    }

    /// Applies a step as the group does; without preferred members nothing returns.
    fn apply(step: Step, bindings: &mut Bindings, active: &mut Vec<u8>) {
        match step {
            Step::Add(last) => bindings.add(address(last), active),
            Step::Remove(last) => bindings.remove(address(last), active),
            Step::Activate(member) if !active.contains(&member) => {
                active.push(member);
                bindings.return_to_preferred(active);
                bindings.activate(member, active);
                bindings.return_to_preferred(active);
            }
            Step::Deactivate(member) if active.contains(&member) => {
                active.retain(|&other| other != member);
                bindings.deactivate(member, active);
            }
            Step::Activate(_) | Step::Deactivate(_) => {}
        }
    }

    /// The first of each list has the address now, and the datapath's choice after the loss of that member is the daemon's.
    fn check_lists(bindings: &Bindings, active: &[u8], members: &[u8]) -> Result<(), TestCaseError> {
        let lists = bindings.lists(active, members, |_| Preference::EMPTY);
        prop_assert_eq!(lists.len(), bindings.iter().count());
        for (address, member, list) in lists {
            prop_assert_eq!(list.members().count(), members.len());
            prop_assert_eq!(member, bindings.member(address));
            let Some(member) = member else { continue };
            prop_assert_eq!(list.first(), member);
            let others: Vec<u8> = active.iter().copied().filter(|&other| other != member).collect();
            let mut later = bindings.clone();
            later.deactivate(member, &others);
            let guess = list.first_in(others.into_iter().collect());
            prop_assert_eq!(guess, later.member(address), "{:?} of {:?}", list, bindings);
        }
        Ok(())
    }
}
