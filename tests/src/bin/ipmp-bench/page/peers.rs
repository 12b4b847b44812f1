//! Faults of a group beside bonds, teams and ECMP.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::plot::{Bars, Plot, Scale};
use super::{RESULTS, Results, source, table};
use crate::peers::fault::{Cost, Fault, Faults, Moved};
use crate::peers::{Contender, Peers};

/// The part of the page about the results of peers.
pub fn section(
    stem: &str,
    results: &Results,
    peers: &Peers,
    page: &mut String,
    files: &mut BTreeMap<String, String>,
) -> Result<()> {
    let command = format!("`{}`", results.command());
    writeln!(page, "\n## Beside bonds, teams and ECMP: Linux {}\n", results.version())?;
    writeln!(
        page,
        "{}. {} NICs, {} packets/s in {} flows each way: a flow has a packet each {:.1} ms, and shorter outages are not seen. {}",
        results.machine(),
        peers.members,
        peers.packets_per_s,
        peers.flows,
        peers.interval_ms(),
        source(stem)
    )?;
    if !peers.missing.is_empty() {
        writeln!(
            page,
            "Not measured, because this kernel does not have them: {}.",
            peers.missing.join(", ")
        )?;
    }
    if !peers.failed.is_empty() {
        writeln!(page, "Could not be measured: {}.", peers.failed.join("; "))?;
    }
    for &fault in Fault::all() {
        let of_fault: Vec<(&str, &Faults)> = peers
            .contenders
            .iter()
            .filter_map(|one| Some((one.name.as_str(), one.faults.iter().find(|of| of.fault == fault)?)))
            .collect();
        if of_fault.is_empty() {
            continue;
        }
        let (title, claim) = words(fault);
        let plot = format!("{RESULTS}/{stem}-{}.svg", title.to_lowercase().replace(' ', "-"));
        writeln!(page, "\n### {title}\n\n{claim}\n\n![{title}]({plot})\n\n{command}:\n")?;
        page.push_str(&table::of_fault(&of_fault, peers.interval_ms()));
        files.insert(plot, outages(title, &of_fault).svg()?);
    }
    let moved = moved_needlessly(&peers.contenders);
    if !moved.rows.is_empty() {
        let plot = format!("{RESULTS}/{stem}-flows-moved.svg");
        writeln!(page, "\n### Flows moved without need\n\n{MOVED}\n\n![flows moved]({plot})\n\n{command}.")?;
        files.insert(plot, moved.svg()?);
    }
    if peers.contenders.iter().any(|one| one.burden.is_some()) {
        let plot = format!("{RESULTS}/{stem}-throughput.svg");
        writeln!(page, "\n### Without a fault\n\n{BURDEN}\n\n![throughput]({plot})\n\n{command}:\n")?;
        page.push_str(&table::of_burden(&peers.contenders));
        files.insert(plot, throughput(&peers.contenders).svg()?);
    }
    let warnings = peers.contenders.iter().flat_map(|one| one.warnings.iter().map(|text| (&one.name, text)));
    let warnings: Vec<String> = warnings.map(|(name, text)| format!("* {name}: {text}\n")).collect();
    if !warnings.is_empty() {
        write!(page, "\nWarnings of this run:\n\n{}", warnings.concat())?;
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    name.starts_with(table::OURS)
}

impl Peers {
    /// Milliseconds between two packets of a flow.
    fn interval_ms(&self) -> f64 {
        1e3 * self.flows as f64 / self.packets_per_s as f64
    }
}

const MOVED: &str = "Flows on NICs that did not fail, and that left by another NIC after the cable of one was pulled. Such flows are reordered, and \
     their state in firewalls on the way is lost.";
const BURDEN: &str = "Throughput of TCP, and CPU time of a UDP packet of 64 bytes, as ratios to one NIC that has the address itself, medians of rounds \
     in which both are measured (quartiles). CPU time of the daemon is that of one CPU during all faults together; bonds and next hops work \
     in the kernel alone, whose time is not counted.";

/// The title of a fault, and what is done.
fn words(fault: Fault) -> (&'static str, &'static str) {
    match fault {
        Fault::Pull => ("Cable pulled", "The cable of the busiest NIC is pulled for a second."),
        Fault::DoublePull => {
            ("Two cables pulled", "The cables of the two busiest of three NICs are pulled at the same time.")
        }
        Fault::Silent => (
            "Silent failure",
            "The busiest NIC neither sends nor receives for 4 s, while its link is up. What watches links alone sees nothing.",
        ),
        Fault::SilentOut => {
            ("Silent failure outbound", "As before, but only frames that the host sends are lost.")
        }
        Fault::SilentIn => {
            ("Silent failure inbound", "As before, but only frames that the host receives are lost.")
        }
        Fault::Loss => (
            "Loss",
            "The busiest NIC loses 30 % of its frames in each direction for 4 s, chosen at random. No outage is long; packets lost are \
             what counts.",
        ),
        Fault::LatePort => (
            "Port that forwards late",
            "A cable that was pulled is plugged in. The link is up at once, and the switch port forwards after 3 s, as a port with STP \
             does after 30 s.",
        ),
        Fault::SaturatedPull => (
            "Cable pulled while the CPUs are saturated",
            "Two programs for each CPU compute, one of them with nice -15; after 2 s the cable of the busiest NIC is pulled.",
        ),
    }
}

/// How long flows are interrupted.
fn outages(title: &str, of_fault: &[(&str, &Faults)]) -> Plot {
    let ms = |cost: &Cost| (cost.outage_us.p50 / 1e3, cost.outage_us.p99 / 1e3);
    let rows = of_fault.iter().map(|(name, of)| {
        let bars = [ms(&of.outbound), ms(&of.inbound)];
        Bars { name: (*name).to_owned(), is_ours: is_ours(name), bars: bars.to_vec() }
    });
    Plot {
        title: format!("{title}: longest outage of a flow, ms (bar p50, line p99)"),
        series: vec!["outbound", "inbound"],
        scale: Scale::Logarithmic,
        rows: rows.collect(),
    }
}

fn moved_needlessly(contenders: &[Contender]) -> Plot {
    let rows = contenders.iter().filter_map(|one| {
        let of = one.faults.iter().find(|of| of.fault == Fault::Pull)?;
        let share = 100.0 * Moved::sum(&of.moved).share_moved_needlessly();
        Some(Bars { name: one.name.clone(), is_ours: is_ours(&one.name), bars: vec![(share, share)] })
    });
    Plot {
        title: "Cable pulled: flows of other NICs that move, %".into(),
        series: vec!["outbound"],
        scale: Scale::Linear,
        rows: rows.collect(),
    }
}

fn throughput(contenders: &[Contender]) -> Plot {
    let rows = contenders.iter().filter_map(|one| {
        let burden = one.burden.as_ref()?;
        let bars = [burden.throughput_outbound, burden.throughput_inbound];
        let bars = bars.iter().map(|ratio| (ratio.median, ratio.upper_quartile)).collect();
        Some(Bars { name: one.name.clone(), is_ours: is_ours(&one.name), bars })
    });
    Plot {
        title: "Throughput of TCP, ratio to one NIC (bar median, line upper quartile)".into(),
        series: vec!["outbound", "inbound"],
        scale: Scale::Linear,
        rows: rows.collect(),
    }
}
