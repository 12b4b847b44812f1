//! What many groups, members, addresses and routes cost: a group with traffic fails over, NICs are attached, the daemon reports and
//! restarts. In each series one of these numbers grows.

use std::fmt;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::command::ip_batch;
use lab::idle_groups::Load;
use lab::inbound_failover::{self, InboundOutages};
use lab::many_groups::ManyGroups;
use lab::process::cpu_time;
use lab::production::GROUP;
use lab::{Daemon, Lab, Production, host_routes, many_groups, wait_until};
use serde::{Deserialize, Serialize};

use crate::idle::mib;
use crate::outbound::{self, warnings};
use crate::spread::Spread;
use crate::times::Times;

/// Members of each further group.
const MEMBERS: usize = 4;
/// NICs that the target of attaching is for.
pub const NICS: usize = 8;
/// Their group.
const ATTACHED: &str = "nics0";
/// From the start of `ipmpctl attach` to the pull of a cable: the first programs are being loaded.
const BEFORE_PULL: Duration = Duration::from_millis(60);
/// Maximum time of a restart.
const PATIENCE: Duration = Duration::from_secs(300);

/// The network of further addresses of the group with traffic: that of no group without.
const NETWORK: u8 = 255;

/// The targets.
const TARGETS: Targets = Targets {
    outage_ratio: 1.5,
    attach_ms: 1000.0,
    show_ms: 50.0,
    memory_bytes: 128 << 20,
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
    /// Memory of daemon and kernel together.
    pub memory_bytes: u64,
    /// CPU time of the daemon and the sentinel together, without traffic.
    pub idle_percent: f64,
}

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scale {
    /// What is aimed at.
    pub targets: Targets,
    /// One for each number of each series; with many groups, the last one with many addresses.
    pub rows: Vec<Row>,
    /// Series of which not all rows could be measured, and why.
    pub failed: Vec<String>,
    /// Why figures may not be valid.
    pub warnings: Vec<String>,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Series {
    /// Groups without traffic beside the one with traffic.
    Groups,
    /// Members of the group with traffic.
    Members,
    /// Its data addresses.
    Addresses,
    /// Routes through it.
    Routes,
}

/// The cost with so many groups, members, addresses and routes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// What grows from row to row.
    pub series: Series,
    /// Groups: one with traffic, one to attach NICs to, and idle ones.
    pub groups: usize,
    /// Members of all groups, without the NICs that are attached and detached.
    pub members: usize,
    /// Data addresses of all groups.
    pub addresses: usize,
    /// Routes through the group with traffic, without those of the lab.
    pub routes: usize,
    /// NICs that are attached at once: as many as the group with traffic has members when these grow.
    pub nics: usize,
    /// Outages of a stream from the host while cables are pulled.
    pub outbound_outage_us: Times,
    /// Packets of it that were lost elsewhere than in ports of pulled cables.
    pub outbound_lost_beyond: u64,
    /// Outages of a stream to a data address whose inbound member loses its carrier.
    pub outage_us: Times,
    /// Its median, divided by that of the first row of the series.
    pub outage_ratio: f64,
    /// The same while NICs are attached to another group.
    pub outage_during_attach_us: Times,
    /// Attaching these NICs at once.
    pub attach_ms: Spread,
    /// Attaching a member of the group with traffic that was detached.
    pub reattach_ms: Spread,
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
    /// Of its resident memory: pages of maps.
    pub daemon_maps_bytes: u64,
    /// Memory of all BPF maps.
    pub maps_bytes: u64,
    /// Memory of all pinned programs, and of what the JIT compiler makes of them.
    pub programs_bytes: u64,
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Numbers of groups, ascending.
    pub groups: Vec<u32>,
    /// Data addresses of all groups in the last row of these.
    pub addresses: u32,
    /// Numbers of members of a group, of its data addresses, and of routes through it: ascending.
    pub members: Vec<u32>,
    /// See `members`.
    pub group_addresses: Vec<u32>,
    /// See `members`.
    pub routes: Vec<u32>,
    /// Pulls in each row.
    pub pulls: u32,
    /// Seconds without traffic in each row.
    pub seconds: u32,
    /// NICs that are attached at once, unless the number of members grows.
    pub nics: u32,
    /// How often NICs are attached, a member is attached again, and the report is requested, in each row.
    pub repeat: u32,
}

