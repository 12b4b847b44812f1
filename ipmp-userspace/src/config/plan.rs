//! The steps from the running configuration to that of the files.
//!
//! What is added comes before what is removed, so that no packet is lost: a member joins before another one leaves, an address
//! exists before another one is removed. Only what commands or files added is removed.

mod step;

use std::net::IpAddr;

pub use step::{NewMember, Step, inbound_change};

use super::{Addresses, Configuration, Group, Located, Match, Member, host::matches};
use crate::{
    control::{DataAddress, Setting, TestAddressSpec},
    link::{Device, Mac, RouteEntry},
    types::{MatchBy, Origin},
};

/// What runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// The groups.
    pub groups: Vec<RunningGroup>,
    /// The interfaces of the host.
    pub devices: Vec<Device>,
    /// The addresses of these, by the index of the interface.
    pub addresses: Vec<(u32, IpAddr, u8)>,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningGroup {
    /// Name of the group interface.
    pub name: String,
    /// Its second name.
    pub groupname: String,
    /// Whether files describe it.
    pub origin: Origin,
    /// Addresses of the group interface.
    pub addresses: Vec<(IpAddr, u8, Origin)>,
    /// Routes through the group interface; `File`: files added them.
    pub routes: Vec<(RouteEntry, Origin)>,
    /// Settings with a value of their own.
    pub settings: Vec<Setting>,
    /// Targets that are not probed.
    pub disabled_targets: Vec<IpAddr>,
    /// Members.
    pub members: Vec<RunningMember>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningMember {
    /// Its name.
    pub name: String,
    /// Index of its interface; `None`: it is absent.
    pub ifindex: Option<u32>,
    /// The MAC that its NIC stores.
    pub permanent_mac: Option<Mac>,
    /// The MAC that it has, or had last.
    pub mac: Option<Mac>,
    /// Settings with a value of their own.
    pub settings: Vec<Setting>,
    /// Configured test addresses.
    pub test_addresses: Vec<TestAddressSpec>,
    /// Data addresses for which it is the preferred inbound member.
    pub inbound: Vec<IpAddr>,
    /// The operator has taken it out of service.
    pub offline: bool,
}

/// The steps. Name servers are none: `ipmpctl` sets them (`cli::dns`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
}

/// The plan for the groups of the files. `is_complete`: these are all files, so that groups which they described before and do
/// not any more are removed.
///
/// # Errors
/// What cannot be changed, with the remedy.
pub fn plan(configuration: &Configuration, is_complete: bool, running: &Running) -> Result<Plan, String> {
    let mut planner = Planner { running, configuration, phases: Default::default() };
    if is_complete {
        planner.remove_groups();
    }
    for group in &configuration.groups {
        planner.group(group)?;
    }
    let steps = planner.phases.into_iter().flatten().collect();
    Ok(Plan { steps })
}

/// When a step is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It makes room: an interface or an address moves to another group.
    MakeRoom,
    Create,
    /// Settings of groups, which members have from the beginning.
    Set,
    Address,
    Attach,
    /// What needs the addresses that came with the members.
    Follow,
    /// Members go out of service once the others are in use.
    Service,
    Remove,
    RemoveGroup,
}

const PHASES: usize = Phase::RemoveGroup as usize + 1;

struct Planner<'a> {
    running: &'a Running,
    configuration: &'a Configuration,
    phases: [Vec<Step>; PHASES],
}

