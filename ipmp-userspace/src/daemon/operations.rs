//! What clients ask for, one request at a time: each is carried out whole, or refused with nothing changed.

pub(in crate::daemon) mod attach;
mod explain;
mod set;
pub(in crate::daemon) mod show;
pub(in crate::daemon) mod target;

use std::net::IpAddr;

use crate::daemon::{
    event_loop::Engine,
    events::event_log::Origin,
    group::{Group, UPDELAY},
    operations::attach::{kernel, no_such_group},
    operations::target::Wish,
    state_file::SavedGroup,
};
use crate::{
    control::{
        DataAddress, Last, name,
        request::{Refused, Request, Response, reason},
    },
    core::{self, Event, Input, Refusal},
    datapath::{self, GroupSpec},
    link::{Address, GroupInterface},
};

/// MTU of a group interface that has no members yet, in bytes: that of Ethernet.
const MTU: u32 = 1500;

impl Engine {
    /// Carries out a request.
    pub(in crate::daemon) async fn request(&mut self, request: Request) -> Result<Response, Refused> {
        let notes = match request {
            Request::Create { group, groupname, addresses } => {
                let mut notes = self.create(&group, groupname).await?;
                match self.add_addresses(&group, &addresses).await {
                    Ok(more) => notes.extend(more),
                    Err(refused) => {
                        self.remove_group(&group).await;
                        return Err(refused);
                    }
                }
                notes
            }
            Request::Destroy { group } => self.destroy(&group).await?,
            Request::Attach { group, interfaces, standby, test_addresses } => {
                self.attach(&group, &interfaces, standby, &test_addresses).await?
            }
            Request::Detach { interface, last } => self.detach(&interface, last).await?,
            Request::AddAddress { group, addresses } => self.add_addresses(&group, &addresses).await?,
            Request::RemoveAddress { group, addresses } => self.remove_addresses(&group, &addresses).await?,
            Request::AddTestAddress { interface, address } => {
                self.add_test_address(&interface, address).await?
            }
            Request::RemoveTestAddress { interface, address } => {
                self.remove_test_address(&interface, address).await?
            }
            Request::Offline { interface } => self.set_offline(&interface, true).await?,
            Request::Online { interface } => self.set_offline(&interface, false).await?,
            Request::Set { name, settings } => self.set(&name, &settings).await?,
            Request::AddTarget { group, addresses } => {
                self.change_targets(&group, &addresses, Wish::Add).await?
            }
            Request::RemoveTarget { group, addresses } => {
                self.change_targets(&group, &addresses, Wish::Remove).await?
            }
            Request::EnableTarget { group, addresses } => {
                self.change_targets(&group, &addresses, Wish::Enable).await?
            }
            Request::DisableTarget { group, addresses } => {
                self.change_targets(&group, &addresses, Wish::Disable).await?
            }
            Request::DiscoverTargets { group } => self.discover(&group).await?,
            Request::ListTargets { group } => return self.list_targets(&group).map(Response::Targets),
            Request::Show { name } | Request::Monitor { name } | Request::Probes { name } => {
                return self.show(name.as_deref()).await.map(Response::Show);
            }
            Request::Explain { member } => {
                return self.explain(&member).await.map(|why| Response::Explained(Box::new(why)));
            }
        };
        self.announce();
        Ok(Response::Done(notes))
    }

    /// Creates an empty group. Nothing is left of it on an error.
    pub(in crate::daemon) async fn create(
        &mut self,
        group: &str,
        groupname: Option<String>,
    ) -> Result<Vec<String>, Refused> {
        name::check_group(group).map_err(|error| Refused::new(reason::BAD_NAME, error.to_string()))?;
        let groupname = groupname.unwrap_or_else(|| group.to_owned());
        if self.groups.contains_key(group) {
            let text = format!(
                "group {group} exists already: attach interfaces to it, or give the new group another name"
            );
            return Err(Refused::new(reason::EXISTS, text));
        }
        let remedy = |name: &str| {
            if name == group { "give the group another name" } else { "give another --groupname" }
        };
        if let Some(other) = self.groups.values().find(|other| other.groupname == groupname) {
            let text = format!(
                "group {} has the group name {groupname} already: {}",
                other.name(),
                remedy(&groupname)
            );
            return Err(Refused::new(reason::EXISTS, text));
        }
        for wanted in [group, &groupname] {
            if self.links.device_named(wanted).await.map_err(|error| kernel(&error))?.is_some() {
                let text = format!("there is an interface {wanted} already: {}", remedy(wanted));
                return Err(Refused::new(reason::EXISTS, text));
            }
        }
        // First of all, so that whatever is left of it is known to be ours.
        let state = SavedGroup { groupname: groupname.clone(), ..SavedGroup::default() };
        self.file.state.groups.insert(group.to_owned(), state);
        self.file.save().map_err(|error| kernel(&error))?;
        match self.make(group, &groupname).await {
            Ok(made) => {
                self.groups.insert(group.to_owned(), made);
                self.teller.say(Some(group), &Event::GroupCreated { group: group.to_owned() });
                Ok(name::note(group).into_iter().collect())
            }
            Err(refused) => {
                self.file.state.groups.remove(group);
                self.save();
                Err(refused)
            }
        }
    }

