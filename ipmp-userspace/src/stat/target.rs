//! `-t`: a row for each member, and where its probes go (reference 6.8).

use super::table::{Cell, Field};
use crate::control::report::{GroupReport, MemberReport, Probe};

/// What can be printed of a member's targets.
pub static FIELDS: [Field; 4] = [
    Field::new("INTERFACE", 12),
    Field::new("MODE", 10),
    Field::new("TESTADDR", 20),
    Field::new("TARGETS", 38),
];

/// The rows, group by group.
pub fn rows(groups: &[GroupReport]) -> Vec<Vec<Cell>> {
    groups.iter().flat_map(|group| &group.members).map(row).collect()
}

fn row(member: &MemberReport) -> Vec<Cell> {
    let [mode, testaddr, targets] = match member.probe {
        Probe::Disabled => ["disabled".into(), Cell::empty(), Cell::empty()],
        // A later daemon probes it, and where to is nothing that this report holds.
        Probe::Ok | Probe::Failed | Probe::Unknown => [const { Cell::Unobtainable }; 3],
    };
    vec![member.name.as_str().into(), mode, testaddr, targets]
}
