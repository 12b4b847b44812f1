//! A running group: its state machine, its devices, maps and announcements.
//!
//! [`actions`] feeds the state machine and applies what it decides. Every other module has one concern and reports to the
//! state machine through it. No module here imports the event loop or the manager: functions get a [`Context`].

pub mod absence;
pub mod actions;
pub mod addresses;
pub mod conflicts;
mod context;
pub mod deadline;
pub mod early_drops;
pub mod followers;
pub mod hardware_filters;
pub mod hooks;
mod inbound_silence;
pub mod links;
pub mod members;
pub mod membership_reports;
pub mod mirrored_memberships;
pub mod neighbours;
pub mod probe_replies;
pub mod probing;
pub mod replaced;
pub mod route_reader;
pub mod route_targets;
pub mod routing_table;
pub mod stale_neighbours;
pub mod sysctls;
pub mod tasks;
pub mod test_addresses;
mod updelay;
pub mod vlans;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

pub use context::Context;
use ipmp_common::{hash::HashPolicy, steer::MemberSet};

use crate::{
    core::{self, Time},
    daemon::{migration::Place, state_file::Updelays},
    datapath,
    link::{Device, GroupInterface},
};

/// A member's device.
#[derive(Clone, Debug)]
pub struct MemberDevice {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// Devices below it.
    pub lower: Vec<u32>,
    /// Its own addresses and their prefix lengths.
    pub addresses: BTreeMap<IpAddr, u8>,
}

impl MemberDevice {
    /// Its IPv6 link-local address.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.addresses.keys().find_map(|address| match address {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(*v6),
            _ => None,
        })
    }

    /// The member as the datapath needs it.
    pub fn spec(&self, number: u8, device: &Device) -> datapath::MemberSpec {
        datapath::MemberSpec {
            number,
            name: device.name.clone(),
            ifindex: device.ifindex,
            mac: device.mac,
            lower: self.lower.clone(),
        }
    }
}

/// A group and the state of its parts.
pub struct RunningGroup {
    /// The state machine.
    pub core: core::Group,
    /// The maps and programs.
    pub datapath: datapath::Group,
    /// Its next deadline, as of the start of this turn of the event loop.
    pub due: Option<Time>,
    /// The interface with the data addresses.
    pub interface: GroupInterface,
    /// Its group name.
    pub groupname: String,
    /// MTU of the group interface in bytes.
    pub mtu: u32,
    /// The members' devices, by number.
    pub members: BTreeMap<u8, MemberDevice>,
    /// Addresses of the group interface.
    pub addresses: addresses::DataAddresses,
    /// Claims of other hosts to its addresses.
    pub conflicts: conflicts::Conflicts,
    /// VLAN devices on the group interface.
    pub vlans: vlans::Vlans,
    /// Addresses that follow the cast member.
    pub followers: followers::Followers,
    /// Hardware filters of the members.
    pub filters: hardware_filters::FilterState,
    /// Membership reports that are due.
    pub reports: membership_reports::PendingReports,
    /// Multicast groups that programs joined on the members.
    pub mirrored: mirrored_memberships::MirroredMemberships,
    /// The programs at the hooks of its devices.
    pub hooks: hooks::Hooks,
    /// The XDP programs of the members.
    pub early_drops: early_drops::EarlyDropSettings,
    /// Neighbours that have missed announcements.
    pub stale_neighbours: stale_neighbours::StaleNeighbours,
    /// Inbound traffic of the members.
    pub inbound_silence: inbound_silence::InboundSilence,
    /// What others do in place of failed members.
    pub replacements: replaced::Replacements,
    /// Kernel settings of its interfaces.
    pub sysctls: sysctls::Sysctls,
    /// Test addresses of the members.
    pub test_addresses: test_addresses::GroupTestAddresses,
    /// How long links must be up before their members are used.
    pub updelays: Updelays,
    /// Replaces the sentinel on kernels where it cannot run.
    pub updelay: Option<updelay::Updelay>,
    /// Searches for targets.
    pub discovery: probing::Discovery,
    /// Targets from routes, as last reported to the state machine.
    pub route_targets: route_targets::RouteTargets,
}

