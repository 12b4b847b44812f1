//! What many groups, members and addresses cost: a group with traffic fails over beside them, NICs are attached, the daemon reports and
//! restarts.

use std::fmt;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::idle_groups::Load;
use lab::inbound_failover::{self, InboundOutages};
use lab::many_groups::ManyGroups;
use lab::process::cpu_time;
use lab::production::GROUP;
use lab::{Daemon, Lab, Production, wait_until};
use serde::{Deserialize, Serialize};

use crate::idle::mib;
use crate::outbound::warnings;
use crate::spread::Spread;
use crate::times::Times;

/// Members of each further group.
const MEMBERS: usize = 4;
/// NICs that are attached at once.
const NICS: usize = 8;
/// Their group.
const ATTACHED: &str = "nics0";
/// How often they are attached, and the report is requested.
const REPEAT: usize = 5;
/// From the start of `ipmpctl attach` to the pull of a cable: the first programs are being loaded.
const BEFORE_PULL: Duration = Duration::from_millis(60);
/// Maximum time of a restart.
const PATIENCE: Duration = Duration::from_secs(300);

/// The targets.
const TARGETS: Targets = Targets {
    outage_ratio: 1.5,
    attach_ms: 1000.0,
    show_ms: 50.0,
    daemon_resident_bytes: 128 << 20,
    idle_percent: 2.0,
};

/// What is aimed at.
#[derive(Debug, Serialize, Deserialize)]
pub struct Targets {
    /// Outage of a group beside many, to that of a group alone: medians.
    pub outage_ratio: f64,
    /// Attaching eight NICs.
    pub attach_ms: f64,
    /// `ipmpctl show --json`.
    pub show_ms: f64,
    /// Memory of the daemon.
    pub daemon_resident_bytes: u64,
    /// CPU time of the daemon and the sentinel together, without traffic.
    pub idle_percent: f64,
}

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scale {
    /// What is aimed at.
    pub targets: Targets,
    /// One for each number of groups, and the last one with many addresses.
    pub rows: Vec<Row>,
    /// Why figures may not be valid.
    pub warnings: Vec<String>,
}

/// The cost of so many groups.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// Groups: one with traffic, one to attach NICs to, and idle ones.
    pub groups: usize,
    /// Members of all groups, without the NICs that are attached and detached.
    pub members: usize,
    /// Data addresses of all groups.
    pub addresses: usize,
    /// Outages of a stream to a data address whose inbound member loses its carrier.
    pub outage_us: Times,
    /// Its median, divided by that of the first row.
    pub outage_ratio: f64,
    /// The same while eight NICs are attached to another group.
    pub outage_during_attach_us: Times,
    /// Attaching eight NICs.
    pub attach_ms: Spread,
    /// `ipmpctl show --json`, with the start of `ipmpctl`.
    pub show_ms: Spread,
    /// From the start of a new daemon until it reports all groups.
    pub restart_ms: f64,
    /// CPU time of the new daemon meanwhile.
    pub restart_cpu_ms: f64,
    /// CPU time without traffic, of one CPU.
    pub daemon_percent: f64,
    /// The same of the sentinel.
    pub sentinel_percent: f64,
    /// Memory of the daemon.
    pub daemon_resident_bytes: u64,
    /// The same, where shared pages are divided by the number of their users.
    pub daemon_proportional_bytes: u64,
    /// Memory of all BPF maps.
    pub maps_bytes: u64,
    /// Memory of all pinned programs, before the JIT compiler.
    pub programs_bytes: u64,
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Numbers of groups, ascending.
    pub groups: Vec<u32>,
    /// Data addresses of all groups in the last row.
    pub addresses: u32,
    /// Pulls in each row.
    pub pulls: u32,
    /// Seconds without traffic in each row.
    pub seconds: u32,
}

/// Measures in a lab of its own.
pub fn measure(plan: &Plan) -> Result<Scale> {
    ensure!(plan.groups.is_sorted(), "the numbers of groups must be ascending");
    let lab = Lab::tutorial()?;
    let mut production = Production::create(&lab)?;
    let mut many = ManyGroups::new(&lab, MEMBERS)?;
    many.pairs(&nics())?;
    production.daemon.ctl(&format!("create {ATTACHED}"))?;
    let mut scale = Scale { targets: TARGETS, rows: Vec::new(), warnings: Vec::new() };
    for &groups in &plan.groups {
        many.grow(&production.daemon, (groups as usize).saturating_sub(2))?;
        scale.add(&lab, &mut production, &many, plan, 1)?;
    }
    if let Some(each) = (plan.addresses as usize).checked_div(many.groups()).filter(|each| *each > 1) {
        many.add_addresses(&production.daemon, each)?;
        scale.add(&lab, &mut production, &many, plan, each)?;
    }
    Ok(scale)
}

