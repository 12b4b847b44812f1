//! Interfaces of members, and group interfaces, that have been renamed: followed by their index
//! (docs/design/identity-of-members.md).
//!
//! Names are read from the kernel when it reports one that differs, and before each request: no request acts on the interface
//! that had the name before.

use std::collections::BTreeMap;

use super::{
    events::trigger::Trigger,
    group::{RunningGroup, absence},
    manager::Manager,
};
use crate::{
    core::Event,
    link::{Device, Ioctl},
};

/// Whether a message reports another name of a member's interface or the group interface.
pub fn is_renamed(group: &RunningGroup, reported: &Device) -> bool {
    if reported.ifindex == group.interface.ifindex {
        return reported.name != group.interface.name;
    }
    group.members.values().any(|member| member.ifindex == reported.ifindex && member.name != reported.name)
}

/// Reads the present names of all group interfaces and members, and logs those that have changed. Two may have swapped
/// theirs: all are changed at once.
pub fn follow(manager: &mut Manager, trigger: &Trigger) {
    match Ioctl::open() {
        Ok(ioctl) => {
            follow_groups(manager, trigger, &ioctl);
            follow_members(manager, trigger, &ioctl);
        }
        Err(error) => log::warn!("names of interfaces cannot be read: {error}"),
    }
}

fn follow_groups(manager: &mut Manager, trigger: &Trigger, ioctl: &Ioctl) {
    let renamed = manager.groups.iter().filter_map(|(name, group)| {
        let now = ioctl.name(group.interface.ifindex)?;
        (now != *name).then(|| (name.clone(), now))
    });
    let renamed: Vec<(String, String)> = renamed.collect();
    if renamed.is_empty() {
        return;
    }
    if let Err(error) = manager.datapath.rename_groups(&renamed) {
        log::error!("{error}; the groups keep their former names");
        return;
    }
    manager.file.rename_groups(&renamed);
    manager.event_log.rename_groups(&renamed);
    manager.file.save_or_log();
    let removed: Vec<_> = renamed.iter().map(|(before, _)| manager.groups.remove(before)).collect();
    for ((before, now), group) in renamed.into_iter().zip(removed) {
        let Some(mut group) = group else { continue };
        group.core.rename(&now);
        group.datapath.set_name(&now);
        if group.groupname == before {
            group.groupname.clone_from(&now);
        }
        group.interface.name.clone_from(&now);
        manager.groups.insert(now.clone(), group);
        let event = Event::GroupRenamed { before, group: now.clone() };
        manager.log(trigger, Some(&now), &event);
    }
}

/// The members of a group that have other names now, by number.
fn renamed_members(group: &RunningGroup, ioctl: &Ioctl) -> BTreeMap<u8, String> {
    let renamed = group.members.iter().filter_map(|(&number, member)| {
        let now = ioctl.name(member.ifindex)?;
        (now != member.name).then_some((number, now))
    });
    renamed.collect()
}

fn follow_members(manager: &mut Manager, trigger: &Trigger, ioctl: &Ioctl) {
    let (groups, mut context) = manager.context(trigger);
    let mut is_changed = false;
    let all = groups.iter().map(|(name, group)| (name.clone(), renamed_members(group, ioctl)));
    let all: Vec<(String, BTreeMap<u8, String>)> = all.filter(|(_, renamed)| !renamed.is_empty()).collect();
    for name in all.iter().flat_map(|(_, renamed)| renamed.values()) {
        groups.values_mut().for_each(|group| absence::release_name(group, &mut context, name));
    }
    for (group, renamed) in all {
        let Some(group) = groups.get_mut(&group) else { continue };
        is_changed = true;
        group.core.rename_members(&renamed);
        let name = group.interface.name.clone();
        if let Some(saved) = context.file.state.groups.get_mut(&name) {
            saved.rename_members(&renamed);
        }
        for (number, now) in renamed {
            let Some(member) = group.members.get_mut(&number) else { continue };
            let before = std::mem::replace(&mut member.name, now.clone());
            if let Err(error) = group.datapath.set_member_name(number, &now) {
                log::error!(group = name.as_str(), member = now.as_str(); "{error}");
            }
            let event = Event::MemberRenamed { before, member: now, group: name.clone() };
            context.log(&name, &event);
        }
    }
    if is_changed {
        context.file.save_or_log();
    }
}
