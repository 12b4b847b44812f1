//! `-t`: a row for each member, with its targets (docs/reference.md 6.8).

use std::net::IpAddr;

use super::{
    names::Names,
    table::{Cell, Field},
};
use crate::{
    control::report::{GroupReport, MemberReport, probing::Probing},
    types::TargetMode,
};

/// The fields of a member's targets.
pub static FIELDS: [Field; 4] = [
    Field::new("INTERFACE", 12),
    Field::new("MODE", 10),
    Field::new("TESTADDR", 20),
    Field::new("TARGETS", 38),
];

/// The rows, group by group: one for each family in which a member is probed, and one for a member that is not.
pub fn rows(groups: &[GroupReport], names: &Names) -> Vec<Vec<Cell>> {
    groups.iter().flat_map(|group| &group.members).flat_map(|member| of_member(member, names)).collect()
}

/// All test addresses and targets in the table.
pub fn addresses(groups: &[GroupReport]) -> Vec<IpAddr> {
    let members = groups.iter().flat_map(|group| &group.members);
    let probed = members.flat_map(|member| &member.probing).filter(|probing| is_probed(probing));
    probed.flat_map(|probing| probing.test_address.into_iter().chain(in_use(probing))).collect()
}

fn of_member(member: &MemberReport, names: &Names) -> Vec<Vec<Cell>> {
    let rows: Vec<Vec<Cell>> =
        member.probing.iter().filter(|probing| is_probed(probing)).map(|p| row(member, p, names)).collect();
    if rows.is_empty() {
        return vec![vec![member.name.as_str().into(), "disabled".into(), Cell::empty(), Cell::empty()]];
    }
    rows
}

fn row(member: &MemberReport, probing: &Probing, names: &Names) -> Vec<Cell> {
    let targets: Vec<String> = in_use(probing).map(|target| names.name(target)).collect();
    vec![
        member.name.as_str().into(),
        probing.mode.to_string().into(),
        probing.test_address.map(|address| names.name(address)).unwrap_or_default().into(),
        targets.join(" ").into(),
    ]
}

fn is_probed(probing: &Probing) -> bool {
    probing.mode != TargetMode::Disabled
}

/// The targets that are probed, the next one first.
fn in_use(probing: &Probing) -> impl Iterator<Item = IpAddr> {
    probing.targets.iter().filter(|target| target.excluded.is_none()).map(|target| target.address)
}
