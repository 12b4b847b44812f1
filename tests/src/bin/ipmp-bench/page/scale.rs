//! What many groups cost.

use super::plot::{Bars, Plot, Scale as Axis};
use super::section::{Part, Section, bold, table};
use crate::idle::mib;
use crate::scale::{Row, Scale, Targets};
use crate::times::Times;

const CLAIM: &str = "A group of three NICs has traffic; beside it are groups of four NICs without traffic, and one to which eight NICs are attached at once. \
     The outage is that of a stream to a data address whose inbound NIC loses its link. A restart ends when the new daemon reports all \
     groups; nothing is interrupted by it. What misses its target is bold.";

/// The section.
pub fn section(scale: &Scale) -> Section {
    let rows = |bars: fn(&Row) -> [(f64, f64); 2]| {
        scale.rows.iter().map(|row| Bars::ours(name(row), bars(row))).collect()
    };
    let outages = Plot {
        name: "outages".into(),
        title: "Outage of a group with traffic, ms (bar p50, line p99): alone, and while NICs are attached to another".into(),
        series: vec!["pull", "pull during an attach"],
        scale: Axis::Logarithmic,
        rows: rows(|row| [row.outage_us.bar_ms(), row.outage_during_attach_us.bar_ms()]),
    };
    let memory = Plot {
        name: "memory".into(),
        title: "Memory, MiB: resident of the daemon; maps and programs of the kernel".into(),
        series: vec!["daemon", "kernel"],
        scale: Axis::Linear,
        rows: rows(|row| {
            [row.daemon_resident_bytes, row.maps_bytes + row.programs_bytes]
                .map(|bytes| (mib(bytes), mib(bytes)))
        }),
    };
    Section {
        title: "Many groups",
        introduction: CLAIM.into(),
        parts: vec![Part { plots: vec![outages, memory], table: figures(scale), ..Part::default() }],
        warnings: scale.warnings.clone(),
        ..Section::default()
    }
}

fn name(row: &Row) -> String {
    format!("{} groups, {} members, {} addresses", row.groups, row.members, row.addresses)
}

/// The table, with a row for the targets.
fn figures(scale: &Scale) -> String {
    let Targets { outage_ratio, attach_ms, show_ms, daemon_resident_bytes, idle_percent } = &scale.targets;
    let head = [
        "outage p50 / p99, ms",
        "to the first",
        "during an attach, ms",
        "attach 8, ms",
        "show, ms",
        "restart, ms (of a CPU)",
        "idle CPU",
        "daemon, MiB",
        "maps, programs, MiB",
    ];
    let none = || "-".to_owned();
    let targets = vec![
        "target".into(),
        none(),
        outage_ratio.to_string(),
        none(),
        attach_ms.to_string(),
        show_ms.to_string(),
        none(),
        format!("{idle_percent} %"),
        format!("{:.0}", mib(*daemon_resident_bytes)),
        none(),
    ];
    let rows = scale.rows.iter().map(|row| {
        let idle = row.daemon_percent + row.sentinel_percent;
        let outage = |times: &Times| format!("{:.2} / {:.2}", times.p50 / 1e3, times.p99 / 1e3);
        let memory = row.daemon_resident_bytes;
        vec![
            name(row),
            outage(&row.outage_us),
            bold(format!("{:.2}", row.outage_ratio), row.outage_ratio > *outage_ratio),
            outage(&row.outage_during_attach_us),
            bold(format!("{:.0}", row.attach_ms.median), row.attach_ms.median > *attach_ms),
            bold(format!("{:.0}", row.show_ms.median), row.show_ms.median > *show_ms),
            format!("{:.0} ({:.0})", row.restart_ms, row.restart_cpu_ms),
            bold(format!("{idle:.2} %"), idle > *idle_percent),
            bold(format!("{:.0}", mib(memory)), memory > *daemon_resident_bytes),
            format!("{:.0}, {:.1}", mib(row.maps_bytes), mib(row.programs_bytes)),
        ]
    });
    table(&head, std::iter::once(targets).chain(rows))
}
