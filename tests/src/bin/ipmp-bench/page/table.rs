//! Tables in Markdown. What is better than the group with default settings is bold.

use std::fmt::Write as _;

use crate::peers::Contender;
use crate::peers::fault::{Cost, Faults, Moved};
use crate::spread::Spread;

/// What all others are compared with.
pub const OURS: &str = "ipmp";

/// Packets that are no difference: about one of each flow.
const LOST: f64 = 12.0;

/// A cell of one or more numbers, each of which is bold if it is smaller than ours by more than the tolerance.
struct Figure {
    /// Each with its value; without one, it is not compared.
    numbers: Vec<(String, Option<f64>)>,
    tolerance: f64,
}

impl Figure {
    fn one(shown: String, value: f64, tolerance: f64) -> Self {
        Self { numbers: vec![(shown, Some(value))], tolerance }
    }

    /// The cell, and whether a number of it is better than that of ours, if there is one to compare with.
    fn show(&self, ours: Option<&Self>) -> (String, bool) {
        let mut is_better = false;
        let shown = self.numbers.iter().enumerate().map(|(place, (shown, value))| {
            let other = ours.and_then(|ours| ours.numbers.get(place)?.1);
            match value.zip(other) {
                Some((value, other)) if other - value > self.tolerance => {
                    is_better = true;
                    format!("**{shown}**")
                }
                _ => shown.clone(),
            }
        });
        let shown = shown.collect::<Vec<_>>().join(" / ");
        (shown, is_better)
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
            let (shown, is_better) = figure.show(ours.filter(|_| is_peer).map(|ours| &ours[place]));
            is_better_in_any |= is_better;
            let _ = write!(table, " {shown} |");
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
    let lost = |lost: u64| Figure::one(lost.to_string(), lost as f64, LOST);
    let outage = |cost: &Cost| {
        let numbers =
            [cost.outage_us.p50, cost.outage_us.p99].map(|us| (format!("{:.1}", us / 1e3), Some(us / 1e3)));
        Figure { numbers: numbers.to_vec(), tolerance: interval_ms }
    };
    let moved = Moved::sum(&of.moved);
    let share = 100.0 * moved.share_moved_needlessly();
    let at_return: u64 = [&of.outbound, &of.inbound].iter().flat_map(|cost| &cost.lost_at_return).sum();
    // Whether flows should leave the NIC depends on the fault: no comparison.
    let rescued = (format!("{} of {}", moved.rescued, moved.failed), None);
    vec![
        lost(of.outbound.lost_p50()),
        outage(&of.outbound),
        lost(of.inbound.lost_p50()),
        outage(&of.inbound),
        lost(at_return),
        Figure { numbers: vec![rescued], tolerance: 0.0 },
        Figure::one(format!("{share:.0} %"), share, 1.0),
        Figure::one(of.false_failures.to_string(), of.false_failures as f64, 0.0),
    ]
}

/// The table of what is measured without a fault. Ratios differ only by more than half the
/// distance of their quartiles.
pub fn of_burden(contenders: &[Contender]) -> String {
    let mut table =
        "| | throughput out | throughput in | CPU a packet out | CPU a packet in | CPU of the daemon |\n\
                     |---|---:|---:|---:|---:|---:|\n"
            .to_owned();
    let ratio = |ratio: Spread, sign: f64| {
        let Spread { median, lower_quartile, upper_quartile, .. } = ratio;
        let shown = format!("{median:.2} ({lower_quartile:.2} to {upper_quartile:.2})");
        Figure::one(shown, sign * median, (upper_quartile - lower_quartile) / 2.0)
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
            Figure::one(shown, daemon, 0.1),
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
        let row = |value: f64| vec![Figure::one(value.to_string(), value, 4.0)];
        let table = |rows: &[(&str, f64)]| {
            let rows: Vec<_> = rows.iter().map(|(name, value)| (*name, row(*value))).collect();
            let mut table = String::new();
            push_rows(&mut table, &rows);
            table
        };
        let all = [("ipmp", 10.0), ("ipmp fdt=1s", 1.0), ("near", 6.5), ("better", 4.0), ("worse", 20.0)];
        assert_eq!(
            table(&all),
            "| ipmp | 10 |\n| ipmp fdt=1s | 1 |\n| near | 6.5 |\n| better | **4** |\n| worse | 20 |\n\nBetter than `ipmp`, in bold: better.\n"
        );
        let outage = |p50: f64, p99: f64| {
            let numbers = [p50, p99].map(|value| (value.to_string(), Some(value)));
            Figure { numbers: numbers.to_vec(), tolerance: 4.0 }
        };
        // Each number by itself: a worse p99 does not hide a better median.
        assert_eq!(outage(0.0, 1000.0).show(Some(&outage(10.0, 20.0))), ("**0** / 1000".into(), true));
        assert_eq!(outage(9.0, 20.0).show(Some(&outage(10.0, 20.0))), ("9 / 20".into(), false));
        assert!(table(&all[..3]).ends_with("No peer is better than `ipmp` in any of these.\n"));
    }
}
