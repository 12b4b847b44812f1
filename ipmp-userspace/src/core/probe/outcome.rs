//! Reports of finished probes.

use std::{net::IpAddr, time::Duration};

use super::{Family, history::Fate};
use crate::core::Time;

/// A finished probe.
///
/// One that was lost, or void, and is answered afterwards is reported twice: the reply revokes the loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
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
    /// What has become of it.
    pub fate: Fate,
    /// When it finished: for a reply, when it was read.
    pub known: Time,
    /// Average round-trip time of the target, including this probe.
    pub average: Option<Duration>,
    /// Mean deviation of the round-trip time, including this probe.
    pub deviation: Option<Duration>,
}
