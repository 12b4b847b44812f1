//! Why events happen.

/// Why it happened, as far as a group can know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it; `daemon::events::cause` has the text of each")]
pub enum Cause {
    /// What made the caller handle this input: a request, a message of the kernel. The caller knows it.
    Trigger,
    LinkLost {
        member: String,
    },
    LinkRestored {
        member: String,
    },
    /// The link has been up for `updelay`.
    UpdelayPassed {
        member: String,
    },
    Flapping {
        member: String,
    },
    HoldDownExpired {
        member: String,
    },
    /// Flap protection releases the member, because no other one functions.
    NoOtherMember {
        member: String,
    },
    DuplicateMac {
        member: String,
        other: String,
    },
    UniqueMac {
        member: String,
    },
    ProbesLost {
        member: String,
    },
    ProbesAnswered {
        member: String,
    },
    /// Large packets are lost on the member, and pass on others.
    MtuHole {
        member: String,
    },
    /// They pass again.
    MtuHoleEnded {
        member: String,
    },
    /// The member does not reach the default router, which others reach.
    RouterUnreached {
        member: String,
    },
    /// That has ended.
    RouterUnreachedEnded {
        member: String,
    },
    /// The member loses far more packets than others, and more than `loss-fail`.
    Degraded {
        member: String,
    },
    /// That has ended.
    DegradedEnded {
        member: String,
    },
    /// What probes show about targets.
    ProbeResults,
    /// The previous holder of a role has failed.
    MemberFailed {
        member: String,
    },
    /// The previous holder of a role is offline.
    MemberOffline {
        member: String,
    },
    /// Its drain has ended.
    Drained {
        member: String,
    },
    /// The previous holder of a role has left.
    MemberLeft {
        member: String,
    },
    /// The device of the member does not exist.
    MemberAbsent {
        member: String,
    },
    Balance {
        member: String,
    },
    /// A member is active that an address prefers.
    Preferred {
        member: String,
    },
    NoTestAddress {
        member: String,
    },
    SmallestMtu {
        member: String,
    },
    /// The ingress program of the member is missing.
    ProgramMissing {
        member: String,
    },
    /// The ingress program of the member is attached again.
    ProgramAttached {
        member: String,
    },
}

impl Cause {
    /// Whether a change of a link started it, so that the time since then is of interest.
    pub fn is_link_change(&self) -> bool {
        matches!(
            self,
            Self::LinkLost { .. }
                | Self::LinkRestored { .. }
                | Self::UpdelayPassed { .. }
                | Self::MemberFailed { .. }
        )
    }
}
