//! Finished probes as `ipmpstat -p` receives them, field by field as `net.ipmp.Manager.varlink` documents them. They use
//! the same queue as events ([`super::monitor`]): a slow subscriber loses probes, and receives their number.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::monitor::{EventRecord, Feed};
use crate::types::{Family, ProbeOutcome};

/// Probes that a subscriber may be behind: those of a hundred members for a second, with a failure detection time of
/// half a second.
pub const CAPACITY: usize = 1024;

/// A finished probe. A lost or discarded probe that is answered later is reported again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The group.
    pub group: String,
    /// The member that sent it.
    pub member: String,
    /// The family.
    pub family: Family,
    /// Its number: from 1, for each member and family.
    pub number: u16,
    /// The target.
    pub target: IpAddr,
    /// The outcome.
    pub outcome: ProbeOutcome,
    /// When it was sent, or was to be sent, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub sent_ns: u64,
    /// From sending until the kernel received the reply, in nanoseconds.
    pub network_ns: Option<u64>,
    /// From sending until the daemon read the reply, in nanoseconds.
    pub handled_ns: Option<u64>,
    /// Average round-trip time of the target in nanoseconds; `None`: unknown, as while a member has failed.
    pub average_ns: Option<u64>,
    /// Mean deviation of the round-trip time in nanoseconds.
    pub deviation_ns: Option<u64>,
}

/// The feeds that clients can subscribe to.
#[derive(Clone, Debug)]
pub struct Feeds {
    /// Events.
    pub events: Feed<EventRecord>,
    /// Probes.
    pub probes: Feed<ProbeReport>,
}

/// One reply to `Probes`: a probe, or the number of lost ones; neither in the first and the last reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeUpdate {
    /// The probe.
    pub probe: Option<ProbeReport>,
    /// Number of probes that were not read in time.
    pub lost: Option<u64>,
}

/// A probe with every field filled.
#[cfg(test)]
pub(crate) fn sample() -> ProbeReport {
    ProbeReport {
        group: "production0".into(),
        member: "rge0".into(),
        family: Family::V4,
        number: 589,
        target: [192, 168, 178, 1].into(),
        outcome: ProbeOutcome::Answered,
        sent_ns: 15_113_110_000_000,
        network_ns: Some(510_000),
        handled_ns: Some(760_000),
        average_ns: Some(762_000),
        deviation_ns: Some(4_000),
    }
}
