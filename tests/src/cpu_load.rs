//! Saturates all CPUs with programs that only compute, two for each CPU.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::network::Lab;
use crate::process::idle_time;
use crate::program::Program;

/// Nice value of the programs that have priority over ordinary ones.
const HIGH_PRIORITY: &str = "-15";

/// Programs that saturate all CPUs. Dropping this value ends them.
#[derive(Debug)]
pub struct CpuLoad {
    _programs: Vec<Program>,
    cpus: usize,
    since: Instant,
    idle: Duration,
}

impl CpuLoad {
    /// Starts two programs for each CPU: one with ordinary priority, and one with a priority above all programs that are
    /// not real-time.
    pub fn start(lab: &Lab) -> Result<Self> {
        let cpus = std::thread::available_parallelism().context("cannot read the number of CPUs")?.get();
        let mut programs = Vec::new();
        for nice in std::iter::repeat_n(["0", HIGH_PRIORITY], cpus).flatten() {
            let mut command = lab.host().command("nice");
            command.args(["-n", nice, "sh", "-c", "while :; do :; done"]);
            programs.push(Program::start(lab, command)?);
        }
        Ok(Self { _programs: programs, cpus, since: Instant::now(), idle: idle_time()? })
    }

    /// Idle time of the CPUs since the start, in percent.
    pub fn idle_percent(&self) -> Result<f64> {
        let idle = idle_time()?.saturating_sub(self.idle).as_secs_f64();
        Ok(100.0 * idle / (self.since.elapsed().as_secs_f64() * self.cpus as f64))
    }
}
