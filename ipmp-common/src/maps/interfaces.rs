//! The interfaces of a group's members: which of them has received a packet.

use crate::steer::MAX_MEMBERS;

/// The interface index of each member. All members share one ingress program, which finds here which of them it runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Interfaces {
    /// For each value of the lowest four bits of an index, the number of a member with such an index, in four bits.
    numbers: u64,
    /// By number; 0: no member.
    indices: [u32; MAX_MEMBERS],
}

/// Its size in words, each of which user space stores atomically.
#[cfg(feature = "user")]
const WORDS: usize = size_of::<Interfaces>() / 8;

const fn place(ifindex: u32) -> u32 {
    4 * (ifindex % MAX_MEMBERS as u32)
}

impl Interfaces {
    /// From words, as they are in the map.
    #[cfg(feature = "user")]
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        // SAFETY: integers, without padding.
        unsafe { core::mem::transmute(words) }
    }

    /// Its words.
    #[cfg(feature = "user")]
    pub const fn words(self) -> [u64; WORDS] {
        // SAFETY: integers, without padding.
        unsafe { core::mem::transmute(self) }
    }

    /// With this index for a member; 0 removes it.
    #[must_use]
    pub fn with(mut self, number: u8, ifindex: u32) -> Self {
        self.indices[usize::from(number)] = ifindex;
        self.numbers = 0;
        // Of two with the same lowest bits, the first one is found at once.
        for (number, &ifindex) in self.indices.iter().enumerate().rev().filter(|(_, ifindex)| **ifindex != 0)
        {
            self.numbers &= !(15 << place(ifindex));
            self.numbers |= (number as u64) << place(ifindex);
        }
        self
    }

    /// The member with this index, in nearly all cases: only those whose index has the same lowest four bits as another's are found by
    /// [`Self::search`] alone.
    #[inline(always)]
    pub fn find(&self, ifindex: u32) -> Option<u32> {
        let number = (self.numbers >> place(ifindex) & 15) as usize;
        (self.indices[number] == ifindex).then_some(number as u32)
    }

    /// The member with this index.
    #[inline(always)]
    pub fn search(&self, ifindex: u32) -> Option<u32> {
        self.indices.iter().position(|index| *index == ifindex).map(|number| number as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_is_found_by_the_lowest_bits_of_its_index_or_by_a_search() {
        let three = Interfaces::default().with(0, 0x25).with(15, 0x31).with(2, 0x15);
        assert_eq!(
            [0x25, 0x31, 0x15, 0x35, 0x32].map(|ifindex| three.find(ifindex)),
            [Some(0), Some(15), None, None, None]
        );
        assert_eq!(
            [0x25, 0x31, 0x15, 0x35].map(|ifindex| three.search(ifindex)),
            [Some(0), Some(15), Some(2), None]
        );
        let two = three.with(0, 0);
        assert_eq!([0x25, 0x31, 0x15].map(|ifindex| two.find(ifindex)), [None, Some(15), Some(2)]);
        assert_eq!(two.with(2, 0).with(15, 0), Interfaces::default());
    }
}
