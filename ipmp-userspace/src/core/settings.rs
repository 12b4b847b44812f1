//! The operator's settings of a group.

use std::time::Duration;

use super::probe::fdt;
use crate::types::{Confirm, Failback, Percent, ProbePolicy, SplitPolicy};

/// The operator's settings of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time in which [`flap::UPS`](super::flap::UPS) link-ups are accepted, and another one starts a hold-down.
    pub flap_window: Duration,
    /// The longest hold-down of flap protection.
    pub longest_hold: Duration,
    /// Time within which a failure is detected while the link stays up, on members that are probed.
    pub fdt: Duration,
    /// When the probes that confirm a failure are sent.
    pub confirm: Confirm,
    /// Whether the traffic of the host starts probes that confirm a failure.
    pub evidence: bool,
    /// Whether a repaired member transmits again while enough others do.
    pub failback: Failback,
    /// After this time the flows that are still active on other members return, too ([`Failback::Idle`]).
    pub failback_limit: Duration,
    /// While no target replies on any member: members do not fail, and those that have failed transmit.
    pub fail_open: bool,
    /// Whether members without a test address are probed.
    pub probe: ProbePolicy,
    /// Which members transmit while the network is split behind them.
    pub split: SplitPolicy,
    /// A member that loses a larger share than this, and more than others, is degraded; `None`: none is.
    pub loss_warn: Option<Percent>,
    /// The share above which a degraded member does not transmit while one functions that loses less; `None`: it always does.
    pub loss_fail: Option<Percent>,
}

impl Settings {
    /// The usual [`failback_limit`](Self::failback_limit).
    pub const FAILBACK_LIMIT: Duration = Duration::from_secs(300);
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flap_window: Duration::from_secs(60),
            longest_hold: Duration::from_secs(3600),
            fdt: fdt::DEFAULT,
            confirm: Confirm::default(),
            evidence: true,
            failback: Failback::Yes,
            failback_limit: Self::FAILBACK_LIMIT,
            fail_open: true,
            probe: ProbePolicy::Off,
            split: SplitPolicy::default(),
            loss_warn: Some(Percent::ONE),
            loss_fail: None,
        }
    }
}
