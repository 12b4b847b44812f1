//! Changes of devices, addresses, neighbours and routes that the kernel reports.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    events::trigger::Trigger,
    group::{
        Context, RunningGroup, absence,
        addresses::{self, AddressChange, ChangeKind},
        links, members, probe_replies, route_targets,
        routing_table::RouteReport,
        tasks::TaskResult,
        test_addresses, vlans,
    },
    loading,
    manager::Manager,
    operations::destroy,
    renames, returns,
};
use crate::{
    core::Event,
    link::{self, Address, Change, Device, Neighbour},
};

/// Handles a change. Messages that the kernel dropped are [`Change::Lost`], for which the caller calls [`resync`].
pub async fn apply(manager: &mut Manager, trigger: &Trigger, change: Change) {
    match change {
        Change::Device(device) => device_changed(manager, trigger, &device).await,
        Change::Removed { ifindex } => device_deleted(manager, trigger, ifindex).await,
        change @ (Change::Address { .. } | Change::AddressRemoved { .. }) => {
            addresses_changed(manager, trigger, &[change]).await;
        }
        Change::Neighbour(neighbour) => neighbour_changed(manager, trigger, &neighbour).await,
        Change::TestRuleRemoved { ifindex, ip } => {
            let (groups, context) = manager.context(trigger);
            test_addresses::rule_removed(groups, &context, ifindex, ip);
        }
        Change::TrafficControl { ifindex } => {
            let concerned = manager.groups.values_mut().filter(|group| group.is_own_device(ifindex));
            concerned.for_each(|group| group.hooks.changed());
        }
        Change::Lost => {}
    }
}

/// Handles the result of a query.
pub async fn apply_result(manager: &mut Manager, trigger: &Trigger, result: TaskResult) {
    match result {
        TaskResult::Change(change) => apply(manager, trigger, change).await,
        TaskResult::Routes(report) => routes_changed(manager, trigger, report).await,
        TaskResult::Loaded(loaded) => {
            let (preparation, program) = *loaded;
            loading::loaded(manager, preparation, program);
        }
    }
}

/// Compares everything with the kernel, as if every difference had been reported.
pub async fn resync(manager: &mut Manager, trigger: &Trigger) -> Result<(), link::Error> {
    renames::follow(manager, trigger);
    let devices = manager.links.devices()?;
    let known: Vec<u32> = manager.groups.values().flat_map(RunningGroup::devices).collect();
    for ifindex in known {
        // The list may be incomplete.
        if devices.iter().all(|device| device.ifindex != ifindex)
            && manager.links.device(ifindex).await?.is_none()
        {
            device_deleted(manager, trigger, ifindex).await;
        }
    }
    for device in &devices {
        if is_replaced(manager, device) {
            device_deleted(manager, trigger, device.ifindex).await;
        }
        device_changed(manager, trigger, device).await;
    }
    returns::check(manager, trigger, false).await;
    let addresses = manager.links.addresses()?;
    let changes: Vec<Change> = addresses
        .iter()
        .map(|(ifindex, address)| Change::Address { ifindex: *ifindex, address: address.clone() })
        .collect();
    addresses_changed(manager, trigger, &changes).await;
    remove_missing_addresses(manager, trigger, &addresses).await;
    reconcile_test_addresses(manager, trigger).await;
    let (groups, mut context) = manager.context(trigger);
    for group in groups.values_mut() {
        links::read_live(group, &mut context).await;
    }
    Ok(())
}

/// Compares the test addresses of all members with the kernel.
pub async fn reconcile_test_addresses(manager: &mut Manager, trigger: &Trigger) {
    let (groups, mut context) = manager.context(trigger);
    for group in groups.values_mut() {
        for number in group.members.keys().copied().collect::<Vec<_>>() {
            test_addresses::reconcile(group, &mut context, number).await;
        }
    }
}

/// Whether a device is another one than the member with its index: messages about it were lost.
fn is_replaced(manager: &Manager, device: &Device) -> bool {
    manager.groups.values().any(|group| {
        let number = group.number_of(device.ifindex);
        let saved = number.and_then(|number| manager.file.group(group.name())?.members.get(&number));
        let permanent = saved.and_then(|saved| saved.identity.permanent_mac);
        permanent.is_some() && device.permanent_mac.is_some() && permanent != device.permanent_mac
    })
}

