//! Bulk transfers and small packets through a group.

use super::plot::{Bars, Plot, Scale};
use super::section::{Part, Section, Target, bold, table};
use crate::spread::Spread;
use crate::throughput::{Throughput, Transfers};

const CLAIM: &str = "TCP bulk transfers, and UDP packets of 64 bytes as fast as one thread sends them, through a group of one NIC and through a plain NIC that has \
     the address itself, in turn. Ratios are those within a round, medians (quartiles). *Redirect only* is a NIC with an interface on top that has the \
     address, and two programs between them that redirect what passes and do nothing else: what the kernel needs for a second interface, \
     whatever the programs decide. The sender of packets of 64 bytes runs on one CPU and the receiver on another. *veth* is a pair as the kernel makes it, whose \
     packets pass the backlog queue of a CPU; with GRO the driver uses NAPI instead, with one or several queues; RPS distributes flows to \
     the backlogs of all CPUs. Each transfer is one flow, so several queues do not make it faster. *Dropped* is what the backlogs of all \
     CPUs dropped during all transfers of a kind (second column of `/proc/net/softnet_stat`), through the group and through the plain NIC.";

/// A kind of transfers through a kind of veth pairs in one direction.
struct Case {
    name: String,
    group: Spread,
    plain: Spread,
    ratio: Spread,
    redirect_ratio: Spread,
    drops: [u64; 2],
    target: Option<f64>,
}

impl Case {
    /// `unit`: of a second, as the table shows it.
    fn new(name: String, transfers: &Transfers, unit: f64, target: Option<f64>) -> Self {
        Self {
            name,
            group: transfers.group_per_s.map(|per_s| per_s / unit),
            plain: transfers.plain_per_s.map(|per_s| per_s / unit),
            ratio: transfers.ratio,
            redirect_ratio: transfers.redirect_ratio,
            drops: [transfers.group_backlog_drops, transfers.plain_backlog_drops],
            target,
        }
    }

    fn is_missed(&self) -> bool {
        self.target.is_some_and(|target| self.ratio.median < target)
    }
}

/// The section.
pub fn section(throughput: &Throughput) -> Section {
    let others = throughput.others.iter().map(|other| (other.veth.as_str(), &other.bulk, &other.packets));
    let all = std::iter::once(("veth", &throughput.bulk, &throughput.packets)).chain(others);
    let target = |veth: &str, target: f64| (veth == "veth").then_some(target);
    let (mut bulk, mut packets) = (Vec::new(), Vec::new());
    for (veth, of_bulk, of_packets) in all {
        let targets = &throughput.target_packets_ratio;
        for (direction, of_bulk, of_packets, target_packets) in [
            ("outbound", &of_bulk.outbound, &of_packets.outbound, targets.outbound),
            ("inbound", &of_bulk.inbound, &of_packets.inbound, targets.inbound),
        ] {
            let name = |kind: &str| format!("{veth}, {kind} {direction}");
            bulk.push(Case::new(name("TCP"), of_bulk, 1e9, target(veth, throughput.target_ratio)));
            packets.push(Case::new(name("64 bytes"), of_packets, 1e6, target(veth, target_packets)));
        }
    }
    let cases = bulk.iter().chain(&packets);
    let targets = cases.filter_map(|case| {
        Some(Target::at_least(
            format!("{}, ratio to the plain NIC,", case.name),
            case.ratio.median,
            case.target?,
        ))
    });
    Section {
        title: "Throughput",
        introduction: CLAIM.into(),
        targets: targets.collect(),
        parts: vec![
            part("Bulk transfers", "bulk", "Gbit/s", &bulk),
            part("Small packets", "packets", "million packets/s", &packets),
        ],
        ..Section::default()
    }
}

fn part(title: &'static str, name: &str, unit: &str, cases: &[Case]) -> Part {
    let rows = cases.iter().map(|case| Bars {
        target: case.target,
        ..Bars::ours(&case.name, [case.ratio, case.redirect_ratio])
    });
    let plot = Plot {
        name: name.into(),
        title: format!("{title}, ratio to a plain NIC (bar median, line quartiles)"),
        series: vec!["group", "programs that only redirect"],
        scale: Scale::Linear,
        rows: rows.collect(),
    };
    let cells = cases.iter().map(|case| {
        vec![
            case.name.clone(),
            format!("{:.2}", case.group.median),
            format!("{:.2}", case.plain.median),
            bold(case.ratio.quartiles(3), case.is_missed()),
            case.target.map_or_else(|| "-".into(), |target| target.to_string()),
            case.redirect_ratio.quartiles(3),
            format!("{} / {}", case.drops[0], case.drops[1]),
        ]
    });
    let head = [
        &format!("group, {unit}"),
        &format!("plain NIC, {unit}"),
        "ratio",
        "target",
        "redirect only, ratio",
        "dropped, group / plain",
    ];
    Part { title: Some(title), plots: vec![plot], table: table(&head, cells), ..Part::default() }
}
