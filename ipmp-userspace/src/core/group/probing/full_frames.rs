//! Frames of full size between members whose probes do not show which sizes pass: those by ARP and Neighbour Discovery, which have
//! no size, and those whose rounds follow each other so fast that a target may not answer large ones.
//!
//! Each [`INTERVAL`] one of these members and another one that functions send each other a frame as large as the MTU of both
//! permits, all members in turn, also standbys. A frame that arrives shows that one transmits and the other one receives such frames, through the
//! switches between them and through no target. A lost one shows nothing by itself: what is displayed becomes older, and no verdict depends on it.

use std::time::Duration;

use super::Group;
use crate::core::{
    Action, Time,
    group::members::full_size,
    member::{FullFrame, Member},
};

/// Time between two exchanges of a group.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// The exchanges of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FullFrames {
    /// The last one.
    last: Option<Exchange>,
    /// When the next one is due; `None`: no member wants one.
    next: Option<Time>,
}

/// Two frames, one in each direction.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    members: [u8; 2],
    bytes: u32,
    sequence: u32,
}

impl Group {
    /// Whether the probes of a member show which sizes pass.
    fn shows_sizes(&self, member: &Member) -> bool {
        let interval = self.probing.fdt.interval();
        member.probing().probers().any(|prober| prober.capable() && prober.tests_sizes(interval))
    }

    fn wants_full_frames(&self, member: &Member) -> bool {
        member.probing().enabled() && is_able(member) && !self.shows_sizes(member)
    }

    /// The last frames of full size between a member and others, unless its probes show which sizes pass.
    pub fn exchanged(&self, member: &Member) -> Option<FullFrame> {
        member.probing().full_frame().filter(|_| !self.shows_sizes(member))
    }

    /// The pairs of members that exchange frames in turn.
    fn pairs(&self) -> Vec<[u8; 2]> {
        let able: Vec<&Member> = self.members.iter().filter(|member| is_able(member)).collect();
        let others = able.iter().cycle().skip(1);
        able.iter()
            .zip(others)
            .filter(|(one, other)| one.number() != other.number())
            .filter(|pair| self.wants_full_frames(pair.0) || self.wants_full_frames(pair.1))
            .map(|(one, other)| [one.number(), other.number()])
            .collect()
    }

    /// Considers whether members exchange frames.
    pub(super) fn follow_full_frames(&mut self, now: Time) {
        let wants = !self.pairs().is_empty();
        let next = &mut self.probing.full_frames.next;
        *next = if wants { next.or(Some(now)) } else { None };
    }

    /// Sends the frames that are due.
    pub(super) fn send_full_frames(&mut self, now: Time) {
        if self.full_frames_deadline().is_none_or(|due| due > now) {
            return;
        }
        let pairs = self.pairs();
        self.probing.full_frames.next = Some(now + INTERVAL);
        let before = self.probing.full_frames.last.map(|last| last.members[0]);
        let position = pairs.iter().position(|[one, _]| Some(*one) == before).map_or(0, |last| last + 1);
        let Some(&[one, other]) = pairs.get(position).or(pairs.first()) else { return };
        let mtu = self.members.mtu();
        let full = |number| self.member(number).map(|member| full_size(member, mtu));
        let Some(bytes) = full(one).min(full(other)) else { return };
        let sequence = self.probing.directions.next_sequence();
        self.probing.full_frames.last = Some(Exchange { members: [one, other], bytes, sequence });
        let frame = |(from, to)| Action::TestFrame { from, to, sequence, bytes };
        self.probing.requests.extend([(one, other), (other, one)].map(frame));
    }

    /// A frame from a member to another one has arrived; whether it was one of full size that was expected.
    pub(super) fn receive_full_frame(
        &mut self,
        now: Time,
        (from, to): (u8, u8),
        sequence: u32,
        bytes: u32,
    ) -> bool {
        let is_expected = self.probing.full_frames.last.is_some_and(|last| {
            let [one, other] = last.members;
            (last.sequence, last.bytes) == (sequence, bytes)
                && [(one, other), (other, one)].contains(&(from, to))
        });
        if is_expected {
            if let Some(sender) = self.members.get_mut(from) {
                sender.probing_mut().full_frame_transmitted(now, bytes);
            }
            if let Some(receiver) = self.members.get_mut(to) {
                receiver.probing_mut().full_frame_received(now, bytes);
            }
        }
        is_expected
    }

    /// When the next frames are due.
    pub(super) fn full_frames_deadline(&self) -> Option<Time> {
        self.probing.full_frames.next
    }
}

/// Whether a member can exchange frames.
fn is_able(member: &Member) -> bool {
    member.functions() && member.in_service()
}

#[cfg(test)]
mod tests;
