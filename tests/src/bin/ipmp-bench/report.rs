//! What `--json` prints.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::idle::Idle;
use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::probing::Probing;
use crate::silence::Silence;
use crate::steering::Steering;
use crate::throughput::Throughput;

/// Grows when a field is renamed, removed or changes its meaning; new fields do not change it.
const VERSION: u32 = 1;

/// All that was measured. What was not is `null`.
#[derive(Debug, Serialize)]
pub struct Report {
    version: u32,
    quick: bool,
    kernel: String,
    processors: usize,
    load: f64,
    pub steering: Option<Steering>,
    pub outbound: Option<Outbound>,
    pub inbound: Option<Inbound>,
    pub throughput: Option<Throughput>,
    pub idle: Option<Idle>,
    pub silence: Option<Silence>,
    pub probing: Option<Probing>,
}

/// The shape, for `--help`. A test compares the names with what is written.
pub const JSON_HELP: &str = "\
JSON:
  One object. Units are in the names: _ns, _us, _ms, _bytes, _bits_per_s, _packets_per_s, _percent. A SPREAD is an object with the
  numbers median, minimum, lower_quartile, upper_quartile and maximum of all rounds. What was not measured is null.

  version            1; grows when a field is renamed, removed or changes its meaning
  quick              true: a short run, not for figures
  kernel, processors, load
                     release, number, and load of one minute at the start
  steering           rounds, repeat (packets in a run), programs, aim_ns
    programs         array of: name; ns: SPREAD; over_redirect_ns: SPREAD of the differences within each round, or null;
                     aim_met: of egress with every feature, whether the median keeps to aim_ns, else null
  outbound           packets_per_s, flows, pulls, sent, received, lost, died_in_ports, lost_beyond, reordered, duplicated,
                     longest_silence_us (all flows together), longest_silence_of_a_flow_us, events, doubts
    events           array, a pull each: member; lost; died_in_port; silence_us
  inbound            packets_per_s, pulls, outage_us, before_us, lost, duplicated, aim_p50_us, aim_p95_us, aim_met, doubts
    outage_us        p50, p95, max, and all: the longest time without a packet that began around a pull
    before_us        the same of a time as long before each pull: what this machine does of itself
  throughput         rounds, bulk, packets, segments, aim_ratio, aim_met
    bulk             outbound and inbound: group_bits_per_s, bare_bits_per_s, ratio: SPREAD each (ratio within each round),
                     group_frame_bytes, bare_frame_bytes: bytes of a frame at the member on the average, segments counted whole
    packets          the same with group_packets_per_s, bare_packets_per_s, ratio: UDP packets of 64 bytes received
    segments         group_bytes, bare_bytes: the longest frame of a bulk transfer from the host at the member
  idle               groups, members (of all), seconds, aim_percent (of one processor, of both together), aim_met
    daemon_percent, daemon_resident_bytes, daemon_proportional_bytes
                     of one processor; memory, and with what is shared divided among those who share it
    sentinel_percent, sentinel_ticks_per_s, sentinel_tick_ns
                     the program alone, without the interrupt that it runs in; and what a tick takes on the average
    maps_bytes       what the kernel charges for all maps
  silence            fdts
    fdts             array, a failure detection time each: fdt_ms, cuts, bound_us (it and the deadline of a probe),
                     later_than_bound (cuts that were noticed later), void (rounds judged too late to count), missed
      noticed_us     p50, p95, max, and all: from the cut until the daemon says that the member has failed
      repaired_us    the same from the repair of the cable until it says that the member is repaired
  probing            groups, members (of all), fdt_ms, seconds, probes_per_s, lost, void, missed, failures (false ones),
                     daemon_percent, daemon_us_per_probe, daemon_resident_bytes, daemon_proportional_bytes,
                     sentinel_percent: as of idle
  doubts             array of sentences: why the numbers beside it should not be trusted (this machine was too busy)";

impl Report {
    /// Of nothing yet.
    pub fn of_this_machine(quick: bool) -> Result<Self> {
        let system = nix::sys::utsname::uname().context("no uname")?;
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Ok(Self {
            version: VERSION,
            quick,
            kernel: system.release().to_string_lossy().into_owned(),
            processors: std::thread::available_parallelism()?.get(),
            load: load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default(),
            steering: None,
            outbound: None,
            inbound: None,
            throughput: None,
            idle: None,
            silence: None,
            probing: None,
        })
    }

    /// Writes it to a file, or to standard output.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        if path.as_os_str() == "-" {
            use std::io::Write as _;
            return std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output");
        }
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Linux {}, {} processors, load {:.2}", self.kernel, self.processors, self.load)?;
        if self.load > 0.5 * self.processors as f64 {
            write!(out, ": this machine has other things to do, and figures will spread")?;
        }
        Ok(())
    }
}
