//! What is shown of groups and members.

use ipmp_common::maps;
use rtnetlink::packet_route::{address::AddressFlags, link::LinkFlags};

pub(in crate::daemon) mod probing;
mod unread_replies;

use crate::daemon::{
    event_loop::Engine,
    group::{Group, Member, now},
};
use crate::{
    control::{
        report::{self, AddressReport, GroupReport, MemberReport},
        request::{Refused, reason},
    },
    core::{self, member::Condition},
    link::{Address, Device, show_mac},
    types::{GroupState, LinkState},
};

impl Engine {
    /// Every group; or the one that has this name, this group name or this member.
    pub(in crate::daemon) async fn show(&self, name: Option<&str>) -> Result<Vec<GroupReport>, Refused> {
        let wanted = |group: &&Group| {
            name.is_none_or(|name| {
                group.name() == name || group.groupname == name || group.number_named(name).is_some()
            })
        };
        let groups: Vec<&Group> = self.groups.values().filter(wanted).collect();
        if let (Some(name), true) = (name, groups.is_empty()) {
            return Err(Refused::new(
                reason::NO_SUCH_GROUP,
                format!("{name} is neither a group nor a member of one; `ipmpctl show` lists all"),
            ));
        }
        // Whether an address can be used, and their order, is the kernel's to say.
        let kernel = self.links.addresses().await.map_err(|error| {
            Refused::new(reason::KERNEL, format!("{error}; it is what addresses are shown from"))
        })?;
        let mut reports = Vec::new();
        for group in groups {
            let interface = self.links.device(group.interface.ifindex).await.ok().flatten();
            let mut members = Vec::new();
            for known in group.core.members() {
                if let Some(member) = group.members.get(&known.number()) {
                    let device = self.links.device(member.ifindex).await.ok().flatten();
                    members.push(member_report(group, known, member, device.as_ref(), &kernel));
                }
            }
            let addresses = data_addresses(group, interface.as_ref(), &kernel);
            let mut checks = self.datapath.status();
            checks.extend(group.filters.missing());
            reports.push(group_report(group, interface.as_ref(), addresses, members, checks));
        }
        Ok(reports)
    }
}

fn group_report(
    group: &Group,
    interface: Option<&Device>,
    addresses: Vec<AddressReport>,
    members: Vec<MemberReport>,
    mut checks: Vec<String>,
) -> GroupReport {
    for member in group.core.members().iter().filter(|member| member.link() == LinkState::Unknown) {
        checks.push(format!("{} cannot report its link: it is taken as up", member.name()));
    }
    for member in group.core.members() {
        let counters = group.datapath.reply_counters(member.number()).unwrap_or_default();
        checks.extend(unread_replies::sentence(member.name(), &counters));
    }
    let drops = group.datapath.drops().unwrap_or_else(|error| {
        log::warn!(group = group.name(); "{error}");
        maps::Drops::default()
    });
    GroupReport {
        name: group.name().to_owned(),
        groupname: group.groupname.clone(),
        ifindex: group.interface.ifindex,
        mac: show_mac(group.interface.mac),
        mtu: interface.map_or(group.mtu, |device| device.mtu),
        state: group.core.state(),
        fdt_ms: probing::fdt_ms(&group.core),
        detection: probing::detection(&group.core, now()),
        hash: group.policy(),
        flags: group_flags(interface, group.core.state()),
        addresses,
        members,
        checks,
        drops: report::Drops {
            no_member: drops.no_member,
            foreign_source: drops.foreign_source,
            truncated: drops.truncated,
            reflected: drops.reflected,
            other_copy: drops.other_copy,
        },
        capture: report::Capture {
            mode: group.datapath.capture(),
            active: group.datapath.is_captured(),
            copies: drops.captured,
        },
    }
}

/// Every address of the group interface, in the kernel's order; one that another host has, too, is no data address and
/// is shown as down.
fn data_addresses(
    group: &Group,
    interface: Option<&Device>,
    kernel: &[(u32, Address)],
) -> Vec<AddressReport> {
    let mine = kernel.iter().filter(|(ifindex, _)| *ifindex == group.interface.ifindex);
    mine.map(|(_, address)| AddressReport {
        address: address.ip,
        prefix: address.prefix,
        up: is_up(interface) && is_ready(address),
        inbound: group.core.inbound(address.ip).and_then(|number| name_of(group, number)),
    })
    .collect()
}

fn is_up(device: Option<&Device>) -> bool {
    device.is_some_and(|device| device.flags.contains(LinkFlags::Up))
}

