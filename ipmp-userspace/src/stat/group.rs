//! `-g`: a row for each group (docs/reference.md 6.5).

use super::table::{Cell, Field};
use crate::{
    control::report::{GroupReport, MemberReport},
    types::GroupState,
};

/// The fields of a group.
pub static FIELDS: [Field; 5] = [
    Field::new("GROUP", 12),
    Field::new("GROUPNAME", 12),
    Field::new("STATE", 10),
    Field::new("FDT", 10),
    Field::new("INTERFACES", 30),
];

/// The rows.
pub fn rows(groups: &[GroupReport]) -> Vec<Vec<Cell>> {
    groups.iter().map(row).collect()
}

fn row(group: &GroupReport) -> Vec<Cell> {
    let fdt = group.fdt_ms.map(|ms| format!("{:.2}s", ms as f64 / 1000.0)).unwrap_or_default();
    vec![
        group.name.as_str().into(),
        group.groupname.as_str().into(),
        state(group).to_string().into(),
        fdt.into(),
        interfaces(group).into(),
    ]
}

/// The state without `split`, which OpenSolaris does not have: by the members alone.
fn state(group: &GroupReport) -> GroupState {
    match group.state {
        GroupState::Split if group.members.iter().all(MemberReport::is_in_order) => GroupState::Ok,
        GroupState::Split => GroupState::Degraded,
        state => state,
    }
}

/// Active members, `(inactive ones)`, `[all others]`.
fn interfaces(group: &GroupReport) -> String {
    let names = |wanted: fn(&MemberReport) -> bool| {
        let names: Vec<&str> = group.members.iter().filter(|m| wanted(m)).map(|m| m.name.as_str()).collect();
        names.join(" ")
    };
    let active = names(|member| member.active);
    let inactive = names(|member| !member.active && is_inactive(member));
    let others = names(|member| !member.active && !is_inactive(member));
    let parts = [("", active, ""), ("(", inactive, ")"), ("[", others, "]")];
    let parts = parts.iter().filter(|(_, names, _)| !names.is_empty());
    parts.map(|(open, names, close)| format!("{open}{names}{close}")).collect::<Vec<_>>().join(" ")
}

fn is_inactive(member: &MemberReport) -> bool {
    member.flags.iter().any(|flag| flag == "INACTIVE")
}
