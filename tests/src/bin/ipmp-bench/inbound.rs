//! Outages of a stream to a data address whose inbound member loses its carrier.

use std::fmt;

use anyhow::Result;
use lab::inbound_failover::{self, InboundOutages, PACKETS_PER_S};
use lab::{Lab, Production};
use serde::{Deserialize, Serialize};

use crate::outbound::warnings;
use crate::times::Times;

/// The targets, in microseconds.
const TARGET_P50: f64 = 1_000.0;
const TARGET_P95: f64 = 5_000.0;

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Inbound {
    /// To the data address.
    pub packets_per_s: u64,
    /// Pulls.
    pub pulls: usize,
    /// The longest time without a packet at each pull.
    pub outage_us: Times,
    /// The same before each pull: the noise of the machine.
    pub before_us: Times,
    /// Packets lost.
    pub lost: u64,
    duplicated: u64,
    /// The targets.
    pub target_p50_us: f64,
    /// For the 95th percentile.
    pub target_p95_us: f64,
    target_met: bool,
    /// Why figures may not be valid.
    pub warnings: Vec<String>,
}

/// Measures in a lab of its own.
pub fn measure(pulls: u32) -> Result<Inbound> {
    let lab = Lab::tutorial()?;
    let production = Production::create(&lab)?;
    let InboundOutages { outages, before, report } =
        inbound_failover::measure(&lab, &production, pulls as usize)?;
    let outage_us = Times::of(&outages);
    Ok(Inbound {
        packets_per_s: PACKETS_PER_S,
        pulls: outages.len(),
        target_met: outage_us.p50 < TARGET_P50 && outage_us.p95 < TARGET_P95,
        outage_us,
        before_us: Times::of(&before),
        lost: report.lost(),
        duplicated: report.duplicated(),
        target_p50_us: TARGET_P50,
        target_p95_us: TARGET_P95,
        warnings: warnings(&report),
    })
}

impl fmt::Display for Inbound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "inbound: {} packets/s to a data address, {} pulls of its inbound member's cable",
            self.packets_per_s, self.pulls
        )?;
        for (what, times) in [("outage", &self.outage_us), ("before a pull", &self.before_us)] {
            writeln!(out, "  {what:<14} {times}")?;
        }
        write!(
            out,
            "  {} lost, {} duplicated; target: p50 below {} ms, p95 below {} ms: {}",
            self.lost,
            self.duplicated,
            self.target_p50_us / 1e3,
            self.target_p95_us / 1e3,
            if self.target_met { "met" } else { "missed" }
        )?;
        for warning in &self.warnings {
            write!(out, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}
