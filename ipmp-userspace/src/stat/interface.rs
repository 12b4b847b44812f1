//! `-i`: a row for each member (docs/reference.md 6.6).

use super::table::{Cell, Field};
use crate::{
    control::report::{GroupReport, MemberReport},
    types::OfflineCause,
};

/// The fields of a member.
pub static FIELDS: [Field; 7] = [
    Field::new("INTERFACE", 12),
    Field::new("ACTIVE", 8),
    Field::new("GROUP", 12),
    Field::new("FLAGS", 10),
    Field::new("LINK", 10),
    Field::new("PROBE", 10),
    Field::new("STATE", 10),
];

/// The rows, group by group.
pub fn rows(groups: &[GroupReport]) -> Vec<Vec<Cell>> {
    groups.iter().flat_map(|group| group.members.iter().map(move |member| row(group, member))).collect()
}

fn row(group: &GroupReport, member: &MemberReport) -> Vec<Cell> {
    vec![
        member.name.as_str().into(),
        if member.active { "yes" } else { "no" }.into(),
        group.name.as_str().into(),
        flags(group, member).into(),
        member.link.to_string().into(),
        member.probe.to_string().into(),
        member.state.to_string().into(),
    ]
}

/// Seven places: the letter of each flag that is set, else a dash.
fn flags(group: &GroupReport, member: &MemberReport) -> String {
    let has = |word| member.flags.iter().any(|flag| flag == word);
    // IPv4 is always enabled on Linux. IPv6 can be disabled; if enabled, there is a link-local address.
    let has_ipv6 = group.addresses.iter().any(|address| address.address.is_ipv6());
    let letters = [
        ('i', has("INACTIVE")),
        ('s', has("STANDBY")),
        ('m', member.cast),
        ('b', member.cast),
        ('M', member.cast && has_ipv6),
        // if_mpadm of OpenSolaris also takes the addresses of the member down.
        ('d', !has("UP") || member.offline == Some(OfflineCause::Operator)),
        ('h', member.offline == Some(OfflineCause::DuplicateMac)),
    ];
    letters.into_iter().map(|(letter, set)| if set { letter } else { '-' }).collect()
}