impl Scale {
    /// Measures a row.
    fn add(
        &mut self,
        lab: &Lab,
        production: &mut Production<'_>,
        many: &ManyGroups<'_>,
        plan: &Plan,
        addresses: usize,
    ) -> Result<()> {
        let pulls = plan.pulls as usize;
        let alone = inbound_failover::measure(lab, production, pulls)?;
        let daemon = &production.daemon;
        let begin = || {
            let attaching = daemon.ctl_start(&attach())?;
            std::thread::sleep(BEFORE_PULL);
            Ok(attaching)
        };
        let end = |mut attaching: Child| {
            ensure!(attaching.wait()?.success(), "cannot attach {NICS} NICs");
            detach(daemon)
        };
        let during = inbound_failover::measure_during(lab, production, pulls.div_ceil(2), begin, end)?;
        let load = Load::measure(lab, daemon, Duration::from_secs(plan.seconds.into()))?;
        let attached = (0..REPEAT).map(|_| {
            let time = timed(|| daemon.ctl(&attach()))?;
            detach(daemon)?;
            Ok(time)
        });
        let attached = attached.collect::<Result<Vec<f64>>>()?;
        let shown = (0..REPEAT).map(|_| timed(|| daemon.ctl("show --json"))).collect::<Result<Vec<f64>>>()?;
        let (restart_ms, restart_cpu_ms) = restart(&mut production.daemon, many.groups() + 2)?;
        many.wait_usable(&production.daemon)?;
        production.wait_usable(lab.members().len())?;
        let (daemon_percent, sentinel_percent) = load.percent();
        let outage_us = self.times(&alone);
        let first = self.rows.first().map_or(outage_us.p50, |row| row.outage_us.p50);
        let row = Row {
            groups: many.groups() + 2,
            members: lab.members().len() + MEMBERS * many.groups(),
            // IPv4 and IPv6 of the group with traffic.
            addresses: 2 + addresses * many.groups(),
            outage_ratio: outage_us.p50 / first,
            outage_us,
            outage_during_attach_us: self.times(&during),
            attach_ms: Spread::of(&attached),
            show_ms: Spread::of(&shown),
            restart_ms,
            restart_cpu_ms,
            daemon_percent,
            sentinel_percent,
            daemon_resident_bytes: load.memory.resident,
            daemon_proportional_bytes: load.memory.proportional,
            maps_bytes: load.maps,
            programs_bytes: load.programs,
        };
        eprintln!("ipmp-bench: {row}");
        self.rows.push(row);
        Ok(())
    }

    fn times(&mut self, outages: &InboundOutages) -> Times {
        self.warnings.extend(warnings(&outages.report));
        Times::of(&outages.outages)
    }
}

fn nics() -> Vec<String> {
    (0..NICS).map(|number| format!("nic{number}")).collect()
}

fn attach() -> String {
    format!("attach {} --group {ATTACHED}", nics().join(" "))
}

fn detach(daemon: &Daemon<'_>) -> Result<()> {
    nics().iter().try_for_each(|nic| daemon.ctl(&format!("detach {nic} --keep-group")).map(drop))
}

/// Milliseconds that this takes.
fn timed(work: impl FnOnce() -> Result<String>) -> Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Ends the daemon and starts it again. Milliseconds until it reports so many groups, and of its CPU time.
fn restart(daemon: &mut Daemon<'_>, groups: usize) -> Result<(f64, f64)> {
    daemon.terminate()?;
    let began = Instant::now();
    daemon.spawn()?;
    let reports = |text: String| {
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        shown["groups"].as_array().is_some_and(|shown| shown.len() == groups)
    };
    let is_complete = wait_until(PATIENCE, || daemon.ctl("show --json").is_ok_and(reports));
    ensure!(is_complete, "the daemon does not report {groups} groups after {PATIENCE:?}, with {GROUP}");
    let time = began.elapsed();
    let cpu = cpu_time(daemon.pid().context("the daemon has ended")?)?;
    Ok((time.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3))
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} groups, {} members, {} addresses", self.groups, self.members, self.addresses)?;
        writeln!(out, "  outage           {}   {:.2} of the first", self.outage_us, self.outage_ratio)?;
        writeln!(out, "  during an attach {}", self.outage_during_attach_us)?;
        writeln!(
            out,
            "  attach {:.0} ms   show {:.0} ms   restart {:.0} ms, {:.0} ms of a CPU",
            self.attach_ms.median, self.show_ms.median, self.restart_ms, self.restart_cpu_ms
        )?;
        write!(
            out,
            "  idle: daemon {:.2} %, sentinel {:.2} % of a CPU   {:.1} MiB resident, {:.1} MiB proportional, maps {:.1} MiB, programs {:.1} MiB",
            self.daemon_percent,
            self.sentinel_percent,
            mib(self.daemon_resident_bytes),
            mib(self.daemon_proportional_bytes),
            mib(self.maps_bytes),
            mib(self.programs_bytes)
        )
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "scale: groups of {MEMBERS} members without traffic, beside one with traffic")?;
        for row in &self.rows {
            writeln!(out, "  {}", row.to_string().replace('\n', "\n  "))?;
        }
        let Targets { outage_ratio, attach_ms, show_ms, daemon_resident_bytes, idle_percent } = &self.targets;
        write!(
            out,
            "  targets: outage {outage_ratio} of the first, attach {attach_ms} ms, show {show_ms} ms, {} MiB, {idle_percent} % of a CPU",
            daemon_resident_bytes >> 20
        )?;
        for warning in &self.warnings {
            write!(out, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}
