//! Outages by lost carriers, and by path failures while the link is up.

use super::plot::{Bars, Plot, Scale};
use super::section::{Part, Section, Target, bold, table};
use crate::carrier::Carrier;
use crate::detection::Detection;
use crate::inbound::Inbound;
use crate::outbound::{BURST, Outbound};
use crate::times::Times;

/// Columns of a table with percentiles.
const PERCENTILES: [&str; 4] = ["p50, ms", "p90, ms", "p99, ms", "max, ms"];

/// Packets that the host sends while cables are pulled.
pub fn outbound(outbound: &Outbound) -> Section {
    let introduction = format!(
        "A stream of {} packets/s in {} flows leaves the host while the cables of its three NICs are pulled in turn, {} times. An \
         outage is the longest time without a packet of any flow; one shorter than {} µs is not seen, and counts as none. The port of \
         a pulled veth cable stops a moment before its carrier is cleared. What it drops meanwhile was sent by a NIC whose link was \
         still up; the port counts these packets, and they are listed by themselves.",
        outbound.packets_per_s,
        outbound.flows,
        outbound.pulls,
        2 * BURST.as_micros()
    );
    let outages = outbound.outages();
    let percentiles =
        [("p50", outages.p50), ("p90", outages.p90()), ("p99", outages.p99), ("max", outages.max)];
    let counts = [
        ("sent", outbound.sent),
        ("dropped by ports of pulled cables", outbound.dropped_in_ports.min(outbound.lost)),
        ("lost elsewhere", outbound.lost_beyond),
        ("reordered", outbound.reordered),
        ("duplicated", outbound.duplicated),
    ];
    let outage = Plot {
        name: "outage".into(),
        title: format!("Outage of a stream from the host at {} pulls of a cable, ms", outbound.pulls),
        series: vec!["outage"],
        scale: Scale::Linear,
        rows: percentiles.iter().map(|&(name, us)| Bars::ours(name, [us / 1e3])).collect(),
    };
    let packets = Plot {
        name: "packets".into(),
        title: format!("Packets of a stream from the host during {} pulls of a cable", outbound.pulls),
        series: vec!["packets"],
        scale: Scale::Logarithmic,
        rows: counts.iter().map(|&(name, count)| Bars::ours(name, [count as f64])).collect(),
    };
    let shown =
        percentiles.iter().map(|(name, us)| (format!("outage {name}, ms"), format!("{:.2}", us / 1e3)));
    let counted = counts.iter().map(|(name, count)| (format!("packets {name}"), count.to_string()));
    Section {
        title: "Outbound failover",
        names_vendor: false,
        introduction,
        targets: vec![Target {
            what: "packets lost elsewhere than in ports of pulled cables:".into(),
            wanted: "none".into(),
            measured: outbound.lost_beyond.to_string(),
            is_met: outbound.lost_beyond == 0,
        }],
        parts: vec![Part {
            plots: vec![packets, outage],
            table: table(&["measured"], counted.chain(shown).map(|(name, value)| vec![name, value])),
            ..Part::default()
        }],
        warnings: outbound.warnings.clone(),
    }
}

/// Packets to a data address whose inbound member loses its carrier.
pub fn inbound(inbound: &Inbound) -> Section {
    let introduction = format!(
        "A stream of {} packets/s goes to a data address, and the cable of the NIC that receives it is pulled, {} times. Only the host \
         can end this outage: by an announcement from another NIC. An outage is the longest time without a packet within 5 ms of the \
         pull; *before a pull* is the same for a time of equal length before it, which is the noise of the machine.",
        inbound.packets_per_s, inbound.pulls
    );
    let Inbound { outage_us, before_us, target_p50_us, target_p95_us, .. } = inbound;
    let percentiles = |times: &Times| [times.p50, times.p90(), times.p95, times.p99, times.max];
    let names = ["p50", "p90", "p95", "p99", "max"];
    let targets = [Some(*target_p50_us), None, Some(*target_p95_us), None, None];
    let rows = names.iter().zip(targets).zip(percentiles(outage_us)).zip(percentiles(before_us));
    let rows = rows.map(|(((name, target), outage), before)| Bars {
        target: target.map(|us| us / 1e3),
        ..Bars::ours(*name, [outage, before].map(|us| us / 1e3))
    });
    let plot = Plot {
        name: "outage".into(),
        title: format!("Outage of a stream to a data address at {} pulls of a cable, ms", inbound.pulls),
        series: vec!["at a pull", "before a pull"],
        scale: Scale::Linear,
        rows: rows.collect(),
    };
    let cells = [("at a pull", outage_us), ("before a pull", before_us)].map(|(name, times)| {
        let cells = percentiles(times).map(|us| format!("{:.2}", us / 1e3));
        std::iter::once(name.to_owned()).chain(cells).collect()
    });
    Section {
        title: "Inbound failover",
        names_vendor: false,
        introduction,
        targets: vec![
            Target::at_most("outage p50", outage_us.p50 / 1e3, target_p50_us / 1e3, "ms"),
            Target::at_most("outage p95", outage_us.p95 / 1e3, target_p95_us / 1e3, "ms"),
        ],
        parts: vec![Part {
            plots: vec![plot],
            table: table(&["p50, ms", "p90, ms", "p95, ms", "p99, ms", "max, ms"], cells),
            ..Part::default()
        }],
        warnings: inbound.warnings.clone(),
    }
}

