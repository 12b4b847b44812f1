//! What `Show` reports of probing.

use std::net::IpAddr;

use crate::types::{
    Confirm, Failback, Family, ProbeMethod, ProbeObstacle, ProbePolicy, SplitPolicy, TargetFault, TargetMode,
};
use serde::{Deserialize, Serialize};

/// Maximum number of targets reported for a member and family: the five active ones, and the last excluded ones.
pub const MOST_TARGETS: usize = 16;

/// How the failures of a group's members are detected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Configured failure detection time in milliseconds. The current one is [`fdt_ms`](super::GroupReport).
    pub configured_ms: u64,
    /// Probe interval of each member and family in microseconds.
    pub interval_us: u64,
    /// Why the time is longer than configured; `None`: it is not.
    pub raised: Option<Raised>,
    /// Whether repaired members are used again.
    pub failback: bool,
    /// The same, and how flows return to them.
    pub failback_policy: Failback,
    /// With [`Failback::Idle`]: flows that have not been idle return after this time in milliseconds.
    pub failback_limit_ms: u64,
    /// Whether members with a link stay in use if all probes fail.
    pub fail_open: bool,
    /// When the probes that confirm a failure are sent.
    pub confirm: Confirm,
    /// Whether the traffic of the host starts them.
    pub evidence: bool,
    /// Whether members without a test address are probed, and how.
    pub probe: ProbePolicy,
    /// Which members transmit while the network is split behind them.
    pub split_policy: SplitPolicy,
    /// The percentage above which a member that loses more than others is degraded; `None`: off.
    pub loss_warn_percent: Option<f64>,
    /// The percentage above which a degraded member is avoided; `None`: off.
    pub loss_fail_percent: Option<f64>,
    /// Targets configured by the operator; empty: discovered.
    pub targets: Vec<IpAddr>,
    /// Families in which no target replies on any member: members are judged by their links.
    pub unreachable_families: Vec<Family>,
    /// Targets that reply to some members only, while others receive replies from other targets; empty: no split.
    pub split: Vec<SplitTarget>,
}

/// A target that replies to some members only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitTarget {
    /// Its address.
    pub target: IpAddr,
    /// Members to which it replies.
    pub reached_by: Vec<String>,
    /// Members to which it does not reply, while other targets do.
    pub not_reached_by: Vec<String>,
}

/// The target that raised the failure detection time above the configured one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// The member that probes it.
    pub member: String,
    /// The target.
    pub target: IpAddr,
    /// Its round-trip time then, in microseconds: average plus four deviations.
    pub took_us: u64,
    /// How long ago that was, in milliseconds.
    pub ago_ms: u64,
}

/// The probing of a member in a family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probing {
    /// The family.
    pub family: Family,
    /// `None`: it cannot be probed; see `obstacle`.
    pub method: Option<ProbeMethod>,
    /// Why it cannot be probed.
    pub obstacle: Option<ProbeObstacle>,
    /// Its test address.
    pub test_address: Option<IpAddr>,
    /// Prefix length of the test address in bits: targets are in this subnet.
    pub prefix: Option<u8>,
    /// Where its targets come from (docs/reference.md 6.8).
    pub mode: TargetMode,
    /// Failed in this family, and not repaired.
    pub failed: bool,
    /// Probes lost in a row; five are a failure.
    pub losses: u32,
    /// Probes answered in a row; ten are a repair.
    pub replies: u32,
    /// Active targets, the next one first, then excluded ones.
    pub targets: Vec<ProbedTarget>,
    /// Targets that are not needed: enough others are active.
    pub inactive_targets: u32,
    /// The largest packet that passed both ways, and when last; `None`: none yet.
    pub passed: Option<Passed>,
    /// Counters since probing began.
    pub counters: Counters,
}

/// A large packet that passed to a target, and as large a reply that passed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Bytes of the packet, with its IP header.
    pub bytes: u32,
    /// The target.
    pub target: IpAddr,
    /// How long ago it was sent, in milliseconds.
    pub ago_ms: u64,
}

/// A target of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedTarget {
    /// Its address.
    pub address: IpAddr,
    /// Why it is not probed; `None`: it is probed.
    pub excluded: Option<TargetFault>,
    /// Until it may be probed again, in milliseconds.
    pub retry_ms: Option<u64>,
    /// Average round-trip time in microseconds.
    pub average_us: Option<u64>,
    /// Mean deviation of the round-trip time in microseconds.
    pub deviation_us: Option<u64>,
    /// Its probes lost in a row.
    pub losses: u32,
    /// Its probes answered in a row.
    pub replies: u32,
}

/// Counters of a member and family since probing began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Probes sent.
    pub sent: u64,
    /// Probes answered, in time or not.
    pub answered: u64,
    /// Probes lost; a late reply does not lower it.
    pub lost: u64,
    /// Probes neither lost nor answered: the daemon was delayed.
    pub discarded: u64,
    /// Probes that could not be sent.
    pub unsent: u64,
    /// Rounds skipped because the daemon was delayed.
    pub missed: u64,
    /// Replies that match no request.
    pub unexpected: u64,
    /// Repeated replies.
    pub duplicate: u64,
}
