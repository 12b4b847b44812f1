//! What a request still has to change. Scripts repeat requests: a state that holds already is success, with `changed` false.
//! The removal of what does not exist is such a state, too; its note names the thing, so that a misspelt name is seen.

use std::net::IpAddr;

use super::{
    address,
    refusals::{in_no_group_note, kernel, no_group_note},
    target::{self, Change},
    test_address,
};
use crate::{
    control::{
        DataAddress, Setting,
        request::{Refused, Request},
    },
    core::member::Member,
    daemon::{group::RunningGroup, manager::Manager},
    link::Address,
    types::OfflineCause,
};

/// The request without what holds already, `None`: all of it does; and a note on each part that holds.
///
/// What cannot be executed stays in the request, so that it is refused as a whole.
pub async fn remaining(
    manager: &Manager,
    request: Request,
) -> Result<(Option<Request>, Vec<String>), Refused> {
    let mut notes = Vec::new();
    let left = match request {
        Request::Create { group, groupname, addresses } => {
            let known = manager.groups.get(&group);
            let known = known.filter(|known| groupname.as_deref().unwrap_or(&group) == known.groupname);
            let present = addresses_of(manager, known)?;
            if known.is_some() && addresses.iter().all(|address| has(&present, *address)) {
                notes.push(format!("group {group} exists already"));
                None
            } else {
                Some(Request::Create { group, groupname, addresses })
            }
        }
        Request::Attach { group, mut interfaces, standby, test_addresses, dry_run, accept_firewall } => {
            let is_member = |name: &String| {
                let member =
                    manager.groups.get(&group)?.core.members().iter().find(|member| member.name() == name)?;
                let named =
                    manager.file.member(&group, name).map(|saved| saved.test_addresses.named.as_slice());
                let tests = test_addresses.iter().all(|test| named.unwrap_or_default().contains(test));
                (tests && !member.absent() && (member.standby() || !standby)).then_some(())
            };
            let is_member = |name: &String| is_member(name).is_some();
            notes.extend(
                interfaces.iter().filter(|name| is_member(name)).map(|name| already_member(name, &group)),
            );
            interfaces.retain(|name| !is_member(name));
            let request =
                Request::Attach { group, interfaces, standby, test_addresses, dry_run, accept_firewall };
            Some(request).filter(
                |request| !matches!(request, Request::Attach { interfaces, .. } if interfaces.is_empty()),
            )
        }
        Request::AddAddress { group, mut addresses, inbound, logical } => {
            let present = addresses_of(manager, manager.groups.get(&group))?;
            let holds = |address: &DataAddress| {
                has(&present, *address)
                    && prefers(manager, &group, address.address(), inbound.as_deref(), logical)
            };
            let known = addresses.iter().filter(|address| holds(address));
            notes.extend(known.map(|address| format!("{address} is on {group} already")));
            addresses.retain(|address| !holds(address));
            (!addresses.is_empty()).then_some(Request::AddAddress { group, addresses, inbound, logical })
        }
        Request::AddTestAddress { interface, address } => {
            let group = manager.group_of(&interface);
            let saved = group.and_then(|group| manager.file.member(group.name(), &interface));
            if saved.is_some_and(|saved| saved.test_addresses.named.contains(&address)) {
                notes.push(format!("{interface} has the test address {address} already"));
                None
            } else {
                Some(Request::AddTestAddress { interface, address })
            }
        }
        Request::Offline { interface }
            if offline(manager, &interface) == Some(Some(OfflineCause::Operator)) =>
        {
            notes.push(format!("interface {interface} is already offline"));
            None
        }
        Request::Online { interface }
            if offline(manager, &interface) == Some(None) && !drains(manager, &interface) =>
        {
            notes.push(format!("interface {interface} is not offline"));
            None
        }
        Request::Set { name, mut settings } => {
            settings.retain(|setting| !is_set(manager, &name, setting));
            (!settings.is_empty()).then_some(Request::Set { name, settings })
        }
        Request::AddTarget { group, addresses } => {
            let left = without_targets(manager, &group, addresses, Change::Add, &mut notes);
            left.map(|addresses| Request::AddTarget { group, addresses })
        }
        Request::EnableTarget { group, addresses } => {
            let left = without_targets(manager, &group, addresses, Change::Enable, &mut notes);
            left.map(|addresses| Request::EnableTarget { group, addresses })
        }
        Request::DisableTarget { group, addresses } => {
            let left = without_targets(manager, &group, addresses, Change::Disable, &mut notes);
            left.map(|addresses| Request::DisableTarget { group, addresses })
        }
        Request::Destroy { group }
        | Request::RemoveAddress { group, .. }
        | Request::RemoveTarget { group, .. }
            if !manager.groups.contains_key(&group) =>
        {
            notes.push(no_group_note(&group));
            None
        }
        Request::Detach { interface, .. } | Request::RemoveTestAddress { interface, .. }
            if manager.group_of(&interface).is_none() =>
        {
            notes.push(in_no_group_note(manager, &interface)?);
            None
        }
        Request::RemoveTestAddress { interface, address } => {
            let has = test_address::has(manager, &interface, address).await?;
            if !has {
                notes
                    .push(format!("{interface} does not have the test address {address}: nothing to change"));
            }
            has.then_some(Request::RemoveTestAddress { interface, address })
        }
        Request::RemoveAddress { group, addresses } => {
            let all = address::all_of(manager, &group).await?;
            let has = |address: &DataAddress| all.contains(&(address.address(), address.prefix()));
            let (present, missing): (Vec<_>, Vec<_>) = addresses.into_iter().partition(has);
            notes.extend(missing.iter().map(|address| missing_address(&group, *address, &all)));
            (!present.is_empty()).then_some(Request::RemoveAddress { group, addresses: present })
        }
        Request::RemoveTarget { group, addresses } => {
            let (known, missing): (Vec<_>, Vec<_>) =
                addresses.into_iter().partition(|address| target::is_target(manager, &group, *address));
            notes.extend(
                missing.iter().map(|address| format!("{address} is no target of {group}: nothing to change")),
            );
            (!known.is_empty()).then_some(Request::RemoveTarget { group, addresses: known })
        }
        request => Some(request),
    };
    Ok((left, notes))
}

