//! `ipmpctl destroy`.

use super::refusals::{kernel, no_such_group};
use crate::{
    control::request::{Refused, reason},
    core::Event,
    daemon::{again::again, events::trigger::Trigger, manager::Manager, state_file::Unfinished},
    link::{GroupInterface, Links},
};

/// Removes a group without members.
pub async fn destroy(manager: &mut Manager, trigger: &Trigger, group: &str) -> Result<Vec<String>, Refused> {
    check(manager, group)?;
    let change = Unfinished::Destroy { group: group.to_owned() };
    manager.file.begin(change).map_err(|error| kernel(&error))?;
    remove_group(manager, trigger, group).await;
    manager.file.end();
    Ok(Vec::new())
}

/// Refuses a group that has members.
pub fn check(manager: &Manager, group: &str) -> Result<(), Refused> {
    let known = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    if !known.core.members().is_empty() {
        let names: Vec<&str> = known.core.members().iter().map(|member| member.name()).collect();
        return Err(Refused::new(
            reason::NOT_EMPTY,
            format!("IPMP group is not empty: detach {} from {group} first", names.join(", ")),
        ));
    }
    Ok(())
}

/// Removes a group without members: its programs, its interface, its record.
pub async fn remove_group(manager: &mut Manager, trigger: &Trigger, name: &str) {
    let Some(group) = manager.groups.remove(name) else { return };
    manager.schedule.stop_group(group.interface.ifindex);
    let interface = group.interface.clone();
    if group.datapath.remove().is_err()
        && let Err(error) = manager.datapath.remove_group(name)
    {
        log::error!(group = name; "{error}");
    }
    delete_interface(&manager.links, &interface).await;
    manager.file.state.groups.remove(name);
    manager.file.save_or_log();
    manager.log(trigger, Some(name), &Event::GroupDestroyed { group: name.to_owned() });
}

/// Deletes a group interface. Errors are logged.
pub async fn delete_interface(links: &Links, interface: &GroupInterface) {
    match again(async || links.delete(interface.ifindex, &interface.name).await).await {
        Err(error) if !error.is_missing() => {
            log::error!(group = interface.name.as_str(); "{error}; do it by hand")
        }
        _ => {}
    }
}
