//! `ipmpctl target`: explicit targets are saved first, as settings are.

use std::net::IpAddr;

use super::{
    refusals::{kernel, no_such_group},
    set, target_check,
};
use crate::{
    control::{
        TargetReport,
        request::{Refused, reason},
        target::{self, Prober},
    },
    core::{Event, Input, probe::ProbeSource},
    daemon::{
        events::trigger::Trigger,
        group::{RunningGroup, actions},
        manager::Manager,
        state_file::SavedTarget,
    },
    types::{Family, TargetSource},
};

/// A change of explicit targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Add,
    Remove,
    Enable,
    Disable,
}

/// Changes explicit targets, all or none.
pub async fn change(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    addresses: &[IpAddr],
    change: Change,
) -> Result<Vec<String>, Refused> {
    let (before, targets) = check(manager, group, addresses, change).await?;
    let line = Event::SettingsChanged { group: group.to_owned(), member: None, settings: list_of(&targets) };
    manager.file.state.groups.entry(group.to_owned()).or_default().targets = targets;
    if let Err(error) = manager.file.save() {
        manager.file.state.groups.entry(group.to_owned()).or_default().targets = before;
        return Err(kernel(&error));
    }
    manager.log(trigger, Some(group), &line);
    let mut notes = set::apply_saved(manager, trigger, group).await;
    if change == Change::Add || change == Change::Enable {
        notes.extend(target_check::note_not_probed(manager, group, addresses));
    }
    Ok(notes)
}

/// Refuses a change that is not possible. Returns the targets before and after it.
async fn check(
    manager: &Manager,
    group: &str,
    addresses: &[IpAddr],
    change: Change,
) -> Result<(Vec<SavedTarget>, Vec<SavedTarget>), Refused> {
    let known = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let before = manager.file.group(group).map(|saved| saved.targets.clone()).unwrap_or_default();
    let targets = changed(known, &before, addresses, change)?;
    if change == Change::Add {
        target_check::check(manager, group, addresses).await?;
    }
    Ok((before, targets))
}

/// What a change would do.
pub async fn plan(
    manager: &Manager,
    group: &str,
    addresses: &[IpAddr],
    change: Change,
) -> Result<Vec<String>, Refused> {
    let (_, targets) = check(manager, group, addresses, change).await?;
    Ok(vec![format!("{group}: set {}", list_of(&targets))])
}

/// Starts a search for targets.
pub async fn discover(manager: &mut Manager, trigger: &Trigger, group: &str) -> Result<Vec<String>, Refused> {
    check_discover(manager, group)?;
    if let Some((group, mut context)) = manager.group(group, trigger) {
        actions::tell(group, &mut context, Input::Discover).await;
    }
    Ok(Vec::new())
}

/// Refuses a group whose members have no test address to search from.
pub fn check_discover(manager: &Manager, group: &str) -> Result<(), Refused> {
    let group = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let mut means = group
        .core
        .members()
        .iter()
        .flat_map(|member| Family::ALL.into_iter().filter_map(|family| member.prober(family)?.means()));
    if !means.any(|means| matches!(means, ProbeSource::Echo { .. })) {
        return Err(Refused::new(
            reason::NO_TEST_ADDRESS,
            format!(
                "no member of {} has a test address to search for targets from: give members test addresses (`ipmpctl \
                 test-address add`), or name targets with `ipmpctl target add`",
                group.name()
            ),
        ));
    }
    Ok(())
}

/// The targets that a group knows.
pub fn list(manager: &Manager, group: &str) -> Result<Vec<TargetReport>, Refused> {
    let known = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let explicit = manager.file.group(group).map(|saved| saved.targets.as_slice()).unwrap_or_default();
    let targets = known.core.known_targets();
    let mut reports: Vec<TargetReport> = Vec::new();
    let explicit = explicit.iter().map(|target| (target.address, TargetSource::Explicit));
    let found = [
        (&targets.hosts, TargetSource::HostRoute),
        (&targets.routers, TargetSource::Router),
        (&targets.answering, TargetSource::Multicast),
    ];
    let found = found.iter().flat_map(|(list, source)| list.iter().map(|address| (*address, *source)));
    for (address, source) in explicit.chain(found) {
        if reports.iter().all(|report| report.address != address) {
            reports.push(TargetReport {
                address,
                source,
                enabled: !targets.disabled.contains(&address),
                answered: targets.answering.contains(&address),
                members: probers(known, address),
            });
        }
    }
    Ok(reports)
}

