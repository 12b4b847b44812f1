//! Rules of the older iptables (`iptables-legacy`), as the kernel lists them (`include/uapi/linux/netfilter_ipv4/ip_tables.h`
//! and `…_ipv6/ip6_tables.h`).

use super::{Interface, Joining, NAME_LENGTH, Rule, padded, printable};

/// Names of the chains that the kernel calls, by number of the hook.
const HOOKS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
/// The target with the name of a chain that the operator has made.
const CHAIN_TARGET: &str = "ERROR";

/// Where the fields of a rule are.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Name of the program.
    pub program: &'static str,
    /// The names of the interfaces, then their masks.
    interfaces: usize,
    /// Where its target is, then where the next rule is.
    offsets: usize,
    /// Bytes before its matches.
    length: usize,
}

/// `struct ipt_entry`.
pub const V4: Layout = Layout { program: "iptables", interfaces: 16, offsets: 88, length: 112 };
/// `struct ip6t_entry`.
pub const V6: Layout = Layout { program: "ip6tables", interfaces: 64, offsets: 140, length: 168 };

/// The rules of a table that name interfaces. `hooks`: the number of each hook of the table, and where its chain begins.
pub fn rules(
    layout: Layout,
    table: &str,
    hooks: &[(usize, u32)],
    entries: &[u8],
    joining: &Joining<'_>,
) -> Vec<Rule> {
    let mut found = Vec::new();
    let (mut chain, mut number, mut at) = (String::new(), 0, 0);
    while let Some(entry) = entries.get(at..).filter(|entry| entry.len() >= layout.length) {
        let offset =
            |at: usize| entry.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes).into());
        let (Some(target), Some(next)) = (offset(layout.offsets), offset(layout.offsets + 2)) else { break };
        let next: usize = next;
        if next < layout.length {
            break;
        }
        if let Some((hook, _)) = hooks.iter().find(|(_, begin)| *begin as usize == at) {
            chain = HOOKS.get(*hook).map_or_else(|| hook.to_string(), |&name| name.into());
            number = 0;
        }
        if let Some(name) = chain_name(entry, target) {
            (chain, number) = (name, 0);
        } else {
            number += 1;
            for interface in
                joining.interfaces.iter().filter(|interface| names(layout, entry, interface, joining))
            {
                let place = format!(
                    "{} {} {chain} rule {number} (legacy)",
                    layout.program,
                    printable(table.as_bytes())
                );
                found.push(Rule { interface: interface.name.clone(), place });
            }
        }
        at += next;
    }
    found
}

/// The name of the chain that begins here.
fn chain_name(entry: &[u8], target: usize) -> Option<String> {
    // struct xt_entry_target: size, name of 29 bytes, revision; then the text of the target.
    let target = entry.get(target..)?;
    (printable(target.get(2..31)?) == CHAIN_TARGET).then(|| printable(target.get(32..).unwrap_or_default()))
}

/// Whether a rule names an interface and not the group.
fn names(layout: Layout, entry: &[u8], interface: &Interface, joining: &Joining<'_>) -> bool {
    let field = |number: usize| entry.get(layout.interfaces + number * NAME_LENGTH..)?.first_chunk();
    let (name, group) = (padded(&interface.name), padded(joining.group));
    (0..2).any(|direction| {
        let (Some(wanted), Some(mask)) = (field(direction), field(direction + 2)) else { return false };
        let wanted: &[u8; NAME_LENGTH] = wanted;
        let mask: &[u8; NAME_LENGTH] = mask;
        let holds = |name: &[u8; NAME_LENGTH]| {
            let mut bytes = name.iter().zip(wanted).zip(mask);
            bytes.all(|((one, other), mask)| (one ^ other) & mask == 0)
        };
        mask.iter().any(|&byte| byte != 0) && holds(&name) && !holds(&group)
    })
}
