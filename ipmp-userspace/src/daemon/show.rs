//! What is shown of groups and members.

use ipmp_common::maps::{self, MemberState};
use rtnetlink::packet_route::link::LinkFlags;

use super::{
    engine::Engine,
    group::{Group, Member},
};
use crate::{
    control::{
        report::{self, AddressReport, GroupReport, MemberReport},
        request::{Refused, reason},
    },
    core::{self, GroupState, Link},
    link::Device,
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
        let mut reports = Vec::new();
        for group in groups {
            let interface = self.links.device(group.interface.ifindex).await.ok().flatten();
            let mut members = Vec::new();
            for known in group.core.members() {
                if let Some(member) = group.members.get(&known.number()) {
                    let device = self.links.device(member.ifindex).await.ok().flatten();
                    members.push(member_report(group, known, member, device.as_ref()));
                }
            }
            reports.push(group_report(group, interface.as_ref(), members, self.datapath.status()));
        }
        Ok(reports)
    }
}

fn group_report(
    group: &Group,
    interface: Option<&Device>,
    members: Vec<MemberReport>,
    mut checks: Vec<String>,
) -> GroupReport {
    let inbound = |address| group.core.inbound(address).and_then(|number| name_of(group, number));
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
        hash: group.policy().name().to_owned(),
        flags: group_flags(interface, group.core.state()),
        addresses: group
            .addresses()
            .map(|(address, prefix)| AddressReport { address, prefix, inbound: inbound(address) })
            .collect(),
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

fn member_report(
    group: &Group,
    known: &core::member::Member,
    member: &Member,
    device: Option<&Device>,
) -> MemberReport {
    let number = known.number();
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
        state: match known.state() {
            MemberState::Ok => report::MemberState::Ok,
            MemberState::Failed => report::MemberState::Failed,
            MemberState::Offline => report::MemberState::Offline,
            MemberState::Unknown | MemberState::Vacant => report::MemberState::Unknown,
        },
        usable: known.usable(),
        live: group.live().has(number),
        cast: group.core.cast() == Some(number),
        flags: member_flags(device, known.link(), known.state()),
        addresses: member
            .addresses
            .iter()
            .map(|(address, prefix)| AddressReport { address: *address, prefix: *prefix, inbound: None })
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
    fn a_mac_is_written_as_everybody_writes_it() {
        assert_eq!(mac([2, 0, 0xab, 0, 0, 1]), "02:00:ab:00:00:01");
    }
}
