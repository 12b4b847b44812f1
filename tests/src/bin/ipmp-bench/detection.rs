//! Detection and repair time of cables that are cut while their carrier stays up, with several failure detection times.
//!
//! The end of a time is when the log of the daemon reports the event, which is a little after the decision.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use ipmp::{core::probe::PATIENCE, types::Family};
use lab::network::ROUTER;
use lab::path_failure::{self, DetectionTimes};
use lab::{Lab, Production, production::GROUP};
use serde::{Deserialize, Serialize};

use crate::outbound::microseconds;
use crate::times::Times;

/// Failure detection times, and the factor for the number of cuts with each.
const FDTS: [(Duration, usize); 3] =
    [(Duration::from_millis(10), 20), (Duration::from_millis(100), 5), (Duration::from_secs(1), 1)];

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Detection {
    /// One for each failure detection time.
    pub fdts: Vec<FdtTimes>,
}

/// The results with one failure detection time.
#[derive(Debug, Serialize, Deserialize)]
pub struct FdtTimes {
    /// The failure detection time.
    pub fdt_ms: u64,
    /// Cuts.
    pub cuts: usize,
    /// From the cut to the log of the failure.
    pub detected_us: Times,
    /// From the end of the cut to the log of the repair.
    pub repaired_us: Times,
    /// The failure detection time and the deadline of a probe.
    pub bound_us: f64,
    /// Cuts that were detected later.
    pub later_than_bound: usize,
    /// Probe rounds discarded because the daemon was late.
    pub discarded: u64,
    missed: u64,
}

/// Measures in a lab of its own, with `cuts` cuts for the longest failure detection time and more for shorter ones.
pub fn measure(cuts: u32) -> Result<Detection> {
    let lab = Lab::tutorial()?;
    let production = Production::create_probed(&lab, &[Family::V4], &format!("fdt=10ms targets={ROUTER}"))?;
    production.wait_answered()?;
    let mut fdts = Vec::new();
    for (fdt, times) in FDTS {
        production.daemon.ctl(&format!("set {GROUP} fdt={}ms", fdt.as_millis()))?;
        let count = || {
            Ok::<_, anyhow::Error>((production.count(None, "discarded")?, production.count(None, "missed")?))
        };
        let (discarded, missed) = count()?;
        let DetectionTimes { detected, repaired } =
            path_failure::measure(&lab, &production, fdt, cuts as usize * times)?;
        let (discarded, missed) = (count()?.0 - discarded, count()?.1 - missed);
        let bound = fdt + PATIENCE.min(fdt / 5);
        fdts.push(FdtTimes {
            fdt_ms: fdt.as_millis() as u64,
            cuts: detected.len(),
            later_than_bound: detected.iter().filter(|detected| **detected > bound).count(),
            detected_us: Times::of(&detected),
            repaired_us: Times::of(&repaired),
            bound_us: microseconds(bound),
            discarded,
            missed,
        });
    }
    Ok(Detection { fdts })
}

impl fmt::Display for Detection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "detection: cables cut while the carrier stays up; time until the failure and the repair are logged"
        )?;
        for of in &self.fdts {
            write!(
                out,
                "\n  FDT {} ms, {} cuts; bound {:.0} ms, {} later; {} probe rounds discarded, {} missed\n    detected {}\n    \
                 repaired {}",
                of.fdt_ms,
                of.cuts,
                of.bound_us / 1e3,
                of.later_than_bound,
                of.discarded,
                of.missed,
                of.detected_us,
                of.repaired_us
            )?;
        }
        Ok(())
    }
}