impl Planner<'_> {
    fn add(&mut self, phase: Phase, step: Step) {
        self.phases[phase as usize].push(step);
    }

    /// Adds a step that makes room, once, and not in a group that is removed before.
    fn make_room(&mut self, step: Step) {
        let steps = &mut self.phases[Phase::MakeRoom as usize];
        let covers = |other: &Step| match (other, &step) {
            (Step::RemoveGroup { group }, Step::Detach { group: of, .. }) => group == of,
            _ => *other == step,
        };
        if !steps.iter().any(covers) {
            steps.push(step);
        }
    }

    fn remove_groups(&mut self) {
        let is_described =
            |name: &str| self.configuration.groups.iter().any(|group| group.name.value == name);
        let running = self.running;
        for group in running.groups.iter().filter(|group| group.origin == Origin::File) {
            if is_described(&group.name) {
                continue;
            }
            let moves = group.addresses.iter().any(|(ip, _, _)| self.is_wanted(*ip))
                || group.members.iter().any(|member| self.is_member_wanted(member));
            let phase = if moves { Phase::MakeRoom } else { Phase::RemoveGroup };
            self.phases[phase as usize].push(Step::RemoveGroup { group: group.name.clone() });
        }
    }

    /// Whether a group of the files has this address.
    fn is_wanted(&self, ip: IpAddr) -> bool {
        let mut all = self.configuration.groups.iter().flat_map(|group| group.addresses.listed());
        all.any(|address| address.value.address() == ip)
    }

    /// Whether a group of the files has this member.
    fn is_member_wanted(&self, member: &RunningMember) -> bool {
        let device = self.running.devices.iter().find(|device| Some(device.ifindex) == member.ifindex);
        let mut all = self.configuration.groups.iter().flat_map(|group| &group.members);
        all.any(|wanted| match device {
            Some(device) => matches(&wanted.matching, device),
            None => is_expected(&wanted.matching, member),
        })
    }

    fn group(&mut self, group: &Group) -> Result<(), String> {
        let name = &group.name.value;
        let running = self.running;
        let known = running.groups.iter().find(|known| known.name == *name);
        let groupname = group.groupname.as_ref().map_or(name, |groupname| &groupname.value);
        if let Some(known) = known.filter(|known| known.groupname != *groupname) {
            return Err(format!(
                "{}: {name} has the group name {}, which cannot be changed to {groupname} while it exists: write groupname = \
                 {:?}, or remove the group first (ipmpctl detach --all --group {name} --restore)",
                group.name.place, known.groupname, known.groupname
            ));
        }
        let empty = RunningGroup::default();
        if known.is_none() {
            self.add(Phase::Create, Step::CreateGroup { group: name.clone(), groupname: groupname.clone() });
        }
        let known = known.unwrap_or(&empty);
        self.settings(group, known);
        self.disabled_targets(group, known);
        let joining = self.members(group, known);
        self.addresses(group, known, &joining);
        self.routes(group, known);
        Ok(())
    }

    fn settings(&mut self, group: &Group, known: &RunningGroup) {
        let is_targets = |setting: &Setting| matches!(setting, Setting::Targets(_));
        let (targets, wanted): (Vec<_>, Vec<_>) =
            self.configuration.settings(group).into_iter().partition(is_targets);
        let (known_targets, known): (Vec<_>, Vec<_>) = known.settings.iter().cloned().partition(is_targets);
        let group = group.name.value.clone();
        if let Some(changes) = step::changes(&known, &wanted) {
            self.add(Phase::Set, Step::SetGroup { group: group.clone(), settings: wanted, changes });
        }
        let addresses = |settings: &[Setting]| match settings {
            [Setting::Targets(targets), ..] => targets.clone(),
            _ => Vec::new(),
        };
        let (before, wanted) = (addresses(&known_targets), addresses(&targets));
        if before != wanted {
            self.add(Phase::Follow, Step::SetTargets { group, targets: wanted });
        }
    }

    /// Without the key they stay as they are.
    fn disabled_targets(&mut self, group: &Group, known: &RunningGroup) {
        let Some(wanted) = &group.disabled_targets else { return };
        let targets: Vec<IpAddr> = wanted.iter().map(|target| target.value).collect();
        let has = |targets: &[IpAddr], other: &[IpAddr]| targets.iter().all(|target| other.contains(target));
        if !has(&targets, &known.disabled_targets) || !has(&known.disabled_targets, &targets) {
            self.add(Phase::Follow, Step::SetDisabledTargets { group: group.name.value.clone(), targets });
        }
    }

    /// Plans the members; returns the indexes of the interfaces that join, with their test addresses.
    fn members(&mut self, group: &Group, known: &RunningGroup) -> Vec<(u32, Vec<TestAddressSpec>)> {
        let running = self.running;
        let name = &group.name.value;
        let mut joining = Vec::new();
        let mut staying: Vec<&str> = Vec::new();
        let (mut preferred, mut wanted) = (Vec::new(), Vec::new());
        for member in &group.members {
            let inbound = |name: &str| {
                let pair = |address: &Located<IpAddr>| (address.value, name.to_owned());
                member.inbound.iter().map(pair).collect::<Vec<_>>()
            };
            let device = running.devices.iter().find(|device| matches(&member.matching, device));
            let is_it = |known: &&RunningMember| match device {
                Some(device) => known.ifindex == Some(device.ifindex),
                None => known.ifindex.is_none() && is_expected(&member.matching, known),
            };
            let found =
                known.members.iter().find(|known| is_it(known) && !staying.contains(&known.name.as_str()));
            if let Some(found) = found {
                staying.push(&found.name);
                preferred.extend(found.inbound.iter().map(|&ip| (ip, found.name.clone())));
                wanted.extend(inbound(&found.name));
                self.member(group, member, found);
                self.offline(group, member, &found.name, found.offline);
                continue;
            }
            let new = new_member(member, device);
            self.offline(group, member, &new.name, false);
            wanted.extend(inbound(&new.name));
            let Some(device) = device else {
                self.add(Phase::Attach, Step::Expect { group: name.clone(), member: new });
                continue;
            };
            let has_it = |group: &&RunningGroup| {
                group.members.iter().any(|member| member.ifindex == Some(device.ifindex))
            };
            if let Some(other) = running.groups.iter().find(has_it) {
                self.make_room(Step::Detach { group: other.name.clone(), member: device.name.clone() });
            }
            joining.push((device.ifindex, new.test_addresses.clone()));
            self.add(Phase::Attach, Step::Attach { group: name.clone(), member: new });
        }
        if let Some(changes) = step::inbound_changes(&preferred, &wanted) {
            self.add(Phase::Follow, Step::SetInbound { group: name.clone(), inbound: wanted, changes });
        }
        for left in known.members.iter().filter(|known| !staying.contains(&known.name.as_str())) {
            let step = Step::Detach { group: name.clone(), member: left.name.clone() };
            // The name of an absent one may be that of an interface that joins.
            if left.ifindex.is_none() || self.is_member_wanted(left) {
                self.make_room(step);
            } else {
                self.add(Phase::Remove, step);
            }
        }
        joining
    }

    /// Takes a member out of service or back into it; without the key it stays as it is.
    fn offline(&mut self, group: &Group, member: &Member, name: &str, is_offline: bool) {
        if let Some(offline) = member.offline.filter(|offline| *offline != is_offline) {
            let (group, member) = (group.name.value.clone(), name.to_owned());
            self.add(Phase::Service, Step::SetOffline { group, member, offline });
        }
    }

    /// Plans a member that stays.
    fn member(&mut self, group: &Group, member: &Member, known: &RunningMember) {
        let group = &group.name.value;
        let wanted: Vec<Setting> = member.settings.iter().map(|setting| setting.value.clone()).collect();
        // By what it is recognised follows from the table `match`, when it joins.
        let is_match = |setting: &&Setting| matches!(setting, Setting::Match(_));
        let before: Vec<Setting> =
            known.settings.iter().filter(|setting| !is_match(setting)).cloned().collect();
        if let Some(changes) = step::changes(&before, &wanted) {
            let settings =
                wanted.into_iter().chain(known.settings.iter().filter(is_match).cloned()).collect();
            let (group, member) = (group.clone(), known.name.clone());
            self.add(Phase::Follow, Step::SetMember { group, member, settings, changes });
        }
        let wanted: Vec<TestAddressSpec> = member.test_addresses.iter().map(|test| test.value).collect();
        for &address in known.test_addresses.iter().filter(|known| !wanted.contains(known)) {
            self.add(Phase::Follow, Step::RemoveTestAddress { member: known.name.clone(), address });
        }
        for &address in wanted.iter().filter(|wanted| !known.test_addresses.contains(wanted)) {
            self.add(Phase::Follow, Step::AddTestAddress { member: known.name.clone(), address });
        }
    }

    fn addresses(&mut self, group: &Group, known: &RunningGroup, joining: &[(u32, Vec<TestAddressSpec>)]) {
        let Addresses::Listed(listed) = &group.addresses else { return };
        let wanted: Vec<DataAddress> = listed.iter().map(|address| address.value).collect();
        let name = group.name.value.clone();
        let has = |address: &DataAddress| {
            known
                .addresses
                .iter()
                .any(|(ip, prefix, _)| (*ip, *prefix) == (address.address(), address.prefix()))
        };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for address in wanted.iter().filter(|address| !has(address)) {
            match self.prefix_on(joining, address.address()) {
                // It moves with the interface.
                Some(prefix) if prefix == address.prefix() => {}
                Some(_) => after.push(*address),
                None => before.push(*address),
            }
        }
        for (phase, addresses) in [(Phase::Address, before), (Phase::Follow, after)] {
            if !addresses.is_empty() {
                let step = Step::AddAddresses { group: name.clone(), addresses };
                // Routes need them.
                self.phases[phase as usize].insert(0, step);
            }
        }
        let is_ours = |origin: Origin| matches!(origin, Origin::Command | Origin::File);
        let removed: Vec<DataAddress> = known
            .addresses
            .iter()
            .filter(|(_, _, origin)| is_ours(*origin))
            .filter_map(|(ip, prefix, _)| DataAddress::new(*ip, *prefix).ok())
            .filter(|address| !wanted.contains(address))
            .collect();
        let stays = |address: &DataAddress| wanted.iter().any(|wanted| wanted.address() == address.address());
        let (moving, removed): (Vec<_>, Vec<_>) =
            removed.into_iter().partition(|address| !stays(address) && self.is_wanted(address.address()));
        for (phase, addresses) in [(Phase::MakeRoom, moving), (Phase::Remove, removed)] {
            if !addresses.is_empty() {
                self.add(phase, Step::RemoveAddresses { group: name.clone(), addresses });
            }
        }
    }

    /// The prefix length of an address that moves from an interface that joins.
    fn prefix_on(&self, joining: &[(u32, Vec<TestAddressSpec>)], ip: IpAddr) -> Option<u8> {
        let found = self.running.addresses.iter().find(|(ifindex, address, _)| {
            let mut joins = joining.iter().filter(|(joining, _)| joining == ifindex);
            let stays = |tests: &[TestAddressSpec]| {
                tests.iter().any(|test| test.address().is_some_and(|test| test.address() == ip))
            };
            *address == ip && joins.any(|(_, tests)| !stays(tests))
        });
        found.map(|(_, _, prefix)| *prefix)
    }

    fn routes(&mut self, group: &Group, known: &RunningGroup) {
        let name = &group.name.value;
        let mut wanted: Vec<RouteEntry> = group.all_routes().collect();
        // A router must be reachable before a route can name it.
        wanted.sort_by_key(|route| route.via.is_some());
        for route in &wanted {
            if !known.routes.iter().any(|(other, _)| other.is_same(route)) {
                self.add(Phase::Follow, Step::AddRoute { group: name.clone(), route: route.clone() });
            }
        }
        for (route, origin) in known.routes.iter().rev() {
            if *origin == Origin::File && !wanted.iter().any(|other| other.is_same(route)) {
                self.add(Phase::Remove, Step::RemoveRoute { group: name.clone(), route: route.clone() });
            }
        }
    }
}

