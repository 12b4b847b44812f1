//! VLAN devices on the group interface, and the addresses on them: their inbound roles, and their announcements.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipmp_common::{maps::MAX_VLAN_ADDRESSES, steer::Preference};

use super::{Context, RunningGroup, followers};
use crate::{
    announce::Announcement,
    core::vlan_roles::{VlanAction, VlanRoles},
    daemon::{clock::now, events::trigger::Trigger},
    datapath,
    link::sysctl,
};

/// An address on a VLAN device: the device, the address and its prefix length.
pub type VlanAddress = (u32, IpAddr, u8);

/// The VLANs of a group.
#[derive(Debug, Default)]
pub struct Vlans {
    /// VLAN ids by interface index.
    devices: BTreeMap<u32, u16>,
    addresses: BTreeSet<VlanAddress>,
    /// The inbound members of the addresses.
    roles: VlanRoles,
    /// Addresses for which there is no room: they follow the cast member.
    without_role: BTreeSet<(u16, IpAddr)>,
    /// Counts the changes of the addresses.
    version: u64,
}

impl Vlans {
    /// No VLANs yet, and the inbound roles that an earlier daemon has left.
    pub fn adopted(lists: Vec<(u16, IpAddr, Preference)>) -> Self {
        let lists = lists.into_iter().map(|(vlan, address, list)| ((vlan, address), list));
        Self { roles: VlanRoles::adopted(lists), ..Self::default() }
    }

    /// The addresses that follow the cast member, for want of room in the map.
    pub fn without_role(&self) -> impl Iterator<Item = (u16, IpAddr)> {
        self.without_role.iter().copied()
    }

    /// Whether any device has the address in this VLAN.
    pub fn contains(&self, vlan: u16, address: IpAddr) -> bool {
        self.addresses().any(|known| known == (Some(vlan), address))
    }
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
    let removed = group.vlans.addresses.extract_if(.., |(device, ..)| *device == ifindex);
    let removed: BTreeSet<IpAddr> = removed.map(|(_, address, _)| address).collect();
    for address in removed {
        if let Some(before) = before.filter(|before| !group.vlans.contains(*before, address)) {
            group.vlans.roles.remove((before, address));
            group.vlans.without_role.remove(&(before, address));
        }
    }
    group.vlans.version += 1;
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
    let is_added = group.vlans.addresses.insert(added);
    let Some(vlan) = group.vlans.id_of(ifindex).filter(|_| is_added) else { return };
    follow_members(group);
    if group.vlans.roles.add((vlan, address)) {
        apply(group, context, (!matches!(context.trigger, Trigger::Start)).then_some((vlan, address)));
    } else if group.vlans.without_role.insert((vlan, address)) {
        log::warn!(
            group = group.name();
            "address {address} in VLAN {vlan} of group {} uses the member for multicast and broadcast: more than \
             {MAX_VLAN_ADDRESSES} addresses are on VLANs", group.name()
        );
        if let Some(announcement) = followers::announcement(group, Some(vlan), address) {
            context.schedule.announce(announcement, now());
        }
    }
}

/// An address was removed from a VLAN device of the group.
pub fn remove_address(group: &mut RunningGroup, context: &mut Context<'_>, removed: VlanAddress) {
    let (ifindex, address, _) = removed;
    group.vlans.version += 1;
    group.vlans.addresses.remove(&removed);
    let Some(vlan) = group.vlans.id_of(ifindex) else { return };
    if group.vlans.contains(vlan, address) {
        return;
    }
    if group.vlans.without_role.remove(&(vlan, address)) {
        context.schedule.stop_in_vlan(group.interface.ifindex, vlan, address);
    } else {
        group.vlans.roles.remove((vlan, address));
        apply(group, context, None);
    }
}

/// Moves the addresses of members that are no longer active, and spreads them over new ones.
pub fn follow(group: &mut RunningGroup, context: &mut Context<'_>) {
    if follow_members(group) {
        apply(group, context, None);
    }
}

fn follow_members(group: &mut RunningGroup) -> bool {
    let members = group.core.members().iter().map(|member| (member.number(), member.mac())).collect();
    group.vlans.roles.follow(group.core.active(), members)
}

/// Applies what has changed in the roles. A new address is probed for first, if the group detects conflicts.
pub fn apply(group: &mut RunningGroup, context: &mut Context<'_>, new: Option<(u16, IpAddr)>) {
    for action in group.vlans.roles.actions() {
        let result = match action {
            VlanAction::SetInbound((vlan, address), list) => {
                group.datapath.set_inbound_in_vlan(vlan, address, list)
            }
            VlanAction::Forget((vlan, address)) => group.datapath.remove_in_vlan(vlan, address),
            VlanAction::Announce((vlan, address), member) => {
                if let Some(announcement) = announcement(group, vlan, address, member) {
                    let probe = new == Some((vlan, address));
                    context.schedule.announce(Announcement { probe, ..announcement }, now());
                }
                Ok(())
            }
            VlanAction::StopAnnouncing((vlan, address)) => {
                context.schedule.stop_in_vlan(group.interface.ifindex, vlan, address);
                Ok(())
            }
        };
        if let Err(error) = result {
            log::error!(group = group.name(); "{error}");
        }
    }
}

fn announcement(group: &RunningGroup, vlan: u16, address: IpAddr, number: u8) -> Option<Announcement> {
    let (ifindex, mac) = (group.members.get(&number)?.ifindex, group.core.member(number)?.mac());
    let router = address.is_ipv6() && sysctl::forwards_ipv6(group.name());
    let vlan = Some(vlan);
    Some(Announcement { group: group.interface.ifindex, vlan, address, ifindex, mac, router, probe: false })
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
    group.vlans.roles.forget_adopted();
    apply(group, context, None);
}
