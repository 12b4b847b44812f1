//! Members come and go. Attaching is a transaction: everything is checked first, then done, and whatever goes wrong on
//! the way, what was done is undone and the interfaces are as they were.

pub(in crate::daemon) mod eligibility;

use std::{net::IpAddr, time::Duration};

use rtnetlink::packet_route::link::LinkFlags;

use crate::daemon::state_file::SavedMember;
use crate::daemon::{
    event_loop::Engine,
    group::hardware_filters::Filters,
    group::test_addresses::Kept,
    group::{Group, Member, UPDELAY, WEIGHT, now},
    migration::{Configuration, Place},
    operations::attach::eligibility::{Surroundings, vet},
};
use crate::{
    control::{
        Setting, TestAddress,
        request::{Refused, reason},
    },
    core::{Attachment, Input},
    link::{Device, speed, sysctl},
};

/// How much longer than the datapath's own delay a first member is waited for, before addresses are moved to a group
/// that cannot send yet.
const PATIENCE: Duration = Duration::from_millis(800);

impl Engine {
    /// Attaches interfaces in this order, all or none, perhaps as standbys.
    pub(in crate::daemon) async fn attach(
        &mut self,
        group: &str,
        interfaces: &[String],
        standby: bool,
        test_addresses: &[TestAddress],
    ) -> Result<Vec<String>, Refused> {
        let mut notes = Vec::new();
        let interfaces = self.vet_all(group, interfaces, test_addresses).await?;
        let single = (interfaces.len() == 1).then(|| interfaces[0].as_str());
        self.vet_test_addresses(test_addresses, single).await?;
        let is_new = !self.groups.contains_key(group);
        if is_new {
            notes.extend(self.create(group, None).await?);
            notes.insert(0, format!("group {group} did not exist and was created"));
        }
        for (at, name) in interfaces.iter().enumerate() {
            match self.join(group, name, standby, test_addresses).await {
                Ok(said) => {
                    notes.extend(said);
                    self.catch_up().await;
                }
                Err(refused) => {
                    for name in interfaces[..at].iter().rev() {
                        self.leave(group, name, true).await;
                    }
                    if is_new {
                        self.remove_group(group).await;
                    }
                    return Err(refused);
                }
            }
        }
        self.balance_weights(group).await;
        Ok(notes)
    }

    /// Checks them all, and returns their names: an interface may have been called by an alternative one.
    async fn vet_all(
        &self,
        group: &str,
        interfaces: &[String],
        test_addresses: &[TestAddress],
    ) -> Result<Vec<String>, Refused> {
        let devices = self.links.devices().await.map_err(|error| kernel(&error))?;
        let mut members: Vec<(String, [u8; 6])> = self
            .groups
            .get(group)
            .map(|group| {
                group.core.members().iter().map(|member| (member.name().to_owned(), member.mac())).collect()
            })
            .unwrap_or_default();
        let mut names = Vec::new();
        for name in interfaces {
            let device = devices
                .iter()
                .find(|device| device.name == *name || device.altnames.contains(name))
                .ok_or_else(|| no_such_interface(name))?;
            if names.contains(&device.name) {
                let text = format!("{} is named twice: name each interface once", device.name);
                return Err(Refused::new(reason::ALREADY_MEMBER, text));
            }
            if let (Some(address), Some(of)) =
                (test_addresses.first(), self.member_of(device).map(Group::name))
                && of == group
            {
                let text = format!(
                    "{name} is a member of {group} already: ipmpctl test-address add {name} {address} gives it a test \
                     address"
                );
                return Err(Refused::new(reason::ALREADY_MEMBER, text));
            }
            let around = Surroundings {
                group,
                member_of: self.member_of(device).map(Group::name),
                is_group: self.groups.values().any(|group| group.interface.ifindex == device.ifindex),
                master: devices.iter().find(|master| device.master == Some(master.ifindex)),
                members: &members,
            };
            vet(device, around)?;
            if let Some(program) = foreign_program(&device.name) {
                return Err(Refused::new(
                    reason::IN_USE,
                    format!(
                        "{name} has the tc program {program} of somebody else: stop the program that attached it first"
                    ),
                ));
            }
            members.push((device.name.clone(), device.mac));
            names.push(device.name.clone());
        }
        Ok(names)
    }

    fn member_of(&self, device: &Device) -> Option<&Group> {
        self.groups.values().find(|group| group.number_of(device.ifindex).is_some())
    }

