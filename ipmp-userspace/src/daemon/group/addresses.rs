//! The data addresses of a group, and the own addresses of its members.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipmp_common::maps::MAX_ADDRESSES;

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
    /// Those for which the datapath has no room, and whether that was logged.
    over_limit: BTreeMap<(IpAddr, u8), bool>,
    /// Counts the changes.
    version: u64,
}

/// A change of an address of the group interface.
#[derive(Clone, Copy, Debug)]
pub struct AddressChange {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length in bits.
    pub prefix: u8,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happens to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was added.
    Added,
    /// It was added, and this host had it before: no other host has it.
    Moved,
    /// It was removed.
    Removed,
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
        let all = self.all.iter().chain(self.over_limit.keys());
        all.filter(|known| !present.contains(known)).copied().collect()
    }

    /// Which of them are not used, if there are too many, a sentence.
    pub fn over_limit_message(&self) -> Option<String> {
        let ((first, prefix), _) = self.over_limit.first_key_value()?;
        let others = match self.over_limit.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} others"),
        };
        Some(format!(
            "data address {first}/{prefix}{others}: not used, because the group and its members already have {MAX_ADDRESSES} \
             addresses; remove others, or use another group"
        ))
    }
}

/// How many more addresses the datapath has room for.
pub fn room(group: &RunningGroup) -> usize {
    let own: usize = group.members.values().map(|member| member.addresses.len()).sum();
    (MAX_ADDRESSES as usize).saturating_sub(group.addresses.all.len() + own)
}

/// Addresses of the group interface were added or removed, in this order. Those that were added are data addresses at once, as
/// far as there is room for them. Many of them cost little more than one.
pub async fn change(group: &mut RunningGroup, context: &mut Context<'_>, changes: &[AddressChange]) {
    if changes.is_empty() {
        return;
    }
    group.addresses.version += 1;
    let mut inputs = Vec::new();
    // Addresses that are removed keep their room until the datapath has released it.
    let mut free = room(group);
    for &AddressChange { address, prefix, kind } in changes {
        if kind == ChangeKind::Removed {
            inputs.extend(remove_known(group, context, address, prefix).then_some((address, false)));
        } else if group.addresses.contains(address) {
            group.addresses.all.insert((address, prefix));
        } else if free == 0 {
            group.addresses.over_limit.entry((address, prefix)).or_insert(false);
        } else {
            free -= 1;
            if kind == ChangeKind::Added {
                group.addresses.new.insert(address);
            }
            add_unknown(group, context, address, prefix);
            inputs.push((address, true));
        }
    }
    group.filters.multicast_changed();
    let removed: Vec<IpAddr> =
        inputs.iter().filter(|(_, added)| !added).map(|(address, _)| *address).collect();
    tell(group, context, inputs).await;
    for address in removed.into_iter().filter(|address| !group.addresses.contains(*address)) {
        // On a member that has the same address, it is that member's own now.
        let owner = group.members.iter().find(|(_, member)| member.addresses.contains_key(&address));
        if let Some((&number, _)) = owner
            && let Err(error) = group.datapath.set_own_address(address, number)
        {
            log::error!(group = group.name(); "{error}");
        }
    }
    if !group.addresses.over_limit.is_empty() {
        add_waiting(group, context).await;
    }
}

async fn tell(group: &mut RunningGroup, context: &mut Context<'_>, mut inputs: Vec<(IpAddr, bool)>) {
    let input = match inputs.as_slice() {
        [] => return,
        &[(address, true)] => Input::AddressAdded(address),
        &[(address, false)] => Input::AddressRemoved(address),
        _ => Input::Addresses(std::mem::take(&mut inputs)),
    };
    actions::tell(group, context, input).await;
}

fn add_unknown(group: &mut RunningGroup, context: &mut Context<'_>, address: IpAddr, prefix: u8) {
    group.addresses.all.insert((address, prefix));
    let name = group.name().to_owned();
    context.log(group.name(), &Event::AddressAdded { address, group: name });
    followers::forget_learnt(group, address);
}

/// Removes an address; returns whether this is news to the state machine.
fn remove_known(group: &mut RunningGroup, context: &mut Context<'_>, address: IpAddr, prefix: u8) -> bool {
    if group.addresses.over_limit.remove(&(address, prefix)).is_some() {
        return false;
    }
    let was_known = group.addresses.all.remove(&(address, prefix));
    if group.addresses.contains(address) {
        return false;
    }
    group.addresses.new.remove(&address);
    group.conflicts.forget(address);
    if was_known {
        let name = group.name().to_owned();
        context.log(group.name(), &Event::AddressRemoved { address, group: name });
    }
    true
}

/// Adds the addresses for which there is room now, and logs the others once.
async fn add_waiting(group: &mut RunningGroup, context: &mut Context<'_>) {
    let mut inputs = Vec::new();
    for _ in 0..room(group) {
        let Some(((address, prefix), _)) = group.addresses.over_limit.pop_first() else { break };
        group.addresses.new.insert(address);
        add_unknown(group, context, address, prefix);
        inputs.push((address, true));
    }
    tell(group, context, inputs).await;
    let unlogged: Vec<IpAddr> = group
        .addresses
        .over_limit
        .iter_mut()
        .filter_map(|((address, _), is_logged)| (!std::mem::replace(is_logged, true)).then_some(*address))
        .collect();
    for address in unlogged {
        let name = group.name().to_owned();
        context.log(group.name(), &Event::AddressOverLimit { address, group: name, limit: MAX_ADDRESSES });
    }
}

/// Duplicate address detection found another host with an address of the group.
pub fn set_duplicate(group: &mut RunningGroup, context: &mut Context<'_>, address: IpAddr) {
    if group.addresses.duplicates.insert(address) {
        let name = group.name().to_owned();
        context.log(group.name(), &Event::AddressDuplicate { address, group: name });
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
