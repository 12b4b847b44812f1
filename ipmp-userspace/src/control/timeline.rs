//! The reply to `Timeline`, field by field as `net.ipmp.Manager.varlink` documents it.

use serde::{Deserialize, Serialize};

use crate::types::{Passage, Phase};

/// A failure or a repair of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// When its first phase ended: RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// The group.
    pub group: String,
    /// The member.
    pub member: String,
    /// Which of both.
    pub passage: Passage,
    /// `carrier-lost`, `probes-lost`, ...
    pub cause: String,
    /// When each phase ended, in the order of time.
    pub stamps: Vec<Stamp>,
    /// Of a failure: packets that other members have sent in its place so far, or until its repair.
    #[serde(default)]
    pub failed_over_packets: u64,
    /// The same: packets that the group has dropped since no member could transmit.
    #[serde(default)]
    pub dropped_packets: u64,
}

/// The end of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The phase.
    pub phase: Phase,
    /// When, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub at_ns: u64,
}

impl Transition {
    /// When a phase ended.
    pub fn at(&self, phase: Phase) -> Option<u64> {
        self.stamps.iter().find(|stamp| stamp.phase == phase).map(|stamp| stamp.at_ns)
    }

    /// Adds the end of a phase. The first one of a phase stays.
    pub fn stamp(&mut self, phase: Phase, at_ns: u64) {
        if self.at(phase).is_none() {
            self.stamps.push(Stamp { phase, at_ns });
            self.stamps.sort_by_key(|stamp| (stamp.at_ns, stamp.phase));
        }
    }
}

/// A transition with every field filled.
#[cfg(test)]
pub(crate) fn sample() -> Transition {
    let stamp = |phase, at_ns: u64| Stamp { phase, at_ns: 15_113_000_000_000 + at_ns };
    Transition {
        time: "2010-01-08T20:01:06.042Z".into(),
        group: "production0".into(),
        member: "e1000g0".into(),
        passage: Passage::Failure,
        cause: "carrier-lost".into(),
        stamps: vec![
            stamp(Phase::Sentinel, 0),
            stamp(Phase::Decided, 250_000),
            stamp(Phase::Announced, 1_000_000),
            stamp(Phase::Netlink, 2_000_000),
        ],
        failed_over_packets: 50_000,
        dropped_packets: 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_in_order_of_time_and_the_first_one_stays() {
        let mut transition = sample();
        transition.stamp(Phase::Netlink, 1);
        transition.stamp(Phase::FirstLoss, 5);
        assert_eq!(transition.stamps[0], Stamp { phase: Phase::FirstLoss, at_ns: 5 });
        assert_eq!(transition.at(Phase::Netlink), sample().at(Phase::Netlink));
        assert_eq!(transition.stamps.len(), 5);
    }
}