/// The same while nothing else happens.
pub fn carrier(carrier: &Carrier) -> Section {
    let rows = carrier.rows.iter().map(|row| {
        let late = if row.late_message { ", message late" } else { "" };
        (format!("{}{late}", row.by), &row.outage_us)
    });
    let rows: Vec<(String, &Times)> = rows.collect();
    let plot = Plot {
        name: "outage".into(),
        title: "Outage of a stream to a data address, in an idle group, ms (bar p50, line p99)".into(),
        series: vec!["outage"],
        scale: Scale::Linear,
        rows: rows.iter().map(|(name, times)| Bars::ours(name, [*times])).collect(),
    };
    let cells = rows.iter().map(|(name, times)| {
        let pulls = times.all.len().to_string();
        [vec![name.clone(), pulls], times.cells_ms().to_vec()].concat()
    });
    let mut introduction =
        "The outage of a stream to a data address whose NIC loses its carrier while nothing else has happened for a second, by what \
         makes the sentinel check links: an event of the kernel when a carrier changes (needs fentry), messages of netlink, or a fixed \
         interval of 500 µs. The kernel sends such messages at most once a second for the whole machine: *message late* is a pull soon \
         after the carrier of another device has changed."
            .to_owned();
    if !carrier.missing.is_empty() {
        introduction += &format!(
            " Not measured, because this kernel does not have them: {}.",
            carrier.missing.join(", ")
        );
    }
    Section {
        title: "Carrier events",
        introduction,
        parts: vec![Part {
            plots: vec![plot],
            table: table(&[&["pulls"], &PERCENTILES[..]].concat(), cells),
            ..Part::default()
        }],
        ..Section::default()
    }
}

/// Path failures while the link is up.
pub fn detection(detection: &Detection) -> Section {
    let name = |fdt_ms: u64| format!("fdt={fdt_ms}ms");
    let rows = detection
        .fdts
        .iter()
        .map(|of| Bars::ours(name(of.fdt_ms), [&of.detected_us, &of.repaired_us]).target(of.bound_us / 1e3));
    let plot = Plot {
        name: "times".into(),
        title:
            "Time until a failure without a lost carrier, and its repair, are logged, ms (bar p50, line p99)"
                .into(),
        series: vec!["detected", "repaired"],
        scale: Scale::Logarithmic,
        rows: rows.collect(),
    };
    let cells = detection.fdts.iter().flat_map(|of| {
        let bound = of.bound_us / 1e3;
        let late = bold(of.later_than_bound.to_string(), of.later_than_bound > 0);
        let of_detection = [format!("{bound:.0}"), late, of.discarded.to_string()];
        let of_repair = ["-", "-", "-"].map(String::from);
        let events = [("detected", &of.detected_us, of_detection), ("repaired", &of.repaired_us, of_repair)];
        events.map(|(event, times, others)| {
            let name = format!("{}, {event}", name(of.fdt_ms));
            [vec![name, of.cuts.to_string()], times.cells_ms().to_vec(), others.to_vec()].concat()
        })
    });
    let targets = detection.fdts.iter().map(|of| Target {
        what: format!("fdt={}ms: failures detected later than {:.0} ms:", of.fdt_ms, of.bound_us / 1e3),
        wanted: "none".into(),
        measured: format!("{} of {}", of.later_than_bound, of.cuts),
        is_met: of.later_than_bound == 0,
    });
    let head = [&["cuts"], &PERCENTILES[..], &["bound, ms", "later", "rounds discarded"]].concat();
    Section {
        title: "Detection",
        introduction: "A NIC neither sends nor receives while its link is up. The time is that from the cut until the daemon logs the failure, \
                       and from the end of the cut until it logs the repair. The bound is the failure detection time and the deadline of \
                       the last probe. A round of probes is discarded when the daemon itself was delayed, so that a busy host detects late, \
                       and not wrongly."
            .into(),
        targets: targets.collect(),
        parts: vec![Part { plots: vec![plot], table: table(&head, cells), ..Part::default() }],
        ..Section::default()
    }
}
