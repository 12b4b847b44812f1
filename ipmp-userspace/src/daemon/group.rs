//! One group: the state machine that decides, and the devices, maps and announcements that it decides about.

pub(in crate::daemon) mod followers;
pub(in crate::daemon) mod hardware_filters;
mod links;
pub(in crate::daemon) mod membership_reports;
pub(in crate::daemon) mod probing;
pub(in crate::daemon) mod route_targets;
pub(in crate::daemon) mod test_addresses;
pub(in crate::daemon) mod updelay;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use ipmp_common::hash::HashPolicy;

use crate::daemon::{
    events::event_log::{Loss, Teller},
    group::followers::VlanAddress,
    group::hardware_filters::GroupFilters,
    group::membership_reports::Reports,
    group::probing::Probing,
    group::updelay::Updelay,
};
use crate::{
    announce::{Announcement, Schedule, Sender},
    core::{self, Action, Attachment, Cause, Event, Input, Refusal, Time},
    datapath,
    link::{Device, GroupInterface, Links, sysctl},
    probe::Searches,
};

/// How long a link must have been good before it is trusted again (design 4.2).
pub const UPDELAY: Duration = Duration::from_millis(200);
/// How flows find their slots, unless the operator says otherwise.
pub const POLICY: HashPolicy = HashPolicy::Connection;
/// Weight of a member whose speed nobody knows: that of 1 Gbit/s.
pub const WEIGHT: u32 = 1000;

/// A member's device.
#[derive(Clone, Debug)]
pub struct Member {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// Devices below it.
    pub lower: Vec<u32>,
    /// Its own addresses and their prefix lengths.
    pub addresses: BTreeMap<IpAddr, u8>,
}

impl Member {
    /// Its IPv6 link-local address.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.addresses.keys().find_map(|address| match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(*v6),
            _ => None,
        })
    }
}

/// A group.
pub struct Group {
    /// What decides.
    pub core: core::Group,
    /// What forwards.
    pub datapath: datapath::Group,
    /// The interface with the data addresses.
    pub interface: GroupInterface,
    /// Its second name.
    pub groupname: String,
    /// MTU of the group interface in bytes.
    pub mtu: u32,
    /// The members' devices, by number.
    pub members: BTreeMap<u8, Member>,
    /// Addresses of the group interface with their prefix lengths.
    addresses: BTreeSet<(IpAddr, u8)>,
    /// VLAN devices on the group interface: their indexes and VLANs.
    pub(in crate::daemon) vlans: BTreeMap<u32, u16>,
    /// Addresses on them.
    pub(in crate::daemon) vlan_addresses: BTreeSet<VlanAddress>,
    /// The cast member that followers were announced with, and its MAC.
    pub(in crate::daemon) followed: Option<(u8, [u8; 6])>,
    /// Senders that were learnt, as far as it has been said.
    pub(in crate::daemon) learnt: BTreeSet<IpAddr>,
    /// The hardware filters of its members.
    pub filters: GroupFilters,
    /// Members whose switches are to be told what the group listens to.
    pub(in crate::daemon) reports: Reports,
    /// What is known of the members' test addresses, by number.
    pub(in crate::daemon) tests: BTreeMap<u8, test_addresses::Known>,
    /// Whether the group interface sends from its own IPv6 addresses alone.
    pub(in crate::daemon) own_sources: bool,
    /// Where no sentinel runs: what it would do.
    pub(in crate::daemon) updelay: Option<Updelay>,
    /// The questions to all hosts.
    pub(in crate::daemon) searches: Searches,
    /// Neighbours that are sought on the group interface.
    pub(in crate::daemon) sought: BTreeSet<IpAddr>,
    /// The targets that routes name, as far as they have been told: of host routes, and routers; by family.
    pub(in crate::daemon) routes: [(Vec<IpAddr>, Vec<IpAddr>); 2],
}

/// What carrying out actions needs besides the group.
pub struct Hands<'a> {
    /// Requests to the kernel.
    pub links: &'a Links,
    /// What is announced.
    pub schedule: &'a mut Schedule,
    /// What it is announced with.
    pub sender: &'a Sender,
    /// What probes share.
    pub probing: &'a mut Probing,
    /// What is said of it.
    pub teller: &'a Teller,
}