/// Whether an absent member is the one of an entry whose interface does not exist.
fn is_expected(wanted: &Match, known: &RunningMember) -> bool {
    let is_same = |wanted: Option<Mac>, known: Option<Mac>| wanted.is_none() || wanted == known;
    is_same(wanted.permanent_mac, known.permanent_mac)
        && is_same(wanted.mac, known.mac)
        && wanted.name.as_ref().is_none_or(|name| *name == known.name)
}

fn new_member(member: &Member, device: Option<&Device>) -> NewMember {
    let Match { name, permanent_mac, mac } = &member.matching;
    let by = match (permanent_mac, mac) {
        (Some(_), _) => MatchBy::PermanentMac,
        (None, Some(_)) => MatchBy::Mac,
        (None, None) => MatchBy::Name,
    };
    let mut settings: Vec<Setting> = member.settings.iter().map(|setting| setting.value.clone()).collect();
    settings.push(Setting::Match(by));
    let label = || name.clone().unwrap_or_else(|| member.label.value.clone());
    NewMember {
        name: device.map_or_else(label, |device| device.name.clone()),
        required_name: name.clone().filter(|_| by != MatchBy::Name),
        permanent_mac: *permanent_mac,
        mac: *mac,
        settings,
        test_addresses: member.test_addresses.iter().map(|test| test.value).collect(),
    }
}

#[cfg(test)]
pub(super) mod tests;
