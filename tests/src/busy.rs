//! Processors that have too much to do: programs that only compute, more of them than there are processors.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::network::Lab;
use crate::process::idle_time;
use crate::program::Program;

/// How nice those are that go before ordinary programs.
const PUSHING: &str = "-15";

/// Programs that keep all processors busy. Dropping it ends them.
#[derive(Debug)]
pub struct Busy {
    _programs: Vec<Program>,
    processors: usize,
    since: Instant,
    idle: Duration,
}

impl Busy {
    /// Two for each processor: one as any program, and one that goes before any program that is not real-time.
    pub fn start(lab: &Lab) -> Result<Self> {
        let processors = std::thread::available_parallelism().context("the number of processors")?.get();
        let mut programs = Vec::new();
        for nice in std::iter::repeat_n(["0", PUSHING], processors).flatten() {
            let mut command = lab.host().command("nice");
            command.args(["-n", nice, "sh", "-c", "while :; do :; done"]);
            programs.push(Program::start(lab, command)?);
        }
        Ok(Self { _programs: programs, processors, since: Instant::now(), idle: idle_time()? })
    }

    /// The share of their time, in percent, that the processors had nothing to do since then.
    pub fn idle_percent(&self) -> Result<f64> {
        let idle = idle_time()?.saturating_sub(self.idle).as_secs_f64();
        Ok(100.0 * idle / (self.since.elapsed().as_secs_f64() * self.processors as f64))
    }
}
