//! The group beside bonds, teams and next hops of the kernel: the same network of two switches that know nothing of each other's
//! ports, the same streams, the same faults.
//!
//! | module | contents |
//! |---|---|
//! | [`mod@contender`] | what is compared, and how each is set up |
//! | [`fault`] | the faults, and what each costs |
//! | [`burden`] | throughput and CPU time while nothing fails |

pub mod burden;
pub mod contender;
pub mod fault;

use std::fmt;
use std::time::Instant;

use anyhow::{Context as _, Result};
use lab::{Lab, Stream, TIMEOUT};
use serde::{Deserialize, Serialize};

use crate::outbound::warnings;
use burden::Burden;
use contender::{CONTENDERS, Host, Setup};
use fault::{Cost, Fault, Faults, Made, Moved};

/// Flows of each stream whose outages are measured.
const FLOWS: usize = 12;
/// Flows whose members are watched, and their packets per second together: too few for outages.
const WATCHED: usize = 60;
const WATCHED_RATE: u64 = 600;
/// The port of the watched flows.
const WATCHED_PORT: u16 = 5001;

/// What is measured.
#[derive(Debug)]
pub struct Plan {
    /// Packets per second of each stream.
    pub rate: u64,
    /// How often cables are pulled, for each fault in which they are.
    pub pulls: usize,
    /// How often each other fault is made.
    pub cuts: usize,
    /// Rounds of throughput and CPU time.
    pub rounds: u32,
    /// Only contenders whose names contain one of these; all if there are none.
    pub names: Vec<String>,
    /// Only these faults; all if there are none.
    pub faults: Vec<Fault>,
}

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Peers {
    pub packets_per_s: u64,
    pub flows: usize,
    pub watched_flows: usize,
    pub members: usize,
    pub contenders: Vec<Contender>,
    /// Contenders that this kernel or machine does not have.
    pub missing: Vec<String>,
    /// Contenders that could not be measured, and why.
    pub failed: Vec<String>,
}

/// What happened with one of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Contender {
    pub name: String,
    pub faults: Vec<Faults>,
    /// Lost when there was neither a fault nor a repair; duplicated at any time.
    pub lost_without_fault: u64,
    pub duplicated: u64,
    /// CPU time of its daemon during all this, of one CPU.
    pub daemon_percent: Option<f64>,
    /// Compared with one NIC, while nothing fails.
    pub burden: Option<Burden>,
    pub warnings: Vec<String>,
}

