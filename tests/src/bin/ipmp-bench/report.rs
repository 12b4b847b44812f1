//! The output of `--json`.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::detection::Detection;
use crate::early_drop::EarlyDrop;
use crate::echo::Echo;
use crate::idle::Idle;
use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::peers::Peers;
use crate::probing::Probing;
use crate::steering::Steering;
use crate::storm::Storm;
use crate::throughput::Throughput;

/// Incremented when a field is renamed, removed or changes its meaning, but not for new fields.
const VERSION: u32 = 2;

/// All results. Those of measurements that did not run are `null`.
#[derive(Debug, Serialize)]
pub struct Report {
    version: u32,
    quick: bool,
    kernel: String,
    cpus: usize,
    load: f64,
    pub steering: Option<Steering>,
    pub outbound: Option<Outbound>,
    pub inbound: Option<Inbound>,
    pub throughput: Option<Throughput>,
    pub idle: Option<Idle>,
    pub detection: Option<Detection>,
    pub probing: Option<Probing>,
    pub early_drop: Option<EarlyDrop>,
    pub storm: Option<Storm>,
    pub echo: Option<Echo>,
    pub peers: Option<Peers>,
}

/// The fields, for `--help`. A test checks that all names in the output are documented here.
pub const JSON_HELP: &str = "\
JSON:
  One object. Units are in the names: _ns, _us, _ms, _bytes, _bits_per_s, _packets_per_s, _percent. A SPREAD is an object with the
  numbers median, minimum, lower_quartile, upper_quartile and maximum of all rounds. Measurements that did not run are null.

  version            2; incremented when a field is renamed, removed or changes its meaning
  quick              true: a short run, whose figures are not meaningful
  kernel, cpus, load release, number of CPUs, and load average of one minute at the start
  steering           rounds, repeat (packets per run), programs, target_ns
    programs         array of: name; ns: SPREAD; over_redirect_ns: SPREAD of the differences within each round, or null;
                     target_met: for egress with every feature, whether the median is at most target_ns, else null;
                     against: with --against, ns and ratio: SPREAD, ratio_of_sums, else null
  outbound           packets_per_s, flows, pulls, sent, received, lost, dropped_in_ports, lost_beyond, reordered, duplicated,
                     longest_outage_us (all flows together), longest_outage_of_a_flow_us, events, warnings
    events           array, one for each pull: member; lost; dropped_in_port; outage_us
  inbound            packets_per_s, pulls, outage_us, before_us, lost, duplicated, target_p50_us, target_p95_us, target_met,
                     warnings
    outage_us        p50, p95, max, and all: the longest time without a packet at each pull
    before_us        the same for a time of equal length before each pull: the noise of this machine
  throughput         rounds, bulk, packets, segments, target_ratio, target_met
    bulk             outbound and inbound: group_bits_per_s, plain_bits_per_s, ratio: SPREAD each (ratio within each round),
                     group_frame_bytes, plain_frame_bytes: average bytes of a frame at the member (unsegmented)
    packets          the same with group_packets_per_s, plain_packets_per_s, ratio: UDP packets of 64 bytes received
    segments         group_bytes, plain_bytes: the longest frame of a bulk transfer from the host at the member
  idle               groups, members (of all groups), seconds, target_percent (of one CPU, for both together), target_met
    daemon_percent, daemon_resident_bytes, daemon_proportional_bytes
                     of one CPU; resident memory; memory in which shared pages are divided by the number of their users
    sentinel_percent, sentinel_ticks_per_s, sentinel_tick_ns
                     the program without the interrupt that it runs in; average time of a tick
    maps_bytes       memory of all BPF maps
  detection          fdts
    fdts             array, one for each failure detection time: fdt_ms, cuts, bound_us (it and the deadline of a probe),
                     later_than_bound (cuts detected later), discarded (probe rounds, because the daemon was late), missed
      detected_us    p50, p95, max, and all: from the cut until the daemon logs that the member has failed
      repaired_us    the same from the end of the cut until it logs that the member is repaired
  probing            groups, members (of all groups), fdt_ms, seconds, probes_per_s, lost, discarded, missed, failures (false
                     ones), daemon_percent, daemon_us_per_probe, daemon_resident_bytes, daemon_proportional_bytes,
                     sentinel_percent: as in idle
  early_drop         rounds, frames (in a run), members
    members          array, one for each type: kind (veth or tap), rows
      rows           array of: frame (copy, reflected, flooded, wanted); without_ns, with_ns, saved_ns: SPREAD of CPU time a frame
  storm              rounds, members, wanted_packets_per_s, ring_frames (in each member), rates
    rates            array: offered_frames_per_s (each member receives a copy of each frame); without and with the early drop:
                     frames_per_s (received), cpu_percent (of one CPU, for reception), wanted_lost_percent: SPREAD each
  echo               requests, requests_per_s; answered_ns, dropped_ns (the same frames for another host), reply_ns (their
                     difference): SPREAD of CPU time a frame; cpu_percent (of one CPU, for the replies)
  peers              packets_per_s, flows (in each direction), members, pulls, cuts, unplugged_us, silent_us, missing (what this
                     kernel does not have), contenders
    contenders       array of: name; pulled and silent (cuts with the link up): null, or outbound and inbound, with lost (packets
                     at each fault) and outage_us (the longest outage of a flow at each fault); lost_without_fault; duplicated
  warnings           array of sentences: why the figures beside it may not be valid (the machine was too busy)";

impl Report {
    /// An empty report, with the properties of this machine.
    pub fn of_this_machine(quick: bool) -> Result<Self> {
        let system = nix::sys::utsname::uname().context("cannot read uname")?;
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Ok(Self {
            version: VERSION,
            quick,
            kernel: system.release().to_string_lossy().into_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            load: load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default(),
            steering: None,
            outbound: None,
            inbound: None,
            throughput: None,
            idle: None,
            detection: None,
            probing: None,
            early_drop: None,
            storm: None,
            echo: None,
            peers: None,
        })
    }

    /// Writes it to a file, or to standard output for `-`.
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
        write!(out, "Linux {}, {} CPUs, load {:.2}", self.kernel, self.cpus, self.load)?;
        if self.load > 0.5 * self.cpus as f64 {
            write!(out, ": this machine is busy, so the figures will vary")?;
        }
        Ok(())
    }
}