    /// One interface joins. On an error it is as it was.
    async fn join(
        &mut self,
        group: &str,
        name: &str,
        standby: bool,
        test_addresses: &[TestAddress],
    ) -> Result<Vec<String>, Refused> {
        let device = self.need(name).await?;
        match self.try_join(group, &device, standby, test_addresses).await {
            Ok(notes) => Ok(notes),
            Err(error) => {
                self.leave(group, &device.name, true).await;
                Err(error)
            }
        }
    }

    async fn try_join(
        &mut self,
        group_name: &str,
        device: &Device,
        standby: bool,
        test_addresses: &[TestAddress],
    ) -> Result<Vec<String>, Refused> {
        let lower = self.links.below(device).await.map_err(|error| kernel(&error))?;
        let configuration =
            Configuration::of(&self.links, device.ifindex).await.map_err(|error| kernel(&error))?;
        let stay = staying(test_addresses, &configuration);
        let configuration = configuration.without(&stay);
        let own = self.links.addresses_of(device.ifindex).await.map_err(|error| kernel(&error))?;
        let settings = sysctl::plan(&device.name, sysctl::Role::Member).map_err(|error| kernel(&error))?;
        let was_down = !device.flags.contains(LinkFlags::Up);
        let speed = speed(&device.name);

        let group = self.groups.get_mut(group_name).ok_or_else(|| no_such_group(group_name))?;
        let number = group.core.free_number().ok_or_else(|| {
            Refused::new(reason::FULL, format!("{} cannot join {group_name}: it is full", device.name))
        })?;
        // What must be known to put it back is written before it is changed.
        let saved = self.file.state.groups.entry(group_name.to_owned()).or_default();
        let all_known = saved.members.values().all(|member| member.speed.is_some());
        let weight = speed.filter(|_| all_known).unwrap_or(WEIGHT);
        let state = SavedMember {
            number,
            ifindex: device.ifindex,
            weight,
            speed,
            settings: settings.clone(),
            was_down,
            chosen: standby.then_some(Setting::Standby(true)).into_iter().collect(),
            test_addresses: Kept::default(),
            filters: Filters::default(),
        };
        saved.members.insert(device.name.clone(), state);
        if !configuration.is_empty() {
            saved.moved.insert(device.name.clone(), configuration.clone());
        }
        self.file.save().map_err(|error| kernel(&error))?;

        sysctl::apply(&device.name, &settings).map_err(|error| kernel(&error))?;
        if was_down {
            self.links.set_up(device, true).await.map_err(|error| kernel(&error))?;
        }
        let mut member = Member {
            ifindex: device.ifindex,
            name: device.name.clone(),
            lower,
            addresses: own.iter().map(|address| (address.ip, address.prefix)).collect(),
        };
        let group = self.groups.get_mut(group_name).ok_or_else(|| no_such_group(group_name))?;
        // Its own addresses stay its own until they have moved: what is for them must not be cut off. The first
        // telling is for the program that is about to see packets, the second counts for the member that now exists.
        let addresses = std::mem::take(&mut member.addresses);
        group.members.insert(number, member);
        let spec = group.spec(number, device).ok_or_else(|| no_such_interface(&device.name))?;
        for (address, prefix) in &addresses {
            group.own_address_appeared(number, *address, *prefix).map_err(|error| kernel(&error))?;
        }
        group.datapath.attach(&spec).map_err(|error| kernel(&error))?;
        for (address, prefix) in &addresses {
            group.own_address_appeared(number, *address, *prefix).map_err(|error| kernel(&error))?;
        }
        // As it is now: being set up may have given it a link.
        let device = self.need(&device.name).await?;
        let attachment = Attachment {
            member: number,
            name: device.name.clone(),
            mac: device.mac,
            mtu: device.mtu,
            weight,
            link: device.link(),
        };
        let (groups, mut hands) = self.with_hands();
        let group = groups.get_mut(group_name).ok_or_else(|| no_such_group(group_name))?;
        group.joined(&mut hands, attachment).await;
        if standby {
            // Before its link is trusted, so that it never carries.
            group.tell(&mut hands, Input::Standby { member: number, standby }).await;
        }
        group.look(&mut hands).await;
        group.filters.joined();
        self.filter().await;
        let mut notes = Vec::new();
        if !configuration.is_empty() {
            notes = self.move_in(group_name, &device, &configuration, &stay).await?;
        }
        self.name_test_addresses(group_name, &device.name, test_addresses).await?;
        Ok(notes)
    }

