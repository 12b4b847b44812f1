//! Targets that only some members reach.

use std::{fmt, net::IpAddr};

/// A target that replies to some members only, while others receive replies from other targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitTarget {
    /// Its address.
    pub target: IpAddr,
    /// Members to which it replies.
    pub reached_by: Vec<String>,
    /// Members to which it does not reply, while other targets do.
    pub not_reached_by: Vec<String>,
}

impl fmt::Display for SplitTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, reached_by, not_reached_by } = self;
        write!(f, "{target} replies on {}, not on {}", reached_by.join(" "), not_reached_by.join(" "))
    }
}
