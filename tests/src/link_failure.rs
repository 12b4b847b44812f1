//! The ways in which the link of a member fails.

use anyhow::Result;

use crate::network::{Lab, MemberKind};

/// How a link fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFailure {
    /// The interface is set down, which needs no cable.
    HostSide,
    /// The switch port is set down.
    FarEnd,
    /// The carrier of a TAP device goes down.
    Tap,
}

impl LinkFailure {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::HostSide, Self::FarEnd, Self::Tap];

    /// The type of the members that fail in this way.
    pub fn kind(self) -> MemberKind {
        if self == Self::Tap { MemberKind::Tap } else { MemberKind::Veth }
    }

    /// Lets the link of a member fail.
    pub fn fail(self, lab: &Lab, member: &str) -> Result<()> {
        match self {
            Self::HostSide => lab.host().ip(&format!("link set {member} down")).map(drop),
            Self::FarEnd | Self::Tap => lab.member(member).cable().pull().map(drop),
        }
    }

    /// Repairs it.
    pub fn repair(self, lab: &Lab, member: &str) -> Result<()> {
        match self {
            Self::HostSide => lab.host().ip(&format!("link set {member} up")).map(drop),
            Self::FarEnd | Self::Tap => lab.member(member).cable().replug().map(drop),
        }
    }
}
