//! Firewall rules that name an interface. They do not apply to a group that the interface joins: connections that exist survive,
//! new ones may be refused.
//!
//! | module | rules |
//! |---|---|
//! | [`nftables`] | of nftables, by netlink: also those that iptables and firewalld have written there |
//! | [`iptables`] | of the older iptables, by socket options |
//!
//! They are read from the kernel, not by the programs that write them: `ipmpd` may start none.

pub mod iptables;
mod netfilter;
pub mod nftables;
#[cfg(test)]
mod tests;

use std::io;

use netfilter::kernel_rules;
pub use netfilter::read_datagram;

/// Bytes of the name of an interface, padded with NUL: `IFNAMSIZ` of Linux.
pub const NAME_LENGTH: usize = 16;
/// How many rules are kept.
const MOST_RULES: usize = 1000;

/// An interface that a rule may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
}

/// The interfaces that join a group.
#[derive(Clone, Debug)]
pub struct Joining<'a> {
    /// Those that join.
    pub interfaces: &'a [Interface],
    /// The group: a rule that also names it is none that is reported.
    pub group: &'a str,
}

/// A rule that names an interface and does not apply to its group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The interface.
    pub interface: String,
    /// Where it is: `nftables inet filter input handle 7`.
    pub place: String,
}

/// The rules of the host that name these interfaces, each once. Blocks: ten thousand rules take tens of milliseconds.
///
/// # Errors
/// The kernel does not list them.
pub fn rules(joining: &Joining<'_>) -> io::Result<Vec<Rule>> {
    let mut found = Vec::new();
    for rule in kernel_rules(joining)? {
        if !found.contains(&rule) && found.len() < MOST_RULES {
            found.push(rule);
        }
    }
    Ok(found)
}

/// A name as the kernel compares it.
fn padded(name: &str) -> [u8; NAME_LENGTH] {
    let mut padded = [0; NAME_LENGTH];
    // The last byte is a NUL.
    for (to, from) in padded.iter_mut().take(NAME_LENGTH - 1).zip(name.bytes()) {
        *to = from;
    }
    padded
}

/// A name of a table or chain, which may have any bytes, for a line of text.
fn printable(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|letter| if letter.is_control() || letter == ' ' { '?' } else { letter }).collect()
}
