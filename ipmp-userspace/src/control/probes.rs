//! What `ipmpstat -p` is told: every probe that is over, field by field as `net.ipmp.Manager.varlink` documents it. It
//! takes the way of events ([`super::monitor`]): nobody waits for a slow listener, who learns how much he has missed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::monitor::{Event, Feed};
use crate::types::{Family, ProbeOutcome};

/// Probes that a listener may be behind: a second of them, at what a hundred members send with a failure detection time
/// of half a second.
pub const CAPACITY: usize = 1024;

/// A probe that is over. One that was lost or void and is answered afterwards is told again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The group.
    pub group: String,
    /// The member that sent it.
    pub member: String,
    /// In which family.
    pub family: Family,
    /// Its number: from 1, for each member and family.
    pub number: u16,
    /// Where it went.
    pub target: IpAddr,
    /// What has become of it.
    pub outcome: ProbeOutcome,
    /// When it was sent, or was to be sent, by `CLOCK_MONOTONIC`, in nanoseconds.
    pub sent_ns: u64,
    /// From sending until the kernel received the answer, in nanoseconds.
    pub network_ns: Option<u64>,
    /// From sending until the daemon had read the answer, in nanoseconds.
    pub handled_ns: Option<u64>,
    /// How long the target takes on the average, in nanoseconds; `None`: that is not known, as while a member has failed.
    pub average_ns: Option<u64>,
    /// How far that is off in the mean, in nanoseconds.
    pub deviation_ns: Option<u64>,
}

/// Where listeners of both kinds are served from.
#[derive(Clone, Debug)]
pub struct Feeds {
    /// Events.
    pub events: Feed<Event>,
    /// Probes.
    pub probes: Feed<ProbeReport>,
}

/// What a listener is told at a time: a probe, or how many are missing here; neither, where it begins and where it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The probe.
    pub probe: Option<ProbeReport>,
    /// How many were not read in time.
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
