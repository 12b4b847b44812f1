//! The words that egress reads for every packet: masks, slots and the cast role, each stored atomically; and the flows that it
//! saw while members were in transition.

use std::mem::offset_of;

use ipmp_common::{
    maps::{CaptureMode, Interfaces, Steering},
    steer::{MemberSet, Preference, SLOTS, slot},
    transition::{ACTIVE_FLOWS, ActiveFlow, Usable, place},
};

use super::Group;
use crate::{core::Time, datapath::Error};

const USABLE: usize = offset_of!(Steering, usable) / 8;
const RESERVE: usize = offset_of!(Steering, reserve) / 8;
const INTERFACES: usize = offset_of!(Steering, interfaces) / 8;
const CAST: usize = offset_of!(Steering, cast) / 8;

pub(super) fn nanoseconds(time: Time) -> u64 {
    time.0.as_nanos() as u64
}

impl Group {
    /// Writes the word `usable`.
    pub fn set_usable(&self, members: impl Into<Usable>) {
        let word = members.into().word();
        let before = MemberSet::from_bits(self.steering.load(USABLE));
        if word == before {
            return;
        }
        let (was, is) = (Usable::is_in_transition(before), Usable::is_in_transition(word));
        if is && !was {
            self.begin_transition();
        }
        self.steering.store(USABLE, word.bits);
        // After a change, another one is likely.
        self.host.borrow().sentinel.request_tick();
        if was && !is {
            self.end_transition();
        }
    }

    /// From now on egress sees which flows are active. Where that is impossible, flows move at once, as if all were idle.
    pub(super) fn begin_transition(&self) {
        if let Err(error) = self.active_flows.begin() {
            log::warn!(group = self.spec.name.as_str(); "{error}: flows move at once");
        }
    }

    pub(super) fn end_transition(&self) {
        if let Err(error) = self.active_flows.end() {
            log::warn!(group = self.spec.name.as_str(); "{error}");
        }
    }

    /// The word `usable`.
    pub fn usable_word(&self) -> Usable {
        Usable::of(MemberSet::from_bits(self.steering.load(USABLE)))
    }

    /// All members in it.
    pub fn usable(&self) -> MemberSet {
        self.usable_word().all()
    }

    /// The member on which a flow with this hash is active now, as far as egress has seen it while members were in transition.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn active_member(&self, hash: u32, now: Time) -> Result<Option<u8>, Error> {
        let Some(flows) = self.active_flows.words()? else { return Ok(None) };
        let flow = ActiveFlow { bits: flows.load(place(hash) as usize) };
        Ok(flow.is_active(nanoseconds(now)).then_some(flow.member()))
    }

    /// The members in transition to which, or from which, flows are still to move once they are idle.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn moving(&self, now: Time) -> Result<MemberSet, Error> {
        let Some(flows) = self.active_flows.words()? else { return Ok(MemberSet::EMPTY) };
        let (now, Usable { returning, leaving, .. }) = (nanoseconds(now), self.usable_word());
        let mut moving = MemberSet::EMPTY;
        for at in 0..ACTIVE_FLOWS {
            let flow = ActiveFlow { bits: flows.load(at) };
            if !flow.is_active(now) {
                continue;
            }
            if leaving.has(flow.member()) {
                moving = moving.with(flow.member());
            }
            let list = Preference::from_nibbles(self.slots.load(slot(at as u32) as usize));
            let preferred = list.members().take_while(|member| *member != flow.member());
            moving = preferred.filter(|member| returning.has(*member)).fold(moving, MemberSet::with);
        }
        Ok(moving)
    }

    /// Writes the interface index of a member, by which ingress finds its number; 0: none.
    pub(super) fn set_interface(&self, number: u8, ifindex: u32) {
        let words = std::array::from_fn(|word| self.steering.load(INTERFACES + word));
        let words = Interfaces::from_words(words).with(number, ifindex).words();
        // While some are stored, a packet may be looked up in vain: at the member that joins or leaves, or by its number, and then by a search.
        words.into_iter().enumerate().for_each(|(word, value)| self.steering.store(INTERFACES + word, value));
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
