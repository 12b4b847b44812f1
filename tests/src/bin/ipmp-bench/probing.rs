//! CPU time and memory of the daemon with many groups that are probed, and false failures.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::idle_groups::{IdleGroups, MEMBERS};
use serde::{Deserialize, Serialize};

use crate::idle::mib;

/// The failure detection time of all groups.
const FDT: Duration = Duration::from_secs(1);

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Probing {
    /// Groups.
    pub groups: usize,
    /// Members of all groups.
    pub members: usize,
    /// The failure detection time.
    pub fdt_ms: u64,
    /// Duration.
    pub seconds: f64,
    /// Probes sent.
    pub probes_per_s: f64,
    /// Probes without a reply.
    pub lost: u64,
    /// Probe rounds discarded because the daemon was late.
    pub discarded: u64,
    missed: u64,
    /// False failures.
    pub failures: usize,
    /// CPU time of the daemon, of one CPU.
    pub daemon_percent: f64,
    /// The same for each probe.
    pub daemon_us_per_probe: f64,
    /// Memory of the daemon.
    pub daemon_resident_bytes: u64,
    daemon_proportional_bytes: u64,
    /// CPU time of the sentinel, of one CPU.
    pub sentinel_percent: f64,
}

/// Measures in a lab of its own.
pub fn measure(groups: u32, seconds: u32) -> Result<Probing> {
    let lab = Lab::builder().members(1).one_switch().peers(&[]).build()?;
    let idle = IdleGroups::create_probed(&lab, groups as usize, FDT)?;
    let names = ["sent", "lost", "discarded", "missed"];
    let count = || names.iter().map(|name| idle.count(name)).collect::<Result<Vec<u64>>>();
    let (failures, before) = (idle.failures(), count()?);
    let began = std::time::Instant::now();
    let load = idle.measure(Duration::from_secs(seconds.into()))?;
    let after = count()?;
    let since = |at: usize| after[at] - before[at];
    let probes_per_s = since(0) as f64 / began.elapsed().as_secs_f64();
    let (daemon_percent, sentinel_percent) = load.percent();
    Ok(Probing {
        groups: groups as usize,
        members: groups as usize * MEMBERS,
        fdt_ms: FDT.as_millis() as u64,
        seconds: load.time.as_secs_f64(),
        probes_per_s,
        lost: since(1),
        discarded: since(2),
        missed: since(3),
        failures: idle.failures() - failures,
        daemon_percent,
        daemon_us_per_probe: daemon_percent / 100.0 * 1e6 / probes_per_s,
        daemon_resident_bytes: load.memory.resident,
        daemon_proportional_bytes: load.memory.proportional,
        sentinel_percent,
    })
}

impl fmt::Display for Probing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "probing: {} groups, {} members in total, FDT {} ms, for {:.0} s",
            self.groups, self.members, self.fdt_ms, self.seconds
        )?;
        writeln!(
            out,
            "  {:.0} probes per second, {} lost, {} discarded, {} missed; {} false failures",
            self.probes_per_s, self.lost, self.discarded, self.missed, self.failures
        )?;
        writeln!(
            out,
            "  daemon   {:>6.3} % of a CPU, {:.0} us per probe   {:.1} MiB resident, {:.1} MiB proportional",
            self.daemon_percent,
            self.daemon_us_per_probe,
            mib(self.daemon_resident_bytes),
            mib(self.daemon_proportional_bytes)
        )?;
        write!(out, "  sentinel {:>6.3} % of a CPU", self.sentinel_percent)
    }
}
