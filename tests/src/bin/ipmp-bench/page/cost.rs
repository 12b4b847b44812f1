//! What a packet costs in each program.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::plot::{Bars, Plot, Scale};
use super::{RESULTS, Results, source};
use crate::steering::Steering;

const CLAIM: &str = "Time of a program for a packet of 18 bytes of UDP payload, without driver and stack (`BPF_PROG_TEST_RUN`): an empty program, one that only \
     redirects, a reference that computes and redirects, and those of a group with each policy and feature. Ratios to the reference, of the \
     lowest times of both, vary little from run to run. A test compares them with these results: a packet may take 30 % longer at most.";

/// The part of the page about the results of steering.
pub fn section(
    stem: &str,
    results: &Results,
    steering: &Steering,
    page: &mut String,
    files: &mut BTreeMap<String, String>,
) -> Result<()> {
    let plot = format!("{RESULTS}/{stem}-cost.svg");
    let reference = steering.programs.iter().find(|row| row.name == "reference");
    let reference = reference.with_context(|| format!("{stem} has no reference"))?.ns.minimum;
    writeln!(
        page,
        "\n## Cost of a packet, Linux {}\n\n{}. {}\n",
        results.version(),
        results.machine(),
        source(stem)
    )?;
    writeln!(page, "{CLAIM}\n\n![cost of a packet]({plot})\n\n`{}`:\n", results.command())?;
    page.push_str(
        "| | ns, median (quartiles) | over a redirect, ns | ratio to the reference |\n|---|---:|---:|---:|\n",
    );
    for row in &steering.programs {
        let over = row.over_redirect_ns.map_or_else(|| "-".into(), |over| format!("{:+.0}", over.median));
        writeln!(
            page,
            "| {} | {:.0} ({:.0} to {:.0}) | {over} | {:.2} |",
            row.name,
            row.ns.median,
            row.ns.lower_quartile,
            row.ns.upper_quartile,
            row.ns.minimum / reference
        )?;
    }
    let rows = steering.programs.iter().map(|row| Bars {
        name: row.name.clone(),
        is_ours: row.over_redirect_ns.is_some(),
        bars: vec![(row.ns.median, row.ns.upper_quartile)],
    });
    let plot_of = Plot {
        title: "Time of a program for a packet, ns (bar median, line upper quartile)".into(),
        series: vec!["ns"],
        scale: Scale::Linear,
        rows: rows.collect(),
    };
    files.insert(plot, plot_of.svg()?);
    Ok(())
}