impl RunningGroup {
    /// A group without members.
    pub fn new(
        core: core::Group,
        datapath: datapath::Group,
        interface: GroupInterface,
        groupname: String,
        mtu: u32,
    ) -> Self {
        let vlans = vlans::Vlans::adopted(datapath.inbound_in_vlans().unwrap_or_default());
        let updelay = (!datapath.sentinel_runs()).then(updelay::Updelay::default);
        Self {
            due: None,
            core,
            datapath,
            interface,
            groupname,
            mtu,
            members: BTreeMap::new(),
            addresses: addresses::DataAddresses::default(),
            conflicts: conflicts::Conflicts::default(),
            vlans,
            followers: followers::Followers::default(),
            filters: hardware_filters::FilterState::default(),
            reports: membership_reports::PendingReports::default(),
            mirrored: mirrored_memberships::MirroredMemberships::default(),
            hooks: hooks::Hooks::default(),
            early_drops: early_drops::EarlyDropSettings::default(),
            stale_neighbours: stale_neighbours::StaleNeighbours::default(),
            inbound_silence: inbound_silence::InboundSilence::default(),
            replacements: replaced::Replacements::default(),
            sysctls: sysctls::Sysctls::default(),
            test_addresses: test_addresses::GroupTestAddresses::default(),
            updelays: Updelays::default(),
            updelay,
            discovery: probing::Discovery::default(),
            route_targets: route_targets::RouteTargets::default(),
        }
    }

    /// Name of the group interface.
    pub fn name(&self) -> &str {
        &self.interface.name
    }

    /// The group interface as a place of addresses and routes.
    pub fn place(&self) -> Place<'_> {
        Place { ifindex: self.interface.ifindex, name: &self.interface.name }
    }

    /// The hash policy.
    pub fn policy(&self) -> HashPolicy {
        self.datapath.policy()
    }

    /// The number of the member with this interface index.
    pub fn number_of(&self, ifindex: u32) -> Option<u8> {
        self.members.iter().find(|(_, member)| member.ifindex == ifindex).map(|(number, _)| *number)
    }

    /// Whether a member is stacked on the interface with this index.
    pub fn is_below_member(&self, ifindex: u32) -> bool {
        self.members.values().any(|member| member.lower.contains(&ifindex))
    }

    /// The number of the member with this name, absent or not.
    pub fn number_named(&self, name: &str) -> Option<u8> {
        let present = self.members.iter().find(|(_, member)| member.name == name).map(|(number, _)| *number);
        present.or_else(|| self.core.member_named(name).map(core::member::Member::number))
    }

    /// Whether the device of any member does not exist.
    pub fn has_absent_members(&self) -> bool {
        self.core.members().iter().any(core::member::Member::absent)
    }

    /// Since when the link of a member that is not live has been up.
    pub fn up_since(&self, number: u8) -> Option<Time> {
        match &self.updelay {
            Some(updelay) => updelay.up_since(number),
            None => self.datapath.good_since(number).map(Time),
        }
    }

    /// How long the link of a member must be up now before it is used.
    pub fn updelay_of(&self, number: u8) -> Duration {
        self.updelays.of(number, self.live().is_empty())
    }

    /// The members whose links the datapath trusts.
    pub fn live(&self) -> MemberSet {
        self.datapath.live()
    }

    /// Whether this is the group interface or a member.
    pub fn is_own_device(&self, ifindex: u32) -> bool {
        self.interface.ifindex == ifindex || self.number_of(ifindex).is_some()
    }

    /// Whether this is the group interface or a VLAN device on it.
    pub fn has_addresses_on(&self, ifindex: u32) -> bool {
        self.interface.ifindex == ifindex || self.vlans.id_of(ifindex).is_some()
    }

    /// Whether it has something to do by this time.
    pub fn is_due(&self, time: Time) -> bool {
        self.due.is_some_and(|due| due <= time)
    }

    /// Indexes of the group interface, the members and the VLAN devices.
    pub fn devices(&self) -> impl Iterator<Item = u32> {
        let members = self.members.values().map(|member| member.ifindex);
        members.chain([self.interface.ifindex]).chain(self.vlans.devices())
    }
}
