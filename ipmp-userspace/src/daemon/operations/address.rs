//! `ipmpctl address`: data addresses.

use std::{collections::BTreeMap, net::IpAddr};

use ipmp_common::maps::MAX_ADDRESSES;

use super::refusals::{address_exists, interface_name, kernel, no_such_group, not_in_group};
use crate::{
    control::{
        DataAddress,
        request::{Refused, reason},
    },
    core::Input,
    daemon::{
        again::again,
        events::trigger::Trigger,
        group::{
            RunningGroup, actions,
            addresses::{self, AddressChange, ChangeKind},
        },
        manager::Manager,
        state_file::{SavedAddress, SavedInbound, StateFile},
    },
    link::Address,
    types::Origin,
};

/// The preferred inbound member of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Its name.
    pub member: String,
    /// Number of its logical interface in the classic display.
    pub logical: Option<u16>,
}

/// Adds data addresses, all or none. Those that the group has already are accepted with `inbound`, which becomes their
/// preference.
pub async fn add(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    addresses: &[DataAddress],
    inbound: Option<Inbound>,
    origin: Origin,
) -> Result<Vec<String>, Refused> {
    let (preference, added) = check(manager, group, addresses, inbound.as_ref(), origin).await?;
    let mut wanted = preferences(manager, group);
    let before = wanted.clone();
    for address in addresses {
        let _ = match preference {
            Some(preference) => wanted.insert(address.address(), preference),
            None => wanted.remove(&address.address()),
        };
    }
    set_preferences(manager, trigger, group, wanted).await?;
    let result = add_new(manager, trigger, group, &added, origin).await;
    if result.is_err()
        && let Err(refused) = set_preferences(manager, trigger, group, before).await
    {
        log::error!(group = group; "{refused}");
    }
    result
}

/// Refuses addresses that cannot be added. Returns the preference, and the addresses that the group does not have yet.
pub async fn check(
    manager: &Manager,
    group: &str,
    addresses: &[DataAddress],
    inbound: Option<&Inbound>,
    origin: Origin,
) -> Result<(Option<SavedInbound>, Vec<DataAddress>), Refused> {
    let known = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let preference = match inbound {
        Some(Inbound { member, logical }) => {
            let number = known.number_named(member).ok_or_else(|| not_in_group(member, group))?;
            Some(SavedInbound { member: number, logical: *logical })
        }
        None => None,
    };
    let is_known = |known: &RunningGroup, address: &DataAddress| {
        known.addresses.iter().any(|known| known == (address.address(), address.prefix()))
    };
    let is_new = |address: &&DataAddress| preference.is_none() || !is_known(known, address);
    let added: Vec<DataAddress> = addresses.iter().filter(is_new).copied().collect();
    check_new(manager, group, &added, origin).await?;
    Ok((preference, added))
}

/// The preferred inbound members of addresses of a group.
fn preferences(manager: &Manager, group: &str) -> BTreeMap<IpAddr, SavedInbound> {
    manager.file.group(group).map(|saved| saved.inbound.clone()).unwrap_or_default()
}

/// Saves and applies preferred inbound members.
pub async fn set_preferences(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    wanted: BTreeMap<IpAddr, SavedInbound>,
) -> Result<(), Refused> {
    let Some(saved) = manager.file.state.groups.get_mut(group) else { return Ok(()) };
    if saved.inbound == wanted {
        return Ok(());
    }
    let before = std::mem::replace(&mut saved.inbound, wanted.clone());
    if let Err(error) = manager.file.save() {
        if let Some(saved) = manager.file.state.groups.get_mut(group) {
            saved.inbound = before;
        }
        return Err(kernel(&error));
    }
    let all: std::collections::BTreeSet<IpAddr> = before.keys().chain(wanted.keys()).copied().collect();
    let member = |of: &BTreeMap<IpAddr, SavedInbound>, address| of.get(&address).map(|to| to.member);
    let changed: Vec<(IpAddr, Option<u8>)> = all
        .into_iter()
        .map(|address| (address, member(&wanted, address)))
        .filter(|(address, to)| member(&before, *address) != *to)
        .collect();
    if let Some((group, mut context)) = manager.group(group, trigger).filter(|_| !changed.is_empty()) {
        actions::tell(group, &mut context, Input::Prefer(changed)).await;
    }
    Ok(())
}