impl Hands<'_> {
    /// Sends the announcements that are due.
    pub fn announce(&mut self) {
        for announcement in self.schedule.take(now()) {
            if let Err(error) = self.sender.send(&announcement) {
                log::debug!("cannot announce {}: {error}", announcement.address);
            }
        }
    }
}

impl Group {
    /// Puts the parts together.
    pub fn new(
        core: core::Group,
        datapath: datapath::Group,
        interface: GroupInterface,
        groupname: String,
        mtu: u32,
    ) -> Self {
        let updelay = (!datapath.sentinel_runs()).then(Updelay::default);
        Self {
            core,
            datapath,
            interface,
            groupname,
            mtu,
            members: BTreeMap::new(),
            addresses: BTreeSet::new(),
            vlans: BTreeMap::new(),
            vlan_addresses: BTreeSet::new(),
            learnt: BTreeSet::new(),
            followed: None,
            filters: GroupFilters::default(),
            reports: Reports::default(),
            tests: BTreeMap::new(),
            own_sources: false,
            updelay,
            searches: Searches::default(),
            sought: BTreeSet::new(),
            routes: Default::default(),
        }
    }

    /// Name of the group interface.
    pub fn name(&self) -> &str {
        &self.interface.name
    }

    /// The hash policy.
    pub fn policy(&self) -> HashPolicy {
        self.datapath.policy()
    }

    /// The number of the member with this interface index.
    pub fn number_of(&self, ifindex: u32) -> Option<u8> {
        self.members.iter().find(|(_, member)| member.ifindex == ifindex).map(|(number, _)| *number)
    }

    /// The number of the member with this name.
    pub fn number_named(&self, name: &str) -> Option<u8> {
        self.members.iter().find(|(_, member)| member.name == name).map(|(number, _)| *number)
    }