    /// Addresses and routes of a new member move to the group, but for what stays.
    async fn move_in(
        &mut self,
        group_name: &str,
        device: &Device,
        configuration: &Configuration,
        stay: &[IpAddr],
    ) -> Result<Vec<String>, Refused> {
        self.wait_until_live(group_name, now() + UPDELAY + PATIENCE).await;
        let group = self.groups.get(group_name).ok_or_else(|| no_such_group(group_name))?;
        let interface = group.interface.clone();
        let (from, to) = (Place::from(device), Place { ifindex: interface.ifindex, name: &interface.name });
        let furnished = configuration.furnish(&self.links, from, to).await.map_err(|error| {
            let mut refused = kernel(&error);
            if let (Some(ip), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) = (stay.first(), error.errno()) {
                refused.message += &format!(
                    "; {ip} is to be a test address: add a data address to {group_name} that leads there first"
                );
            }
            refused
        })?;
        let (groups, mut hands) = self.with_hands();
        if let Some(group) = groups.get_mut(group_name) {
            for address in &configuration.addresses {
                group.address_appeared(&mut hands, address.ip, address.prefix).await;
            }
        }
        self.announce();
        if let Err(error) = configuration.clear(&self.links, from, &furnished).await {
            // Half cleared: give back what is gone, then take away what was furnished.
            if let Ok(back) = configuration.furnish(&self.links, to, from).await {
                log::debug!("{} addresses given back to {}", back.addresses.len(), device.name);
            }
            furnished.undo(&self.links, to).await;
            return Err(kernel(&error));
        }
        let mut notes = furnished.notes;
        if !configuration.addresses.is_empty() {
            let list: Vec<String> = configuration.addresses.iter().map(ToString::to_string).collect();
            notes.push(format!("moved from {} to {group_name}: {}", device.name, list.join(", ")));
        }
        Ok(notes)
    }

    /// A member leaves its group. With `give_back`, what came from it goes back to it: the undoing of a join.
    pub(in crate::daemon) async fn leave(&mut self, group_name: &str, name: &str, give_back: bool) {
        self.lift_test_addresses(group_name, name).await;
        if give_back {
            self.give_back(group_name, name).await;
        }
        let (groups, mut hands) = self.with_hands();
        let Some(group) = groups.get_mut(group_name) else { return };
        if let Some(number) = group.number_named(name) {
            if group.core.member(number).is_some() {
                group.leave(&mut hands, number).await;
            } else {
                // It had not joined yet.
                group.members.remove(&number);
                if let Err(error) = group.datapath.detach(number) {
                    log::error!(group = group_name, member = name; "{error}");
                }
            }
        }
        self.release_filters(group_name, name).await;
        self.restore_device(group_name, name).await;
        self.forget_member(group_name, name);
    }

    /// What came from an interface and still is on the group interface goes back.
    async fn give_back(&mut self, group_name: &str, name: &str) {
        let Some(moved) =
            self.file.state.groups.get_mut(group_name).and_then(|group| group.moved.remove(name))
        else {
            return;
        };
        let Some(group) = self.groups.get(group_name) else { return };
        let interface = group.interface.clone();
        let Ok(Some(device)) = self.links.device_named(name).await else { return };
        let (from, to) = (Place { ifindex: interface.ifindex, name: &interface.name }, Place::from(&device));
        let back = match Configuration::of(&self.links, interface.ifindex).await {
            Ok(now) => moved.still_in(&now),
            Err(error) => return log::error!(group = group_name, member = name; "{error}"),
        };
        match back.furnish(&self.links, from, to).await {
            Ok(furnished) => {
                if let Err(error) = back.clear(&self.links, from, &furnished).await {
                    log::error!(group = group_name, member = name; "{error}");
                }
            }
            Err(error) => log::error!(group = group_name, member = name; "{error}"),
        }
    }

    /// The settings of an interface become what they were before it was attached.
    async fn restore_device(&self, group: &str, name: &str) {
        let Some(saved) = self.file.state.groups.get(group).and_then(|group| group.members.get(name)) else {
            return;
        };
        sysctl::restore(name, &saved.settings);
        if saved.was_down
            && let Ok(Some(device)) = self.links.device_named(name).await
            && let Err(error) = self.links.set_up(&device, false).await
        {
            log::warn!(group = group, member = name; "{error}");
        }
    }

