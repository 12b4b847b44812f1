//! What is told of a probe that is over, to whoever watches.

use std::{net::IpAddr, time::Duration};

use crate::{
    core::Time,
    types::{Family, ProbeOutcome},
};

/// A probe that is over.
///
/// One that was lost, or void, and is answered afterwards is over twice: an answer takes the loss back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedProbe {
    /// Name of the member that sent it.
    pub member: String,
    /// In which family.
    pub family: Family,
    /// Its number.
    pub sequence: u16,
    /// Where it went.
    pub target: IpAddr,
    /// When it was sent, or was to be sent.
    pub sent: Time,
    /// Its result.
    pub outcome: ProbeOutcome,
    /// From sending until the kernel received the reply, if there was one.
    pub rtt: Option<Duration>,
    /// When that was known: of an answer, when it was read.
    pub known: Time,
    /// How long the target takes on the average, and how far that is off in the mean, this probe included.
    pub average: Option<Duration>,
    /// As above.
    pub deviation: Option<Duration>,
}