/// The targets after a change.
fn changed(
    group: &RunningGroup,
    before: &[SavedTarget],
    addresses: &[IpAddr],
    change: Change,
) -> Result<Vec<SavedTarget>, Refused> {
    let mut targets = before.to_vec();
    for &address in addresses {
        let at = targets.iter().position(|target| target.address == address);
        match (change, at) {
            (Change::Add, None) => targets.push(SavedTarget { address, disabled: false }),
            // One that is enabled has been left out of the request.
            (Change::Add, Some(_)) => return Err(is_disabled(group.name(), address)),
            (_, None) => return Err(not_explicit(group, address)),
            (Change::Remove, Some(at)) => drop(targets.remove(at)),
            (Change::Enable | Change::Disable, Some(at)) => {
                targets[at].disabled = change == Change::Disable;
            }
        }
    }
    if targets.len() > target::MOST {
        return Err(Refused::new(reason::BAD_TARGET, target::Error::Many.to_string()));
    }
    Ok(targets)
}

fn is_disabled(group: &str, address: IpAddr) -> Refused {
    let text = format!(
        "{address} is a target of {group} already, and disabled: `ipmpctl target enable {address} --group {group}` has it \
         probed again"
    );
    Refused::new(reason::TARGET_EXISTS, text)
}

fn not_explicit(group: &RunningGroup, address: IpAddr) -> Refused {
    let name = group.name();
    let text = match how_discovered(group, address) {
        Some(how) => format!(
            "{address} was not added to the targets of {name}, but discovered ({how}); add it first (`ipmpctl target add`)"
        ),
        None => format!("{address} is no target of {name}; `ipmpctl target list --group {name}` lists all"),
    };
    Refused::new(reason::NO_SUCH_TARGET, text)
}

/// Whether an address is a target of a group: added, disabled or discovered.
pub fn is_target(manager: &Manager, group: &str, address: IpAddr) -> bool {
    let saved = manager.file.group(group);
    saved.is_some_and(|saved| saved.targets.iter().any(|target| target.address == address))
        || manager.groups.get(group).is_some_and(|group| how_discovered(group, address).is_some())
}

/// How a target was discovered; `None`: it was not.
fn how_discovered(group: &RunningGroup, address: IpAddr) -> Option<&'static str> {
    let known = group.core.known_targets();
    let found = [
        (&known.hosts, "it has a host route"),
        (&known.routers, "it is a router"),
        (&known.answering, "it answered a multicast probe"),
    ];
    found.iter().find(|(list, _)| list.contains(&address)).map(|(_, how)| *how)
}

/// The status of a target on the members that know it.
fn probers(group: &RunningGroup, address: IpAddr) -> Vec<Prober> {
    let members = group.core.members().iter();
    members
        .filter_map(|member| {
            let target = member.prober(Family::of(address))?.targets().get(address)?;
            Some(Prober {
                member: member.name().to_owned(),
                status: target.status.into(),
                rtt_us: target.rtt.average().map(|rtt| rtt.as_micros() as u64),
            })
        })
        .collect()
}

/// The explicit targets as a setting, for the log.
fn list_of(targets: &[SavedTarget]) -> String {
    let text = |target: &SavedTarget| {
        let disabled = if target.disabled { " (disabled)" } else { "" };
        format!("{}{disabled}", target.address)
    };
    let list: Vec<String> = targets.iter().map(text).collect();
    if list.is_empty() { "targets=auto".to_owned() } else { format!("targets={}", list.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logged_targets_include_disabled_ones() {
        let target = |address: &str, disabled| SavedTarget { address: address.parse().unwrap(), disabled };
        assert_eq!(list_of(&[]), "targets=auto");
        assert_eq!(
            list_of(&[target("10.0.0.1", false), target("10.0.0.2", true)]),
            "targets=10.0.0.1,10.0.0.2 (disabled)"
        );
    }
}