/// The note on a data address that is to be removed and that the group does not have. `all`: those that it has.
fn missing_address(group: &str, address: DataAddress, all: &[(IpAddr, u8)]) -> String {
    let other = all.iter().find(|(ip, _)| *ip == address.address());
    let other = other.map(|(ip, prefix)| format!(", but {ip}/{prefix}")).unwrap_or_default();
    format!("{group} does not have the data address {address}{other}: nothing to change")
}

fn already_member(name: &str, group: &str) -> String {
    format!("{name} is a member of {group} already")
}

fn addresses_of(manager: &Manager, group: Option<&RunningGroup>) -> Result<Vec<Address>, Refused> {
    let Some(group) = group else { return Ok(Vec::new()) };
    manager.links.addresses_of(group.interface.ifindex).map_err(|error| kernel(&error))
}

fn has(present: &[Address], address: DataAddress) -> bool {
    present.iter().any(|known| known.ip == address.address() && known.prefix == address.prefix())
}

/// Whether an address has this preference, or none is wanted.
fn prefers(
    manager: &Manager,
    group: &str,
    address: IpAddr,
    inbound: Option<&str>,
    logical: Option<u16>,
) -> bool {
    let Some(inbound) = inbound else { return true };
    let member = manager.file.member(group, inbound).map(|saved| saved.number);
    let saved = manager.file.group(group).and_then(|saved| saved.inbound.get(&address));
    saved.is_some_and(|saved| Some(saved.member) == member && (logical.is_none() || saved.logical == logical))
}

/// Why a member is offline, `Some(None)` if it is not; `None`: there is no member of this name.
fn offline(manager: &Manager, name: &str) -> Option<Option<OfflineCause>> {
    let group = manager.group_of(name)?;
    let member = group.core.members().iter().find(|member| member.name() == name)?;
    Some(member.offline())
}

fn drains(manager: &Manager, name: &str) -> bool {
    let group = manager.group_of(name);
    group.and_then(|group| group.core.member_named(name)).is_some_and(Member::drains)
}

/// Whether the operator has given a setting this value.
fn is_set(manager: &Manager, name: &str, setting: &Setting) -> bool {
    if manager.groups.contains_key(name) {
        let Some(saved) = manager.file.group(name) else { return false };
        let mut after = saved.clone();
        after.choose(setting);
        return match setting {
            Setting::Targets(_) => after.targets == saved.targets,
            _ => saved.chosen.contains(setting),
        };
    }
    let saved = manager.group_of(name).and_then(|group| manager.file.member(group.name(), name));
    saved.is_some_and(|saved| saved.chosen.contains(setting))
}

/// Targets without those that have the wanted state; `None`: all have it.
fn without_targets(
    manager: &Manager,
    group: &str,
    mut addresses: Vec<IpAddr>,
    change: Change,
    notes: &mut Vec<String>,
) -> Option<Vec<IpAddr>> {
    let saved = manager.file.group(group).map(|saved| saved.targets.as_slice()).unwrap_or_default();
    let (disabled, state) = match change {
        Change::Add => (false, format!("a target of {group}")),
        Change::Enable => (false, "enabled".into()),
        Change::Disable | Change::Remove => (true, "disabled".into()),
    };
    let holds = |address: &IpAddr| {
        saved.iter().any(|target| target.address == *address && target.disabled == disabled)
    };
    notes.extend(
        addresses
            .iter()
            .filter(|address| holds(address))
            .map(|address| format!("{address} is {state} already")),
    );
    addresses.retain(|address| !holds(address));
    (!addresses.is_empty()).then_some(addresses)
}
