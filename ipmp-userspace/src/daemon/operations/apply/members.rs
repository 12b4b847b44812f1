//! Members whose interface does not exist yet, and groups that are removed with their members.

use crate::{
    config::plan::NewMember,
    control::{
        DataAddress, LastMember,
        request::{Refused, reason},
    },
    daemon::{
        events::trigger::Trigger,
        group::absence,
        manager::Manager,
        operations::{
            address, destroy, detach,
            refusals::{kernel, no_such_group},
        },
        state_file::{
            DEFAULT_WEIGHT, SavedAbsence, SavedFilters, SavedIdentity, SavedMember, SavedTestAddresses,
        },
    },
    link::Route,
    types::Origin,
};

/// Adds a member that is absent until its interface appears. Returns its name.
pub async fn expect(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    member: &NewMember,
) -> Result<String, Refused> {
    let running = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let number = running.core.free_number().ok_or_else(|| {
        Refused::new(reason::FULL, format!("{} cannot join {group}: it is full", member.name))
    })?;
    // Another interface may have the name of its entry.
    let is_taken = manager.group_of(&member.name).is_some()
        || manager.links.device_named(&member.name).await.map_err(|error| kernel(&error))?.is_some();
    let name = if is_taken { format!("absent-{number}") } else { member.name.clone() };
    let record = SavedMember {
        number,
        name: name.clone(),
        ifindex: 0,
        weight: DEFAULT_WEIGHT,
        speed: None,
        settings: Vec::new(),
        was_down: false,
        chosen: member.settings.clone(),
        test_addresses: SavedTestAddresses::new(member.test_addresses.clone()),
        filters: SavedFilters::default(),
        identity: SavedIdentity {
            permanent_mac: member.permanent_mac,
            mac: member.mac,
            required_name: member.required_name.clone(),
            ..SavedIdentity::default()
        },
        drained_until_ms: None,
        absent: Some(SavedAbsence { name: member.name.clone(), mtu: running.mtu, offline: false }),
    };
    let saved = manager.file.state.groups.entry(group.to_owned()).or_default();
    saved.members.insert(number, record.clone());
    saved.update_weights();
    if let Err(error) = manager.file.save() {
        manager.file.forget_member(group, &name);
        return Err(kernel(&error));
    }
    if let Some((group, mut context)) = manager.group(group, trigger) {
        group.test_addresses.adopt(number, &record.test_addresses);
        absence::expect(group, &mut context, &record).await;
    }
    Ok(name)
}

/// Removes a group: first what files and commands added to it, then its members. What came from these, and what other programs
/// added, moves to the last one. `returns`: what came from each returns to it, and the first one is the last; it also gets what files
/// added, which is the network of a host that was booted with the group.
pub async fn remove_group(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    returns: bool,
) -> Result<Vec<String>, Refused> {
    let running = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let ifindex = running.interface.ifindex;
    let (absent, mut present): (Vec<_>, Vec<_>) = running
        .core
        .members()
        .iter()
        .map(|member| (member.absent(), member.name().to_owned()))
        .partition(|(is_absent, _)| *is_absent);
    let last = if present.is_empty() { LastMember::Force } else { LastMember::Restore };
    let others = if returns { LastMember::MoveBack } else { last };
    if returns {
        present.reverse();
    }
    let saved = manager.file.group(group).cloned().unwrap_or_default();
    let keeps_files = returns && last == LastMember::Restore;
    for entry in saved.routes.iter().rev().filter(|_| !keeps_files) {
        manager.links.delete_route(&Route::of_entry(entry, ifindex)).await.map_err(|error| kernel(&error))?;
    }
    let known = manager.links.addresses_of(ifindex).map_err(|error| kernel(&error))?;
    let is_there = |address: &DataAddress| {
        known.iter().any(|known| (known.ip, known.prefix) == (address.address(), address.prefix()))
    };
    let removed = saved.added.iter().filter(|added| !(keeps_files && added.origin == Origin::File));
    let added: Vec<DataAddress> =
        removed.map(|added| added.address).filter(|address| is_there(address)).collect();
    if !added.is_empty() {
        address::remove(manager, trigger, group, &added).await?;
    }
    let mut notes = Vec::new();
    let leaving: Vec<&String> = absent.iter().chain(&present).map(|(_, name)| name).collect();
    for (at, name) in leaving.iter().enumerate() {
        let last = if at + 1 == leaving.len() { last } else { others };
        notes.extend(detach::detach(manager, trigger, name, Some(last)).await?);
    }
    if manager.groups.contains_key(group) {
        destroy::remove_group(manager, trigger, group).await;
    }
    Ok(notes)
}
