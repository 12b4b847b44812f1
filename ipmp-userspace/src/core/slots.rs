//! Steering slots: which member transmits which flow, and which one replaces it (docs/design/steering-lists.md).
//!
//! Each of the 4096 slots holds the list of all members in order of preference, and a packet goes to the first in
//! its slot's list that can transmit it. So the lists alone decide how evenly traffic is distributed, not only while all
//! members are up but for every set of failed members.
//!
//! They are built place by place. Let *S* be the set of members in the places of a list filled so far. If exactly
//! *S* fails, each other member gets the lists that already lead to it past *S*, and those whose next place it
//! gets now. Of the lists with the same *S*, each next place goes to the member that is furthest below its share in
//! that case. Every set is thus balanced when it is reached, given all smaller sets, deterministically.
//!
//! With many members there are more sets than lists. From there on each list continues in an order of its own, drawn once
//! from its slot and the members' numbers and weights, and neighbours are then swapped where that balances the loads over
//! all sets at once (`smooth`).
//!
//! Within these limits a slot keeps its order: a rebuild without a change changes nothing, a new member gets
//! its share and nothing else moves, and the flows of a member that leaves stay where they were moved when it failed.
//!
//! | failed | largest load / average, equal weights, 2 to 16 members |
//! |---|---|
//! | none | loads differ by one slot at most |
//! | any one | 1.01 |
//! | any two | 1.03 |
//! | any set | 1.05 |

mod smooth;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use ipmp_common::steer::{MAX_MEMBERS, MemberSet, Preference, SLOTS};

/// The preference lists of a group. Copies share memory, and compare equal at no cost; so do those of groups with equal lists.
#[derive(Clone, Debug)]
pub struct Slots(Arc<[Preference; SLOTS]>);

/// The lists of all groups, each once.
static ALL: Mutex<Vec<Weak<[Preference; SLOTS]>>> = Mutex::new(Vec::new());

impl PartialEq for Slots {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Slots {}

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Box<[Preference; SLOTS]>> for Slots {
    /// Lists as a map holds them; a killed daemon may have left anything there.
    fn from(lists: Box<[Preference; SLOTS]>) -> Self {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        if let Some(same) = all.iter().filter_map(Weak::upgrade).find(|known| **known == *lists) {
            return Self(same);
        }
        let lists = lists.into();
        all.push(Arc::downgrade(&lists));
        Self(lists)
    }
}

impl Slots {
    /// The lists of a group without members.
    pub fn new() -> Self {
        Box::new([Preference::EMPTY; SLOTS]).into()
    }

    /// The lists, by slot.
    pub fn lists(&self) -> &[Preference; SLOTS] {
        &self.0
    }

    /// A copy of the lists, for the map.
    pub fn to_lists(&self) -> Box<[Preference; SLOTS]> {
        Box::new(*self.0)
    }

    /// How many slots prefer each member, by member number. Without meaning for a group without members.
    pub fn shares(&self) -> [u32; MAX_MEMBERS] {
        let mut shares = [0; MAX_MEMBERS];
        for list in self.0.iter() {
            shares[usize::from(list.first())] += 1;
        }
        shares
    }

    /// The members that any list contains.
    ///
    /// [`Preference::EMPTY`] contains none here, although it is also the list of a group with member 0 alone: in that
    /// group number 0 is in use, and after member 0 has left, the lists contain no other member.
    pub fn named(&self) -> MemberSet {
        self.0.iter().filter(|&&list| list != Preference::EMPTY).flat_map(|list| list.places()).collect()
    }

    /// The number for a new member: the lowest that neither a member nor a list has, so that it gets no flow before its
    /// share is assigned. `None`: the group is full.
    pub fn free_number(&self, members: MemberSet) -> Option<u8> {
        let named = self.named();
        (0..MAX_MEMBERS as u8).find(|&number| !members.has(number) && !named.has(number))
    }

    /// The lists for these members, by number and weight, with as few changes as their weights allow. A weight of 0 counts
    /// as 1, members after the sixteenth are ignored.
    pub fn rebuild(&self, members: &[(u8, u32)]) -> Self {
        if members.is_empty() {
            return Self::new();
        }
        Builder::new(self, &members[..members.len().min(MAX_MEMBERS)]).build()
    }
}

/// Lists under construction. Members are indexes in `members` here, and sets of them bit masks.
struct Builder {
    members: Vec<Contender>,
    /// The present lists, reduced to the members.
    present: Vec<Vec<u8>>,
    /// Whether the first member of each present list has left.
    orphaned: Vec<bool>,
    lists: Vec<Draft>,
    /// For each set: how many lists start with that set, in any order, and continue with each member.
    after: Vec<[u16; MAX_MEMBERS]>,
}

#[derive(Clone, Copy)]
struct Contender {
    number: u8,
    weight: u32,
}

/// A list that is being filled.
#[derive(Clone, Copy)]
struct Draft {
    places: [u8; MAX_MEMBERS],
    filled: usize,
    /// The members in its places.
    set: usize,
}

impl Draft {
    fn push(&mut self, member: usize) {
        self.places[self.filled] = member as u8;
        self.filled += 1;
        self.set |= 1 << member;
    }
}

impl Builder {
    fn new(slots: &Slots, members: &[(u8, u32)]) -> Self {
        let members: Vec<Contender> =
            members.iter().map(|&(number, weight)| Contender { number, weight: weight.max(1) }).collect();
        let index = |number: u8| members.iter().position(|member| member.number == number);
        let reduced = |&list: &Preference| match list {
            Preference::EMPTY => Vec::new(),
            list => list.members().filter_map(index).map(|at| at as u8).collect(),
        };
        Self {
            present: slots.0.iter().map(reduced).collect(),
            orphaned: slots.0.iter().map(|list| index(list.first()).is_none()).collect(),
            lists: vec![Draft { places: [0; MAX_MEMBERS], filled: 0, set: 0 }; SLOTS],
            after: vec![[0; MAX_MEMBERS]; 1 << members.len()],
            members,
        }
    }

