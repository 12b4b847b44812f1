//! What `Show` reports of probing.

use std::net::IpAddr;

use crate::types::{Family, ProbeMethod, ProbeObstacle, ProbePolicy, TargetFault, TargetMode};
use serde::{Deserialize, Serialize};

/// Targets of a member and family that are reported at most: the five that are probed, and those that were set aside
/// last.
pub const MOST_TARGETS: usize = 16;

/// How the failures of a group's members are detected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detection {
    /// The failure detection time that was asked for, in milliseconds. What it is now is [`fdt_ms`](super::GroupReport).
    pub configured_ms: u64,
    /// From one probe to the next, for each member and family, in microseconds.
    pub interval_us: u64,
    /// Why the time is longer than was asked for, while it is.
    pub raised: Option<Raised>,
    /// Whether a repaired member carries traffic again although nobody is missed.
    pub failback: bool,
    /// Whether members whose probes fail carry traffic while nobody else does.
    pub fail_open: bool,
    /// Whether members without a test address are probed, and how.
    pub probe: ProbePolicy,
    /// Targets that the operator names; none: they are found.
    pub targets: Vec<IpAddr>,
    /// Families in which no target answers on any member, so that nobody is blamed.
    pub unreachable_families: Vec<Family>,
}

/// A target that takes longer than the failure detection time allows that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// The member that probes it.
    pub member: String,
    /// The target.
    pub target: IpAddr,
    /// How long it took then, in microseconds: the average and four deviations.
    pub took_us: u64,
    /// How long ago that was, in milliseconds.
    pub ago_ms: u64,
}

/// The probing of a member in a family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probing {
    /// The family.
    pub family: Family,
    /// How it is probed; `None`: it cannot be now, and `obstacle` says why.
    pub method: Option<ProbeMethod>,
    /// Why it cannot be probed.
    pub obstacle: Option<ProbeObstacle>,
    /// Its test address.
    pub test_address: Option<IpAddr>,
    /// Prefix length of the test address in bits: targets are in this subnet.
    pub prefix: Option<u8>,
    /// Where its targets come from (docs/reference.md 6.8).
    pub mode: TargetMode,
    /// Whether this family has failed, and is not repaired yet.
    pub failed: bool,
    /// Probes that were lost one after another by now; five are a failure.
    pub losses: u32,
    /// Probes that were answered one after another by now; ten are a repair.
    pub answers: u32,
    /// The targets that are probed, the next one first, then those that are left alone for a while.
    pub targets: Vec<ProbedTarget>,
    /// How many other targets there are, which nobody needs now.
    pub inactive_targets: u32,
    /// What has been done so far.
    pub counters: Counters,
}

/// A target of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedTarget {
    /// Its address.
    pub address: IpAddr,
    /// Why it is not probed; `None`: it is.
    pub excluded: Option<TargetFault>,
    /// When it may be probed again, in milliseconds from now.
    pub retry_ms: Option<u64>,
    /// How long it takes to answer on the average, in microseconds.
    pub average_us: Option<u64>,
    /// How far that is off in the mean, in microseconds.
    pub deviation_us: Option<u64>,
    /// Its probes that were lost one after another by now.
    pub losses: u32,
    /// Its probes that were answered one after another by now.
    pub answers: u32,
}

/// What probing of a member in a family has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Probes sent.
    pub sent: u64,
    /// Probes answered, in time or not.
    pub answered: u64,
    /// Probes lost; an answer that comes later does not lower it.
    pub lost: u64,
    /// Probes that nobody judged in time: neither lost nor answered.
    pub discarded: u64,
    /// Probes that could not be sent.
    pub unsent: u64,
    /// Rounds that were left out, because the daemon came too late for them.
    pub missed: u64,
    /// Answers to nothing that was asked.
    pub unexpected: u64,
    /// Answers that came again.
    pub duplicate: u64,
}
