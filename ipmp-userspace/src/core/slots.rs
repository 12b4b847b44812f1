//! Steering slots: who carries which flow, and who steps in for whom.
//!
//! Each of the 4096 slots holds the list of all members in order of preference, and a packet goes to the first in
//! its slot's list that can carry it. So the lists alone decide how evenly the traffic is spread, not only while all
//! members are up but for every set of members that is lost.
//!
//! They are built place by place. Let *S* be the set of members in the places of a list filled so far. If exactly
//! *S* is lost, each other member carries the lists that already lead to it past *S*, and those whose next place it
//! gets now. Of the lists with the same *S*, each next place goes to the member that is furthest behind its share in
//! that case. Every set is thus balanced when it is reached, given all smaller sets; chance has no part in it.
//!
//! Within these numbers a slot keeps its order: a rebuild with nothing changed changes nothing, a new member takes
//! its share and nothing else moves, and the flows of a member that leaves stay where they went when it stepped aside.

use ipmp_common::steer::{MAX_MEMBERS, MemberSet, Preference, SLOTS};

/// The preference lists of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slots(Box<[Preference; SLOTS]>);

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Box<[Preference; SLOTS]>> for Slots {
    /// Lists as a map holds them, whatever a killed daemon left there.
    fn from(lists: Box<[Preference; SLOTS]>) -> Self {
        Self(lists)
    }
}

impl Slots {
    /// The lists of a group without members.
    pub fn new() -> Self {
        Self(Box::new([Preference::NOBODY; SLOTS]))
    }

    /// The lists, by slot.
    pub fn lists(&self) -> &[Preference; SLOTS] {
        &self.0
    }

    /// A copy of the lists, for the map.
    pub fn to_lists(&self) -> Box<[Preference; SLOTS]> {
        self.0.clone()
    }

    /// How many slots prefer each member, by member number. Of a group without members this says nothing.
    pub fn shares(&self) -> [u32; MAX_MEMBERS] {
        let mut shares = [0; MAX_MEMBERS];
        for list in self.0.iter() {
            shares[usize::from(list.first())] += 1;
        }
        shares
    }

    /// The members that some list names.
    ///
    /// [`Preference::NOBODY`] names nobody here, although it is also the list of a group with member 0 alone: that
    /// group's number 0 is taken by the member itself, and when it has left, nothing else is in the lists.
    pub fn named(&self) -> MemberSet {
        self.0.iter().filter(|&&list| list != Preference::NOBODY).flat_map(|list| list.places()).collect()
    }

    /// The number for a newcomer: the lowest that neither a member has nor a list names, so that no flow is led to
    /// it before its share is cut out for it. `None`: the group is full.
    pub fn free_number(&self, members: MemberSet) -> Option<u8> {
        let named = self.named();
        (0..MAX_MEMBERS as u8).find(|&number| !members.has(number) && !named.has(number))
    }

    /// The lists for these members, by number and weight, with as little moved from the present ones as their
    /// weights allow. A weight of 0 counts as 1, members after the sixteenth are not taken.
    pub fn rebuild(&self, members: &[(u8, u32)]) -> Self {
        if members.is_empty() {
            return Self::new();
        }
        Builder::new(self, &members[..members.len().min(MAX_MEMBERS)]).build()
    }
}

/// A count for each member, sixteen bits each: no count exceeds [`SLOTS`], so that whole words may be added.
#[derive(Clone, Copy, Default)]
struct Counts([u64; MAX_MEMBERS / 4]);

impl Counts {
    fn get(&self, member: usize) -> u64 {
        self.0[member / 4] >> (16 * (member % 4)) & 0xffff
    }

    fn add(&mut self, member: usize, count: u64) {
        self.0[member / 4] += count << (16 * (member % 4));
    }

    fn add_all(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word += more;
        }
    }
}

/// Lists in the making. Members go by their place in `numbers` here, sets of them are bits.
struct Builder {
    numbers: Vec<u8>,
    weights: Vec<i64>,
    /// The present lists, reduced to the members.
    present: Vec<Vec<u8>>,
    /// Whether the member that each present list prefers is gone.
    orphaned: Vec<bool>,
    /// The new lists, as far as they are made.
    lists: Vec<Vec<u8>>,
    /// Set of the members in each new list.
    sets: Vec<usize>,
    /// For each set: how many lists begin with that set, in any order, and go on with each member.
    after: Vec<Counts>,
}