    async fn make(&mut self, group: &str, groupname: &str) -> Result<Group, Refused> {
        let interface = GroupInterface::create(&self.links, group, groupname, &self.namespace)
            .await
            .map_err(|error| kernel(&error))?;
        match self.open_datapath(&interface) {
            Ok(datapath) => {
                let saved = self.file.state.groups.get(group).cloned().unwrap_or_default();
                let core = core::Group::new(group, saved.core_settings(self.mpathd.defaults()));
                Ok(Group::new(core, datapath, interface, groupname.to_owned(), MTU))
            }
            Err(error) => {
                if let Err(error) = self.datapath.remove_group(group) {
                    log::error!(group = group; "{error}");
                }
                self.delete_interface(&interface).await;
                Err(kernel(&error))
            }
        }
    }

    /// Loads the datapath of a group, or takes it over, as the state file says.
    pub(in crate::daemon) fn open_datapath(
        &mut self,
        interface: &GroupInterface,
    ) -> Result<datapath::Group, datapath::Error> {
        let saved = self.file.state.groups.get(&interface.name).cloned().unwrap_or_default();
        let spec = GroupSpec {
            name: interface.name.clone(),
            ifindex: interface.ifindex,
            mac: interface.mac,
            policy: saved.policy(),
            updelay: UPDELAY,
        };
        let mut group = self.datapath.group(&spec)?;
        if let Some((name, ifindex)) = interface.far_end() {
            group.seal_far_end(&name, ifindex)?;
        }
        group.set_capture(saved.capture());
        Ok(group)
    }

    async fn delete_interface(&self, interface: &GroupInterface) {
        match self.links.delete(interface.ifindex, &interface.name).await {
            Err(error) if !error.is_gone() => {
                log::error!(group = interface.name.as_str(); "{error}; do it by hand")
            }
            _ => {}
        }
    }

    async fn destroy(&mut self, group: &str) -> Result<Vec<String>, Refused> {
        let known = self.groups.get(group).ok_or_else(|| no_such_group(group))?;
        if !known.members.is_empty() {
            let names: Vec<&str> = known.members.values().map(|member| member.name.as_str()).collect();
            return Err(Refused::new(
                reason::NOT_EMPTY,
                format!("IPMP group is not empty: detach {} from {group} first", names.join(", ")),
            ));
        }
        self.remove_group(group).await;
        Ok(Vec::new())
    }

    /// Removes a group without members: its programs, its interface, what is remembered of it.
    pub(in crate::daemon) async fn remove_group(&mut self, name: &str) {
        let Some(group) = self.groups.remove(name) else { return };
        self.schedule.stop_group(group.interface.ifindex);
        let interface = group.interface.clone();
        if let Err(error) = group.datapath.remove() {
            log::error!(group = name; "{error}");
        }
        self.delete_interface(&interface).await;
        self.file.state.groups.remove(name);
        self.save();
        self.teller.say(Some(name), &Event::GroupDestroyed { group: name.to_owned() });
    }

    /// The group interface was deleted by somebody: its members become ordinary interfaces again.
    pub(in crate::daemon) async fn dissolve(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else { return };
        let members: Vec<String> = group.members.values().map(|member| member.name.clone()).collect();
        self.teller.origin = Origin::Dissolution;
        self.teller.say(Some(name), &Event::GroupInterfaceDeleted { group: name.to_owned() });
        let moved = self.file.state.groups.get(name).map(|group| group.moved.clone()).unwrap_or_default();
        for member in &members {
            self.leave(name, member, false).await;
        }
        // What was on the group interface is gone with it: there is nothing to replace, only to add.
        for (from, configuration) in &moved {
            if let Ok(Some(device)) = self.links.device_named(from).await
                && let Err(error) =
                    configuration.furnish(&self.links, (&device).into(), (&device).into()).await
            {
                log::error!(group = name, member = from.as_str(); "{error}");
            }
        }
        self.remove_group(name).await;
    }

