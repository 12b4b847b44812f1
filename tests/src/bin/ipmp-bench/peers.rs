//! The group beside the bonds of the kernel: the same network of two switches that know nothing of each other's ports, the same
//! streams, the same faults.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ipmp::types::Family;
use lab::network::{DATA, ROUTER};
use lab::stream::Report;
use lab::{Lab, Member, Production, SECOND, Stream, TIMEOUT, wait_until};
use serde::Serialize;

use crate::outbound::warnings;
use crate::times::Times;

/// Flows of each stream.
const FLOWS: usize = 6;
/// How long a cable stays unplugged, and how long a path is silent.
const UNPLUGGED: Duration = SECOND;
const SILENT: Duration = Duration::from_secs(4);
/// How long the traffic of the members is counted before a fault.
const COUNTED: Duration = Duration::from_millis(300);
/// How long a bond has after a repair: it does not report when it is complete.
const REPAIR: Duration = Duration::from_secs(2);
const BOND: &str = "bond0";

/// How the NICs are used.
#[derive(Clone, Copy)]
enum Setup {
    /// A group with these settings, whose members are probed.
    Group(&'static str),
    /// A bond with these options.
    Bond(&'static str),
}

const CONTENDERS: [(&str, Setup); 8] = [
    ("ipmp", Setup::Group("")),
    ("ipmp fdt=1s", Setup::Group("fdt=1s")),
    ("bond active-backup miimon=100", Setup::Bond("mode active-backup miimon 100")),
    ("bond active-backup miimon=10", Setup::Bond("mode active-backup miimon 10")),
    ("bond active-backup miimon=1", Setup::Bond("mode active-backup miimon 1")),
    (
        "bond active-backup arp_interval=100",
        Setup::Bond("mode active-backup arp_interval 100 arp_ip_target 192.168.178.1 arp_validate all"),
    ),
    ("bond balance-xor miimon=100", Setup::Bond("mode balance-xor miimon 100 xmit_hash_policy layer3+4")),
    ("bond balance-alb miimon=100", Setup::Bond("mode balance-alb miimon 100")),
];

/// The results.
#[derive(Debug, Serialize)]
pub struct Peers {
    packets_per_s: u64,
    flows: usize,
    members: usize,
    pulls: usize,
    cuts: usize,
    unplugged_us: f64,
    silent_us: f64,
    contenders: Vec<Contender>,
    /// Contenders that this kernel does not have.
    missing: Vec<String>,
}

/// What happened with one of them.
#[derive(Debug, Serialize)]
struct Contender {
    name: String,
    pulled: Option<Fault>,
    silent: Option<Fault>,
    /// Lost or duplicated when there was no fault.
    lost_without_fault: u64,
    duplicated: u64,
    warnings: Vec<String>,
}

/// What a fault costs, in each direction.
#[derive(Debug, Serialize)]
struct Fault {
    outbound: Cost,
    inbound: Cost,
}

#[derive(Debug, Serialize)]
struct Cost {
    /// Packets lost at each fault.
    lost: Vec<u64>,
    /// The longest outage of a flow at each fault.
    outage_us: Times,
}

/// The NICs in use.
struct Host<'lab> {
    lab: &'lab Lab,
    production: Option<Production<'lab>>,
}

impl<'lab> Host<'lab> {
    /// `None`: the kernel has no bonds.
    fn set_up(lab: &'lab Lab, setup: Setup) -> Result<Option<Self>> {
        let options = match setup {
            Setup::Group(settings) => {
                let settings = format!("{settings} targets={ROUTER}");
                let production = Production::create_probed(lab, &[Family::V4], settings.trim_start())?;
                production.wait_answered()?;
                return Ok(Some(Self { lab, production: Some(production) }));
            }
            Setup::Bond(options) => options,
        };
        let host = lab.host();
        if host.ip(&format!("link add {BOND} type bond")).is_err() {
            return Ok(None);
        }
        host.ip(&format!("link del {BOND}"))?;
        host.ip(&format!("link add {BOND} type bond {options}"))?;
        for member in lab.members() {
            host.ip(&format!("link set {} down", member.name()))?;
            host.ip(&format!("link set {} master {BOND}", member.name()))?;
        }
        host.ip(&format!("link set {BOND} up"))?;
        host.ip(&format!("address add {DATA}/24 dev {BOND}"))?;
        let answers = || lab.peer(0).ping(DATA.into(), 1, SECOND, SECOND).is_ok_and(|ping| ping.answered > 0);
        anyhow::ensure!(wait_until(TIMEOUT, answers), "no peer reaches the bond with {options}");
        std::thread::sleep(REPAIR);
        Ok(Some(Self { lab, production: None }))
    }

    /// The member with the most traffic.
    fn busiest(&self) -> Result<&'lab Member> {
        let counts = || -> Result<Vec<u64>> {
            let ports = self.lab.members().iter().map(|member| member.cable().port());
            ports.map(|port| port.map(|port| port.rx_packets + port.tx_packets)).collect()
        };
        let before = counts()?;
        std::thread::sleep(COUNTED);
        let traffic = counts()?.into_iter().zip(before).map(|(after, before)| after - before);
        let busiest = self.lab.members().iter().zip(traffic).max_by_key(|(_, traffic)| *traffic);
        busiest.map(|(member, _)| member).context("the lab has no members")
    }

    fn wait_repaired(&self, member: &Member) -> Result<()> {
        match &self.production {
            Some(production) => {
                production.clear_flap_history(member)?;
                // Ten replies, with a failure detection time of 10 s.
                let is_complete = || production.wait_usable(self.lab.members().len()).is_ok();
                anyhow::ensure!(wait_until(TIMEOUT, is_complete), "{} is not repaired", member.name());
                production.wait_answered()
            }
            None => {
                std::thread::sleep(REPAIR);
                Ok(())
            }
        }
    }
}