    /// Weights are what the operator says; else they are speeds where every speed is known, and equal where one is not: a guess against a fact would load the
    /// wrong member.
    pub(in crate::daemon) async fn balance_weights(&mut self, group_name: &str) {
        let Some(saved) = self.file.state.groups.get_mut(group_name) else { return };
        let mut guessed = saved.members.values().filter(|member| member.chosen_weight().is_none());
        let all_known = guessed.all(|member| member.speed.is_some());
        for member in saved.members.values_mut() {
            let speed = || member.speed.filter(|_| all_known);
            member.weight = member.chosen_weight().or_else(speed).unwrap_or(WEIGHT);
        }
        let weights: Vec<(u8, u32)> =
            saved.members.values().map(|member| (member.number, member.weight)).collect();
        self.save();
        let (groups, mut hands) = self.with_hands();
        let Some(group) = groups.get_mut(group_name) else { return };
        for (member, weight) in weights {
            if group.core.member(member).is_some_and(|known| known.weight() != weight) {
                group.tell(&mut hands, Input::Weight { member, weight }).await;
            }
        }
    }

    /// The last member takes over everything that is on the group interface, before the group goes.
    pub(in crate::daemon) async fn move_out(
        &mut self,
        group_name: &str,
        name: &str,
    ) -> Result<Vec<String>, Refused> {
        let device = self.need(name).await?;
        let group = self.groups.get(group_name).ok_or_else(|| no_such_group(group_name))?;
        let interface = group.interface.clone();
        let all = Configuration::of(&self.links, interface.ifindex).await.map_err(|error| kernel(&error))?;
        let (from, to) = (Place { ifindex: interface.ifindex, name: &interface.name }, Place::from(&device));
        // In one network an interface has addresses of one scope.
        self.lift_test_addresses(group_name, name).await;
        let furnished = match all.furnish(&self.links, from, to).await {
            Ok(furnished) => furnished,
            Err(error) => {
                self.examine(device.ifindex).await;
                return Err(kernel(&error));
            }
        };
        // The old place is not cleared: it goes with the group, when the datapath no longer leads there.
        let list: Vec<String> = all.addresses.iter().map(ToString::to_string).collect();
        let mut notes = furnished.notes;
        if !list.is_empty() {
            notes.push(format!("moved from {group_name} to {name}: {}", list.join(", ")));
        }
        Ok(notes)
    }

    /// The interface of this name, which must exist.
    pub(in crate::daemon) async fn need(&self, name: &str) -> Result<Device, Refused> {
        let device = self.links.device_named(name).await.map_err(|error| kernel(&error))?;
        device.ok_or_else(|| no_such_interface(name))
    }
}

/// The name of a tcx program on an interface that is about to be attached: it cannot be ours. Best effort.
fn foreign_program(name: &str) -> Option<String> {
    use aya::programs::{SchedClassifier, TcAttachType};
    [TcAttachType::Ingress, TcAttachType::Egress].into_iter().find_map(|hook| {
        let (_, programs) = SchedClassifier::query_tcx(name, hook).ok()?;
        let program = programs.first()?;
        Some(program.name_as_str().unwrap_or("without a name").to_owned())
    })
}

/// The addresses that an interface keeps as its test addresses: those that are named, and what a DHCP client has brought,
/// if it is to bring one. That is an address that does not last for ever.
fn staying(test_addresses: &[TestAddress], configuration: &Configuration) -> Vec<IpAddr> {
    let there = configuration.addresses.iter();
    let leased = there.filter(|address| address.ip.is_ipv4() && address.lifetime.is_some());
    let leased = leased.filter(|_| test_addresses.contains(&TestAddress::Dhcp)).map(|address| address.ip);
    let named = test_addresses.iter().filter_map(|test| test.address()).map(|test| test.address());
    named.chain(leased).collect()
}

/// The kernel said no.
pub(in crate::daemon) fn kernel(error: &dyn std::error::Error) -> Refused {
    Refused::new(reason::KERNEL, error.to_string())
}

/// There is no such interface.
pub(in crate::daemon) fn no_such_interface(name: &str) -> Refused {
    Refused::new(
        reason::NO_SUCH_INTERFACE,
        format!("there is no interface {name} in this network namespace; `ip link` lists those that exist"),
    )
}

/// There is no such group.
pub(in crate::daemon) fn no_such_group(name: &str) -> Refused {
    Refused::new(
        reason::NO_SUCH_GROUP,
        format!("there is no group {name}; `ipmpctl show` lists those that exist"),
    )
}
