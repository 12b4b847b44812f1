//! `ipmpctl create`.

use super::{address, destroy, refusals::kernel};
use crate::{
    control::{
        DataAddress, name,
        request::{Refused, reason},
    },
    core::{self, Event},
    daemon::{
        events::trigger::Trigger,
        group::{RunningGroup, links},
        loading,
        manager::Manager,
        state_file::{SavedGroup, Unfinished},
    },
    datapath::{self, GroupSpec},
    link::GroupInterface,
    probe,
    types::Origin,
};

/// MTU of a group interface without members, in bytes: that of Ethernet.
const MTU: u32 = 1500;

/// Creates a group with addresses. On an error nothing is left of it.
pub async fn create(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    groupname: Option<String>,
    addresses: &[DataAddress],
) -> Result<Vec<String>, Refused> {
    check(manager, group, groupname.as_deref().unwrap_or(group), addresses).await?;
    let change = Unfinished::Create { group: group.to_owned() };
    manager.file.begin(change).map_err(|error| kernel(&error))?;
    let result = create_filled(manager, trigger, group, groupname, addresses).await;
    manager.file.end();
    result
}

/// Refuses a group that cannot be created.
pub async fn check(
    manager: &Manager,
    group: &str,
    groupname: &str,
    addresses: &[DataAddress],
) -> Result<(), Refused> {
    check_names(manager, group, groupname).await?;
    address::check_new(manager, group, addresses, Origin::Command).await
}

async fn create_filled(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    groupname: Option<String>,
    addresses: &[DataAddress],
) -> Result<Vec<String>, Refused> {
    let mut notes = create_empty(manager, trigger, group, groupname).await?;
    match address::add(manager, trigger, group, addresses, None, Origin::Command).await {
        Ok(more) => notes.extend(more),
        Err(refused) => {
            destroy::remove_group(manager, trigger, group).await;
            return Err(refused);
        }
    }
    Ok(notes)
}

/// Creates a group without addresses. On an error nothing is left of it.
pub async fn create_empty(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    groupname: Option<String>,
) -> Result<Vec<String>, Refused> {
    let groupname = groupname.unwrap_or_else(|| group.to_owned());
    check_names(manager, group, &groupname).await?;
    // Saved first: whatever is left after a crash is known to be the daemon's.
    let saved = SavedGroup { groupname: groupname.clone(), ..SavedGroup::default() };
    manager.file.state.groups.insert(group.to_owned(), saved);
    let change = Unfinished::Create { group: group.to_owned() };
    if let Err(error) = manager.file.begin(change) {
        manager.file.state.groups.remove(group);
        return Err(kernel(&error));
    }
    let result = start(manager, group, &groupname).await;
    let result = match result {
        Ok(running) => {
            manager.groups.insert(group.to_owned(), running);
            manager.log(trigger, Some(group), &Event::GroupCreated { group: group.to_owned() });
            Ok(name::note(group).into_iter().collect())
        }
        Err(refused) => {
            manager.file.state.groups.remove(group);
            Err(refused)
        }
    };
    manager.file.end();
    result
}

async fn check_names(manager: &Manager, group: &str, groupname: &str) -> Result<(), Refused> {
    let exists = |text: String| Err(Refused::new(reason::EXISTS, text));
    if manager.groups.contains_key(group) {
        return exists(format!(
            "group {group} exists already: attach interfaces to it, or give the new group another name"
        ));
    }
    let remedy = |name: &str| {
        if name == group { "give the group another name" } else { "give another --groupname" }
    };
    if let Some(other) = manager.groups.values().find(|other| other.groupname == groupname) {
        return exists(format!(
            "group {} has the group name {groupname} already: {}",
            other.name(),
            remedy(groupname)
        ));
    }
    for wanted in [group, groupname] {
        if manager.links.device_named(wanted).await.map_err(|error| kernel(&error))?.is_some() {
            return exists(format!("there is an interface {wanted} already: {}", remedy(wanted)));
        }
    }
    Ok(())
}

async fn start(manager: &mut Manager, group: &str, groupname: &str) -> Result<RunningGroup, Refused> {
    let interface = GroupInterface::create(&manager.links, group, groupname, &manager.namespace)
        .await
        .map_err(|error| kernel(&error))?;
    match open_datapath(manager, &interface).await {
        Ok(datapath) => {
            if let Some(saved) = manager.file.state.groups.get_mut(group) {
                saved.ifindex = interface.ifindex;
            }
            manager.file.save_or_log();
            let saved = manager.file.group(group).cloned().unwrap_or_default();
            let core = core::Group::new(group, saved.core_settings(manager.mpathd.defaults()));
            let mut group = RunningGroup::new(core, datapath, interface, groupname.to_owned(), MTU);
            links::set_updelays(&mut group, saved.updelays());
            group.core.set_jitter(probe::random::seed());
            Ok(group)
        }
        Err(error) => {
            if let Err(error) = manager.datapath.remove_group(group) {
                log::error!(group = group; "{error}");
            }
            destroy::delete_interface(&manager.links, &interface).await;
            Err(kernel(&error))
        }
    }
}

/// Loads the datapath of a group, or adopts it, with the saved settings.
pub async fn open_datapath(
    manager: &mut Manager,
    interface: &GroupInterface,
) -> Result<datapath::Group, datapath::Error> {
    let programs =
        manager.datapath.prepare_group(&spec(manager, interface), interface.far_end().is_some())?;
    loading::load(manager, programs).await?;
    let mut group = manager.datapath.group(&spec(manager, interface))?;
    if let Some((name, ifindex)) = interface.far_end() {
        group.seal_far_end(&name, ifindex)?;
    }
    let saved = manager.file.group(&interface.name);
    group.set_capture(saved.map(SavedGroup::capture).unwrap_or_default());
    Ok(group)
}

/// What the programs of a group are loaded with, by its saved settings.
fn spec(manager: &Manager, interface: &GroupInterface) -> GroupSpec {
    let saved = manager.file.group(&interface.name).cloned().unwrap_or_default();
    GroupSpec {
        name: interface.name.clone(),
        ifindex: interface.ifindex,
        mac: interface.mac,
        policy: saved.hash_policy(),
        updelay: saved.updelays().group,
    }
}