/// Measures each in a lab of its own.
pub fn measure(plan: &Plan) -> Result<Peers> {
    let (mut contenders, mut missing, mut failed, mut members) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let is_wanted = |name: &str| plan.names.is_empty() || plan.names.iter().any(|part| name.contains(part));
    for (name, setup) in CONTENDERS.into_iter().filter(|(name, _)| is_wanted(name)) {
        let lab = Lab::tutorial()?;
        members = lab.members().len();
        eprintln!("ipmp-bench: {name}");
        let contender = match Host::set_up(&lab, setup) {
            Ok(Some(host)) => contender(&host, name, plan),
            Ok(None) => {
                missing.push(name.to_owned());
                continue;
            }
            Err(error) => Err(error),
        };
        drop(lab);
        match contender {
            Ok(mut contender) => {
                contender.add_burden(setup, plan.rounds);
                contenders.push(contender);
            }
            // The results of the others are worth having.
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    anyhow::ensure!(!contenders.is_empty() || failed.is_empty(), "{}", failed.join("; "));
    Ok(Peers {
        packets_per_s: plan.rate,
        flows: FLOWS,
        watched_flows: WATCHED,
        members,
        contenders,
        missing,
        failed,
    })
}

fn contender(host: &Host<'_>, name: &str, plan: &Plan) -> Result<Contender> {
    let (lab, rate) = (host.lab, plan.rate);
    let inbound = Stream::inbound(lab).source(lab.peer(0).v4());
    let running = [Stream::outbound(lab), inbound].map(|stream| stream.flows(FLOWS).rate(rate).start());
    let [outbound, inbound] = running;
    let (outbound, inbound) = (outbound?, inbound?);
    let watched = Stream::outbound(lab).flows(WATCHED).rate(WATCHED_RATE).port(WATCHED_PORT).start()?;
    for stream in [&outbound, &inbound] {
        stream.wait_received(rate / 2, TIMEOUT)?;
    }
    let (began, used) = (Instant::now(), host.cpu_time()?);
    let mut made: Vec<(Fault, Vec<Made>)> = Vec::new();
    for &fault in Fault::all().iter().filter(|fault| plan.faults.is_empty() || plan.faults.contains(fault)) {
        let times = if fault.is_pull() { plan.pulls } else { plan.cuts };
        if times == 0 {
            continue;
        }
        let of_kind = (0..times).map(|_| fault::make(host, fault, WATCHED_PORT));
        made.push((fault, of_kind.collect::<Result<_>>().with_context(|| format!("{fault:?}"))?));
    }
    let daemon_percent = match (used, host.cpu_time()?) {
        (Some(before), Some(after)) => {
            Some(100.0 * (after - before).as_secs_f64() / began.elapsed().as_secs_f64())
        }
        _ => None,
    };
    watched.stop()?;
    let (outbound, inbound) = (outbound.stop()?, inbound.stop()?);
    let faults: Vec<Faults> =
        made.iter().map(|(fault, made)| Faults::of(*fault, made, &outbound, &inbound)).collect();
    let lost = |report| fault::lost_without_fault(report, made.iter().flat_map(|(_, made)| made));
    Ok(Contender {
        name: name.into(),
        lost_without_fault: lost(&outbound) + lost(&inbound),
        duplicated: outbound.duplicated() + inbound.duplicated(),
        daemon_percent,
        burden: None,
        warnings: [&outbound, &inbound].into_iter().flat_map(warnings).collect(),
        faults,
    })
}

impl Contender {
    /// What it costs while nothing fails. Where packets are lost even then, that is a result too.
    fn add_burden(&mut self, setup: Setup, rounds: u32) {
        if rounds > 0 {
            match burden::measure(setup, rounds) {
                Ok(burden) => self.burden = burden,
                Err(error) => self.warnings.push(format!("throughput was not measured: {error:#}")),
            }
        }
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "peers: {} NICs on two switches, {} packets/s in {} flows each way; packets lost in the median, outages p50 / p99 in ms",
            self.members, self.packets_per_s, self.flows
        )?;
        writeln!(
            out,
            "  {:<36} {:<14} {:>28} {:>28} {:>14} {:>6}",
            "", "", "outbound", "inbound", "flows moved", "false"
        )?;
        for contender in &self.contenders {
            for Faults { fault, outbound, inbound, moved, false_failures } in &contender.faults {
                let moved = Moved::sum(moved);
                let moved = format!("{}/{} + {}", moved.rescued, moved.failed, moved.needlessly);
                let fault = format!("{fault:?}");
                writeln!(
                    out,
                    "  {:<36} {fault:<14} {outbound:>28} {inbound:>28} {moved:>14} {false_failures:>6}",
                    contender.name
                )?;
            }
            for warning in &contender.warnings {
                writeln!(out, "  warning: {}: {warning}", contender.name)?;
            }
        }
        writeln!(
            out,
            "  compared with one NIC: throughput outbound, inbound; CPU time a packet outbound, inbound; CPU of the daemon"
        )?;
        for contender in &self.contenders {
            write!(out, "  {:<36}", contender.name)?;
            if let Some(burden) = &contender.burden {
                let ratios = [
                    burden.throughput_outbound,
                    burden.throughput_inbound,
                    burden.cpu_outbound,
                    burden.cpu_inbound,
                ];
                ratios.iter().try_for_each(|ratio| write!(out, " {:>6.2}", ratio.median))?;
            }
            if let Some(percent) = contender.daemon_percent {
                write!(out, " {percent:>6.2} %")?;
            }
            writeln!(out)?;
        }
        let lost = self.contenders.iter().map(|one| format!("{} {}", one.name, one.lost_without_fault));
        write!(out, "  lost without a fault: {}", lost.collect::<Vec<_>>().join(", "))?;
        for failed in &self.failed {
            write!(out, "\n  not measured: {failed}")?;
        }
        if !self.missing.is_empty() {
            write!(out, "\n  not measured, this machine does not have them: {}", self.missing.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.outage_us.p50 / 1e3, self.outage_us.p99 / 1e3);
        out.pad(&format!("{:>7} {p50:>8.1} / {p99:>8.1}", self.lost_p50()))
    }
}
