//! CPU time and memory of the daemon and the sentinel with many groups without traffic.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::idle_groups::{IdleGroups, MEMBERS};
use serde::{Deserialize, Serialize};

/// The target for both together, in percent of one CPU.
const TARGET: f64 = 1.0;
/// New addresses are announced, and new members report what the host listens to, several times: until then the groups are not idle.
const BEGINNING: Duration = Duration::from_secs(10);

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Idle {
    /// Groups.
    pub groups: usize,
    /// Members of all groups.
    pub members: usize,
    /// Duration.
    pub seconds: f64,
    /// CPU time of the daemon, of one CPU.
    pub daemon_percent: f64,
    /// How often its threads were woken up.
    pub daemon_wake_ups_per_s: f64,
    /// Its memory.
    pub daemon_resident_bytes: u64,
    /// The same, where shared pages are divided by the number of their users.
    pub daemon_proportional_bytes: u64,
    /// CPU time of the sentinel, of one CPU.
    pub sentinel_percent: f64,
    /// Its ticks.
    pub sentinel_ticks_per_s: f64,
    /// The average time of a tick.
    pub sentinel_tick_ns: f64,
    /// Memory of all BPF maps.
    pub maps_bytes: u64,
    /// The target for both together.
    pub target_percent: f64,
    target_met: bool,
}

/// Measures in a lab of its own.
pub fn measure(groups: u32, seconds: u32) -> Result<Idle> {
    let lab = Lab::builder().members(1).one_switch().peers(&[]).build()?;
    let idle = IdleGroups::create(&lab, groups as usize)?;
    let time = Duration::from_secs(seconds.into());
    std::thread::sleep(BEGINNING.min(time));
    let load = idle.measure(time)?;
    let (daemon_percent, sentinel_percent) = load.percent();
    Ok(Idle {
        groups: groups as usize,
        members: groups as usize * MEMBERS,
        seconds: load.time.as_secs_f64(),
        daemon_percent,
        daemon_wake_ups_per_s: load.wake_ups as f64 / load.time.as_secs_f64(),
        daemon_resident_bytes: load.memory.resident,
        daemon_proportional_bytes: load.memory.proportional,
        sentinel_percent,
        sentinel_ticks_per_s: load.ticks as f64 / load.time.as_secs_f64(),
        sentinel_tick_ns: load.sentinel.as_nanos() as f64 / load.ticks.max(1) as f64,
        maps_bytes: load.kernel.maps,
        target_percent: TARGET,
        target_met: daemon_percent + sentinel_percent < TARGET,
    })
}

/// Bytes in MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl fmt::Display for Idle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "idle: {} groups, {} members in total, for {:.0} s",
            self.groups, self.members, self.seconds
        )?;
        writeln!(
            out,
            "  daemon   {:>6.3} % of a CPU   {:.1} wake-ups per second   {:.1} MiB resident, {:.1} MiB proportional",
            self.daemon_percent,
            self.daemon_wake_ups_per_s,
            mib(self.daemon_resident_bytes),
            mib(self.daemon_proportional_bytes)
        )?;
        writeln!(
            out,
            "  sentinel {:>6.3} % of a CPU   {:.1} ticks per second of {:.0} ns",
            self.sentinel_percent, self.sentinel_ticks_per_s, self.sentinel_tick_ns
        )?;
        writeln!(out, "  BPF maps {:.1} MiB", mib(self.maps_bytes))?;
        write!(
            out,
            "  target: less than {} % for both together: {}",
            self.target_percent,
            if self.target_met { "met" } else { "missed" }
        )
    }
}
