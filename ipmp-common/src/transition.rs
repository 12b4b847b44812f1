//! Members in transition: flows move to a member, or leave it, one by one as they become idle
//! (`docs/design/leaving-and-returning.md`).
//!
//! The word `usable` of a group has four sets of members in its 64 bits, so that they change at once. While a member is in
//! transition, it is not in the lowest of them, which alone the fast path reads: packets of its slots take the slow path, which
//! reads the map `active_flows`, a table without chains as for flowlets (Sinha, Kandula, Katabi: Harnessing TCP's burstiness with
//! flowlet switching, HotNets 2004). Two flows in one place of the table move together: an active one never moves because of
//! another one.

use core::time::Duration;

use crate::steer::{MAX_MEMBERS, MemberSet, SLOTS};

/// Places of the table: eight for each slot.
pub const ACTIVE_FLOWS: usize = 8 * SLOTS;
/// A flow without a packet for so long is idle: none of its packets is on its way any more. In the same time each active flow is seen.
pub const IDLE: Duration = Duration::from_millis(1000);
/// The member in an entry; the other bits are its time.
const MEMBER: u64 = 15;

/// The place of a flow in the table. Its lowest bits are the slot.
#[inline(always)]
pub const fn place(hash: u32) -> u32 {
    hash & (ACTIVE_FLOWS as u32 - 1)
}

/// An entry of the table: which member transmitted the flows of a place last, and when. A word, which processors write at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct ActiveFlow {
    /// `CLOCK_MONOTONIC` in nanoseconds, with the member in the lowest four bits.
    pub bits: u64,
}

impl ActiveFlow {
    /// The entry of a flow that a member transmits now, by `CLOCK_MONOTONIC` in nanoseconds.
    #[inline(always)]
    pub const fn new(member: u8, now_ns: u64) -> Self {
        Self { bits: now_ns & !MEMBER | member as u64 & MEMBER }
    }

    /// The member.
    #[inline(always)]
    pub const fn member(self) -> u8 {
        (self.bits & MEMBER) as u8
    }

    /// Whether the flow is not idle. Packets on several processors are not in the order of their times.
    #[inline(always)]
    pub const fn is_active(self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.bits) < IDLE.as_nanos() as u64
    }
}

/// The members that may transmit, and how: the word `usable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usable {
    /// Transmit every flow of their slots.
    pub settled: MemberSet,
    /// Get the flows of their slots that are not active on another member.
    pub returning: MemberSet,
    /// Keep the flows that are active on them, and get no others.
    pub leaving: MemberSet,
    /// Of those two: their flows are not known yet, so that each that was not seen counts as active.
    pub learning: MemberSet,
}

const WIDTH: u32 = MAX_MEMBERS as u32;
const MASK: u64 = (1 << WIDTH) - 1;

impl Usable {
    /// The sets of a word.
    #[inline(always)]
    pub const fn of(word: MemberSet) -> Self {
        Self {
            settled: MemberSet::from_bits(word.bits & MASK),
            returning: MemberSet::from_bits(word.bits >> WIDTH & MASK),
            leaving: MemberSet::from_bits(word.bits >> (2 * WIDTH) & MASK),
            learning: MemberSet::from_bits(word.bits >> (3 * WIDTH) & MASK),
        }
    }

    /// The word.
    #[inline(always)]
    pub const fn word(self) -> MemberSet {
        MemberSet::from_bits(
            self.settled.bits & MASK
                | (self.returning.bits & MASK) << WIDTH
                | (self.leaving.bits & MASK) << (2 * WIDTH)
                | (self.learning.bits & MASK) << (3 * WIDTH),
        )
    }

    /// Whether a word has members in transition.
    #[inline(always)]
    pub const fn is_in_transition(word: MemberSet) -> bool {
        word.bits >> WIDTH != 0
    }

    /// The members in transition.
    pub const fn in_transition(self) -> MemberSet {
        self.returning.or(self.leaving)
    }