/// Whether duplicate address detection lets sockets use an address.
fn is_ready(address: &Address) -> bool {
    let has = |flag: AddressFlags| address.flags & flag.bits() != 0;
    !address.is_duplicate() && (!has(AddressFlags::Tentative) || has(AddressFlags::Optimistic))
}

fn member_report(
    group: &Group,
    known: &core::member::Member,
    member: &Member,
    device: Option<&Device>,
    kernel: &[(u32, Address)],
) -> MemberReport {
    let number = known.number();
    let ready = |ip| {
        let mut own =
            kernel.iter().filter(|(ifindex, address)| (*ifindex, address.ip) == (member.ifindex, ip));
        own.any(|(_, address)| is_ready(address))
    };
    let counters = group.datapath.counters(number).unwrap_or_else(|error| {
        log::warn!(group = group.name(), member = known.name(); "{error}");
        maps::Counters::default()
    });
    MemberReport {
        name: known.name().to_owned(),
        ifindex: member.ifindex,
        number,
        mac: show_mac(known.mac()),
        mtu: known.mtu(),
        weight: known.weight(),
        slots: group.core.slots().shares()[usize::from(number)],
        link: known.link(),
        probe: known.probe_column(),
        state: known.state(),
        offline: known.offline(),
        active: group.core.active().contains(&number),
        usable: known.usable(),
        live: group.live().has(number),
        cast: group.core.cast() == Some(number),
        standby: known.standby(),
        inactive: known.inactive(),
        probing: probing::probing(known, now()),
        flags: member_flags(device, known),
        addresses: member
            .addresses
            .iter()
            .map(|(&address, &prefix)| {
                let up = is_up(device) && ready(address);
                AddressReport { address, prefix, up, inbound: None }
            })
            .collect(),
        attach: group.datapath.attach_kind().to_string(),
        traffic: report::Traffic {
            out_packets: counters.out_packets,
            out_bytes: counters.out_bytes,
            in_packets: counters.in_packets,
            in_bytes: counters.in_bytes,
            failed_over_packets: counters.failed_over_packets,
        },
    }
}

fn name_of(group: &Group, number: u8) -> Option<String> {
    group.core.member(number).map(|member| member.name().to_owned())
}

/// The words of flags that can be shown, in the order of their bits (reference.md 1.6 and 7.2). IPv4 and IPv6 are not
/// among them: a block here is of an interface, not of a family.
const FLAGS: [&str; 11] = [
    "UP",
    "BROADCAST",
    "RUNNING",
    "MULTICAST",
    "DEPRECATED",
    "NOFAILOVER",
    "FAILED",
    "STANDBY",
    "INACTIVE",
    "OFFLINE",
    "IPMP",
];

/// The flags of these that are set, in their order.
fn in_order(set: &[(&str, bool)]) -> Vec<String> {
    let is_set = |flag: &&str| set.iter().any(|(name, is_set)| name == flag && *is_set);
    FLAGS.into_iter().filter(is_set).map(str::to_owned).collect()
}

/// Flags of a group interface: RUNNING is the complement of FAILED.
fn group_flags(interface: Option<&Device>, state: GroupState) -> Vec<String> {
    let failed = state == GroupState::Failed;
    let [up, broadcast, multicast] = device_flags(interface);
    in_order(&[up, broadcast, ("RUNNING", !failed), multicast, ("FAILED", failed), ("IPMP", true)])
}

/// Flags of a member. No address of it is ever moved, or chosen as a source: NOFAILOVER and with it DEPRECATED. Its link
/// is followed while it is offline, so FAILED may stand beside OFFLINE (reference.md 2.12).
fn member_flags(device: Option<&Device>, known: &core::member::Member) -> Vec<String> {
    let no_link = matches!(known.condition(), Condition::Down | Condition::Returning | Condition::Held);
    let [up, broadcast, multicast] = device_flags(device);
    in_order(&[
        up,
        broadcast,
        ("RUNNING", known.link() != LinkState::Down),
        multicast,
        ("DEPRECATED", true),
        ("NOFAILOVER", true),
        ("FAILED", no_link || known.probes_failed()),
        ("STANDBY", known.standby()),
        ("INACTIVE", known.inactive()),
        ("OFFLINE", known.offline().is_some()),
    ])
}