    async fn detach(&mut self, interface: &str, last: Option<Last>) -> Result<Vec<String>, Refused> {
        let (group, name, others) = self.member(interface)?;
        if others {
            self.leave(&group, &name, false).await;
            return Ok(Vec::new());
        }
        match last {
            None => Err(Refused::new(
                reason::LAST_MEMBER,
                format!(
                    "{name} is the last member of {group}: add --restore to give addresses and routes to {name}, \
                     --keep-group to keep the empty group with them, or --force to remove both"
                ),
            )),
            Some(Last::KeepGroup) => {
                self.leave(&group, &name, false).await;
                Ok(vec![format!("group {group} stays, without members: its addresses cannot be reached")])
            }
            Some(Last::Force) => {
                self.leave(&group, &name, false).await;
                self.remove_group(&group).await;
                Ok(vec![format!("group {group} was removed with its addresses")])
            }
            Some(Last::Restore) => {
                let mut notes = self.move_out(&group, &name).await?;
                self.leave(&group, &name, false).await;
                self.remove_group(&group).await;
                notes.push(format!("group {group} was removed"));
                Ok(notes)
            }
        }
    }

    /// The group of a member, the member's name, and whether the group has others.
    pub(in crate::daemon) fn member(&self, interface: &str) -> Result<(String, String, bool), Refused> {
        let found = self.groups.values().find(|group| group.number_named(interface).is_some());
        let group = found.ok_or_else(|| {
            let text = format!("{interface} is not a member of any group; `ipmpctl show` lists the members");
            Refused::new(reason::NOT_A_MEMBER, text)
        })?;
        Ok((group.name().to_owned(), interface.to_owned(), group.members.len() > 1))
    }

    async fn add_addresses(
        &mut self,
        group: &str,
        addresses: &[DataAddress],
    ) -> Result<Vec<String>, Refused> {
        let known = self.groups.get(group).ok_or_else(|| no_such_group(group))?;
        let interface = known.interface.clone();
        let there = self.links.addresses().await.map_err(|error| kernel(&error))?;
        for address in addresses {
            if let Some((index, _)) = there.iter().find(|(_, other)| other.ip == address.address()) {
                let device = self.links.device(*index).await.ok().flatten();
                let on = device.map_or_else(|| format!("interface {index}"), |device| device.name);
                let text = format!("{} is on {on} already: remove it there first", address.address());
                return Err(Refused::new(reason::ADDRESS_EXISTS, text));
            }
        }
        for (at, address) in addresses.iter().enumerate() {
            let wanted = Address::new(address.address(), address.prefix());
            if let Err(error) = self.links.add_address(interface.ifindex, &interface.name, &wanted).await {
                for address in &addresses[..at] {
                    let added = Address::new(address.address(), address.prefix());
                    let _ = self.links.delete_address(interface.ifindex, &interface.name, &added).await;
                }
                return Err(kernel(&error));
            }
        }
        let (groups, mut hands) = self.with_hands();
        if let Some(group) = groups.get_mut(group) {
            for address in addresses {
                group.address_appeared(&mut hands, address.address(), address.prefix()).await;
            }
        }
        Ok(Vec::new())
    }

    async fn remove_addresses(
        &mut self,
        group: &str,
        addresses: &[DataAddress],
    ) -> Result<Vec<String>, Refused> {
        let known = self.groups.get(group).ok_or_else(|| no_such_group(group))?;
        let interface = known.interface.clone();
        let there: Vec<(IpAddr, u8)> = known.addresses().collect();
        if let Some(missing) = addresses.iter().find(|one| !there.contains(&(one.address(), one.prefix()))) {
            let text = format!(
                "{group} does not have the data address {missing}; `ipmpctl show {group}` lists those it has"
            );
            return Err(Refused::new(reason::NO_SUCH_ADDRESS, text));
        }
        for address in addresses {
            let gone = Address::new(address.address(), address.prefix());
            self.links
                .delete_address(interface.ifindex, &interface.name, &gone)
                .await
                .map_err(|error| kernel(&error))?;
            let (groups, mut hands) = self.with_hands();
            if let Some(group) = groups.get_mut(group) {
                group.address_went(&mut hands, address.address(), address.prefix()).await;
            }
        }
        Ok(Vec::new())
    }

    async fn set_offline(&mut self, interface: &str, offline: bool) -> Result<Vec<String>, Refused> {
        let (group, name, _) = self.member(interface)?;
        let (groups, mut hands) = self.with_hands();
        let group = groups.get_mut(&group).ok_or_else(|| no_such_group(&group))?;
        let Some(member) = group.number_named(&name) else { return Ok(Vec::new()) };
        let event = if offline { Input::Offline { member } } else { Input::Online { member } };
        group.feed(&mut hands, event).await.map_err(|refusal| {
            let reason = match refusal {
                Refusal::LastFunctioning(_) => reason::LAST_FUNCTIONING,
                Refusal::AlreadyOffline(_) => reason::ALREADY_OFFLINE,
                Refusal::NotOffline(_) => reason::NOT_OFFLINE,
                Refusal::DuplicateMac(_) => reason::DUPLICATE_MAC,
            };
            Refused::new(reason, refusal.to_string())
        })?;
        Ok(Vec::new())
    }
}
