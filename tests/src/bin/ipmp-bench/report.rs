//! The output of `--json`.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::carrier::Carrier;
use crate::detection::Detection;
use crate::early_drop::EarlyDrop;
use crate::echo::Echo;
use crate::evidence::Evidence;
use crate::idle::Idle;
use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::peers::Peers;
use crate::probing::Probing;
use crate::scale::Scale;
use crate::steering::Steering;
use crate::storm::Storm;
use crate::throughput::Throughput;

/// Incremented when a field is renamed, removed or changes its meaning, but not for new fields.
const VERSION: u32 = 2;

/// All results. Those of measurements that did not run are `null`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    version: u32,
    quick: bool,
    kernel: String,
    cpus: usize,
    load: f64,
    processor: Option<String>,
    commit: Option<String>,
    arguments: Vec<String>,
    pub steering: Option<Steering>,
    pub outbound: Option<Outbound>,
    pub inbound: Option<Inbound>,
    pub carrier: Option<Carrier>,
    pub evidence: Option<Evidence>,
    pub throughput: Option<Throughput>,
    pub idle: Option<Idle>,
    pub scale: Option<Scale>,
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
  processor, commit  model of the CPUs; what was measured, -dirty with changes; null if unknown
  arguments          array of words: the arguments of ipmp-bench, without --json
  steering           rounds, repeat (packets per run), programs, target_ns
    programs         array of: name; ns: SPREAD; over_redirect_ns: SPREAD of the differences within each round, or null;
                     target_met: for egress with every feature, whether the median is at most target_ns, else null;
                     against: with --against, ns and ratio: SPREAD, ratio_of_sums, else null
  outbound           packets_per_s, flows, pulls, sent, received, lost, dropped_in_ports, lost_beyond, reordered, duplicated,
                     longest_outage_us (all flows together), longest_outage_of_a_flow_us, events, warnings
    events           array, one for each pull: member; lost; dropped_in_port; outage_us
  inbound            packets_per_s, pulls, outage_us, before_us, lost, duplicated, target_p50_us, target_p95_us, target_met,
                     warnings
    outage_us        p50, p95, p99, max, and all: the longest time without a packet at each pull
    before_us        the same for a time of equal length before each pull: the noise of this machine
  carrier            rounds, missing (what this kernel does not have), rows
    rows             array of: by (what makes the sentinel check links); late_message (whether the kernel's message about the
                     member is late); outage_us: as in inbound
  evidence           rows
    rows             array of: traffic; connections; segments (sent by the host), sent_again; runs (of the program), run_ns (average);
                     connection_ns or segment_ns: time of all runs for each connection or segment
  throughput         rounds, transfer_ms, bulk, packets, segments, target_ratio, target_met, target_packets_ratio
                     (outbound, inbound), others
    bulk, packets    outbound and inbound: group_per_s, plain_per_s (bits of bulk transfers, UDP packets of 64 bytes); ratio,
                     redirect_ratio (within each round, to the plain one: of the group, and of two interfaces whose programs
                     only redirect): SPREAD each; group_backlog_drops, plain_backlog_drops: packets that the backlogs of all
                     CPUs dropped meanwhile
    frame_bytes      outbound and inbound: group, plain: average bytes of a frame of bulk transfers at the member (unsegmented)
    segments         group_bytes, plain_bytes: the longest frame of a bulk transfer from the host at the member
    others           array, one for each other kind of veth pairs: veth (offloads and queues), bulk, packets
  idle               groups, members (of all groups), seconds, target_percent (of one CPU, for both together), target_met
    daemon_percent, daemon_wake_ups_per_s, daemon_resident_bytes, daemon_proportional_bytes
                     of one CPU; how often its threads wait; resident memory; memory in which shared pages are divided by the number of their users
    sentinel_percent, sentinel_ticks_per_s, sentinel_tick_ns
                     the program without the interrupt that it runs in; average time of a tick
    maps_bytes       memory of all BPF maps
  scale              targets, rows, failed (series of which not all rows could be measured, and why), warnings
    targets          outage_ratio, attach_ms, show_ms, memory_bytes (of daemon and kernel, each page once), idle_percent (of daemon and sentinel together)
    rows             array, one for each number of a series: series (what grows: groups, the last one with many addresses; members,
                     addresses or routes of the group with traffic); groups, members, addresses (of all groups), routes;
                     outbound_outage_us (of a stream from the host while cables are pulled), outbound_lost_beyond (packets of it,
                     without those that ports of pulled cables dropped); outage_us (of a stream to a data address whose inbound
                     member loses its carrier: p50, p95, p99, max, all), outage_ratio (its p50 to that of the first row of the
                     series); outage_during_attach_us (the same while NICs are attached to another group); nics, attach_ms (so many
                     NICs at once), reattach_ms (a member that was detached), show_ms (ipmpctl show --json): SPREAD; restart_ms
                     (until a new daemon reports all groups), restart_cpu_ms; maps_bytes, programs_bytes (pinned ones, with what
                     the JIT compiler makes of them), daemon_maps_bytes (pages of maps that are resident memory of the daemon as well); daemon_percent, sentinel_percent, daemon_resident_bytes, daemon_proportional_bytes: as in idle
  detection          fdts
    fdts             array, one for each failure detection time: fdt_ms, cuts, bound_us (it and the deadline of a probe),
                     later_than_bound (cuts detected later), discarded (probe rounds, because the daemon was late), missed
      detected_us    p50, p95, p99, max, and all: from the cut until the daemon logs that the member has failed
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
  peers              packets_per_s, flows (in each direction), watched_flows (from the host, whose members are known), members,
                     missing (what this machine does not have), failed (what could not be measured, and why),
                     contenders
    contenders       array of: name; faults; lost_without_fault; duplicated; daemon_percent (of one CPU, over all faults) or null;
                     burden: null, or ratios to one NIC without faults, rounds, and SPREAD of throughput_outbound,
                     throughput_inbound, cpu_outbound, cpu_inbound (CPU time a packet)
      faults         array of: fault (its name); outbound and inbound: lost (packets, at each fault), lost_at_return (packets, when
                     it ends), outage_us (the longest outage of a flow: p50, p95, p99, max, all); moved: array, one for each
                     fault: failed (watched flows on the NIC with the fault), rescued (those of them on a NIC without a fault afterwards),
                     others (on other NICs), needlessly (those of them that changed it); false_failures (of NICs without a fault)
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
            processor: processor(),
            commit: commit(),
            arguments: arguments(),
            ..Self::default()
        })
    }

    /// Reads what [`Self::write`] has written: the results of a complete run.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let report: Self =
            serde_json::from_str(&text).with_context(|| format!("{name} has unexpected content"))?;
        ensure!(report.version == VERSION, "{name} has version {}, not {VERSION}", report.version);
        ensure!(!report.quick, "{name} has the results of a short run");
        Ok(report)
    }

    /// The release of the kernel, without what its distribution has added.
    pub fn kernel_version(&self) -> String {
        let release = self.kernel.split(['-', '+']).next().unwrap_or_default();
        format!("{release}{}", if self.is_emulated() { ", emulated" } else { "" })
    }

    /// What it was measured on.
    pub fn machine(&self) -> String {
        format!(
            "Linux {}, {} CPUs ({}), load {:.1} at the start, commit {}",
            self.kernel,
            self.cpus,
            self.processor.as_deref().unwrap_or("unknown processor"),
            self.load,
            self.commit.as_deref().unwrap_or("unknown")
        )
    }

    /// The command that measures it again.
    pub fn command(&self) -> String {
        let version: Vec<&str> = self.kernel.split('.').take(2).collect();
        let kernel =
            if self.is_emulated() { format!(" --kernel {}", version.join(".")) } else { String::new() };
        format!("cargo xtask bench{kernel} -- {}", self.arguments.join(" "))
    }

    /// The vendor of its processor: `Intel`.
    pub fn vendor(&self) -> &str {
        let model = self.processor.as_deref().unwrap_or("unknown processor");
        model.split([' ', '(']).next().unwrap_or_default()
    }

    /// Whether it ran on processors that QEMU emulates.
    fn is_emulated(&self) -> bool {
        self.processor.as_deref().is_some_and(|processor| processor.contains("QEMU"))
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

/// The arguments of this program, without those that say where the results go.
fn arguments() -> Vec<String> {
    let mut arguments = Vec::new();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--json" => drop(given.next()),
            _ if argument.starts_with("--json=") => {}
            _ => arguments.push(argument),
        }
    }
    arguments
}

/// The model of the CPUs.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches(['\t', ' ', ':']).to_owned())
}

/// The commit that this program was built from, if its source is still there.
fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args([
        "-C",
        env!("CARGO_MANIFEST_DIR"),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
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
