//! The table of the members and their traffic.

use std::collections::BTreeMap;

use anyhow::Result;
use ipmp::{control::report::GroupReport, types::LinkState};
use lab::network::DATA;

use crate::page::{self, number};

/// Prints the members of a group, with their packets since the last table.
#[derive(Default)]
pub struct Table {
    last: BTreeMap<String, (u64, u64)>,
}

impl Table {
    /// Prints the table.
    pub fn print(&mut self, group: &GroupReport) -> Result<()> {
        let inbound = group.addresses.iter().find(|data| data.address == DATA);
        let inbound = inbound.and_then(|data| data.inbound.as_deref());
        page::line(&format!("{} is {}", group.name, group.state))?;
        page::line("  MEMBER    LINK  STATE    SLOTS  PACKETS OUT  PACKETS IN  TRAFFIC")?;
        for member in &group.members {
            let (out, into) = self.last.insert(member.name.clone(), counts(member)).unwrap_or_default();
            let (out, into) = (member.traffic.out_packets - out, member.traffic.in_packets - into);
            let link = match member.link {
                LinkState::Up => "up",
                LinkState::Down => "down",
                LinkState::Unknown => "?",
            };
            let state = member.state;
            let mut roles = Vec::new();
            if member.usable && member.live {
                roles.push("flows");
            }
            if inbound == Some(&member.name) {
                roles.push("inbound");
            }
            if member.cast {
                roles.push("cast");
            }
            let roles = if roles.is_empty() { "none".to_owned() } else { roles.join(", ") };
            page::line(&format!(
                "  {:<9} {link:<5} {state:<7} {:>6} {:>12} {:>11}  {roles}",
                member.name,
                member.slots,
                number(out),
                number(into)
            ))?;
        }
        Ok(())
    }
}

fn counts(member: &ipmp::control::report::MemberReport) -> (u64, u64) {
    (member.traffic.out_packets, member.traffic.in_packets)
}
