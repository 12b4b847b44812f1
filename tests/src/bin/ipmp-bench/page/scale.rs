//! What many groups cost.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::plot::{Bars, Plot, Scale as Axis};
use super::{RESULTS, Results, source};
use crate::idle::mib;
use crate::scale::{Row, Scale, Targets};

const CLAIM: &str = "A group of three NICs has traffic; beside it are groups of four NICs without traffic, and one to which eight NICs are attached at once. \
     The outage is that of a stream to a data address whose inbound NIC loses its link. A restart ends when the new daemon reports all \
     groups; nothing is interrupted by it. What misses its target is bold.";

/// The part of the page about the results of scale.
pub fn section(
    stem: &str,
    results: &Results,
    scale: &Scale,
    page: &mut String,
    files: &mut BTreeMap<String, String>,
) -> Result<()> {
    writeln!(
        page,
        "\n## Many groups, Linux {}\n\n{}. {}\n",
        results.version(),
        results.machine(),
        source(stem)
    )?;
    let [outages, memory] = ["outages", "memory"].map(|name| format!("{RESULTS}/{stem}-{name}.svg"));
    writeln!(page, "{CLAIM}\n\n![outages]({outages})\n\n![memory]({memory})\n\n`{}`:\n", results.command())?;
    page.push_str(&table(scale));
    for warning in &scale.warnings {
        writeln!(page, "\nWarning of this run: {warning}.")?;
    }
    let rows = |bars: fn(&Row) -> Vec<(f64, f64)>| {
        scale.rows.iter().map(|row| Bars { name: name(row), is_ours: true, bars: bars(row) }).collect()
    };
    let plot = Plot {
        title: "Outage of a group with traffic, ms (bar p50, line p99): alone, and while NICs are attached to another".into(),
        series: vec!["pull", "pull during an attach"],
        scale: Axis::Logarithmic,
        rows: rows(|row| {
            let of = [&row.outage_us, &row.outage_during_attach_us];
            of.map(|times| (times.p50 / 1e3, times.p99 / 1e3)).to_vec()
        }),
    };
    files.insert(outages, plot.svg()?);
    let plot = Plot {
        title: "Memory, MiB: resident of the daemon; maps and programs of the kernel".into(),
        series: vec!["daemon", "kernel"],
        scale: Axis::Linear,
        rows: rows(|row| {
            [row.daemon_resident_bytes, row.maps_bytes + row.programs_bytes]
                .map(|bytes| (mib(bytes), mib(bytes)))
                .to_vec()
        }),
    };
    files.insert(memory, plot.svg()?);
    Ok(())
}

fn name(row: &Row) -> String {
    format!("{} groups, {} members, {} addresses", row.groups, row.members, row.addresses)
}

/// The table, with a row for the targets.
fn table(scale: &Scale) -> String {
    let Targets { outage_ratio, attach_ms, show_ms, daemon_resident_bytes, idle_percent } = &scale.targets;
    let mut table = "| | outage p50 / p99, ms | to the first | during an attach, ms | attach 8, ms | show, ms | restart, ms (of a CPU) | idle CPU | daemon, MiB | \
                     maps, programs, MiB |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    let _ = writeln!(
        table,
        "| target | - | {outage_ratio} | - | {attach_ms} | {show_ms} | - | {idle_percent} % | {:.0} | - |",
        mib(*daemon_resident_bytes)
    );
    for row in &scale.rows {
        let idle = row.daemon_percent + row.sentinel_percent;
        let cells = [
            format!("{:.2} / {:.2}", row.outage_us.p50 / 1e3, row.outage_us.p99 / 1e3),
            bold(format!("{:.2}", row.outage_ratio), row.outage_ratio > *outage_ratio),
            format!(
                "{:.2} / {:.2}",
                row.outage_during_attach_us.p50 / 1e3,
                row.outage_during_attach_us.p99 / 1e3
            ),
            bold(format!("{:.0}", row.attach_ms.median), row.attach_ms.median > *attach_ms),
            bold(format!("{:.0}", row.show_ms.median), row.show_ms.median > *show_ms),
            format!("{:.0} ({:.0})", row.restart_ms, row.restart_cpu_ms),
            bold(format!("{idle:.2} %"), idle > *idle_percent),
            bold(
                format!("{:.0}", mib(row.daemon_resident_bytes)),
                row.daemon_resident_bytes > *daemon_resident_bytes,
            ),
            format!("{:.0}, {:.1}", mib(row.maps_bytes), mib(row.programs_bytes)),
        ];
        let _ = writeln!(table, "| {} | {} |", name(row), cells.join(" | "));
    }
    table
}

fn bold(text: String, is_missed: bool) -> String {
    if is_missed { format!("**{text}**") } else { text }
}
