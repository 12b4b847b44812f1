//! The words that egress reads for every packet: masks, slots and the cast role, each stored atomically.

use std::mem::offset_of;

use ipmp_common::{
    maps::{CaptureMode, Steering},
    steer::{MemberSet, Preference, SLOTS},
};

use super::Group;

const USABLE: usize = offset_of!(Steering, usable) / 8;
const RESERVE: usize = offset_of!(Steering, reserve) / 8;
const CAST: usize = offset_of!(Steering, cast) / 8;

impl Group {
    /// Writes the `usable` mask.
    pub fn set_usable(&self, members: MemberSet) {
        self.steering.store(USABLE, members.bits);
    }

    /// The `usable` mask.
    pub fn usable(&self) -> MemberSet {
        MemberSet::from_bits(self.steering.load(USABLE))
    }

    /// Writes the `reserve` mask: members that transmit only before a packet is lost.
    pub fn set_reserve(&self, members: MemberSet) {
        self.steering.store(RESERVE, members.bits);
    }

    /// The `reserve` mask.
    pub fn reserve(&self) -> MemberSet {
        MemberSet::from_bits(self.steering.load(RESERVE))
    }

    /// Live members.
    pub fn live(&self) -> MemberSet {
        self.host.borrow().sentinel.live(self.index)
    }

    /// Since when a member's link has been up without interruption, by `CLOCK_MONOTONIC`; `None`: it is not up.
    pub fn good_since(&self, member: u8) -> Option<std::time::Duration> {
        let since = self.host.borrow().sentinel.good_since(self.index, member);
        since.ok().flatten().map(std::time::Duration::from_nanos)
    }

    /// Sets the live members; only where the sentinel does not run.
    pub fn set_live(&self, members: MemberSet) {
        self.host.borrow().sentinel.set_live(self.index, members);
    }

    /// Sets whether captures on the group interface show outbound packets.
    pub fn set_capture(&self, capture: CaptureMode) {
        self.host.borrow().sentinel.set_capture(self.index, capture);
    }

    /// That setting.
    pub fn capture(&self) -> CaptureMode {
        self.host.borrow().sentinel.capture(self.index)
    }

    /// Whether captures show outbound packets now.
    pub fn is_captured(&self) -> bool {
        self.host.borrow().sentinel.is_captured(self.index)
    }

    /// Writes the lists of the slots that differ, each atomically.
    pub fn set_slots(&self, slots: &[Preference; SLOTS]) {
        for (index, list) in slots.iter().enumerate() {
            if self.slots.load(index) != list.nibbles {
                self.slots.store(index, list.nibbles);
            }
        }
    }

    /// The lists of the slots.
    pub fn slots(&self) -> Box<[Preference; SLOTS]> {
        let lists: Vec<_> =
            (0..SLOTS).map(|index| Preference::from_nibbles(self.slots.load(index))).collect();
        lists.into_boxed_slice().try_into().unwrap_or_else(|_| unreachable!("there are SLOTS of them"))
    }

    /// Writes the cast role.
    pub fn set_cast(&self, list: Preference) {
        self.steering.store(CAST, list.nibbles);
    }

    /// The cast role.
    pub fn cast(&self) -> Preference {
        Preference::from_nibbles(self.steering.load(CAST))
    }
}