    fn build(mut self) -> Slots {
        let mut slots: Vec<usize> = (0..SLOTS).collect();
        for _ in 0..exact_places(self.members.len()) {
            let sets: Vec<usize> = self.lists.iter().map(|list| list.set).collect();
            slots.sort_by_key(|&slot| sets[slot]);
            for class in slots.chunk_by(|&a, &b| sets[a] == sets[b]) {
                self.next_places(class);
            }
        }
        for slot in 0..SLOTS {
            self.draw_rest(slot);
        }
        smooth::smooth(&self.members, &mut self.lists);
        let mut lists = Box::new([Preference::EMPTY; SLOTS]);
        for (list, draft) in lists.iter_mut().zip(&self.lists) {
            let numbers = draft.places[..draft.filled].iter().map(|&at| self.members[usize::from(at)].number);
            *list = Preference::new(&numbers.collect::<Vec<_>>());
        }
        lists.into()
    }

    /// How many lists each member has if the set fails, by the places before the next: the sum over all smaller sets
    /// in it.
    fn assigned(&self, set: usize) -> [u32; MAX_MEMBERS] {
        let mut sums = [0; MAX_MEMBERS];
        let mut subset = set;
        while subset != 0 {
            subset = (subset - 1) & set;
            for (sum, &count) in sums.iter_mut().zip(&self.after[subset]) {
                *sum += u32::from(count);
            }
        }
        sums
    }

    /// Fills the next place of the slots of one class: those whose lists start with the same set.
    fn next_places(&mut self, class: &[usize]) {
        let set = self.lists[class[0]].set;
        // The preferred member of each slot: the next in its present list.
        let wish = |&slot: &usize| {
            self.present[slot]
                .iter()
                .map(|&member| usize::from(member))
                .find(|&member| set >> member & 1 == 0)
        };
        let wishes: Vec<Option<usize>> = class.iter().map(wish).collect();
        let mut quota = self.quota(set, &wishes);
        for (count, &more) in self.after[set].iter_mut().zip(&quota) {
            *count += more as u16;
        }

        let mut chosen: Vec<Option<usize>> = vec![None; class.len()];
        // A slot that still has its first member comes before one that lost it and would move another one up.
        for orphaned in [false, true] {
            for ((&slot, &wish), chosen) in class.iter().zip(&wishes).zip(&mut chosen) {
                if let Some(member) = wish
                    && self.orphaned[slot] == orphaned
                    && quota[member] > 0
                {
                    quota[member] -= 1;
                    *chosen = Some(member);
                }
            }
        }
        let mut left = (0..self.members.len()).flat_map(|at| std::iter::repeat_n(at, quota[at] as usize));
        for (&slot, chosen) in class.iter().zip(chosen) {
            let member = chosen.or_else(|| left.next()).expect("the quotas add up to the slots of the class");
            self.lists[slot].push(member);
        }
    }

    /// How many of the lists of a class each member gets: each goes to the member furthest below its share. Ties are
    /// decided by the slots' preferences, then by an order that differs from set to set.
    fn quota(&self, set: usize, wishes: &[Option<usize>]) -> [u32; MAX_MEMBERS] {
        let mut wished = [0u32; MAX_MEMBERS];
        for &member in wishes.iter().flatten() {
            wished[member] += 1;
        }
        let others: Vec<usize> = (0..self.members.len()).filter(|member| set >> member & 1 == 0).collect();
        let weight = |member: usize| i64::from(self.members[member].weight);
        let total: i64 = others.iter().map(|&member| weight(member)).sum();
        let assigned = self.assigned(set);
        let mut quota = [0; MAX_MEMBERS];
        for _ in wishes {
            let behind = |at: usize| SLOTS as i64 * weight(at) - i64::from(assigned[at] + quota[at]) * total;
            let rank =
                |&at: &usize| (behind(at), wished[at].saturating_sub(quota[at]), mix((set << 4 | at) as u64));
            if let Some(next) = others.iter().copied().max_by_key(rank) {
                quota[next] += 1;
            }
        }
        quota
    }

    /// Completes a list in the slot's own order: each place goes to one of the remaining members, in proportion to their
    /// weights, and a member that joins or leaves does not change the order of the others.
    fn draw_rest(&mut self, slot: usize) {
        let list = &mut self.lists[slot];
        let mut rest: Vec<(f64, usize)> = Vec::with_capacity(self.members.len());
        for (at, member) in self.members.iter().enumerate().filter(|(at, _)| list.set >> at & 1 == 0) {
            // The first of exponential waiting times goes to each in proportion to its rate.
            let uniform = (mix((slot << 4 | usize::from(member.number)) as u64) as f64 + 0.5) / 2f64.powi(32);
            rest.push((-uniform.ln() / f64::from(member.weight), at));
        }
        rest.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, member) in rest {
            list.push(member);
        }
    }
}

/// How many places are balanced set by set: while there are two lists for each set and next member.
fn exact_places(members: usize) -> usize {
    let mut sets = 1;
    for place in 0..members {
        if SLOTS < 2 * sets * (members - place) {
            return place;
        }
        sets = sets * (members - place) / (place + 1);
    }
    members
}

/// 32 pseudo-random bits (Steele, Lea, Flood: splitmix64).
fn mix(word: u64) -> u32 {
    let word = (word + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((word ^ word >> 31) >> 32) as u32
}

#[cfg(test)]
mod tests;
