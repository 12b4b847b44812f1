//! Steering: preference lists and sets of members. Which member of a list transmits: [`crate::select`].
//!
//! A [`Preference`] is an ordered list of members. A failure rewrites no list: every packet takes the first member of its list that can
//! transmit, and returns to the more preferred one as soon as that can. Slots, the cast role and the inbound role of each data
//! address are such lists. Reasons: `docs/design/steering-lists.md`.

/// Maximum number of members of a group: a list has four bits for each, in 64.
pub const MAX_MEMBERS: usize = 16;
/// Number of steering slots, a power of two. A flow's hash picks one.
pub const SLOTS: usize = 4096;

/// The slot of a flow.
#[inline(always)]
pub const fn slot(hash: u32) -> u32 {
    hash & (SLOTS as u32 - 1)
}

/// A set of members, one bit each, bit *n* for member number *n*.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct MemberSet {
    /// Bit *n* for member number *n*.
    pub bits: u64,
}

impl MemberSet {
    /// No member.
    pub const EMPTY: Self = Self::from_bits(0);

    /// The set of these bits.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self { bits }
    }
    /// The set of one member.
    #[inline(always)]
    pub const fn of(member: u8) -> Self {
        Self::from_bits(1 << (member & 15))
    }
    /// Whether the member is in the set.
    #[inline(always)]
    pub const fn has(self, member: u8) -> bool {
        self.bits >> (member & 15) & 1 == 1
    }
    /// The set with one more member.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, member: u8) -> Self {
        Self::from_bits(self.bits | Self::of(member).bits)
    }
    /// The set with one member less.
    #[inline(always)]
    #[must_use]
    pub const fn without(self, member: u8) -> Self {
        Self::from_bits(self.bits & !Self::of(member).bits)
    }
    /// Members in both sets.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self::from_bits(self.bits & other.bits)
    }
    /// Members in either set.
    #[inline(always)]
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self::from_bits(self.bits | other.bits)
    }
    /// Number of members in the set.
    #[inline(always)]
    pub const fn len(self) -> u32 {
        self.bits.count_ones()
    }
    /// Whether the set has no member.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }
    /// The members in ascending order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..MAX_MEMBERS as u8).filter(move |&member| self.has(member))
    }
}

impl FromIterator<u8> for MemberSet {
    fn from_iter<I: IntoIterator<Item = u8>>(members: I) -> Self {
        members.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl core::fmt::Debug for MemberSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// An ordered list of members, four bits each, the most preferred in the lowest bits.
///
/// A list shorter than [`MAX_MEMBERS`] repeats its last member to the end, so it needs neither length nor terminator.
/// [`Preference::EMPTY`] contains member 0; that has no effect, because the masks of an empty group are empty.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Preference {
    /// Sixteen member numbers.
    pub nibbles: u64,
}

impl Preference {
    /// The list of a group without members.
    pub const EMPTY: Self = Self::from_nibbles(0);

    /// The list of these member numbers.
    #[inline(always)]
    pub const fn from_nibbles(nibbles: u64) -> Self {
        Self { nibbles }
    }

    /// The list of these members, in this order; members after the sixteenth are not taken.
    pub fn new(members: &[u8]) -> Self {
        let Some(&last) = members.last() else { return Self::EMPTY };
        let mut list = 0;
        for place in 0..MAX_MEMBERS {
            let member = members.get(place).copied().unwrap_or(last);
            list |= ((member & 15) as u64) << (4 * place);
        }
        Self::from_nibbles(list)
    }
    /// The most preferred member.
    #[inline(always)]
    pub const fn first(self) -> u8 {
        (self.nibbles & 15) as u8
    }
    /// The list without its first place.
    #[inline(always)]
    #[must_use]
    pub const fn rest(self) -> Self {
        Self::from_nibbles(self.nibbles >> 4)
    }
    /// Every place of the list in order, repeats included.
    pub fn places(self) -> impl Iterator<Item = u8> {
        (0..MAX_MEMBERS).map(move |place| (self.nibbles >> (4 * place) & 15) as u8)
    }
    /// The members of the list in order, each once.
    pub fn members(self) -> impl Iterator<Item = u8> {
        let mut seen = MemberSet::EMPTY;
        self.places().filter(move |&member| {
            let new = !seen.has(member);
            seen = seen.with(member);
            new
        })
    }
    /// The first member of the list that is in the set.
    pub fn first_in(self, set: MemberSet) -> Option<u8> {
        self.places().find(|&member| set.has(member))
    }
}

impl core::fmt::Debug for Preference {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.members()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_list_repeats_its_last_member() {
        let list = Preference::new(&[2, 0]);
        assert_eq!(list.places().collect::<Vec<_>>(), [&[2][..], &[0; 15][..]].concat());
        assert_eq!(list.members().collect::<Vec<_>>(), [2, 0]);
    }
}
