//! A stream to a data address whose inbound member loses its carrier, again and again: for how long nothing comes.
//!
//! Nobody but the host can end this outage: the sender goes on sending to the MAC it knows until it is told another.

use std::fmt;

use anyhow::Result;
use lab::inbound::{self, PACKETS_PER_S};
use lab::{Lab, Production};
use serde::Serialize;

use crate::outbound::doubts;
use crate::times::Times;

/// The requirement, in microseconds.
const AIM_P50: f64 = 1_000.0;
const AIM_P95: f64 = 5_000.0;

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Inbound {
    packets_per_s: u64,
    pulls: usize,
    outage_us: Times,
    before_us: Times,
    lost: u64,
    duplicated: u64,
    aim_p50_us: f64,
    aim_p95_us: f64,
    aim_met: bool,
    doubts: Vec<String>,
}

/// Measures in a lab of its own.
pub fn measure(pulls: u32) -> Result<Inbound> {
    let lab = Lab::tutorial()?;
    let production = Production::create(&lab)?;
    let inbound::Inbound { outages, before, report } = inbound::measure(&lab, &production, pulls as usize)?;
    let outage_us = Times::of(&outages);
    Ok(Inbound {
        packets_per_s: PACKETS_PER_S,
        pulls: outages.len(),
        aim_met: outage_us.p50 < AIM_P50 && outage_us.p95 < AIM_P95,
        outage_us,
        before_us: Times::of(&before),
        lost: report.lost(),
        duplicated: report.duplicated(),
        aim_p50_us: AIM_P50,
        aim_p95_us: AIM_P95,
        doubts: doubts(&report),
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
            "  {} lost, {} duplicated; aim: p50 below {} ms, p95 below {} ms: {}",
            self.lost,
            self.duplicated,
            self.aim_p50_us / 1e3,
            self.aim_p95_us / 1e3,
            if self.aim_met { "met" } else { "missed" }
        )?;
        for doubt in &self.doubts {
            write!(out, "\n  in doubt: {doubt}")?;
        }
        Ok(())
    }
}
