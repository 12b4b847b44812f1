//! What a packet costs in each program.

use super::plot::{Bars, Plot, Scale};
use super::section::{Part, Section, Target, table};
use crate::steering::{Row, Steering};

const CLAIM: &str = "Time of a program for a packet of 18 bytes of UDP payload, without driver and stack (`BPF_PROG_TEST_RUN`): an empty program, one that only \
     redirects, a reference that computes and redirects, and those of a group with each policy and feature. Ratios to the reference, of the \
     lowest times of both, vary little from run to run. A test compares them with these results: a packet may take 30 % longer at most.";

/// The section.
pub fn section(steering: &Steering) -> Section {
    let reference = steering.programs.iter().find(|row| row.name == "reference");
    let cells = |row: &Row| {
        let Row { name, ns, over_redirect_ns, .. } = row;
        vec![
            name.clone(),
            format!("{:.0} ({:.0} to {:.0})", ns.median, ns.lower_quartile, ns.upper_quartile),
            over_redirect_ns.map_or_else(|| "-".into(), |over| format!("{:+.0}", over.median)),
            reference.map_or_else(|| "-".into(), |of| format!("{:.2}", ns.minimum / of.ns.minimum)),
        ]
    };
    let rows = steering.programs.iter().map(|row| Bars {
        name: row.name.clone(),
        is_ours: row.over_redirect_ns.is_some(),
        bars: vec![row.ns.into()],
        ..Bars::default()
    });
    let plot = Plot {
        name: "cost".into(),
        title: "Time of a program for a packet, ns (bar median, line quartiles)".into(),
        series: vec!["ns"],
        scale: Scale::Linear,
        rows: rows.collect(),
    };
    let with_target = steering.programs.iter().filter(|row| row.target_met.is_some());
    let targets = with_target.filter_map(|row| {
        let what = format!("{}, over a redirect,", row.name);
        Some(Target::at_most(what, row.over_redirect_ns?.median, steering.target_ns, "ns"))
    });
    Section {
        title: "Cost of a packet",
        names_vendor: true,
        introduction: CLAIM.into(),
        targets: targets.collect(),
        parts: vec![Part {
            plots: vec![plot],
            table: table(
                &["ns, median (quartiles)", "over a redirect, ns", "ratio to the reference"],
                steering.programs.iter().map(cells),
            ),
            ..Part::default()
        }],
        ..Section::default()
    }
}
