//! `-i`: a row for each member (reference 6.6).

use super::table::{Cell, Field};
use crate::{
    control::report::{GroupReport, MemberReport},
    types::OfflineCause,
};

/// What can be printed of a member.
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

/// A letter in its place for each flag that is set, else a dash.
fn flags(group: &GroupReport, member: &MemberReport) -> String {
    let has = |word| member.flags.iter().any(|flag| flag == word);
    // Linux has IPv4 on every interface. IPv6 can be off; where it is on, there is a link-local address.
    let has_ipv6 = group.addresses.iter().any(|address| address.address.is_ipv6());
    let letters = [
        ('i', has("INACTIVE")),
        ('s', has("STANDBY")),
        ('m', member.cast),
        ('b', member.cast),
        ('M', member.cast && has_ipv6),
        // The reference's if_mpadm takes the addresses of a member down with it.
        ('d', !has("UP") || member.offline == Some(OfflineCause::Operator)),
        ('h', member.offline == Some(OfflineCause::DuplicateMac)),
    ];
    letters.into_iter().map(|(letter, set)| if set { letter } else { '-' }).collect()
}
