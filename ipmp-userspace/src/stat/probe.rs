//! `-p`: a row for each probe (reference 6.9).

use super::{Error, table::Field};
use crate::control::report::{GroupReport, Probe};

/// What can be printed of a probe.
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

/// Why no probe can be shown.
pub fn refusal(groups: &[GroupReport]) -> Error {
    let mut members = groups.iter().flat_map(|group| &group.members);
    if members.all(|member| member.probe == Probe::Disabled) { Error::NoProbes } else { Error::UnknownProbes }
}
