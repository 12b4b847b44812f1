//! Cables that are cut silently, with the failure detection time short and not so short: after how long it is noticed.
//!
//! What is measured is when the daemon says it, by a reader of its log: that is a little after it was decided.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use ipmp::core::probe::PATIENCE;
use lab::network::ROUTER;
use lab::{Lab, Production, production::GROUP, silence};
use serde::Serialize;

use crate::outbound::microseconds;
use crate::times::Times;
use ipmp::types::Family;

/// Failure detection times, and how many cuts are made with each where one is asked for.
const FDTS: [(Duration, usize); 3] =
    [(Duration::from_millis(10), 20), (Duration::from_millis(100), 5), (Duration::from_secs(1), 1)];

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Silence {
    fdts: Vec<OfFdt>,
}

/// With one failure detection time.
#[derive(Debug, Serialize)]
struct OfFdt {
    fdt_ms: u64,
    cuts: usize,
    noticed_us: Times,
    repaired_us: Times,
    bound_us: f64,
    later_than_bound: usize,
    void: u64,
    missed: u64,
}

/// Measures in a lab of its own; `cuts` of the longest time, more of the shorter ones.
pub fn measure(cuts: u32) -> Result<Silence> {
    let lab = Lab::tutorial()?;
    let production = Production::create_probed(&lab, &[Family::V4], &format!("fdt=10ms targets={ROUTER}"))?;
    production.wait_answered()?;
    let mut fdts = Vec::new();
    for (fdt, times) in FDTS {
        production.daemon.ctl(&format!("set {GROUP} fdt={}ms", fdt.as_millis()))?;
        let count =
            || Ok::<_, anyhow::Error>((production.count(None, "void")?, production.count(None, "missed")?));
        let (void, missed) = count()?;
        let silence::Silence { noticed, repaired } =
            silence::measure(&lab, &production, fdt, cuts as usize * times)?;
        let (void, missed) = (count()?.0 - void, count()?.1 - missed);
        let bound = fdt + PATIENCE.min(fdt / 5);
        fdts.push(OfFdt {
            fdt_ms: fdt.as_millis() as u64,
            cuts: noticed.len(),
            later_than_bound: noticed.iter().filter(|noticed| **noticed > bound).count(),
            noticed_us: Times::of(&noticed),
            repaired_us: Times::of(&repaired),
            bound_us: microseconds(bound),
            void,
            missed,
        });
    }
    Ok(Silence { fdts })
}

impl fmt::Display for Silence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "silence: cables cut silently, until the daemon says so, and from their repair until it says so"
        )?;
        for of in &self.fdts {
            write!(
                out,
                "\n  FDT {} ms, {} cuts; bound {:.0} ms, {} later; {} rounds void, {} missed\n    noticed  {}\n    repaired \
                 {}",
                of.fdt_ms,
                of.cuts,
                of.bound_us / 1e3,
                of.later_than_bound,
                of.void,
                of.missed,
                of.noticed_us,
                of.repaired_us
            )?;
        }
        Ok(())
    }
}