/// Measures each in a lab of its own.
pub fn measure(rate: u64, pulls: usize, cuts: usize) -> Result<Peers> {
    let (mut contenders, mut missing, mut members) = (Vec::new(), Vec::new(), 0);
    for (name, setup) in CONTENDERS {
        let lab = Lab::tutorial()?;
        members = lab.members().len();
        match Host::set_up(&lab, setup).with_context(|| name.to_owned())? {
            Some(host) => {
                contenders.push(contender(&host, name, rate, pulls, cuts).with_context(|| name.to_owned())?);
            }
            None => missing.push(name.to_owned()),
        }
    }
    let us = crate::outbound::microseconds;
    Ok(Peers {
        packets_per_s: rate,
        flows: FLOWS,
        members,
        pulls,
        cuts,
        unplugged_us: us(UNPLUGGED),
        silent_us: us(SILENT),
        contenders,
        missing,
    })
}

fn contender(host: &Host<'_>, name: &str, rate: u64, pulls: usize, cuts: usize) -> Result<Contender> {
    let lab = host.lab;
    let inbound = Stream::inbound(lab).source(lab.peer(0).v4());
    let running = [Stream::outbound(lab), inbound].map(|stream| stream.flows(FLOWS).rate(rate).start());
    let [outbound, inbound] = running;
    let (outbound, inbound) = (outbound?, inbound?);
    for stream in [&outbound, &inbound] {
        stream.wait_received(rate / 2, TIMEOUT)?;
    }
    let (mut pulled, mut silent) = (Vec::new(), Vec::new());
    let mut failed = None;
    for number in 0..pulls + cuts {
        if let Some(member) = failed {
            host.wait_repaired(member)?;
        }
        let member = host.busiest()?;
        let cable = member.cable();
        if number < pulls {
            pulled.push(cable.pull()?.before);
            std::thread::sleep(UNPLUGGED);
            cable.replug()?;
        } else {
            silent.push(cable.cut()?.before);
            std::thread::sleep(SILENT);
            cable.restore()?;
        }
        failed = Some(member);
    }
    let (outbound, inbound) = (outbound.stop()?, inbound.stop()?);
    let fault = |at: &[Instant], time| {
        (!at.is_empty())
            .then(|| Fault { outbound: cost(&outbound, at, time), inbound: cost(&inbound, at, time) })
    };
    let (pulled, silent) = (fault(&pulled, UNPLUGGED), fault(&silent, SILENT));
    let lost = |fault: &Option<Fault>| {
        let costs = fault.iter().flat_map(|fault| [&fault.outbound, &fault.inbound]);
        costs.flat_map(|cost| &cost.lost).sum::<u64>()
    };
    let all = outbound.lost() + inbound.lost();
    Ok(Contender {
        name: name.into(),
        lost_without_fault: all.saturating_sub(lost(&pulled) + lost(&silent)),
        duplicated: outbound.duplicated() + inbound.duplicated(),
        warnings: [&outbound, &inbound].into_iter().flat_map(warnings).collect(),
        pulled,
        silent,
    })
}

/// Of faults that each last some time.
fn cost(report: &Report, faults: &[Instant], time: Duration) -> Cost {
    let lost = faults.iter().map(|&at| report.lost_within(at, time)).collect();
    let outage = |&at: &Instant| {
        let runs = report.flows.iter().flat_map(|flow| &flow.lost).filter(|run| run.overlaps(at, at + time));
        // Lost to the end of the fault, if nothing arrived after it.
        let longest = runs.map(|run| {
            let (before, after) = (run.before.unwrap_or(at), run.after.unwrap_or(at + time));
            after.saturating_duration_since(before)
        });
        longest.max().unwrap_or_default()
    };
    Cost { lost, outage_us: Times::of(&faults.iter().map(outage).collect::<Vec<_>>()) }
}

impl fmt::Display for Peers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "peers: {} NICs on two switches, {} packets/s in {} flows each way; the busiest NIC is unplugged for {:.0} s ({} times), \
             or silent for {:.0} s with its link up ({} times)",
            self.members,
            self.packets_per_s,
            self.flows,
            self.unplugged_us / 1e6,
            self.pulls,
            self.silent_us / 1e6,
            self.cuts
        )?;
        writeln!(
            out,
            "  {:<36} {:>32} {:>32}\n  {:<36} {:>32} {:>32}",
            "", "outbound", "inbound", "", "lost p50   outage p50 / max ms", "lost p50   outage p50 / max ms"
        )?;
        for contender in &self.contenders {
            for (what, fault) in [("unplugged", &contender.pulled), ("silent", &contender.silent)] {
                let Some(Fault { outbound, inbound }) = fault else { continue };
                writeln!(out, "  {:<36} {outbound:>32} {inbound:>32}  {what}", contender.name)?;
            }
            for warning in &contender.warnings {
                writeln!(out, "  warning: {}: {warning}", contender.name)?;
            }
        }
        write!(out, "  lost without a fault: ")?;
        let lost = self.contenders.iter().map(|one| format!("{} {}", one.name, one.lost_without_fault));
        write!(out, "{}", lost.collect::<Vec<_>>().join(", "))?;
        if !self.missing.is_empty() {
            write!(out, "\n  not measured, this kernel has no bonds: {}", self.missing.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lost = self.lost.clone();
        lost.sort_unstable();
        let middle = lost.get(lost.len() / 2).copied().unwrap_or_default();
        let Times { p50, max, .. } = self.outage_us;
        out.pad(&format!("{middle:>8} {:>10.1} / {:>8.1}", p50 / 1e3, max / 1e3))
    }
}