impl Builder {
    fn new(slots: &Slots, members: &[(u8, u32)]) -> Self {
        let numbers: Vec<u8> = members.iter().map(|&(number, _)| number).collect();
        let index = |number: u8| numbers.iter().position(|&other| other == number).map(|index| index as u8);
        Self {
            present: slots.0.iter().map(|list| list.members().filter_map(index).collect()).collect(),
            orphaned: slots.0.iter().map(|list| index(list.first()).is_none()).collect(),
            weights: members.iter().map(|&(_, weight)| i64::from(weight.max(1))).collect(),
            lists: vec![Vec::with_capacity(numbers.len()); SLOTS],
            sets: vec![0; SLOTS],
            after: vec![Counts::default(); 1 << numbers.len()],
            numbers,
        }
    }

    fn build(mut self) -> Slots {
        let mut slots: Vec<usize> = (0..SLOTS).collect();
        for _ in 0..self.numbers.len() {
            let carried = self.carried();
            let sets = self.sets.clone();
            slots.sort_by_key(|&slot| sets[slot]);
            for class in slots.chunk_by(|&a, &b| sets[a] == sets[b]) {
                self.next_places(class, &carried[sets[class[0]]]);
            }
            for (set, list) in self.sets.iter_mut().zip(&self.lists) {
                *set |= 1 << list[list.len() - 1];
            }
        }
        let mut lists = Box::new([Preference::NOBODY; SLOTS]);
        for (list, indices) in lists.iter_mut().zip(&self.lists) {
            let members: Vec<u8> = indices.iter().map(|&index| self.numbers[usize::from(index)]).collect();
            *list = Preference::new(&members);
        }
        Slots(lists)
    }

    /// For each set: how many lists each member carries if that set is lost, by the places filled so far. That is
    /// the sum over all its subsets.
    fn carried(&self) -> Vec<Counts> {
        let mut sums = self.after.clone();
        for member in 0..self.numbers.len() {
            for pair in sums.chunks_exact_mut(2 << member) {
                let (without, with) = pair.split_at_mut(1 << member);
                for (with, without) in with.iter_mut().zip(without) {
                    with.add_all(without);
                }
            }
        }
        sums
    }

    /// Fills the next place of the slots of one class: those whose lists begin with the same set.
    fn next_places(&mut self, class: &[usize], carried: &Counts) {
        let set = self.sets[class[0]];
        let others: Vec<usize> = (0..self.numbers.len()).filter(|member| set >> member & 1 == 0).collect();
        let total: i64 = others.iter().map(|&member| self.weights[member]).sum();

        // Whom each slot would like: the next in its present list.
        let wishes: Vec<Option<usize>> = class
            .iter()
            .map(|&slot| self.present[slot].iter().map(|&m| usize::from(m)).find(|&m| set >> m & 1 == 0))
            .collect();
        let mut wished = [0u32; MAX_MEMBERS];
        for &member in wishes.iter().flatten() {
            wished[member] += 1;
        }

        let mut quota = [0u32; MAX_MEMBERS];
        for _ in class {
            let behind = |member: usize| {
                let has = carried.get(member) as i64 + i64::from(quota[member]);
                SLOTS as i64 * self.weights[member] - has * total
            };
            let next = others
                .iter()
                .copied()
                .max_by_key(|&member| {
                    let spread = (member + set.wrapping_mul(0x9e37_79b1) % 251) % self.numbers.len();
                    (behind(member), wished[member].saturating_sub(quota[member]), spread)
                })
                .expect("a list that names every member has no next place");
            quota[next] += 1;
        }
        for (member, &count) in quota.iter().enumerate() {
            self.after[set].add(member, u64::from(count));
        }

        // A slot that still has its first choice comes before one that lost it and would move another up.
        let mut chosen: Vec<Option<usize>> = vec![None; class.len()];
        let grant = |chosen: &mut Vec<Option<usize>>, quota: &mut [u32], place: usize, member: usize| {
            if chosen[place].is_none() && quota[member] > 0 {
                quota[member] -= 1;
                chosen[place] = Some(member);
            }
        };
        for (place, &wish) in wishes.iter().enumerate() {
            if let Some(member) = wish
                && !self.orphaned[class[place]]
            {
                grant(&mut chosen, &mut quota, place, member);
            }
        }
        for (place, &wish) in wishes.iter().enumerate() {
            if let Some(member) = wish {
                grant(&mut chosen, &mut quota, place, member);
            }
        }
        let mut left =
            quota.iter().enumerate().flat_map(|(member, &n)| std::iter::repeat_n(member, n as usize));
        for (place, &slot) in class.iter().enumerate() {
            let member = chosen[place].or_else(|| left.next()).expect("there are as many places as slots");
            self.lists[slot].push(member as u8);
        }
    }
}
