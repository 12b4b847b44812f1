//! Faults of a group beside bonds, teams and ECMP.

use super::plot::{Bar, Bars, Plot, Scale};
use super::section::{Part, Section};
use super::table;
use crate::peers::fault::{Cost, Fault, Faults, Moved};
use crate::peers::{Contender, Peers};

/// The section.
pub fn section(peers: &Peers) -> Section {
    let mut introduction = format!(
        "{} NICs, {} packets/s in {} flows each way: a flow has a packet each {:.1} ms, and shorter outages are not seen.",
        peers.members,
        peers.packets_per_s,
        peers.flows,
        peers.interval_ms()
    );
    for (what, names) in [
        ("Not measured, because this kernel does not have them", peers.missing.join(", ")),
        ("Could not be measured", peers.failed.join("; ")),
    ] {
        if !names.is_empty() {
            introduction += &format!("\n{what}: {names}.");
        }
    }
    let mut parts: Vec<Part> = Fault::all().iter().filter_map(|&fault| of_fault(peers, fault)).collect();
    let moved = moved_needlessly(&peers.contenders);
    if !moved.rows.is_empty() {
        parts.push(Part {
            title: Some("Flows moved without need"),
            text: MOVED.into(),
            plots: vec![moved],
            ..Part::default()
        });
    }
    if peers.contenders.iter().any(|one| one.burden.is_some()) {
        parts.push(Part {
            title: Some("Without a fault"),
            text: BURDEN.into(),
            plots: vec![throughput(&peers.contenders)],
            table: table::of_burden(&peers.contenders),
        });
    }
    let warnings = peers.contenders.iter().flat_map(|one| one.warnings.iter().map(|text| (&one.name, text)));
    Section {
        title: "Beside bonds, teams and ECMP",
        introduction,
        parts,
        warnings: warnings.map(|(name, text)| format!("{name}: {text}")).collect(),
        ..Section::default()
    }
}

/// The figures of a fault, if it was made.
fn of_fault(peers: &Peers, fault: Fault) -> Option<Part> {
    let of_fault: Vec<(&str, &Faults)> = peers
        .contenders
        .iter()
        .filter_map(|one| Some((one.name.as_str(), one.faults.iter().find(|of| of.fault == fault)?)))
        .collect();
    let (title, claim) = words(fault);
    (!of_fault.is_empty()).then(|| Part {
        title: Some(title),
        text: claim.into(),
        plots: vec![outages(title, &of_fault)],
        table: table::of_fault(&of_fault, peers.interval_ms()),
    })
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
    let ms = |cost: &Cost| Bar::from(&cost.outage_us);
    let rows = of_fault.iter().map(|(name, of)| {
        let bars = [ms(&of.outbound), ms(&of.inbound)];
        Bars { name: (*name).to_owned(), is_ours: is_ours(name), bars: bars.to_vec(), ..Bars::default() }
    });
    Plot {
        name: title.to_lowercase().replace(' ', "-"),
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
        let (name, bars) = (one.name.clone(), vec![share.into()]);
        Some(Bars { name, is_ours: is_ours(&one.name), bars, ..Bars::default() })
    });
    Plot {
        name: "flows-moved".into(),
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
        let bars = bars.map(Bar::from).to_vec();
        Some(Bars { name: one.name.clone(), is_ours: is_ours(&one.name), bars, ..Bars::default() })
    });
    Plot {
        name: "throughput".into(),
        title: "Throughput of TCP, ratio to one NIC (bar median, line quartiles)".into(),
        series: vec!["outbound", "inbound"],
        scale: Scale::Linear,
        rows: rows.collect(),
    }
}
