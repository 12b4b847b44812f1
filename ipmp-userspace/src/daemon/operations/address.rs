//! `ipmpctl address`: data addresses.

use std::net::IpAddr;

use ipmp_common::maps::MAX_ADDRESSES;

use super::refusals::{address_exists, interface_name, kernel, no_such_group};
use crate::{
    control::{
        DataAddress,
        request::{Refused, reason},
    },
    daemon::{
        events::trigger::Trigger,
        group::addresses::{self, AddressChange, ChangeKind},
        manager::Manager,
        state_file::{SavedAddress, StateFile},
    },
    link::Address,
    types::Origin,
};

/// Adds data addresses, all or none.
pub async fn add(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    added: &[DataAddress],
    origin: Origin,
) -> Result<Vec<String>, Refused> {
    let known = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let (ifindex, name) = (known.interface.ifindex, known.interface.name.clone());
    if let Some(first) = added.get(addresses::room(known)) {
        let text = format!(
            "cannot add {first} to {group}: the group and its members can have {MAX_ADDRESSES} addresses; remove others, or use \
             another group"
        );
        return Err(Refused::new(reason::FULL, text));
    }
    let present = manager.links.addresses().await.map_err(|error| kernel(&error))?;
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
    // Saved first: what is left after a crash is known to be the group's.
    record(manager, group, added, origin)?;
    for (at, address) in added.iter().enumerate() {
        let wanted = Address::new(address.address(), address.prefix());
        if let Err(error) = manager.links.add_address(ifindex, &name, &wanted).await {
            for address in &added[..at] {
                let added = Address::new(address.address(), address.prefix());
                let _ = manager.links.delete_address(ifindex, &name, &added).await;
            }
            forget(&mut manager.file, group, added);
            return Err(kernel(&error));
        }
    }
    // An IPv6 address becomes a data address when the kernel reports the end of its duplicate address detection.
    let present = manager.links.addresses_of(ifindex).await.map_err(|error| kernel(&error))?;
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

/// Removes data addresses.
pub async fn remove(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    removed: &[DataAddress],
) -> Result<Vec<String>, Refused> {
    let (group, mut context) = manager.group(group, trigger).ok_or_else(|| no_such_group(group))?;
    let kernel_has =
        context.links.addresses_of(group.interface.ifindex).await.map_err(|error| kernel(&error))?;
    // Also those that are no data addresses: tentative ones, and those that another host has.
    let present: Vec<(IpAddr, u8)> =
        group.addresses.iter().chain(kernel_has.iter().map(|known| (known.ip, known.prefix))).collect();
    if let Some(missing) = removed.iter().find(|one| !present.contains(&(one.address(), one.prefix()))) {
        let text = format!(
            "{0} does not have the data address {missing}; `ipmpctl show {0}` lists those it has",
            group.name()
        );
        return Err(Refused::new(reason::NO_SUCH_ADDRESS, text));
    }
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
    let removed: Vec<DataAddress> = removed[..changes.len()].to_vec();
    forget(context.file, group.name(), &removed);
    result
}

/// Records which program added addresses.
fn record(manager: &mut Manager, group: &str, added: &[DataAddress], origin: Origin) -> Result<(), Refused> {
    let Some(saved) = manager.file.state.groups.get_mut(group) else { return Ok(()) };
    saved.added.retain(|known| !added.contains(&known.address));
    saved.added.extend(added.iter().map(|&address| SavedAddress { address, origin }));
    manager.file.save().map_err(|error| kernel(&error))
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
