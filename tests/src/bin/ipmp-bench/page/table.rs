//! Tables in Markdown. What is better than the group with default settings is bold.

use std::fmt::Write as _;

use crate::peers::Contender;
use crate::peers::fault::{Cost, Faults, Moved};
use crate::spread::Spread;

/// What all others are compared with.
const OURS: &str = "ipmp";

/// Packets that are no difference: about one of each flow.
const LOST: f64 = 12.0;

/// A figure that is better when it is smaller by more than the tolerance and a tenth of the other one.
struct Figure {
    shown: String,
    value: f64,
    tolerance: f64,
}

impl Figure {
    fn better_than(&self, other: &Self) -> bool {
        other.value - self.value > self.tolerance + 0.1 * other.value.abs()
    }
}

/// The table of a fault. Outages differ only if they do by more than the interval of a flow's packets.
pub fn of_fault(of_fault: &[(&str, &Faults)], interval_ms: f64) -> String {
    let mut table = "| | lost out | outage out, ms | lost in | outage in, ms | lost at return | flows moved off the NIC | others moved | false failures |\n\
                     |---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    let rows: Vec<(&str, Vec<Figure>)> =
        of_fault.iter().map(|(name, of)| (*name, figures(of, interval_ms))).collect();
    push_rows(&mut table, &rows);
    table
}

fn push_rows(table: &mut String, rows: &[(&str, Vec<Figure>)]) {
    let ours = rows.iter().find(|(name, _)| *name == OURS).map(|(_, figures)| figures);
    let mut better = Vec::new();
    for (name, figures) in rows {
        let _ = write!(table, "| {name} |");
        let is_peer = !name.starts_with(OURS);
        let mut is_better_in_any = false;
        for (place, figure) in figures.iter().enumerate() {
            let is_better = is_peer && ours.is_some_and(|ours| figure.better_than(&ours[place]));
            is_better_in_any |= is_better;
            let mark = if is_better { "**" } else { "" };
            let _ = write!(table, " {mark}{}{mark} |", figure.shown);
        }
        table.push('\n');
        if is_better_in_any {
            better.push(*name);
        }
    }
    if ours.is_some() {
        let _ = match better.as_slice() {
            [] => writeln!(table, "\nNo peer is better than `{OURS}` in any of these."),
            better => writeln!(table, "\nBetter than `{OURS}`, in bold: {}.", better.join(", ")),
        };
    }
}

fn figures(of: &Faults, interval_ms: f64) -> Vec<Figure> {
    let lost = |lost: u64| Figure { shown: lost.to_string(), value: lost as f64, tolerance: LOST };
    let outage = |cost: &Cost| {
        let (p50, p99) = (cost.outage_us.p50 / 1e3, cost.outage_us.p99 / 1e3);
        let is_whole = p50 >= 0.98 * of.fault.time().as_secs_f64() * 1e3;
        let shown = if is_whole { "the whole time".into() } else { format!("{p50:.1} / {p99:.1}") };
        Figure { shown, value: p50, tolerance: interval_ms }
    };
    let moved = Moved::sum(&of.moved);
    let share = 100.0 * moved.share_moved_needlessly();
    let at_return: u64 = [&of.outbound, &of.inbound].iter().flat_map(|cost| &cost.lost_at_return).sum();
    // Whether flows should leave the NIC depends on the fault: no comparison.
    let rescued = format!("{} of {}", moved.rescued, moved.failed);
    vec![
        lost(of.outbound.lost_p50()),
        outage(&of.outbound),
        lost(of.inbound.lost_p50()),
        outage(&of.inbound),
        lost(at_return),
        Figure { shown: rescued, value: 0.0, tolerance: 0.0 },
        Figure { shown: format!("{share:.0} %"), value: share, tolerance: 1.0 },
        Figure { shown: of.false_failures.to_string(), value: of.false_failures as f64, tolerance: 0.0 },
    ]
}

/// The table of what is measured without a fault. Ratios differ only by more than the distance of their quartiles.
pub fn of_burden(contenders: &[Contender]) -> String {
    let mut table =
        "| | throughput out | throughput in | CPU a packet out | CPU a packet in | CPU of the daemon |\n\
                     |---|---:|---:|---:|---:|---:|\n"
            .to_owned();
    let ratio = |ratio: Spread, sign: f64| Figure {
        shown: format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.lower_quartile, ratio.upper_quartile),
        value: sign * ratio.median,
        tolerance: ratio.upper_quartile - ratio.lower_quartile,
    };
    let rows = contenders.iter().filter_map(|one| {
        let burden = one.burden.as_ref()?;
        let daemon = one.daemon_percent.unwrap_or_default();
        let shown = one.daemon_percent.map_or_else(|| "none".into(), |percent| format!("{percent:.1} %"));
        let figures = vec![
            ratio(burden.throughput_outbound, -1.0),
            ratio(burden.throughput_inbound, -1.0),
            ratio(burden.cpu_outbound, 1.0),
            ratio(burden.cpu_inbound, 1.0),
            Figure { shown, value: daemon, tolerance: 0.1 },
        ];
        Some((one.name.as_str(), figures))
    });
    push_rows(&mut table, &rows.collect::<Vec<_>>());
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clear_differences_of_peers_are_bold() {
        let row = |value: f64| vec![Figure { shown: value.to_string(), value, tolerance: 4.0 }];
        let table = |rows: &[(&str, f64)]| {
            let rows: Vec<_> = rows.iter().map(|(name, value)| (*name, row(*value))).collect();
            let mut table = String::new();
            push_rows(&mut table, &rows);
            table
        };
        let all = [("ipmp", 10.0), ("ipmp fdt=1s", 1.0), ("near", 5.5), ("better", 4.0), ("worse", 20.0)];
        assert_eq!(
            table(&all),
            "| ipmp | 10 |\n| ipmp fdt=1s | 1 |\n| near | 5.5 |\n| better | **4** |\n| worse | 20 |\n\nBetter than `ipmp`, in bold: better.\n"
        );
        assert!(table(&all[..3]).ends_with("No peer is better than `ipmp` in any of these.\n"));
    }
}