    /// All members that may transmit.
    pub const fn all(self) -> MemberSet {
        self.settled.or(self.in_transition())
    }

    /// The same without a member.
    #[must_use]
    pub const fn without(self, member: u8) -> Self {
        Self {
            settled: self.settled.without(member),
            returning: self.returning.without(member),
            leaving: self.leaving.without(member),
            learning: self.learning.without(member),
        }
    }

    /// The members for a flow that is not known to be active on one of them. `is_new`: it begins with this packet.
    pub const fn for_flow(self, is_new: bool) -> MemberSet {
        MemberSet::from_bits(members_for_flow(self.word(), is_new).bits & MASK)
    }
}

/// The members in transition, by the word. As in the two functions below, only the bits of members have a meaning: without a mask, the
/// verifier of the kernel sees the same states as with a word as it is.
#[inline(always)]
pub const fn members_in_transition(word: MemberSet) -> MemberSet {
    MemberSet::from_bits(word.bits >> WIDTH | word.bits >> (2 * WIDTH))
}

/// The members that may transmit.
#[inline(always)]
pub const fn all_members(word: MemberSet) -> MemberSet {
    word.or(members_in_transition(word))
}

/// [`Usable::for_flow`].
#[inline(always)]
pub const fn members_for_flow(word: MemberSet, is_new: bool) -> MemberSet {
    let learning = if is_new { 0 } else { word.bits >> (3 * WIDTH) };
    MemberSet::from_bits(word.bits | word.bits >> WIDTH & !learning | word.bits >> (2 * WIDTH) & learning)
}

impl From<MemberSet> for Usable {
    /// None of them is in transition.
    fn from(settled: MemberSet) -> Self {
        Self { settled, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn flow_is_active_until_it_was_idle_whatever_the_order_of_processors() {
        const START: u64 = 1 << 40;
        let (entry, idle) = (ActiveFlow::new(13, START), IDLE.as_nanos() as u64);
        assert_eq!(entry.member(), 13);
        for (now, active) in [
            (START, true),
            (START - 5_000_000, true),
            (START + idle - 1_000, true),
            (START + idle + 1_000, false),
            (u64::MAX, false),
        ] {
            assert_eq!(entry.is_active(now), active, "{now}");
        }
        assert!(!ActiveFlow::default().is_active(START), "an empty place");
    }

    #[test]
    fn unknown_flow_stays_on_former_members_while_learning_and_new_one_does_not() {
        let set = |members: &[u8]| members.iter().copied().collect::<MemberSet>();
        let usable = Usable {
            settled: set(&[0]),
            returning: set(&[1, 2]),
            leaving: set(&[3, 4]),
            learning: set(&[1, 3]),
        };
        assert_eq!(usable.for_flow(false), set(&[0, 2, 3]));
        assert_eq!(usable.for_flow(true), set(&[0, 1, 2]));
        assert_eq!(usable.all(), set(&[0, 1, 2, 3, 4]));
    }

    proptest! {
        #[test]
        fn word_has_all_four_sets(sets: [u16; 4]) {
            let [settled, returning, leaving, learning] = sets.map(|bits| MemberSet::from_bits(bits.into()));
            let usable = Usable { settled, returning, leaving, learning };
            prop_assert_eq!(Usable::of(usable.word()), usable);
            for (members, expected) in [
                (all_members(usable.word()), usable.all()),
                (members_in_transition(usable.word()), usable.in_transition()),
                (members_for_flow(usable.word(), true), settled.or(returning)),
            ] {
                prop_assert_eq!(members.iter().collect::<MemberSet>(), expected);
            }
            let moves = !returning.or(leaving).or(learning).is_empty();
            prop_assert_eq!(Usable::is_in_transition(usable.word()), moves);
            // What alone the fast path reads.
            prop_assert_eq!(usable.word().iter().collect::<MemberSet>(), settled);
        }
    }
}
