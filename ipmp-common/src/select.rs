//! Selection: which member of a preference list transmits a packet.
//!
//! The rule, in this order:
//!
//! 1. The first member of the list that is usable, is live and has a carrier.
//! 2. Else the first that is usable or in reserve, is live and has a carrier.
//! 3. Else the first that is usable or in reserve and has a carrier: a link that has not passed its hold-down is better than a
//!    certain loss.
//!
//! The eBPF programs compile this file, and the packet test `selection` compares them with [`Masks::select`].
//! Why there is a list for each slot and role: `docs/design/steering-lists.md`.

use crate::steer::{MAX_MEMBERS, MemberSet, Preference};

/// The sets of members that the rule reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Masks {
    /// May transmit, by the verdict of the daemon.
    pub usable: MemberSet,
    /// Excluded from the distribution because their links flap, but used before a packet is lost.
    pub reserve: MemberSet,
    /// Their links have passed the hold-down, by the sentinel.
    pub live: MemberSet,
}

impl Masks {
    /// The members that step 1 accepts if they have a carrier.
    #[inline(always)]
    pub const fn preferred(&self) -> MemberSet {
        self.usable.and(self.live)
    }

    /// The member that transmits; `None` if no member of the list can.
    #[inline]
    pub fn select(self, list: Preference, mut has_carrier: impl FnMut(u8) -> bool) -> Option<u8> {
        let mut search = Search::new(list, self);
        for _ in 0..MAX_MEMBERS {
            if search.step(&mut has_carrier) {
                break;
            }
        }
        search.selected()
    }
}

const NO_MEMBER: u32 = u32::MAX;

/// A walk through a list, one [`step`](Self::step) for each of its [`MAX_MEMBERS`] places.
///
/// Made of whole words, because eBPF keeps it on the stack of the caller and steps in the callback of `bpf_loop`: the verifier
/// would check a loop of our own sixteen times for every place that selects.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Search {
    /// What is left of the list.
    list: u64,
    /// Accepted by steps 1, 2 and 3 of the rule.
    preferred: u64,
    live: u64,
    any: u64,
    /// The first member with a carrier that each of them accepts.
    first_preferred: u32,
    first_live: u32,
    first_any: u32,
    /// Live members of the list without a carrier.
    lost: u32,
}

impl Search {
    /// A walk from the first place of the list.
    #[inline(always)]
    pub const fn new(list: Preference, masks: Masks) -> Self {
        let any = masks.usable.or(masks.reserve);
        Self {
            list: list.nibbles,
            preferred: masks.preferred().bits,
            live: any.and(masks.live).bits,
            any: any.bits,
            first_preferred: NO_MEMBER,
            first_live: NO_MEMBER,
            first_any: NO_MEMBER,
            lost: 0,
        }
    }

    /// Checks the next place. True: the walk is over.
    #[inline(always)]
    pub fn step(&mut self, has_carrier: impl FnOnce(u8) -> bool) -> bool {
        let member = (self.list & 15) as u32;
        self.list >>= 4;
        let bit = 1u64 << member;
        if self.any & bit == 0 {
            return false;
        }
        if !has_carrier(member as u8) {
            self.lost |= (self.live & bit) as u32;
            return false;
        }
        if self.preferred & bit != 0 {
            self.first_preferred = member;
            return true;
        }
        if self.live & bit != 0 && self.first_live == NO_MEMBER {
            self.first_live = member;
        } else if self.first_any == NO_MEMBER {
            self.first_any = member;
        }
        false
    }

    /// Whether a live member had no carrier: the sentinel has not detected its loss yet.
    #[inline(always)]
    pub const fn has_lost_carrier(&self) -> bool {
        self.lost != 0
    }

    /// The member that transmits, once the walk is over.
    #[inline(always)]
    pub const fn selected(&self) -> Option<u8> {
        let member = if self.first_preferred != NO_MEMBER {
            self.first_preferred
        } else if self.first_live != NO_MEMBER {
            self.first_live
        } else {
            self.first_any
        };
        if member == NO_MEMBER { None } else { Some(member as u8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn empty_list_and_empty_group_select_none() {
        assert_eq!(Masks::default().select(Preference::EMPTY, |_| true), None);
    }

    proptest! {
        /// The expected member is written as the three steps of the rule, with iterators.
        #[test]
        fn select_follows_the_three_steps(
            order in Just((0..16u8).collect::<Vec<_>>()).prop_shuffle(), count in 1..=16usize,
            usable: u16, reserve: u16, live: u16, carrier: u16,
        ) {
            let [usable, reserve, live, carrier] =
                [usable, reserve, live, carrier].map(|bits| MemberSet::from_bits(bits.into()));
            let list = &order[..count];
            let first = |set: MemberSet| list.iter().copied().find(|&member| set.and(carrier).has(member));
            let any = usable.or(reserve);
            let expected = first(usable.and(live)).or_else(|| first(any.and(live))).or_else(|| first(any));
            let masks = Masks { usable, reserve, live };
            prop_assert_eq!(masks.select(Preference::new(list), |member| carrier.has(member)), expected);
        }
    }
}
