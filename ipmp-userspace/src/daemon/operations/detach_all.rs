//! `ipmpctl detach --all --restore`: the way back to the host as it was before the first attach.

use super::{
    apply::remove_group,
    refusals::{kernel, no_such_group},
    restore,
};
use crate::{
    control::request::{Refused, Response},
    daemon::{events::trigger::Trigger, manager::Manager, state_file::Unfinished},
};

/// Detaches all members of a group, or of every group, and removes the groups, all or nothing. A group without members stays.
pub async fn detach_all(
    manager: &mut Manager,
    trigger: &Trigger,
    group: Option<&str>,
) -> Result<Response, Refused> {
    if let Some(name) = group.filter(|name| !manager.groups.contains_key(*name)) {
        return Err(no_such_group(name));
    }
    let selected = manager.groups.values().filter(|known| group.is_none_or(|name| known.name() == name));
    let (groups, empty): (Vec<_>, Vec<_>) = selected.partition(|known| !known.core.members().is_empty());
    let groups: Vec<String> = groups.iter().map(|known| known.name().to_owned()).collect();
    let stays =
        |name: &str| format!("group {name} has no members, and stays: ipmpctl destroy {name} removes it");
    let mut notes: Vec<String> = empty.iter().map(|known| stays(known.name())).collect();
    if groups.is_empty() {
        if notes.is_empty() {
            notes.push("no interface is a member of a group".to_owned());
        }
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
