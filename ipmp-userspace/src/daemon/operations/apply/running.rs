//! What runs, for the plan.

use crate::{
    config::{
        Configuration,
        plan::{Running, RunningGroup, RunningMember},
    },
    control::request::Refused,
    daemon::{
        group,
        manager::Manager,
        operations::{refusals::kernel, show::configuration::settings},
        state_file::SavedGroup,
    },
    link::{Route, RouteEntry},
    types::{OfflineCause, Origin},
};

/// Reads what runs.
pub async fn read(manager: &Manager, configuration: &Configuration) -> Result<Running, Refused> {
    let mut devices = manager.links.devices().map_err(|error| kernel(&error))?;
    devices.retain(|device| {
        device.ethernet && manager.groups.values().all(|group| group.interface.ifindex != device.ifindex)
    });
    let addresses = manager.links.addresses().map_err(|error| kernel(&error))?;
    let mut groups = Vec::new();
    for group in manager.groups.values() {
        let saved = manager.file.group(group.name()).cloned().unwrap_or_default();
        let own = addresses.iter().filter(|(ifindex, _)| *ifindex == group.interface.ifindex);
        let own = own.map(|(_, known)| (known.ip, known.prefix, saved.origin_of(known.ip, known.prefix)));
        groups.push(RunningGroup {
            name: group.name().to_owned(),
            groupname: group.groupname.clone(),
            origin: saved.origin,
            addresses: own.collect(),
            routes: routes(manager, group, &saved, configuration)?,
            settings: settings(&saved),
            disabled_targets: saved.disabled_targets(),
            members: members(group, &saved),
        });
    }
    let global = addresses.into_iter().filter(|(_, known)| known.is_global());
    let addresses = global.map(|(ifindex, known)| (ifindex, known.ip, known.prefix)).collect();
    Ok(Running { groups, devices, addresses })
}

fn members(group: &group::RunningGroup, saved: &SavedGroup) -> Vec<RunningMember> {
    let mut members = Vec::new();
    for member in group.core.members() {
        let Some(record) = saved.members.get(&member.number()) else { continue };
        let device = group.members.get(&member.number()).filter(|_| !member.absent());
        let absent = record.absent.as_ref().filter(|_| device.is_none());
        members.push(RunningMember {
            name: absent.map_or(&record.name, |absent| &absent.name).clone(),
            ifindex: device.map(|device| device.ifindex),
            permanent_mac: record.identity.permanent_mac,
            mac: record.identity.mac,
            settings: record.chosen.clone(),
            test_addresses: record.test_addresses.named.clone(),
            inbound: saved.preferred_by(member.number()).collect(),
            offline: member.offline() == Some(OfflineCause::Operator),
        });
    }
    members
}

/// The routes through the group interface to the destinations that files have, or had.
fn routes(
    manager: &Manager,
    group: &group::RunningGroup,
    saved: &SavedGroup,
    configuration: &Configuration,
) -> Result<Vec<(RouteEntry, Origin)>, Refused> {
    let ifindex = group.interface.ifindex;
    let described = configuration.groups.iter().filter(|described| described.name.value == group.name());
    let described = described.flat_map(|described| described.all_routes());
    let wanted: Vec<Route> =
        described.chain(saved.routes.iter().cloned()).map(|entry| Route::of_entry(&entry, ifindex)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let present = manager.links.routes_beside(&wanted).map_err(|error| kernel(&error))?;
    let mut found: Vec<RouteEntry> = present.iter().filter_map(|route| route.entry(ifindex)).collect();
    let mut all = Vec::new();
    for route in &saved.routes {
        let count = found.len();
        found.retain(|other| !other.is_same(route));
        if found.len() < count {
            all.push((route.clone(), Origin::File));
        }
    }
    all.extend(found.into_iter().map(|route| (route, Origin::Other)));
    Ok(all)
}
