//! `-a`: a row for each data address (docs/reference.md 6.7).

use super::{
    names::Names,
    table::{Cell, Field},
};
use crate::control::report::{AddressReport, GroupReport};

/// The fields of a data address.
pub static FIELDS: [Field; 5] = [
    Field::new("ADDRESS", 26),
    Field::new("STATE", 7),
    Field::new("GROUP", 12),
    Field::new("INBOUND", 12),
    Field::new("OUTBOUND", 23),
];

/// The rows, group by group.
pub fn rows(groups: &[GroupReport], names: &Names) -> Vec<Vec<Cell>> {
    let of = |group: &GroupReport| -> Vec<Vec<Cell>> {
        group.addresses.iter().map(|address| row(group, address, names)).collect()
    };
    groups.iter().flat_map(of).collect()
}

fn state(address: &AddressReport) -> &'static str {
    match address {
        AddressReport { duplicate: true, .. } => "duplicate",
        AddressReport { up: true, .. } => "up",
        _ => "down",
    }
}

fn row(group: &GroupReport, address: &AddressReport, names: &Names) -> Vec<Cell> {
    let inbound = address.inbound.as_deref().filter(|_| address.up);
    let outbound = match inbound {
        // Without an inbound member nothing is sent from the address either.
        None => String::new(),
        Some(_) => {
            let active = group.members.iter().filter(|member| member.active);
            active.map(|member| member.name.as_str()).collect::<Vec<_>>().join(" ")
        }
    };
    vec![
        names.name(address.address).into(),
        state(address).into(),
        group.name.as_str().into(),
        inbound.unwrap_or_default().into(),
        outbound.into(),
    ]
}