/// A netlink message may be old: messages queue. Where it would make a difference the device is read again, so that only its
/// present state counts.
async fn device_changed(manager: &mut Manager, trigger: &Trigger, reported: &Device) {
    if reported.vlan.is_some() {
        manager.groups.values_mut().for_each(vlans::recheck);
    }
    if manager.groups.values().any(|group| renames::is_renamed(group, reported)) {
        renames::follow(manager, trigger);
    }
    let mut device = reported.clone();
    if manager.groups.values().any(|group| group.is_below_member(reported.ifindex)) {
        manager.datapath.request_tick();
    }
    if manager.groups.values().any(|group| links::differs(group, reported)) {
        manager.datapath.request_tick();
        match manager.links.device(reported.ifindex).await {
            Ok(Some(present)) => device = present,
            Ok(None) => return device_deleted(manager, trigger, reported.ifindex).await,
            Err(error) => log::warn!("{error}"),
        }
    }
    manager.route_reader.interface_changed(device.ifindex);
    let (groups, mut context) = manager.context(trigger);
    for group in groups.values_mut() {
        if let Some(number) = group.number_of(device.ifindex) {
            links::device_changed(group, &mut context, number, &device).await;
            if group.test_addresses.is_up_changed(number, device.flags) {
                test_addresses::reconcile(group, &mut context, number).await;
            }
        } else if group.interface.ifindex != device.ifindex {
            let vlan = device.vlan.filter(|_| device.below == Some(group.interface.ifindex));
            set_vlan(group, &mut context, device.ifindex, vlan);
        } else {
            if let Some(master) = device.master {
                links::leave_master(group, &context, master).await;
            }
            links::follow_mac(group, &mut context, device.mac).await;
        }
    }
    returns::check_device(manager, trigger, &device).await;
}

async fn device_deleted(manager: &mut Manager, trigger: &Trigger, ifindex: u32) {
    if manager.groups.values().any(|group| group.number_of(ifindex).is_some()) {
        manager.datapath.request_tick();
    }
    let dissolved = manager.groups.values().find(|group| group.interface.ifindex == ifindex);
    if let Some(name) = dissolved.map(|group| group.name().to_owned()) {
        return dissolve(manager, &name).await;
    }
    let (groups, mut context) = manager.context(trigger);
    for group in groups.values_mut() {
        vlans::recheck(group);
        match group.number_of(ifindex) {
            Some(number) => absence::device_deleted(group, &mut context, number).await,
            None => set_vlan(group, &mut context, ifindex, None),
        }
    }
}

fn set_vlan(group: &mut RunningGroup, context: &mut Context<'_>, ifindex: u32, vlan: Option<u16>) {
    let before = group.vlans.version();
    if let Err(error) = vlans::set_device(group, ifindex, vlan) {
        log::error!(group = group.name(); "{error}");
    }
    if group.vlans.version() != before {
        vlans::apply(group, context, None);
    }
}

/// Another program deleted the group interface: the group's members become ordinary interfaces again.
async fn dissolve(manager: &mut Manager, name: &str) {
    let trigger = &Trigger::Dissolution;
    let Some((group, mut context)) = manager.group(name, trigger) else { return };
    context.log(name, &Event::GroupInterfaceDeleted { group: name.to_owned() });
    let saved = context.file.group(name).cloned().unwrap_or_default();
    let names: Vec<String> = group.members.values().map(|member| member.name.clone()).collect();
    for member in names {
        members::detach(group, &mut context, &member).await;
    }
    // The configuration of the group interface was deleted with it: it is only added to the members.
    if let Err(error) = saved.restore(&manager.links, name, None).await {
        log::error!(group = name; "{error}");
    }
    destroy::remove_group(manager, trigger, name).await;
}

/// The interface and the address of a change of addresses, and whether the address exists now and no other host has it.
fn usable_address(change: &Change) -> Option<(u32, &Address, bool)> {
    match change {
        Change::Address { ifindex, address } => Some((*ifindex, address, !address.is_duplicate())),
        Change::AddressRemoved { ifindex, address } => Some((*ifindex, address, false)),
        _ => None,
    }
}

