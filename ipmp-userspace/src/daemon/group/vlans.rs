//! VLAN devices on the group interface, and the addresses on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Context, RunningGroup, followers};
use crate::{
    announce::Announcement,
    daemon::{clock::now, events::trigger::Trigger},
    datapath,
};

/// An address on a VLAN device: the device, the address and its prefix length.
pub type VlanAddress = (u32, IpAddr, u8);

/// The VLANs of a group.
#[derive(Debug, Default)]
pub struct Vlans {
    /// VLAN ids by interface index.
    devices: BTreeMap<u32, u16>,
    addresses: BTreeSet<VlanAddress>,
    /// Counts the changes of the addresses.
    version: u64,
}

impl Vlans {
    /// Interface indexes of the VLAN devices.
    pub fn devices(&self) -> impl Iterator<Item = u32> {
        self.devices.keys().copied()
    }

    /// VLAN devices with their VLAN ids.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u16)> {
        self.devices.iter().map(|(ifindex, vlan)| (*ifindex, *vlan))
    }

    /// The VLAN id of a device on the group interface.
    pub fn id_of(&self, ifindex: u32) -> Option<u16> {
        self.devices.get(&ifindex).copied()
    }

    /// The VLAN ids.
    pub fn ids(&self) -> BTreeSet<u16> {
        self.devices.values().copied().collect()
    }

    /// Another number after each change of the addresses.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// The addresses on VLAN devices, each with its VLAN id.
    pub fn addresses(&self) -> impl Iterator<Item = (Option<u16>, IpAddr)> {
        self.addresses.iter().map(|(ifindex, address, _)| (self.id_of(*ifindex), *address))
    }
}

/// A VLAN device was created on the group interface, or (`None`) is not on it.
pub fn set_device(group: &mut RunningGroup, ifindex: u32, vlan: Option<u16>) -> Result<(), datapath::Error> {
    let before = match vlan {
        Some(vlan) => group.vlans.devices.insert(ifindex, vlan),
        None => group.vlans.devices.remove(&ifindex),
    };
    if before == vlan {
        return Ok(());
    }
    group.filters.vlans_changed();
    group.vlans.addresses.retain(|(device, ..)| *device != ifindex);
    let vlans: Vec<u16> = group.vlans.devices.values().copied().collect();
    group.datapath.set_vlans(&vlans)
}

/// A VLAN device of this host was created, changed or deleted; it may be one of a member.
pub fn recheck(group: &mut RunningGroup) {
    if !group.vlans.is_empty() {
        group.filters.vlans_changed();
    }
}

/// An address was added to a VLAN device of the group.
pub fn add_address(group: &mut RunningGroup, context: &mut Context<'_>, added: VlanAddress) {
    let (ifindex, address, _) = added;
    group.vlans.version += 1;
    if group.vlans.addresses.insert(added)
        && let Some(announcement) = followers::announcement(group, group.vlans.id_of(ifindex), address)
    {
        let is_new = !matches!(context.trigger, Trigger::Start);
        context.schedule.announce(Announcement { probe: is_new, ..announcement }, now());
    }
}

/// An address was removed from a VLAN device of the group.
pub fn remove_address(group: &mut RunningGroup, context: &mut Context<'_>, removed: VlanAddress) {
    let (ifindex, address, _) = removed;
    group.vlans.version += 1;
    group.vlans.addresses.remove(&removed);
    let is_left = group.vlans.addresses.iter().any(|(other, same, _)| (*other, *same) == (ifindex, address));
    if !is_left && let Some(vlan) = group.vlans.id_of(ifindex) {
        context.schedule.stop_in_vlan(group.interface.ifindex, vlan, address);
    }
}

/// Removes the addresses that are not among the present ones.
pub fn retain_addresses(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    present: &BTreeSet<VlanAddress>,
) {
    let missing: Vec<VlanAddress> = group.vlans.addresses.difference(present).copied().collect();
    for removed in missing {
        remove_address(group, context, removed);
    }
}