impl Plan {
    /// Without any numbers, those of all series.
    pub fn complete(&mut self, is_quick: bool) {
        let series = [&mut self.groups, &mut self.members, &mut self.group_addresses, &mut self.routes];
        if series.iter().any(|numbers| !numbers.is_empty()) {
            return;
        }
        let all: [&[u32]; 4] = if is_quick {
            [&[2, 8], &[2, 4], &[1, 100], &[0, 1_000]]
        } else {
            [&[2, 16, 64, 256], &[2, 4, 8, 16], &[1, 100, 1_000, 4_000], &[0, 500_000]]
        };
        for (numbers, all) in series.into_iter().zip(all) {
            *numbers = all.to_vec();
        }
    }
}

/// Measures in labs of its own.
pub fn measure(plan: &Plan) -> Result<Scale> {
    let numbers = [&plan.groups, &plan.members, &plan.group_addresses, &plan.routes];
    ensure!(numbers.iter().all(|numbers| numbers.is_sorted()), "the numbers of a series must be ascending");
    let mut scale = Scale { targets: TARGETS, rows: Vec::new(), failed: Vec::new(), warnings: Vec::new() };
    for (name, grow) in [
        ("members", Scale::grow_members as fn(&mut Scale, &Plan) -> Result<()>),
        ("addresses", Scale::grow_addresses),
        ("routes", Scale::grow_routes),
        // Last: the kernel deletes the interfaces of very many groups for minutes, which prolongs what is measured meanwhile.
        ("groups", Scale::grow_groups),
    ] {
        // The rows before took many minutes.
        if let Err(error) = grow(&mut scale, plan) {
            scale.failed.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(!scale.rows.is_empty(), "{}", scale.failed.join("; "));
    Ok(scale)
}

/// What a row is measured with.
struct Bench<'lab> {
    series: Series,
    lab: &'lab Lab,
    /// The group with traffic.
    production: Production<'lab>,
    /// Those without.
    many: ManyGroups<'lab>,
    /// NICs that are attached at once.
    nics: Vec<String>,
    /// Data addresses of the group with traffic.
    addresses: usize,
    /// Routes through it.
    routes: usize,
}

impl<'lab> Bench<'lab> {
    fn create(lab: &'lab Lab, series: Series, nics: usize) -> Result<Self> {
        let production = Production::create(lab)?;
        let many = ManyGroups::new(lab, MEMBERS)?;
        let nics: Vec<String> = (0..nics).map(|number| format!("nic{number}")).collect();
        many.pairs(&nics)?;
        production.daemon.ctl(&format!("create {ATTACHED}"))?;
        // IPv4 and IPv6.
        Ok(Self { series, lab, production, many, nics, addresses: 2, routes: 0 })
    }

    fn attach(&self) -> String {
        format!("attach {} --group {ATTACHED}", self.nics.join(" "))
    }

    fn detach(&self) -> Result<()> {
        let detach = |nic| self.production.daemon.ctl(&format!("detach {nic} --keep-group")).map(drop);
        self.nics.iter().try_for_each(detach)
    }

    /// Detaches a member of the group with traffic. Milliseconds to attach it again.
    fn reattach(&self) -> Result<f64> {
        let (daemon, members) = (&self.production.daemon, self.lab.members());
        let name = members[0].name();
        daemon.ctl(&format!("detach {name} --keep-group"))?;
        self.production.wait_usable(members.len() - 1)?;
        let time = timed(|| daemon.ctl(&format!("attach {name} --group {GROUP}")))?;
        self.production.wait_usable(members.len())?;
        Ok(time)
    }
}

impl Scale {
    /// Adds the rows of more and more groups, and one of many addresses.
    fn grow_groups(&mut self, plan: &Plan) -> Result<()> {
        if plan.groups.is_empty() {
            return Ok(());
        }
        let lab = Lab::tutorial()?;
        let mut bench = Bench::create(&lab, Series::Groups, plan.nics as usize)?;
        for &groups in &plan.groups {
            bench.many.grow(&bench.production.daemon, (groups as usize).saturating_sub(2))?;
            self.add(&mut bench, plan)?;
        }
        let each = (plan.addresses as usize).checked_div(bench.many.groups()).filter(|each| *each > 1);
        if let Some(each) = each {
            bench.many.add_addresses(&bench.production.daemon, each)?;
            self.add(&mut bench, plan)?;
        }
        Ok(())
    }

    /// Adds the rows of groups with more and more members.
    fn grow_members(&mut self, plan: &Plan) -> Result<()> {
        for &members in &plan.members {
            let lab = Lab::builder().members(members as usize).build()?;
            let mut bench = Bench::create(&lab, Series::Members, members as usize)?;
            self.add(&mut bench, plan)?;
        }
        Ok(())
    }

    /// Adds the rows of a group with more and more addresses.
    fn grow_addresses(&mut self, plan: &Plan) -> Result<()> {
        if plan.group_addresses.is_empty() {
            return Ok(());
        }
        let lab = Lab::tutorial()?;
        let mut bench = Bench::create(&lab, Series::Addresses, plan.nics as usize)?;
        for &addresses in &plan.group_addresses {
            // One is of IPv6, and another has another network.
            let further = bench.addresses - 2..(addresses as usize).saturating_sub(1);
            bench.addresses += further.len();
            many_groups::add_addresses(&bench.production.daemon, GROUP, NETWORK, further)?;
            self.add(&mut bench, plan)?;
        }
        Ok(())
    }

    /// Adds the rows of a group with more and more routes.
    fn grow_routes(&mut self, plan: &Plan) -> Result<()> {
        if plan.routes.is_empty() {
            return Ok(());
        }
        let lab = Lab::tutorial()?;
        let mut bench = Bench::create(&lab, Series::Routes, plan.nics as usize)?;
        for &routes in &plan.routes {
            let routes = routes as usize;
            ip_batch(Some(lab.host()), &host_routes::commands("add", bench.routes..routes))?;
            bench.routes = routes;
            self.add(&mut bench, plan)?;
        }
        Ok(())
    }

    /// Measures a row.
    fn add(&mut self, bench: &mut Bench<'_>, plan: &Plan) -> Result<()> {
        let (pulls, lab) = (plan.pulls as usize, bench.lab);
        let outbound = outbound::measure_in(lab, &bench.production, plan.pulls)?;
        let alone = inbound_failover::measure(lab, &bench.production, pulls)?;
        let daemon = &bench.production.daemon;
        let begin = || {
            let attaching = daemon.ctl_start(&bench.attach())?;
            std::thread::sleep(BEFORE_PULL);
            Ok(attaching)
        };
        let end = |mut attaching: Child| {
            ensure!(attaching.wait()?.success(), "cannot attach {} NICs", bench.nics.len());
            bench.detach()
        };
        let during = inbound_failover::measure_during(lab, &bench.production, pulls.div_ceil(2), begin, end)?;
        let load = Load::measure(lab, daemon, Duration::from_secs(plan.seconds.into()))?;
        let repeated = |work: &dyn Fn() -> Result<f64>| -> Result<Spread> {
            Ok(Spread::of(&(0..plan.repeat).map(|_| work()).collect::<Result<Vec<f64>>>()?))
        };
        let attach_ms = repeated(&|| {
            let time = timed(|| daemon.ctl(&bench.attach()))?;
            bench.detach()?;
            Ok(time)
        })?;
        let reattach_ms = repeated(&|| bench.reattach())?;
        let show_ms = repeated(&|| timed(|| daemon.ctl("show --json")))?;
        let groups = bench.many.groups() + 2;
        let (restart_ms, restart_cpu_ms) = restart(&mut bench.production.daemon, groups)?;
        bench.many.wait_usable(&bench.production.daemon)?;
        bench.production.wait_usable(lab.members().len())?;
        let (daemon_percent, sentinel_percent) = load.percent();
        let outage_us = self.times(&alone);
        let first = self.rows.iter().find(|row| row.series == bench.series);
        self.warnings.extend(outbound.warnings.iter().cloned());
        let row = Row {
            series: bench.series,
            groups,
            members: lab.members().len() + MEMBERS * bench.many.groups(),
            addresses: bench.addresses + bench.many.addresses(),
            routes: bench.routes,
            nics: bench.nics.len(),
            outbound_outage_us: outbound.outages(),
            outbound_lost_beyond: outbound.lost_beyond,
            outage_ratio: outage_us.p50 / first.map_or(outage_us.p50, |row| row.outage_us.p50),
            outage_us,
            outage_during_attach_us: self.times(&during),
            attach_ms,
            reattach_ms,
            show_ms,
            restart_ms,
            restart_cpu_ms,
            daemon_percent,
            sentinel_percent,
            daemon_resident_bytes: load.memory.resident,
            daemon_proportional_bytes: load.memory.proportional,
            daemon_maps_bytes: load.memory.of_maps,
            maps_bytes: load.kernel.maps,
            programs_bytes: load.kernel.programs,
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

impl Row {
    /// Memory of daemon and kernel together, each page once.
    pub fn memory_bytes(&self) -> u64 {
        self.daemon_resident_bytes - self.daemon_maps_bytes + self.maps_bytes + self.programs_bytes
    }

    /// Its numbers: `2 groups, 3 members, 2 addresses`.
    pub fn name(&self) -> String {
        let Self { groups, members, addresses, routes, .. } = self;
        let routes = if *routes > 0 { format!(", {routes} routes") } else { String::new() };
        format!("{groups} groups, {members} members, {addresses} addresses{routes}")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.name())?;
        writeln!(
            out,
            "  outbound         {}   {} packets lost elsewhere than in ports",
            self.outbound_outage_us, self.outbound_lost_beyond
        )?;
        writeln!(out, "  outage           {}   {:.2} of the first", self.outage_us, self.outage_ratio)?;
        writeln!(out, "  during an attach {}", self.outage_during_attach_us)?;
        writeln!(
            out,
            "  attach {} NICs {:.0} ms   a member again {:.0} ms   show {:.0} ms   restart {:.0} ms, {:.0} ms of a CPU",
            self.nics,
            self.attach_ms.median,
            self.reattach_ms.median,
            self.show_ms.median,
            self.restart_ms,
            self.restart_cpu_ms
        )?;
        write!(
            out,
            "  idle: daemon {:.2} %, sentinel {:.2} % of a CPU   {:.1} MiB resident, {:.1} MiB proportional, maps {:.1} MiB, programs {:.1} MiB, together {:.1} MiB",
            self.daemon_percent,
            self.sentinel_percent,
            mib(self.daemon_resident_bytes),
            mib(self.daemon_proportional_bytes),
            mib(self.maps_bytes),
            mib(self.programs_bytes),
            mib(self.memory_bytes())
        )
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "scale: a group with traffic, beside groups of {MEMBERS} members without")?;
        for row in &self.rows {
            writeln!(out, "  {}", row.to_string().replace('\n', "\n  "))?;
        }
        let Targets { outage_ratio, attach_ms, show_ms, memory_bytes, idle_percent } = &self.targets;
        write!(
            out,
            "  targets: outage {outage_ratio} of the first, attach {attach_ms} ms, show {show_ms} ms, {} MiB, {idle_percent} % of a CPU",
            memory_bytes >> 20
        )?;
        for failed in &self.failed {
            write!(out, "\n  failed: {failed}")?;
        }
        for warning in &self.warnings {
            write!(out, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}
