//! Devices that are those of absent members: they rejoin (docs/design/identity-of-members.md).
//!
//! A device is checked when the kernel reports it, when everything is read again, at the start, and before `attach`.

use super::{
    events::trigger::Trigger,
    group::{RunningGroup, absence},
    loading,
    manager::Manager,
    state_file::{SavedMember, recognise},
};
use crate::link::{Device, GroupInterface};

/// Checks a device that the kernel reported.
pub async fn check_device(manager: &mut Manager, trigger: &Trigger, device: &Device) {
    let is_known = manager.groups.values().any(|group| group.is_own_device(device.ifindex));
    let mut absent = manager.groups.values().flat_map(|group| absent_members(manager, group));
    let may_return = !is_known && absent.any(|(_, _, member)| member.may_be(device));
    drop(absent);
    if may_return {
        check(manager, trigger, false).await;
    }
}

/// Checks all devices. `at_once`: does not wait for another name.
pub async fn check(manager: &mut Manager, trigger: &Trigger, at_once: bool) {
    if manager.groups.values().all(|group| !group.has_absent_members()) {
        manager.returns.begin(|_| false);
        return;
    }
    let devices = match manager.links.devices() {
        Ok(devices) => devices,
        Err(error) => return log::warn!("{error}; members that are absent do not rejoin"),
    };
    manager.returns.begin(|ifindex| devices.iter().any(|device| device.ifindex == ifindex));
    for (group, number, device) in found(manager, &devices) {
        rejoin(manager, trigger, (&group, number), &device, at_once).await;
    }
}

/// The absent members of a group with their records.
fn absent_members<'a>(
    manager: &'a Manager,
    group: &'a RunningGroup,
) -> impl Iterator<Item = (&'a str, u8, &'a SavedMember)> {
    let absent = group.core.members().iter().filter(|member| member.absent());
    absent.filter_map(|member| {
        let saved = manager.file.group(group.name())?.members.get(&member.number())?;
        Some((group.name(), member.number(), saved))
    })
}

/// The absent members that devices are recognised as.
fn found(manager: &Manager, devices: &[Device]) -> Vec<(String, u8, Device)> {
    let absent: Vec<_> = manager.groups.values().flat_map(|group| absent_members(manager, group)).collect();
    let is_free = |device: &&Device| {
        device.ethernet
            && !GroupInterface::is_far_end(device)
            && manager.groups.values().all(|group| !group.is_own_device(device.ifindex))
    };
    let free: Vec<&Device> = devices.iter().filter(is_free).collect();
    let members: Vec<&SavedMember> = absent.iter().map(|(_, _, member)| *member).collect();
    let pairs = recognise(&members, &free);
    pairs
        .into_iter()
        .map(|(member, device)| (absent[member].0.to_owned(), absent[member].1, free[device].clone()))
        .collect()
}

async fn rejoin(
    manager: &mut Manager,
    trigger: &Trigger,
    (name, number): (&str, u8),
    device: &Device,
    at_once: bool,
) {
    let saved = manager.file.group(name).and_then(|saved| saved.members.get(&number));
    let Some(before) = saved.and_then(|saved| saved.absent.as_ref()).map(|absent| absent.name.clone()) else {
        return;
    };
    if !at_once && manager.returns.waits_for_name(device, &before) {
        return;
    }
    let obstacle = if device.master.is_some() {
        Some(format!("it is a port of another interface; ip link set {} nomaster", device.name))
    } else if device.xdp.is_some() {
        Some(format!("it has an XDP program of another program; ip link set {} xdp off", device.name))
    } else {
        None
    };
    let result = match obstacle {
        Some(why) => Err(why),
        None => {
            if let Some(group) = manager.groups.get(name) {
                let ingress = group.datapath.prepare_ingress();
                if let Err(error) = loading::load(manager, vec![ingress]).await {
                    log::debug!("{error}");
                }
            }
            let (groups, mut context) = manager.context(trigger);
            for group in groups.values_mut() {
                let is_own = group.core.member(number).is_some_and(|member| member.name() == device.name);
                if group.name() != name || !is_own {
                    absence::release_name(group, &mut context, &device.name);
                }
            }
            let Some(group) = groups.get_mut(name) else { return };
            match absence::rejoin(group, &mut context, number, device).await {
                // Its removal is reported by another event.
                Err(absence::Error::Link(error)) if error.is_missing() => Ok(()),
                Err(absence::Error::Datapath(error)) if error.is_vanished() => Ok(()),
                result => result.map_err(|error| error.to_string()),
            }
        }
    };
    if let Err(why) = result
        && manager.returns.note(device.ifindex, &why)
    {
        log::warn!(group = name, member = device.name.as_str(); "{} has returned, and cannot rejoin {name}: {why}",
            device.name);
    }
}
