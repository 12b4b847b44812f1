//! Reports of finished probes.

use std::{net::IpAddr, time::Duration};

use crate::{
    core::Time,
    types::{Family, ProbeOutcome},
};

/// A finished probe.
///
/// One that was lost, or void, and is answered afterwards is reported twice: the reply revokes the loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedProbe {
    /// Name of the member that sent it.
    pub member: String,
    /// Family of the target.
    pub family: Family,
    /// Number of the probe.
    pub sequence: u16,
    /// Target of the probe.
    pub target: IpAddr,
    /// When it was sent, or requested.
    pub sent: Time,
    /// Its outcome.
    pub outcome: ProbeOutcome,
    /// From sending until the kernel received the reply, if there was one.
    pub rtt: Option<Duration>,
    /// When it finished: for a reply, when it was read.
    pub known: Time,
    /// Average round-trip time of the target, including this probe.
    pub average: Option<Duration>,
    /// Mean deviation of the round-trip time, including this probe.
    pub deviation: Option<Duration>,
}