/// The flags that the kernel keeps.
fn device_flags(device: Option<&Device>) -> [(&'static str, bool); 3] {
    let has = |flag| device.is_some_and(|device| device.flags.contains(flag));
    [
        ("UP", has(LinkFlags::Up)),
        ("BROADCAST", has(LinkFlags::Broadcast)),
        ("MULTICAST", has(LinkFlags::Multicast)),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ipmp_common::steer::MemberSet;
    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;
    use crate::core::{Attachment, Input, Time};

    /// An Ethernet device that is up.
    fn device() -> Device {
        let mut message = LinkMessage::default();
        message.header.flags =
            LinkFlags::Up | LinkFlags::Broadcast | LinkFlags::Running | LinkFlags::Multicast;
        Device::parse(&message)
    }

    /// What a group of two shows of its first member after these events; the other one always works.
    fn member_after(events: &[Input]) -> String {
        let now = Time(Duration::from_secs(1000));
        let mut group = core::Group::new("production0", core::Settings::default());
        let joined = |member: u8| {
            let (mac, link) = ([2, 0, 0, 0, 0, member], LinkState::Up);
            Input::Joined(Attachment {
                member,
                name: format!("eth{member}"),
                mac,
                mtu: 1500,
                weight: 1,
                link,
            })
        };
        let live = Input::Live([0, 1].into_iter().collect());
        for event in [joined(0), joined(1), live].iter().chain(events) {
            group.handle(now, event.clone()).unwrap();
        }
        member_flags(Some(&device()), group.member(0).unwrap()).join(",")
    }

    #[test]
    fn flags_of_members_are_those_of_the_tutorial() {
        let (member, link) = (0, LinkState::Down);
        let down = Input::Link { member, link };
        let lost = Input::Live(MemberSet::of(1));
        let offline = Input::Offline { member };
        // Tutorial 1.6.1: rge0.
        assert_eq!(member_after(&[]), "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER");
        // Tutorial 1.2.2: e1000g0 with its cable pulled.
        assert_eq!(
            member_after(std::slice::from_ref(&down)),
            "UP,BROADCAST,MULTICAST,DEPRECATED,NOFAILOVER,FAILED"
        );
        // The datapath has seen it, the kernel has not told of it yet.
        assert_eq!(member_after(&[lost]), "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,FAILED");
        // Reference 1.6: 0x10000000 before 0x80000000.
        let running = "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,OFFLINE";
        assert_eq!(member_after(std::slice::from_ref(&offline)), running);
        let pulled = "UP,BROADCAST,MULTICAST,DEPRECATED,NOFAILOVER,FAILED,OFFLINE";
        assert_eq!(member_after(&[offline.clone(), down.clone()]), pulled);
        assert_eq!(member_after(&[down, offline]), pulled);
        // As long as the other one carries.
        let standby = "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,STANDBY,INACTIVE";
        let kept = Input::Standby { member, standby: true };
        assert_eq!(member_after(std::slice::from_ref(&kept)), standby);
        let link = LinkState::Down;
        let needed = "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,STANDBY";
        assert_eq!(member_after(&[kept, Input::Link { member: 1, link }]), needed);
    }

    #[test]
    fn flags_of_groups_are_those_of_the_tutorial() {
        let flags = |state| group_flags(Some(&device()), state).join(",");
        // Tutorial 1.6.3 and 1.6: production0 with members, and without any.
        assert_eq!(flags(GroupState::Ok), "UP,BROADCAST,RUNNING,MULTICAST,IPMP");
        assert_eq!(flags(GroupState::Degraded), "UP,BROADCAST,RUNNING,MULTICAST,IPMP");
        assert_eq!(flags(GroupState::Failed), "UP,BROADCAST,MULTICAST,FAILED,IPMP");
        assert_eq!(group_flags(None, GroupState::Failed), ["FAILED", "IPMP"]);
    }

    #[test]
    fn standby_and_inactive_have_their_place() {
        // Reference 1.6: 0x20000000 and 0x40000000.
        let set = ["OFFLINE", "STANDBY", "UP", "INACTIVE", "FAILED"].map(|flag| (flag, true));
        assert_eq!(in_order(&set), ["UP", "FAILED", "STANDBY", "INACTIVE", "OFFLINE"]);
    }

    #[test]
    fn an_address_is_ready_once_nobody_else_was_found_to_have_it() {
        let ready = |flags: AddressFlags| {
            is_ready(&Address { flags: flags.bits(), ..Address::new("fe80::1".parse().unwrap(), 64) })
        };
        assert!(ready(AddressFlags::Permanent));
        assert!(!ready(AddressFlags::Tentative));
        assert!(ready(AddressFlags::Tentative | AddressFlags::Optimistic));
        assert!(!ready(AddressFlags::Dadfailed));
        assert!(!is_up(None));
    }

    #[test]
    fn a_mac_is_written_as_everybody_writes_it() {
        assert_eq!(show_mac([2, 0, 0xab, 0, 0, 1]), "02:00:ab:00:00:01");
    }
}
