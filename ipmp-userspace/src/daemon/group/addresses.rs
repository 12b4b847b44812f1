//! The data addresses of a group, and the own addresses of its members.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Context, RunningGroup, actions, followers};
use crate::{
    core::{Event, Input},
    datapath,
};

/// Addresses of the group interface with their prefix lengths.
#[derive(Debug, Default)]
pub struct DataAddresses {
    all: BTreeSet<(IpAddr, u8)>,
    /// Those that another host has, also on VLANs of the group: they are neither announced nor answered for.
    duplicates: BTreeSet<IpAddr>,
    /// Those that were never announced, and have not been moved from a NIC of this host.
    new: BTreeSet<IpAddr>,
    /// Counts the changes.
    version: u64,
}

impl DataAddresses {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        self.all.iter().copied()
    }

    /// Whether an address is on the group interface.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.all.range((address, 0)..=(address, u8::MAX)).next().is_some()
    }

    /// Addresses found in the maps. Whether they are still on the interface is not known yet.
    pub fn expect(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        // No address has this prefix length: the actual one is new, and this one is missing.
        self.version += 1;
        self.all.extend(addresses.into_iter().map(|address| (address, u8::MAX)));
    }

    /// Another number after each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether the address was never announced; it is now.
    pub fn take_new(&mut self, address: IpAddr) -> bool {
        self.new.remove(&address)
    }

    /// It was removed, or no other host has it.
    pub fn forget_duplicate(&mut self, address: IpAddr) {
        self.duplicates.remove(&address);
    }

    /// Those that are not among the present ones.
    pub fn missing_in(&self, present: &BTreeSet<(IpAddr, u8)>) -> Vec<(IpAddr, u8)> {
        self.all.difference(present).copied().collect()
    }
}

/// An address was added to the group interface. It is a data address at once.
pub async fn add(group: &mut RunningGroup, context: &mut Context<'_>, address: IpAddr, prefix: u8) {
    if !group.addresses.contains(address) {
        group.addresses.new.insert(address);
    }
    add_moved(group, context, address, prefix).await;
}

/// As [`add`], of an address that this host had before: no other host has it.
pub async fn add_moved(group: &mut RunningGroup, context: &mut Context<'_>, address: IpAddr, prefix: u8) {
    let is_known = group.addresses.contains(address);
    group.addresses.all.insert((address, prefix));
    group.addresses.version += 1;
    if !is_known {
        let name = group.name().to_owned();
        context.log(group.name(), &Event::AddressAdded { address, group: name });
        followers::forget_learnt(group, address);
        group.filters.multicast_changed();
        actions::tell(group, context, Input::AddressAdded(address)).await;
    }
}

/// Duplicate address detection found another host with an address of the group.
pub fn set_duplicate(group: &mut RunningGroup, context: &mut Context<'_>, address: IpAddr) {
    if group.addresses.duplicates.insert(address) {
        let name = group.name().to_owned();
        context.log(group.name(), &Event::AddressDuplicate { address, group: name });
    }
}

/// An address was removed from the group interface.
pub async fn remove(group: &mut RunningGroup, context: &mut Context<'_>, address: IpAddr, prefix: u8) {
    let was_known = group.addresses.all.remove(&(address, prefix));
    group.addresses.version += 1;
    if group.addresses.contains(address) {
        return;
    }
    group.addresses.new.remove(&address);
    group.conflicts.forget(address);
    if was_known {
        let name = group.name().to_owned();
        context.log(group.name(), &Event::AddressRemoved { address, group: name });
    }
    group.filters.multicast_changed();
    actions::tell(group, context, Input::AddressRemoved(address)).await;
    // On a member that has the same address, it is that member's own now.
    let owner = group.members.iter().find(|(_, member)| member.addresses.contains_key(&address));
    if let Some((&number, _)) = owner
        && let Err(error) = group.datapath.set_own_address(address, number)
    {
        log::error!(group = group.name(); "{error}");
    }
}

/// A member has an address of its own: a test address or its link-local address.
pub fn add_own(
    group: &mut RunningGroup,
    number: u8,
    address: IpAddr,
    prefix: u8,
) -> Result<(), datapath::Error> {
    if let Some(member) = group.members.get_mut(&number) {
        member.addresses.insert(address, prefix);
    }
    followers::forget_learnt(group, address);
    // A data address that is still on the NIC it came from belongs to the group.
    if group.addresses.contains(address) { Ok(()) } else { group.datapath.set_own_address(address, number) }
}

fn remove_own(group: &mut RunningGroup, number: u8, address: IpAddr) -> Result<(), datapath::Error> {
    if let Some(member) = group.members.get_mut(&number) {
        member.addresses.remove(&address);
    }
    if group.addresses.contains(address) { Ok(()) } else { group.datapath.remove_address(address) }
}

/// Updates the own addresses of a member to those that are present.
pub fn set_own(
    group: &mut RunningGroup,
    number: u8,
    present: &[crate::link::Address],
) -> Result<(), datapath::Error> {
    let Some(member) = group.members.get(&number) else { return Ok(()) };
    let before = member.addresses.clone();
    for (ip, _) in before.iter().filter(|(ip, _)| present.iter().all(|address| address.ip != **ip)) {
        remove_own(group, number, *ip)?;
    }
    for address in present.iter().filter(|address| before.get(&address.ip) != Some(&address.prefix)) {
        add_own(group, number, address.ip, address.prefix)?;
    }
    Ok(())
}
