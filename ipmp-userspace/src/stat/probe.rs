//! `-p`: a row for each probe (docs/reference.md 6.9).

use std::{net::IpAddr, time::Duration};

use super::table::{Cell, Field};
use crate::{
    control::{probes::ProbeReport, report::GroupReport},
    types::{ProbeOutcome, ProbeState},
};

/// The fields of a probe.
pub static FIELDS: [Field; 8] = [
    Field::new("TIME", 10),
    Field::new("INTERFACE", 12),
    Field::new("PROBE", 7),
    Field::new("NETRTT", 10),
    Field::new("RTT", 10),
    Field::new("RTTAVG", 10),
    Field::new("TARGET", 20),
    Field::new("RTTDEV", 10),
];

/// Whether any member is probed.
pub fn is_any_probed(groups: &[GroupReport]) -> bool {
    groups.iter().flat_map(|group| &group.members).any(|member| member.probe != ProbeState::Disabled)
}

/// The row of a probe that was answered or lost; other outcomes have none (docs/reference.md 6.9). `start`: start of
/// `ipmpstat` on `CLOCK_MONOTONIC`.
pub fn row(probe: &ProbeReport, start: Duration, name: impl FnOnce(IpAddr) -> String) -> Option<Vec<Cell>> {
    if !matches!(probe.outcome, ProbeOutcome::Answered | ProbeOutcome::Lost) {
        return None;
    }
    let since = (probe.sent_ns as f64 - start.as_nanos() as f64) / 1e9;
    // Avoid "-0.00s" for a probe sent shortly before the start.
    let since = if since > -0.005 { since.max(0.0) } else { since };
    Some(vec![
        format!("{since:.2}s").into(),
        probe.member.as_str().into(),
        probe.number.to_string().into(),
        milliseconds(probe.network_ns),
        milliseconds(probe.handled_ns),
        milliseconds(probe.average_ns),
        name(probe.target).into(),
        milliseconds(probe.deviation_ns),
    ])
}

fn milliseconds(time: Option<u64>) -> Cell {
    time.map(|ns| format!("{:.2}ms", ns as f64 / 1e6)).unwrap_or_default().into()
}