    /// Addresses of the group interface with their prefix lengths.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        self.addresses.iter().copied()
    }

    /// Whether an address is on the group interface.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.range((address, 0)..=(address, u8::MAX)).next().is_some()
    }

    /// Lets the state machine decide, and does what it says. What the kernel refuses is logged: nobody is there to be
    /// told, and the next event will try again.
    pub async fn feed(&mut self, hands: &mut Hands<'_>, event: Input) -> Result<(), Refusal> {
        self.core.watch_probes(hands.teller.probes_are_watched());
        let actions = self.core.handle(now(), event)?;
        self.carry_out(hands, actions).await;
        Ok(())
    }

    /// As [`feed`](Self::feed), for events that cannot be refused.
    pub async fn tell(&mut self, hands: &mut Hands<'_>, event: Input) {
        if let Err(refusal) = self.feed(hands, event).await {
            log::error!(group = self.name(); "{refusal}");
        }
    }

    /// Does what the state machine says, in its order, and then what follows from having done it.
    pub async fn carry_out(&mut self, hands: &mut Hands<'_>, actions: Vec<Action>) {
        let mut unsaid = false;
        // When the network knew.
        let mut done = None;
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Announce { .. } => unsaid = true,
                // The network waits for an announcement; nobody waits for a line, and netlink may take its time.
                Action::Report(..) | Action::SetCarrier(_) | Action::SetMtu(_) if unsaid => {
                    hands.announce();
                    unsaid = false;
                    done = Some(now());
                }
                _ => {}
            }
            if let Action::Report(line, why) = &action {
                let done = *done.get_or_insert_with(now);
                hands.teller.explain(Some(self.name()), line, why, Some(done), || self.loss(why));
                continue;
            }
            if let Action::Probe { member, target, via, sequence } = action {
                actions.extend(self.probe(hands, member, target, via, sequence));
                continue;
            }
            match self.act(hands, action).await {
                // Its removal is told by another event.
                Err(Error::Link(error)) if error.is_gone() => log::debug!(group = self.name(); "{error}"),
                Err(error) => log::error!(group = self.name(); "{error}"),
                Ok(()) => {}
            }
        }
        self.follow_cast(hands);
    }

    async fn act(&mut self, hands: &mut Hands<'_>, action: Action) -> Result<(), Error> {
        match action {
            Action::SetUsable(members) => self.datapath.set_usable(members),
            Action::SetReserve(members) => self.datapath.set_reserve(members),
            Action::SetSlots(slots) => self.datapath.set_slots(&slots),
            Action::SetCast(list) => {
                self.filters.roles_changed();
                self.datapath.set_cast(list);
            }
            Action::SetInbound { address, inbound } => self.datapath.set_inbound(address, inbound)?,
            Action::ForgetAddress(address) => {
                self.datapath.remove_address(address)?;
                hands.schedule.stop(self.interface.ifindex, address);
            }
            Action::SetState { member, state } => self.datapath.set_state(member, state)?,
            Action::Announce { address, member } => self.announce(hands, address, member),
            Action::StopAnnouncing(address) => hands.schedule.stop(self.interface.ifindex, address),
            Action::SetCarrier(carrier) => self.interface.set_carrier(hands.links, carrier).await?,
            Action::SetMtu(mtu) => {
                hands.links.set_mtu(self.interface.ifindex, &self.interface.name, mtu).await?;
                if std::mem::replace(&mut self.mtu, mtu) != mtu {
                    let group = self.name().to_owned();
                    let smallest = self.core.members().iter().min_by_key(|member| member.mtu());
                    let why = smallest.map_or(Cause::Trigger, |member| Cause::SmallestMtu {
                        member: member.name().to_owned(),
                    });
                    hands.teller.explain(
                        Some(self.name()),
                        &Event::MtuChanged { group, mtu },
                        &why,
                        None,
                        || Loss::Carrier,
                    );
                }
            }
            Action::ProbeOver(outcome) => hands.teller.probe_over(self.name(), outcome),
            Action::FindHosts { member, source } => self.find_hosts(hands, member, source),
            Action::FindNeighbour(address) => self.find_neighbour(hands, address),
            // What follows from them comes after everything else; see `carry_out`.
            Action::Probe { .. } | Action::Report(..) => {}
        }
        Ok(())
    }

    /// How a link was lost.
    fn loss(&self, why: &Cause) -> Loss {
        let Cause::LinkLost { member } = why else { return Loss::Carrier };
        let device = self.members.values().find(|known| known.name == *member);
        device.map_or(Loss::Gone, |device| match self.datapath.is_up(member, device.ifindex) {
            None => Loss::Gone,
            Some(false) => Loss::Down,
            Some(true) => Loss::Carrier,
        })
    }

    fn announce(&self, hands: &mut Hands<'_>, address: IpAddr, number: u8) {
        let (Some(device), Some(member)) = (self.members.get(&number), self.core.member(number)) else {
            return;
        };
        let announcement = Announcement {
            group: self.interface.ifindex,
            vlan: None,
            address,
            ifindex: device.ifindex,
            mac: member.mac(),
            router: address.is_ipv6() && sysctl::forwards_ipv6(self.name()),
        };
        hands.schedule.announce(announcement, now());
    }

    /// Whether this is the group interface or a member.
    pub fn is_own_device(&self, ifindex: u32) -> bool {
        self.interface.ifindex == ifindex || self.number_of(ifindex).is_some()
    }

    /// Indexes of the devices that matter to the group.
    pub fn devices(&self) -> impl Iterator<Item = u32> {
        let members = self.members.values().map(|member| member.ifindex);
        members.chain([self.interface.ifindex]).chain(self.vlans.keys().copied())
    }

    /// Whether a description of a device differs from what is known of it, or of the group interface from what it
    /// should be.
    pub fn is_news(&self, device: &Device) -> bool {
        if device.ifindex == self.interface.ifindex {
            return device.master.is_some();
        }
        let member = self.number_of(device.ifindex).and_then(|number| self.core.member(number));
        member.is_some_and(|member| {
            (member.link(), member.mtu(), member.mac()) != (device.link(), device.mtu, device.mac)
        })
    }

    /// The group interface was made a port of a bridge or the like, which would take its packets: it is freed.
    pub async fn free(&self, hands: &Hands<'_>) {
        let name = self.name();
        match hands.links.leave_master(self.interface.ifindex, name).await {
            Ok(()) => hands.teller.say(Some(name), &Event::GroupInterfaceReleased { group: name.to_owned() }),
            Err(error) => log::error!(group = name; "{error}; do it by hand"),
        }
    }

    /// Netlink describes a member's device.
    pub async fn device_changed(&mut self, hands: &mut Hands<'_>, number: u8, device: &Device) {
        let Some(known) = self.core.member(number) else { return };
        let (mac, mtu) = (known.mac(), known.mtu());
        if device.mac != mac {
            if let Some(spec) = self.spec(number, device)
                && let Err(error) = self.datapath.attach(&spec)
            {
                log::error!(group = self.name(), member = spec.name.as_str(); "{error}");
            }
            let line = Event::MacChanged { member: device.name.clone(), mac: device.mac };
            hands.teller.say(Some(self.name()), &line);
            self.tell(hands, Input::Mac { member: number, mac: device.mac }).await;
        }
        if device.mtu != mtu {
            self.tell(hands, Input::Mtu { member: number, mtu: device.mtu }).await;
        }
        self.link_reported(number, device.link());
        self.tell(hands, Input::Link { member: number, link: device.link() }).await;
        self.look(hands).await;
    }

    /// What the datapath has to know of a member.
    pub fn spec(&self, number: u8, device: &Device) -> Option<datapath::MemberSpec> {
        let member = self.members.get(&number)?;
        Some(datapath::MemberSpec {
            number,
            name: device.name.clone(),
            ifindex: device.ifindex,
            mac: device.mac,
            lower: member.lower.clone(),
        })
    }

    /// When the group wants to be looked at again, without anything happening.
    pub fn next(&self) -> Option<Time> {
        let updelay = self.updelay.as_ref().and_then(|updelay| updelay.next(UPDELAY));
        [self.core.deadline(), updelay, self.reports.next()].into_iter().flatten().min()
    }

    /// Its time has come. What had arrived by then has been told.
    pub async fn woken(&mut self, hands: &mut Hands<'_>, time: Time) {
        if self.core.deadline().is_some_and(|deadline| deadline <= time) {
            self.core.watch_probes(hands.teller.probes_are_watched());
            match self.core.handle(time, Input::Deadline) {
                Ok(actions) => self.carry_out(hands, actions).await,
                Err(refusal) => log::error!(group = self.name(); "{refusal}"),
            }
        }
        if self.updelay.is_some() {
            self.look(hands).await;
        }
        self.report(hands);
    }

    /// A member has joined just now.
    pub async fn joined(&mut self, hands: &mut Hands<'_>, attachment: Attachment) {
        let number = attachment.member;
        self.link_reported(number, attachment.link);
        self.tell(hands, Input::Joined(attachment)).await;
    }

    /// A member's device is gone: the reference has a line for each family.
    pub fn say_removed(&self, hands: &Hands<'_>, number: u8) {
        let Some(device) = self.members.get(&number) else { return };
        for family in ["inet", "inet6"] {
            let line = Event::RemovedFromKernel { family, member: device.name.clone() };
            hands.teller.say(Some(self.name()), &line);
        }
    }

    /// A member leaves: the state machine first, so that nothing is sent to it any more.
    pub async fn leave(&mut self, hands: &mut Hands<'_>, number: u8) -> Option<Member> {
        self.tell(hands, Input::Left { member: number }).await;
        let member = self.members.remove(&number);
        self.filters.left(number);
        self.tests.remove(&number);
        if let Some(updelay) = &mut self.updelay {
            updelay.forget(number);
        }
        if let Some(member) = &member {
            hands.schedule.stop_member(member.ifindex);
            hands.probing.forget(member.ifindex);
        }
        if let Err(error) = self.datapath.detach(number) {
            log::error!(group = self.name(); "{error}");
        }
        member
    }

    /// An address is on the group interface: it is a data address at once.
    pub async fn address_appeared(&mut self, hands: &mut Hands<'_>, address: IpAddr, prefix: u8) {
        let known = self.has_address(address);
        self.addresses.insert((address, prefix));
        if !known {
            let group = self.name().to_owned();
            hands.teller.say(Some(self.name()), &Event::AddressAdded { address, group });
            self.forget_learnt(address);
            self.filters.multicast_changed();
            self.tell(hands, Input::AddressAdded(address)).await;
        }
    }

    /// An address is gone from the group interface.
    pub async fn address_went(&mut self, hands: &mut Hands<'_>, address: IpAddr, prefix: u8) {
        let known = self.addresses.remove(&(address, prefix));
        if !self.has_address(address) {
            if known {
                let group = self.name().to_owned();
                hands.teller.say(Some(self.name()), &Event::AddressRemoved { address, group });
            }
            self.filters.multicast_changed();
            self.tell(hands, Input::AddressRemoved(address)).await;
            // A member that has it, too, has it for itself now.
            let owner = self.members.iter().find(|(_, member)| member.addresses.contains_key(&address));
            if let Some((&number, _)) = owner
                && let Err(error) = self.datapath.set_own_address(address, number)
            {
                log::error!(group = self.name(); "{error}");
            }
        }
    }

    /// A member has an address of its own: its test address, or its link-local one.
    pub fn own_address_appeared(
        &mut self,
        number: u8,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), datapath::Error> {
        if let Some(member) = self.members.get_mut(&number) {
            member.addresses.insert(address, prefix);
        }
        self.forget_learnt(address);
        // A data address that is still on the NIC it came from is the group's.
        if self.has_address(address) { Ok(()) } else { self.datapath.set_own_address(address, number) }
    }

    /// A member's own address is gone.
    pub fn own_address_went(&mut self, number: u8, address: IpAddr) -> Result<(), datapath::Error> {
        if let Some(member) = self.members.get_mut(&number) {
            member.addresses.remove(&address);
        }
        if self.has_address(address) { Ok(()) } else { self.datapath.remove_address(address) }
    }

    /// A VLAN device lies on the group interface, or no longer does.
    pub fn vlan_changed(&mut self, ifindex: u32, vlan: Option<u16>) -> Result<(), datapath::Error> {
        let before = match vlan {
            Some(vlan) => self.vlans.insert(ifindex, vlan),
            None => self.vlans.remove(&ifindex),
        };
        if before == vlan {
            return Ok(());
        }
        self.filters.vlans_changed();
        self.vlan_addresses.retain(|(device, ..)| *device != ifindex);
        let vlans: Vec<u16> = self.vlans.values().copied().collect();
        self.datapath.set_vlans(&vlans)
    }

    /// The VLAN of a device on the group interface.
    pub fn vlan_of(&self, ifindex: u32) -> Option<u16> {
        self.vlans.get(&ifindex).copied()
    }

    /// VLAN devices have changed that may be those of members.
    pub fn look_at_vlans(&mut self) {
        if !self.vlans.is_empty() {
            self.filters.vlans_changed();
        }
    }

    /// The VLANs of the group.
    pub fn vlan_ids(&self) -> BTreeSet<u16> {
        self.vlans.values().copied().collect()
    }

    /// Addresses that the maps have: whether the interface has them still is found by comparing.
    pub fn expect_addresses(&mut self, addresses: Vec<IpAddr>) {
        // No address has this prefix length, so that the true one is news and this one is missed.
        self.addresses.extend(addresses.into_iter().map(|address| (address, u8::MAX)));
    }

    /// The addresses that are not on the group interface any more.
    pub fn addresses_not_in(&self, now: &BTreeSet<(IpAddr, u8)>) -> Vec<(IpAddr, u8)> {
        self.addresses.difference(now).copied().collect()
    }
}

/// An action that the kernel refused.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Link(#[from] crate::link::Error),
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
}

/// The time.
pub fn now() -> Time {
    let since_boot = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    Time(since_boot.map(Duration::from).unwrap_or_default())
}
