//! What a member loses while it functions.

use std::{net::IpAddr, time::Duration};

use super::Member;
use crate::types::{LossEvidence, Percent};

/// Large packets are lost on a member, and pass on another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The target to which they are lost.
    pub target: IpAddr,
    /// Bytes of the largest packet that passes.
    pub passes: u32,
    /// Bytes of the largest packet that passes to the same target on another member.
    pub elsewhere: u32,
}

/// A member loses far more packets than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Of what.
    pub of: LossEvidence,
    /// Over which time.
    pub window: Duration,
    /// The share that it loses.
    pub lost: Percent,
    /// The share that the others lose.
    pub others: Percent,
    /// It exceeds the limit above which the member does not transmit while one functions that loses less.
    pub is_avoided: bool,
}

impl Member {
    /// Whether large packets are lost on it that pass on another member.
    pub fn hole(&self) -> Option<Hole> {
        self.hole
    }

    pub(in crate::core) fn set_hole(&mut self, hole: Option<Hole>) {
        self.hole = hole;
    }

    /// The default router that it does not reach while other members do, if the group prefers those.
    pub fn unreached_router(&self) -> Option<IpAddr> {
        self.unreached_router
    }

    pub(in crate::core) fn set_unreached_router(&mut self, router: Option<IpAddr>) {
        self.unreached_router = router;
    }

    /// How many packets it loses, if these are far more than others lose: it is degraded.
    pub fn loss(&self) -> Option<Loss> {
        self.loss
    }

    pub(in crate::core) fn set_loss(&mut self, loss: Option<Loss>) {
        self.loss = loss;
    }

    /// How bad what it loses is, while it functions: larger is worse, 0 is nothing that matters. All packets to other networks are
    /// worse than all large packets, and these, without which connections hang, are worse than some packets.
    pub(in crate::core) fn flaw(&self) -> u8 {
        u8::from(self.loss.is_some_and(|loss| loss.is_avoided))
            + 2 * u8::from(self.hole.is_some())
            + 4 * u8::from(self.unreached_router.is_some())
    }

    /// Whether it functions, and loses nothing that others do not lose.
    pub fn is_in_order(&self) -> bool {
        self.functions() && self.hole.is_none() && self.unreached_router.is_none() && self.loss.is_none()
    }
}
