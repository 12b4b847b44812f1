//! `ipmpctl wait-online`: waits until groups can be used, for units that need the network.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use super::{
    error::Error,
    output,
    verb::{Command, Invocation, Outcome},
};
use crate::{
    control::{Client, client, duration::Span, report::GroupReport},
    types::GroupState,
};

/// Interval between readings of the state of the groups.
const INTERVAL: Duration = Duration::from_millis(100);

/// Wait until groups are online: a member functions, and an address can be used
///
/// Waits for the groups that are named, whether they exist already or not; without names for ipmpd and all groups that it has
/// then. It also waits for ipmpd, and does not start it. A group without data addresses is online when a member functions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl wait-online production0
  ipmpctl wait-online --timeout 30s")]
pub struct WaitOnline {
    /// Group interfaces or group names [default: all groups]
    groups: Vec<String>,
    /// Fail after this time, for example 30s or 500ms; 0s: never
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = time)]
    timeout: Span,
}

fn time(text: &str) -> Result<Span, String> {
    Span::read(text).ok_or_else(|| "expected a time with a unit, for example 30s or 500ms".into())
}

impl Command for WaitOnline {
    /// Fails with what is missing when the time is over. Any error but that there is no daemon yet is final.
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let start = Instant::now();
        let limit = self.timeout.duration();
        loop {
            let missing = match Client::connect(invocation.socket).and_then(|mut client| client.groups()) {
                Ok(groups) => self.missing(&groups),
                // It starts, or restarts.
                Err(error @ (client::Error::Contact { .. } | client::Error::Closed(_))) => {
                    Some(error.to_string())
                }
                Err(error) => return Err(error.into()),
            };
            match missing {
                None => return Ok(Outcome::done(output::notes(&[], false, invocation.format))),
                Some(missing) if !limit.is_zero() && start.elapsed() >= limit => {
                    return Err(Error::NotOnline { missing, timeout: self.timeout });
                }
                Some(_) => thread::sleep(INTERVAL),
            }
        }
    }
}

impl WaitOnline {
    /// Why the groups are not online; `None`: they are.
    fn missing(&self, groups: &[GroupReport]) -> Option<String> {
        let mut missing: Vec<String> = Vec::new();
        if self.groups.is_empty() {
            missing.extend(groups.iter().filter_map(obstacle));
        }
        for name in &self.groups {
            match groups.iter().find(|group| group.is_named(name)) {
                None => missing.push(format!("there is no group {name}")),
                Some(group) => missing.extend(obstacle(group)),
            }
        }
        (!missing.is_empty()).then(|| missing.join(", "))
    }
}

/// Why a group is not online; `None`: it is.
fn obstacle(group: &GroupReport) -> Option<String> {
    let name = &group.name;
    if group.state == GroupState::Failed {
        return Some(format!("no member of {name} functions"));
    }
    let has_usable = group.addresses.is_empty() || group.addresses.iter().any(|address| address.up);
    (!has_usable).then(|| format!("no address of {name} can be used yet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::sample;

    fn missing(names: &[&str], groups: &[GroupReport]) -> Option<String> {
        let groups_named = names.iter().map(|&name| name.into()).collect();
        let timeout = Span::read("1s").unwrap();
        WaitOnline { groups: groups_named, timeout }.missing(groups)
    }

    #[test]
    fn group_is_online_with_a_functioning_member_and_a_usable_address() {
        let good = sample();
        assert_eq!(missing(&[], std::slice::from_ref(&good)), None);
        assert_eq!(missing(&["Production"], std::slice::from_ref(&good)), None);
        assert_eq!(missing(&[], &[]), None, "nothing to wait for");
        let mut tentative = sample();
        tentative.addresses.retain(|address| !address.up);
        assert_eq!(
            missing(&[], &[good.clone(), tentative]).unwrap(),
            "no address of production0 can be used yet"
        );
        let empty = GroupReport { addresses: vec![], ..sample() };
        assert_eq!(missing(&[], &[empty]), None);
        let failed = GroupReport { state: GroupState::Failed, ..sample() };
        assert_eq!(
            missing(&["production0", "other"], &[failed]).unwrap(),
            "no member of production0 functions, there is no group other"
        );
    }
}
