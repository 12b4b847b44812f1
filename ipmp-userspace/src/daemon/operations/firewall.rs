//! Firewall rules that name an interface that joins: they do not apply to the group.

use super::refusals::{kernel, no_such_interface};
use crate::{
    control::request::{Refused, reason},
    daemon::manager::Manager,
    firewall::{Interface, Joining, Rule, rules},
};

/// How many rules a refusal names.
const NAMED: usize = 3;

/// What is done if there are such rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// The request is refused.
    Refuse,
    /// They are notes.
    Accept,
    /// They are not read: they were before.
    Checked,
}

impl Firewall {
    /// The choice of the operator.
    pub fn new(accept: bool) -> Self {
        if accept { Self::Accept } else { Self::Refuse }
    }
}

/// Checks interfaces that join a group. Returns a note on each rule.
pub async fn check(
    manager: &Manager,
    group: &str,
    interfaces: &[String],
    firewall: Firewall,
) -> Result<Vec<String>, Refused> {
    if firewall == Firewall::Checked || interfaces.is_empty() {
        return Ok(Vec::new());
    }
    let accepts = firewall == Firewall::Accept;
    let found = match read(manager, group, interfaces).await? {
        Ok(found) => found,
        Err(why) if accepts => return Ok(vec![why]),
        Err(why) => return Err(Refused::new(reason::FIREWALL, format!("{why}; {}", remedy(group)))),
    };
    if accepts {
        return Ok(found.iter().map(|rule| describe(rule, group)).collect());
    }
    refusal(&found, group).map_or_else(|| Ok(Vec::new()), Err)
}

/// What a plan says of the rules: a line each, and nothing is refused.
pub async fn list(
    manager: &Manager,
    group: &str,
    interfaces: &[String],
    accept: bool,
) -> Result<Vec<String>, Refused> {
    let lines = match read(manager, group, interfaces).await? {
        Ok(found) => found.iter().map(|rule| describe(rule, group)).collect(),
        Err(why) => vec![why],
    };
    let prefix = if accept { "" } else { "refused without --accept-firewall or --confirm: " };
    Ok(lines.into_iter().map(|line| format!("{prefix}{line}")).collect())
}

/// The rules; the inner error: why they cannot be read.
async fn read(
    manager: &Manager,
    group: &str,
    names: &[String],
) -> Result<Result<Vec<Rule>, String>, Refused> {
    let mut interfaces = Vec::new();
    for name in names {
        let device = manager.links.device_named(name).await.map_err(|error| kernel(&error))?;
        let device = device.ok_or_else(|| no_such_interface(name))?;
        interfaces.push(Interface { name: device.name, ifindex: device.ifindex });
    }
    let group = group.to_owned();
    // Very many rules do not delay the main thread, and the thread has normal priority.
    let task = tokio::task::spawn_blocking(move || {
        rules(&Joining { interfaces: &interfaces, group: &group }).map_err(|error| error.to_string())
    });
    let found = task.await.unwrap_or_else(|error| Err(error.to_string()));
    Ok(found.map_err(|why| format!("cannot read the firewall rules: {why}")))
}

fn describe(rule: &Rule, group: &str) -> String {
    let Rule { interface, place } = rule;
    format!("a firewall rule names {interface} and does not apply to {group}: {place}")
}

fn remedy(group: &str) -> String {
    format!(
        "new connections may be refused. Add rules for {group} first, then attach with --accept-firewall, or with --confirm \
         SECONDS"
    )
}

fn refusal(found: &[Rule], group: &str) -> Option<Refused> {
    let first = found.first()?;
    let mut interfaces: Vec<&str> = found.iter().map(|rule| rule.interface.as_str()).collect();
    interfaces.dedup();
    let places: Vec<&str> = found.iter().take(NAMED).map(|rule| rule.place.as_str()).collect();
    let more = match found.len() - places.len() {
        0 => String::new(),
        more => format!(" and {more} more (--dry-run lists them)"),
    };
    let names = if interfaces.iter().all(|name| *name == first.interface) {
        first.interface.clone()
    } else {
        "the interfaces".to_owned()
    };
    Some(Refused::new(
        reason::FIREWALL,
        format!(
            "firewall rules name {names} and do not apply to {group}: {}{more}; {}",
            places.join(", "),
            remedy(group)
        ),
    ))
}
