//! Which direction of a failed member's path has failed.
//!
//! A probe is lost alike if its request or its reply is. So once a member has failed by its probes while its link is up, small
//! frames are exchanged between it and a member that functions, its *peer*: unicast from MAC to MAC, through the switches and
//! through no target.
//!
//! | from the failed member | to it | result |
//! |---|---|---|
//! | arrive | are lost | [`Receive`](FailedDirection::Receive): it does not receive |
//! | are lost | arrive | [`Transmit`](FailedDirection::Transmit): it does not transmit |
//! | are lost | are lost | a *control* exchange of the peer with a third member that functions: if frames pass both ways, [`Both`](FailedDirection::Both); else the switches may isolate the ports from each other, [`Unknown`](FailedDirection::Unknown). Without a third member that functions, an exchange with another failed one: if frames pass both ways, both are behind the same failure, [`Beyond`](FailedDirection::Beyond) |
//! | arrive | arrive | [`Beyond`](FailedDirection::Beyond): what is lost is lost on the way to the targets |
//!
//! Losses count only if the peer itself transmits and receives meanwhile: a reply to a probe that it sent after the exchange
//! began, or the control exchange, proves that.
//!
//! No verdict depends on a result: it explains a failure. While no member has failed, no such frame is sent.

use std::time::Duration;

use crate::{core::Time, types::FailedDirection};

/// Frames in each direction of an exchange, at most.
pub const FRAMES: u8 = 3;
/// Bytes of each behind its Ethernet header: the least that Ethernet has.
pub const SMALL: u32 = 46;
/// Time between two of them.
pub const SPACING: Duration = Duration::from_millis(100);
/// Time in which the last one may still arrive. The daemon reads what has arrived before it judges.
pub const ARRIVAL: Duration = Duration::from_millis(300);
/// Time between two exchanges of a group: with [`FRAMES`] and [`SPACING`] no port transmits more than 6 frames in a second.
pub const PAUSE: Duration = Duration::from_millis(400);
/// Time between two tests of a failed member; two intervals of its probes, if these are longer.
pub const REPEAT: Duration = Duration::from_secs(5);

/// What the last tests of a failed member have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The direction that has failed.
    pub direction: FailedDirection,
    /// The member with which frames were exchanged.
    pub peer: u8,
    /// When.
    pub at: Time,
}

/// Frames between two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) struct Exchange {
    members: [u8; 2],
    sequence: u32,
    sent: u8,
    /// When the next frames are due; after the last ones, when they are lost.
    next: Time,
    /// From each of the members to the other one.
    arrived: [bool; 2],
}

impl Exchange {
    pub fn new(now: Time, members: [u8; 2], sequence: u32) -> Self {
        Self { members, sequence, sent: 0, next: now, arrived: [false; 2] }
    }

    /// When it has something to do.
    pub fn next(&self) -> Time {
        self.next
    }

    /// The two members.
    pub fn members(&self) -> [u8; 2] {
        self.members
    }

    /// Number of its frames.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Whether frames are due: one from each member to the other one.
    pub fn sends(&mut self, now: Time) -> bool {
        let is_due = self.sent < FRAMES && self.next <= now;
        if is_due {
            self.sent += 1;
            self.next = now + if self.sent == FRAMES { ARRIVAL } else { SPACING };
        }
        is_due
    }

    /// A frame has arrived; whether it belongs to the exchange.
    pub fn received(&mut self, from: u8, to: u8, sequence: u32) -> bool {
        let [one, other] = self.members;
        let place = match (from, to) {
            _ if sequence != self.sequence || self.sent == 0 => return false,
            pair if pair == (one, other) => 0,
            pair if pair == (other, one) => 1,
            _ => return false,
        };
        self.arrived[place] = true;
        true
    }

    /// Whether frames of each member have arrived at the other one, once that is certain.
    pub fn result(&self, now: Time) -> Option<[bool; 2]> {
        let is_over = self.arrived == [true; 2] || (self.sent == FRAMES && self.next <= now);
        is_over.then_some(self.arrived)
    }
}

/// What is known of the direction in which a failed member has failed.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Diagnosis {
    /// When it is tested next.
    pub due: Time,
    /// The result of the last test.
    last: Option<FailedDirection>,
    pub finding: Option<Finding>,
    /// What was reported.
    reported: Option<FailedDirection>,
}

impl Diagnosis {
    pub fn new(now: Time) -> Self {
        Self { due: now, last: None, finding: None, reported: None }
    }

    /// The last test has no result, and does not confirm another one.
    pub fn discard(&mut self, due: Time) {
        (self.due, self.last) = (due, None);
    }

    /// Takes a result; the direction, if it is to be reported. Another one than before must be found twice in a row. So must
    /// the first one, if frames pass in both directions: the path may be good again, which the next probes show.
    pub fn conclude(&mut self, finding: Finding, due: Time) -> Option<FailedDirection> {
        let direction = finding.direction;
        let is_confirmed = self.last.replace(direction) == Some(direction);
        self.due = due;
        if !is_confirmed && (self.finding.is_some() || direction == FailedDirection::Beyond) {
            return None;
        }
        self.finding = Some(finding);
        let is_news = direction != FailedDirection::Unknown && self.reported != Some(direction);
        is_news.then(|| *self.reported.insert(direction))
    }
}

#[cfg(test)]
mod tests;
