//! What many groups, members, addresses and routes cost.

use super::plot::{Bar, Bars, Plot, Scale as Axis};
use super::section::{Part, Section, Target, bold, table};
use crate::idle::mib;
use crate::scale::{NICS, Row, Scale, Series, Targets};
use crate::times::Times;

const CLAIM: &str = "A group has traffic, and one number grows from row to row. *Outbound* is the outage of a stream from the host while cables of its NICs are \
     pulled, *inbound* that of a stream to a data address whose NIC loses its link, alone and while NICs are attached at once to another \
     group. *Again* is the time in which a member of the group that was detached is attached again. A restart ends when the new daemon \
     reports all groups; nothing is interrupted by it. What misses its target is bold; the target of attaching is that of up to eight NICs.";

/// The parts of the section: a series, its title, its text, and the part of its plots' names.
const SERIES: [(Series, &str, &str, &str); 4] = [
    (
        Series::Groups,
        "Groups",
        "Beside the group of three NICs are groups of four NICs without traffic, and one to which eight NICs are attached.",
        "groups",
    ),
    (
        Series::Members,
        "Members",
        "The group has 2 to 16 NICs, and as many are attached at once to another.",
        "members",
    ),
    (
        Series::Addresses,
        "Addresses",
        "The group of three NICs has more and more data addresses. A group can have 4,096 with those of its NICs.",
        "addresses",
    ),
    (
        Series::Routes,
        "Routes",
        "The host has very many routes through the group of three NICs, as a router with a full table.",
        "routes",
    ),
];

/// A target of rows in which at most so many NICs are attached.
const ATTACH: &str = "attaching eight NICs";

/// The section.
pub fn section(scale: &Scale) -> Section {
    let parts = SERIES.iter().filter_map(|(series, title, text, name)| {
        let rows: Vec<&Row> = scale.rows.iter().filter(|row| row.series == *series).collect();
        (!rows.is_empty()).then(|| Part {
            title: Some(title),
            text: (*text).into(),
            plots: plots(name, &rows),
            table: figures(&scale.targets, &rows),
        })
    });
    let mut introduction = CLAIM.to_owned();
    if !scale.failed.is_empty() {
        introduction += &format!(" **Could not be measured**: {}.", scale.failed.join("; "));
    }
    Section {
        title: "Scale",
        names_vendor: false,
        introduction,
        targets: targets(scale),
        parts: parts.collect(),
        warnings: scale.warnings.clone(),
    }
}

impl Row {
    fn idle_percent(&self) -> f64 {
        self.daemon_percent + self.sentinel_percent
    }

    fn misses_attach(&self, targets: &Targets) -> bool {
        self.nics <= NICS && self.attach_ms.median > targets.attach_ms
    }
}

/// Each target, with the row that is farthest from it.
fn targets(scale: &Scale) -> Vec<Target> {
    let Targets { outage_ratio, attach_ms, show_ms, memory_bytes, idle_percent } = &scale.targets;
    let worst = |what: &str, of: &dyn Fn(&Row) -> f64, limit: f64, unit: &str| {
        let rows = scale.rows.iter().filter(|row| what != ATTACH || row.nics <= NICS);
        let row = rows.max_by(|one, other| of(one).total_cmp(&of(other)))?;
        let mut target = Target::at_most(what, of(row), limit, unit);
        target.measured += &format!(" with {}", row.name());
        Some(target)
    };
    [
        worst(
            "inbound outage p50, to the first of a series,",
            &|row| row.outage_ratio,
            *outage_ratio,
            "times",
        ),
        worst(ATTACH, &|row| row.attach_ms.median, *attach_ms, "ms"),
        worst("`ipmpctl show --json`", &|row| row.show_ms.median, *show_ms, "ms"),
        worst(
            "memory of daemon and kernel together",
            &|row| mib(row.memory_bytes()),
            mib(*memory_bytes),
            "MiB",
        ),
        worst("CPU time without traffic", &Row::idle_percent, *idle_percent, "%"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn plots(name: &str, rows: &[&Row]) -> Vec<Plot> {
    let of = |bars: fn(&Row) -> [Bar; 2]| {
        rows.iter().map(|row| Bars::ours(row.name(), bars(row))).collect::<Vec<_>>()
    };
    let outages = |name: &str, what: &str, series: [&'static str; 2], rows| Plot {
        name: format!("{name}-outages"),
        title: format!("{what}, ms (bar p50, line p99)"),
        series: series.to_vec(),
        scale: Axis::Linear,
        rows,
    };
    vec![
        outages(
            name,
            "Outage of a group with traffic when a cable is pulled",
            ["outbound", "inbound"],
            of(|row| [&row.outbound_outage_us, &row.outage_us].map(Bar::from)),
        ),
        outages(
            &format!("{name}-attach"),
            "Inbound outage alone, and while NICs are attached to another group",
            ["alone", "during an attach"],
            of(|row| [&row.outage_us, &row.outage_during_attach_us].map(Bar::from)),
        ),
        Plot {
            name: format!("{name}-memory"),
            title: "Memory, MiB: resident of the daemon; maps and programs of the kernel".into(),
            series: vec!["daemon", "kernel"],
            scale: Axis::Linear,
            rows: of(|row| {
                [row.daemon_resident_bytes, row.maps_bytes + row.programs_bytes]
                    .map(|bytes| mib(bytes).into())
            }),
        },
    ]
}

/// The table, with a row for the targets.
fn figures(targets: &Targets, rows: &[&Row]) -> String {
    let Targets { outage_ratio, attach_ms, show_ms, memory_bytes, idle_percent } = targets;
    let head = [
        "outbound p50 / p99, ms",
        "lost",
        "inbound p50 / p99, ms",
        "to the first",
        "during an attach, ms",
        "attach (NICs), ms",
        "again, ms",
        "show, ms",
        "restart, ms (of a CPU)",
        "idle CPU",
        "daemon, MiB",
        "maps, programs, MiB",
        "together, MiB",
    ];
    let none = || "-".to_owned();
    let targets_of = vec![
        "target".into(),
        none(),
        none(),
        none(),
        outage_ratio.to_string(),
        none(),
        attach_ms.to_string(),
        none(),
        show_ms.to_string(),
        none(),
        format!("{idle_percent} %"),
        none(),
        none(),
        format!("{:.0}", mib(*memory_bytes)),
    ];
    let rows = rows.iter().map(|row| {
        let idle = row.idle_percent();
        let outage = |times: &Times| format!("{:.2} / {:.2}", times.p50 / 1e3, times.p99 / 1e3);
        let memory = row.memory_bytes();
        vec![
            row.name(),
            outage(&row.outbound_outage_us),
            row.outbound_lost_beyond.to_string(),
            outage(&row.outage_us),
            bold(format!("{:.2}", row.outage_ratio), row.outage_ratio > *outage_ratio),
            outage(&row.outage_during_attach_us),
            bold(format!("{:.0} ({})", row.attach_ms.median, row.nics), row.misses_attach(targets)),
            format!("{:.0}", row.reattach_ms.median),
            bold(format!("{:.0}", row.show_ms.median), row.show_ms.median > *show_ms),
            format!("{:.0} ({:.0})", row.restart_ms, row.restart_cpu_ms),
            bold(format!("{idle:.2} %"), idle > *idle_percent),
            format!("{:.0}", mib(row.daemon_resident_bytes)),
            format!("{:.0}, {:.1}", mib(row.maps_bytes), mib(row.programs_bytes)),
            bold(format!("{:.0}", mib(memory)), memory > *memory_bytes),
        ]
    });
    table(&head, std::iter::once(targets_of).chain(rows))
}