/// Refuses addresses for which there is no room, or that this host has already. The group need not exist yet.
pub async fn check_new(
    manager: &Manager,
    group: &str,
    added: &[DataAddress],
    origin: Origin,
) -> Result<(), Refused> {
    let known = manager.groups.get(group);
    let ifindex = known.map_or(0, |known| known.interface.ifindex);
    if let Some(first) = added.get(known.map_or(MAX_ADDRESSES as usize, addresses::room)) {
        let text = format!(
            "cannot add {first} to {group}: the group and its members can have {MAX_ADDRESSES} addresses; remove others, or use \
             another group"
        );
        return Err(Refused::new(reason::FULL, text));
    }
    let present = manager.links.addresses().map_err(|error| kernel(&error))?;
    for address in added {
        // A file may change the prefix length of an address: the old one is removed afterwards.
        let is_other_prefix = |index: u32, other: &Address| {
            origin == Origin::File && index == ifindex && other.prefix != address.prefix()
        };
        let mut same = present.iter().filter(|(_, other)| other.ip == address.address());
        if let Some((index, _)) = same.find(|(index, other)| !is_other_prefix(*index, other)) {
            let on = interface_name(&manager.links, *index).await;
            return Err(address_exists(address.address(), &on));
        }
    }
    Ok(())
}

/// Adds addresses, all or none.
async fn add_new(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    added: &[DataAddress],
    origin: Origin,
) -> Result<Vec<String>, Refused> {
    let known = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let (ifindex, name) = (known.interface.ifindex, known.interface.name.clone());
    // Saved first: what is left after a crash is known to be the group's.
    record(manager, group, added, origin)?;
    for (at, address) in added.iter().enumerate() {
        let wanted = Address::new(address.address(), address.prefix());
        if let Err(error) = manager.links.add_address(ifindex, &name, &wanted).await {
            for address in &added[..at] {
                let added = Address::new(address.address(), address.prefix());
                let _ = again(async || manager.links.delete_address(ifindex, &name, &added).await).await;
            }
            forget(&mut manager.file, group, added);
            return Err(kernel(&error));
        }
    }
    // An IPv6 address becomes a data address when the kernel reports the end of its duplicate address detection.
    let present = manager.links.addresses_of(ifindex).map_err(|error| kernel(&error))?;
    let is_ready = |added: &&DataAddress| {
        let known = present.iter().find(|known| known.ip == added.address());
        known.is_some_and(|known| !known.is_tentative() && !known.is_duplicate())
    };
    if let Some((group, mut context)) = manager.group(group, trigger) {
        let added: Vec<_> =
            added.iter().filter(is_ready).map(|address| change(address, ChangeKind::Added)).collect();
        addresses::change(group, &mut context, &added).await;
    }
    Ok(Vec::new())
}

/// Removes data addresses that the group has.
pub async fn remove(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    removed: &[DataAddress],
) -> Result<Vec<String>, Refused> {
    let group_name = group;
    let (group, mut context) = manager.group(group, trigger).ok_or_else(|| no_such_group(group))?;
    let mut result = Ok(Vec::new());
    let mut changes = Vec::new();
    for address in removed {
        let deleted = Address::new(address.address(), address.prefix());
        let (ifindex, name) = (group.interface.ifindex, group.interface.name.clone());
        if let Err(error) = context.links.delete_address(ifindex, &name, &deleted).await {
            result = Err(kernel(&error));
            break;
        }
        changes.push(change(address, ChangeKind::Removed));
    }
    addresses::change(group, &mut context, &changes).await;
    forget(&mut manager.file, group_name, &removed[..changes.len()]);
    let mut wanted = preferences(manager, group_name);
    wanted.retain(|address, _| !changes.iter().any(|change| change.address == *address));
    set_preferences(manager, trigger, group_name, wanted).await?;
    result
}

/// All addresses of a group: also those that are no data addresses, tentative ones and those that another host has.
pub async fn all_of(manager: &Manager, group: &str) -> Result<Vec<(IpAddr, u8)>, Refused> {
    let group = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let kernel_has = manager.links.addresses_of(group.interface.ifindex).map_err(|error| kernel(&error))?;
    Ok(group.addresses.iter().chain(kernel_has.iter().map(|known| (known.ip, known.prefix))).collect())
}

/// Records which program added addresses.
fn record(manager: &mut Manager, group: &str, added: &[DataAddress], origin: Origin) -> Result<(), Refused> {
    let Some(saved) = manager.file.state.groups.get_mut(group) else { return Ok(()) };
    let before = saved.added.clone();
    saved.added.retain(|known| !added.contains(&known.address));
    saved.added.extend(added.iter().map(|&address| SavedAddress { address, origin }));
    let result = manager.file.save();
    if result.is_err()
        && let Some(saved) = manager.file.state.groups.get_mut(group)
    {
        saved.added = before;
    }
    result.map_err(|error| kernel(&error))
}

fn forget(file: &mut StateFile, group: &str, removed: &[DataAddress]) {
    if let Some(saved) = file.state.groups.get_mut(group) {
        saved.added.retain(|known| !removed.contains(&known.address));
        file.save_or_log();
    }
}

fn change(address: &DataAddress, kind: ChangeKind) -> AddressChange {
    AddressChange { address: address.address(), prefix: address.prefix(), kind }
}
