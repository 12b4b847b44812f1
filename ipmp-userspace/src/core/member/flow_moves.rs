//! The flows of a member that move one by one.

use super::Member;
use crate::{core::Time, types::Direction};

/// The flows of a member move one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// To it, or from it.
    pub direction: Direction,
    /// Until then flows are not known; each that is not new counts as active.
    pub learnt: Time,
    /// Then those that are still active move.
    pub limit: Time,
}

impl Member {
    /// Where its flows move, while they do.
    pub fn transition(&self) -> Option<Transition> {
        self.transition
    }

    pub(in crate::core) fn set_transition(&mut self, transition: Option<Transition>) {
        self.transition = transition;
    }

    /// Whether the operator drains it.
    pub fn drains(&self) -> bool {
        self.transition.is_some_and(|transition| transition.direction == Direction::Draining)
    }
}
