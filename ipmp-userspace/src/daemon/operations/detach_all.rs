//! `ipmpctl detach --all --restore`: the way back to the host as it was before the first attach.

use super::{
    apply::remove_group,
    detach,
    refusals::{kernel, no_group_note},
    restore,
};
use crate::{
    config::plan::Step,
    control::{
        DataAddress,
        request::{Refused, Response},
    },
    daemon::{events::trigger::Trigger, manager::Manager, state_file::Unfinished},
    types::Origin,
};

/// Detaches all members of a group, or of every group, and removes the groups, all or nothing. A group without members stays.
pub async fn detach_all(
    manager: &mut Manager,
    trigger: &Trigger,
    group: Option<&str>,
) -> Result<Response, Refused> {
    let (groups, mut notes) = selected(manager, group);
    if groups.is_empty() {
        return Ok(Response::Done { notes, changed: false });
    }
    let before = restore::record(manager).await?;
    let change = Unfinished::DetachAll { groups: groups.clone() };
    let why = format!("{change}: it failed");
    manager.file.begin(change).map_err(|error| kernel(&error))?;
    let result = remove_groups(manager, trigger, &groups).await;
    manager.file.end();
    match result {
        Ok(more) => {
            manager.announce();
            notes.extend(more);
            Ok(Response::done(notes))
        }
        Err(mut refused) => {
            refused.message += &match restore::restore(manager, trigger, &before, &why).await {
                Ok(_) => "; everything was undone".to_owned(),
                Err(error) => format!("; not everything could be undone: {error}"),
            };
            Err(refused)
        }
    }
}

/// The groups that have members, and notes on the others.
fn selected(manager: &Manager, group: Option<&str>) -> (Vec<String>, Vec<String>) {
    if let Some(name) = group.filter(|name| !manager.groups.contains_key(*name)) {
        return (Vec::new(), vec![no_group_note(name)]);
    }
    let selected = manager.groups.values().filter(|known| group.is_none_or(|name| known.name() == name));
    let (groups, empty): (Vec<_>, Vec<_>) = selected.partition(|known| !known.core.members().is_empty());
    let groups: Vec<String> = groups.iter().map(|known| known.name().to_owned()).collect();
    let stays =
        |name: &str| format!("group {name} has no members, and stays: ipmpctl destroy {name} removes it");
    let mut notes: Vec<String> = empty.iter().map(|known| stays(known.name())).collect();
    if groups.is_empty() && notes.is_empty() {
        notes.push("no interface is a member of a group".to_owned());
    }
    (groups, notes)
}

/// Notes, and what it would do, a line each.
pub async fn plan(manager: &Manager, group: Option<&str>) -> Result<(Vec<String>, Vec<String>), Refused> {
    let (groups, notes) = selected(manager, group);
    let mut lines = Vec::new();
    for group in &groups {
        let saved = manager.file.group(group).cloned().unwrap_or_default();
        let mut left = detach::configuration(manager, group).await?;
        let Some(known) = manager.groups.get(group) else { continue };
        let members = known.core.members();
        // It gets what files added, too.
        let last = members.iter().find(|member| !member.absent()).map(|member| member.name());
        let routes = saved.routes.iter().rev().filter(|_| last.is_none()).cloned();
        let mut steps: Vec<Step> =
            routes.map(|route| Step::RemoveRoute { group: group.clone(), route }).collect();
        let is_there =
            |address: &DataAddress| left.addresses.iter().any(|known| known.ip == address.address());
        let added = saved.added.iter().filter(|added| last.is_none() || added.origin != Origin::File);
        let addresses: Vec<DataAddress> = added.map(|added| added.address).filter(is_there).collect();
        left.addresses.retain(|known| !addresses.iter().any(|address| address.address() == known.ip));
        if !addresses.is_empty() {
            steps.push(Step::RemoveAddresses { group: group.clone(), addresses });
        }
        lines.extend(steps.iter().map(Step::to_string));
        for member in members.iter().rev().map(|member| member.name()) {
            let back = detach::came_from(manager, group, member).await?;
            left.addresses.retain(|address| !back.addresses.iter().any(|known| known.ip == address.ip));
            lines.extend(detach::moves(group, member, &back));
            if last == Some(member) {
                // What files and other programs added.
                left.routes.clear();
                lines.extend(detach::moves(group, member, &left));
            }
            lines.push(Step::Detach { group: group.clone(), member: member.to_owned() }.to_string());
        }
        lines.push(Step::Dissolve { group: group.clone() }.to_string());
    }
    Ok((notes, lines))
}

/// Removes groups with their members. Those that do not exist any more are removed already.
pub async fn remove_groups(
    manager: &mut Manager,
    trigger: &Trigger,
    groups: &[String],
) -> Result<Vec<String>, Refused> {
    let mut notes = Vec::new();
    for group in groups {
        if manager.groups.contains_key(group) {
            notes.extend(remove_group(manager, trigger, group, true).await?);
        }
    }
    Ok(notes)
}
