//! Balances the deep places of the lists, where sets outnumber lists.
//!
//! The loads of all members for all failed sets are known at once: up to 16 × 65536 numbers. Swapping two neighbours in
//! one list moves that list from one to the other for exactly the sets that contain all before them and neither of
//! the two. A swap is made when it lowers the sum, over these sets, of the squared deviations from the share, in
//! proportion to the share.

use ipmp_common::steer::SLOTS;

use super::{Contender, Draft};

/// A load above its share by at most this part of it, and one slot, is balanced enough: with the slot, that is within the
/// bound of 1.05 for any two failed members or more.
const EVEN: f32 = 0.045;
/// Rounds of swaps at most; one is nearly always enough.
const ROUNDS: usize = 4;
/// Rounds that do not change the first places. They are balanced set by set, and behind an early place there are
/// thousands of sets to evaluate.
const DEEP_ROUNDS: usize = 2;
/// First place that is swapped in these rounds.
const DEEP: usize = 4;
/// First place that is swapped at all: with the places before it, sets of three or more.
const FIRST: usize = 3;

/// Swaps neighbours until the load is balanced for every set of failed members.
pub(super) fn smooth(members: &[Contender], lists: &mut [Draft]) {
    let mut loads = Loads::of(members, lists);
    for round in 0..ROUNDS {
        if loads.even() {
            return;
        }
        for list in lists.iter_mut() {
            loads.improve(list, if round < DEEP_ROUNDS { DEEP } else { FIRST });
        }
    }
}

/// The load of every member for every failed set, and its share.
struct Loads {
    /// For each member, for each set: load above its share, in slots.
    excess: Vec<Vec<f32>>,
    /// For each set: weight of the members outside it, to compute shares from weights.
    outside: Vec<f32>,
    weights: Vec<f32>,
}

impl Loads {
    fn of(members: &[Contender], lists: &[Draft]) -> Self {
        let (count, sets) = (members.len(), 1 << members.len());
        let weights: Vec<f32> = members.iter().map(|member| member.weight as f32).collect();
        let mut outside = vec![0.0; sets];
        for (set, sum) in outside.iter_mut().enumerate() {
            *sum = (0..count).filter(|member| set >> member & 1 == 0).map(|member| weights[member]).sum();
        }
        let mut excess = vec![vec![0.0; sets]; count];
        for list in lists {
            let mut before = 0;
            for member in list.places[..count].iter().map(|&member| usize::from(member)) {
                excess[member][before] += 1.0;
                before |= 1 << member;
            }
        }
        for (member, excess) in excess.iter_mut().enumerate() {
            // A list leads to the member past a failed set if the places before the member are all in the set.
            for other in 0..count {
                for pair in excess.chunks_exact_mut(2 << other) {
                    let (without, with) = pair.split_at_mut(1 << other);
                    for (with, without) in with.iter_mut().zip(without) {
                        *with += *without;
                    }
                }
            }
            for (set, excess) in excess.iter_mut().enumerate().filter(|(set, _)| set >> member & 1 == 0) {
                *excess -= SLOTS as f32 * weights[member] / outside[set];
            }
        }
        Self { excess, outside, weights }
    }

    /// Whether no member has much more than its share, or, where weights make that small, than the average share.
    fn even(&self) -> bool {
        (0..self.outside.len() - 1).all(|set| {
            let members = || (0..self.weights.len()).filter(|member| set >> member & 1 == 0);
            let average = self.outside[set] / members().count() as f32;
            let per_weight = SLOTS as f32 / self.outside[set];
            members().all(|member| {
                self.excess[member][set] - 1.0 <= EVEN * self.weights[member].max(average) * per_weight
            })
        })
    }

    /// Swaps each two neighbours of a list, from place `first` on, where that lowers the sum.
    fn improve(&mut self, list: &mut Draft, first: usize) {
        let count = self.weights.len();
        let leaders = list.places[..first.min(count)].iter();
        let mut before = leaders.fold(0usize, |set, &member| set | 1 << member);
        for place in first..count.saturating_sub(1) {
            let (x, y) = (usize::from(list.places[place]), usize::from(list.places[place + 1]));
            let free = (self.outside.len() - 1) & !before & !(1 << x) & !(1 << y);
            let gain = self.gain(x, y, before, free);
            if gain > 0.0 {
                self.shift(x, y, before, free);
                list.places.swap(place, place + 1);
            }
            before |= 1 << list.places[place];
        }
    }

    /// By how much the sum of squares decreases when one list goes from `x` to `y` for every set that is `before` and
    /// any part of `free`.
    fn gain(&self, x: usize, y: usize, before: usize, free: usize) -> f32 {
        let (from, to) = (&self.excess[x], &self.excess[y]);
        let (per_x, per_y) = (1.0 / self.weights[x], 1.0 / self.weights[y]);
        let (mut gain, mut part) = (0.0, free);
        loop {
            let set = before | part;
            gain += self.outside[set] * ((from[set] - 0.5) * per_x - (to[set] + 0.5) * per_y);
            if part == 0 {
                return gain;
            }
            part = (part - 1) & free;
        }
    }

    /// Applies what [`Loads::gain`] has evaluated.
    fn shift(&mut self, x: usize, y: usize, before: usize, free: usize) {
        let mut part = free;
        loop {
            self.excess[x][before | part] -= 1.0;
            self.excess[y][before | part] += 1.0;
            if part == 0 {
                return;
            }
            part = (part - 1) & free;
        }
    }
}
