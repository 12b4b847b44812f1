//! What is shown of groups and members.

use ipmp_common::maps::{self, MemberState};
use rtnetlink::packet_route::{address::AddressFlags, link::LinkFlags};

use super::{
    engine::Engine,
    group::{Group, Member},
};
use crate::{
    control::{
        report::{self, AddressReport, GroupReport, MemberReport},
        request::{Refused, reason},
    },
    core::{self, GroupState, Link, member::Cause},
    link::{Address, Device},
};

impl Engine {
    /// Every group; or the one that has this name, this group name or this member.
    pub(super) async fn show(&self, name: Option<&str>) -> Result<Vec<GroupReport>, Refused> {
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
    for member in group.core.members().iter().filter(|member| member.link() == Link::Unknown) {
        checks.push(format!("{} cannot report its link: it is taken as up", member.name()));
    }
    let drops = group.datapath.drops().unwrap_or_else(|error| {
        log::warn!(group = group.name(); "{error}");
        maps::Drops::default()
    });
    GroupReport {
        name: group.name().to_owned(),
        groupname: group.groupname.clone(),
        ifindex: group.interface.ifindex,
        mac: mac(group.interface.mac),
        mtu: interface.map_or(group.mtu, |device| device.mtu),
        state: match group.core.state() {
            GroupState::Ok => report::GroupState::Ok,
            GroupState::Degraded => report::GroupState::Degraded,
            GroupState::Failed => report::GroupState::Failed,
        },
        fdt_ms: None,
        hash: group.policy().name().to_owned(),
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
        mac: mac(known.mac()),
        mtu: known.mtu(),
        weight: known.weight(),
        slots: group.core.slots().shares()[usize::from(number)],
        link: match known.link() {
            Link::Up => report::Link::Up,
            Link::Down => report::Link::Down,
            Link::Unknown => report::Link::Unknown,
        },
        probe: report::Probe::Disabled,
        state: match known.state() {
            MemberState::Ok => report::MemberState::Ok,
            MemberState::Failed => report::MemberState::Failed,
            MemberState::Offline => report::MemberState::Offline,
            MemberState::Unknown | MemberState::Vacant => report::MemberState::Unknown,
        },
        offline: known.offline().map(|cause| match cause {
            Cause::Operator => report::Cause::Operator,
            Cause::DuplicateMac => report::Cause::DuplicateMac,
        }),
        active: group.core.active().contains(&number),
        usable: known.usable(),
        live: group.live().has(number),
        cast: group.core.cast() == Some(number),
        flags: member_flags(device, known.link(), known.state()),
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
            stepped_in: counters.stepped_in,
        },
    }
}

fn name_of(group: &Group, number: u8) -> Option<String> {
    group.core.member(number).map(|member| member.name().to_owned())
}

/// Flags of a group interface, in the order of their bits (reference.md 1.6).
fn group_flags(interface: Option<&Device>, state: GroupState) -> Vec<String> {
    let failed = state == GroupState::Failed;
    let mut flags = device_flags(interface, !failed);
    if failed {
        flags.push("FAILED");
    }
    flags.push("IPMP");
    flags.into_iter().map(str::to_owned).collect()
}

/// Flags of a member.
fn member_flags(device: Option<&Device>, link: Link, state: MemberState) -> Vec<String> {
    let mut flags = device_flags(device, link != Link::Down);
    match state {
        MemberState::Failed => flags.push("FAILED"),
        MemberState::Offline => flags.push("OFFLINE"),
        MemberState::Ok | MemberState::Unknown | MemberState::Vacant => {}
    }
    flags.into_iter().map(str::to_owned).collect()
}

fn device_flags(device: Option<&Device>, running: bool) -> Vec<&'static str> {
    let has = |flag| device.is_some_and(|device| device.flags.contains(flag));
    let flags = [
        ("UP", has(LinkFlags::Up)),
        ("BROADCAST", has(LinkFlags::Broadcast)),
        ("RUNNING", running),
        ("MULTICAST", has(LinkFlags::Multicast)),
    ];
    flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_the_words_and_the_order_of_the_reference() {
        assert_eq!(group_flags(None, GroupState::Ok), ["RUNNING", "IPMP"]);
        assert_eq!(group_flags(None, GroupState::Failed), ["FAILED", "IPMP"]);
        assert_eq!(member_flags(None, Link::Down, MemberState::Failed), ["FAILED"]);
        assert_eq!(member_flags(None, Link::Up, MemberState::Offline), ["RUNNING", "OFFLINE"]);
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
        assert_eq!(mac([2, 0, 0xab, 0, 0, 1]), "02:00:ab:00:00:01");
    }
}