/// Handles changes of addresses in their order; others are ignored.
pub async fn addresses_changed(manager: &mut Manager, trigger: &Trigger, changes: &[Change]) {
    let changes: Vec<(u32, &Address, bool)> = changes.iter().filter_map(usable_address).collect();
    let interfaces: BTreeSet<u32> = changes.iter().map(|(ifindex, ..)| *ifindex).collect();
    interfaces.iter().for_each(|ifindex| manager.route_reader.interface_changed(*ifindex));
    let (groups, mut context) = manager.context(trigger);
    for group in groups.values_mut() {
        let ours: Vec<_> = changes.iter().filter(|(ifindex, ..)| group.has_addresses_on(*ifindex)).collect();
        let mut data = Vec::new();
        for &&(ifindex, address, is_added) in &ours {
            // The kernel reports it again when the detection is over.
            if is_added && address.is_tentative() {
                continue;
            }
            let (ip, prefix) = (address.ip, address.prefix);
            group.addresses.forget_duplicate(ip);
            if group.interface.ifindex == ifindex {
                let kind = if is_added { ChangeKind::Added } else { ChangeKind::Removed };
                data.push(AddressChange { address: ip, prefix, kind });
            } else if is_added {
                vlans::add_address(group, &mut context, (ifindex, ip, prefix));
            } else {
                vlans::remove_address(group, &mut context, (ifindex, ip, prefix));
            }
        }
        addresses::change(group, &mut context, &data).await;
        for (_, address, _) in ours.into_iter().filter(|(_, address, _)| address.is_duplicate()) {
            addresses::set_duplicate(group, &mut context, address.ip);
        }
    }
    for ifindex in &interfaces {
        test_addresses::reconcile_interface(groups, &mut context, *ifindex).await;
    }
    for group in groups.values_mut() {
        let of_group = changes.iter().filter(|(ifindex, ..)| *ifindex == group.interface.ifindex);
        let ips: BTreeSet<IpAddr> = of_group.map(|(_, address, _)| address.ip).collect();
        if ips.is_empty() {
            continue;
        }
        for number in test_addresses::members_affected_by(group, context.file, &ips) {
            test_addresses::reconcile(group, &mut context, number).await;
        }
    }
}

async fn neighbour_changed(manager: &mut Manager, trigger: &Trigger, neighbour: &Neighbour) {
    let (groups, mut context) = manager.context(trigger);
    let mut groups = groups.values_mut();
    let Some(group) = groups.find(|group| group.is_own_device(neighbour.ifindex)) else { return };
    probe_replies::neighbour_changed(group, &mut context, neighbour).await;
}

async fn routes_changed(manager: &mut Manager, trigger: &Trigger, report: RouteReport) {
    let (groups, mut context) = manager.context(trigger);
    for (ifindex, targets) in report.targets {
        if let Some(group) = groups.values_mut().find(|group| group.interface.ifindex == ifindex) {
            route_targets::report(group, &mut context, targets).await;
        }
    }
    let mut has_removed = false;
    for route in &report.through_members {
        has_removed |= test_addresses::remove_route(groups, &mut context, route).await;
    }
    for ifindex in report.removed_from {
        test_addresses::reconcile_interface(groups, &mut context, ifindex).await;
    }
    manager.route_reader.processed(has_removed);
}

/// Removes the addresses that the kernel does not have any more.
async fn remove_missing_addresses(manager: &mut Manager, trigger: &Trigger, present: &[(u32, Address)]) {
    let (groups, mut context) = manager.context(trigger);
    let usable = || present.iter().filter(|(_, address)| !address.is_duplicate());
    for group in groups.values_mut() {
        let on_group: BTreeSet<(IpAddr, u8)> = usable()
            .filter(|(ifindex, _)| *ifindex == group.interface.ifindex)
            .map(|(_, address)| (address.ip, address.prefix))
            .collect();
        let removed = |(address, prefix)| AddressChange { address, prefix, kind: ChangeKind::Removed };
        let missing: Vec<_> = group.addresses.missing_in(&on_group).into_iter().map(removed).collect();
        addresses::change(group, &mut context, &missing).await;
        let all = usable().map(|(ifindex, address)| (*ifindex, address.ip, address.prefix)).collect();
        vlans::retain_addresses(group, &mut context, &all);
    }
}
