//! `ipmpctl path` and `ipmpctl simulate`: which member transmits a packet, and what moves when members are lost. Both compute on a
//! copy of the group's state machine, and change nothing.

use std::{collections::BTreeMap, net::IpAddr};

use ipmp_common::steer::{MemberSet, Preference};

use super::{
    refusals::{no_such_group, not_in_group},
    show,
};
use crate::{
    control::{
        path::{MovedRole, Packet, PathReport, Share, SimulatedMember, Simulation},
        request::{Refused, reason},
    },
    core::{self, path::Flow},
    daemon::{clock::now, group::RunningGroup, manager::Manager},
    link,
    types::{HashPolicy, PathRule},
};

/// Which member transmits a packet when these members are lost.
pub fn path(manager: &Manager, group: &str, packet: &Packet, lost: &[String]) -> Result<PathReport, Refused> {
    let group = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let lost = numbers(group, lost)?;
    let after = group.core.without(now(), lost);
    let select = after.selection();
    let name = |number| name_of(group, number);
    let report = |rule, slot, member: Option<u8>, list: Preference| PathReport {
        group: group.name().to_owned(),
        hash: group.policy(),
        rule,
        slot,
        member: member.and_then(name),
        preference: list.members().filter_map(name).collect(),
        shares: Vec::new(),
    };
    if is_cast(group, packet.destination) {
        let list = after.cast_list();
        return Ok(report(PathRule::Multicast, None, select(list), list));
    }
    let own = group.members.iter().find(|(_, member)| member.addresses.contains_key(&packet.source));
    if let Some((&number, _)) = own {
        let list = Preference::new(&[number]);
        // Without failover, so that nothing but its own link matters.
        let has_link = after.member(number).is_some_and(core::member::Member::live);
        return Ok(report(PathRule::TestAddress, None, has_link.then_some(number), list));
    }
    let lists = after.slots().lists();
    if let Some(slot) = flow(group, packet)?.slot(group.policy()) {
        let list = lists[usize::from(slot)];
        return Ok(report(PathRule::Slot, Some(slot), select(list), list));
    }
    let mut shares: BTreeMap<Option<u8>, u32> = BTreeMap::new();
    lists.iter().for_each(|&list| *shares.entry(select(list)).or_default() += 1);
    let only = if shares.len() == 1 { shares.keys().next().copied().flatten() } else { None };
    let share = |(number, slots): (Option<u8>, u32)| Share { member: number.and_then(name), slots };
    Ok(PathReport {
        member: only.and_then(name),
        preference: Vec::new(),
        shares: shares.into_iter().map(share).collect(),
        ..report(PathRule::Slot, None, None, Preference::EMPTY)
    })
}

/// What moves when these members are lost.
pub fn simulate(manager: &Manager, group: &str, lost: &[String]) -> Result<Simulation, Refused> {
    let group = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    let lost = numbers(group, lost)?;
    let after = group.core.without(now(), lost);
    let members_of = |core: &core::Group| -> Vec<Option<u8>> {
        let select = core.selection();
        core.slots().lists().iter().map(|&list| select(list)).collect()
    };
    let (now, then) = (members_of(&group.core), members_of(&after));
    let count = |slots: &[Option<u8>], member| slots.iter().filter(|&&slot| slot == member).count() as u32;
    let member = |known: &core::member::Member| {
        let number = known.number();
        SimulatedMember {
            name: known.name().to_owned(),
            lost: lost.has(number),
            slots: count(&now, Some(number)),
            slots_after: count(&then, Some(number)),
            speed_mbit: group.members.get(&number).and_then(|member| link::speed(&member.name)),
            traffic: show::traffic(group, known),
        }
    };
    let moved = |address, from: Option<u8>, to: Option<u8>| {
        let name = |number: Option<u8>| number.and_then(|number| name_of(group, number));
        (from != to).then(|| MovedRole { address, from: name(from), to: name(to) })
    };
    let addresses = group.core.addresses();
    let roles = addresses.filter_map(|(address, from)| moved(Some(address), from, after.inbound(address)));
    Ok(Simulation {
        group: group.name().to_owned(),
        hash: group.policy(),
        state: after.state(),
        moved_slots: now.iter().zip(&then).filter(|(now, then)| now != then).count() as u32,
        dropped_slots: count(&then, None),
        members: group.core.members().iter().map(member).collect(),
        roles: roles.chain(moved(None, group.core.cast(), after.cast())).collect(),
    })
}

/// The members of these names.
fn numbers(group: &RunningGroup, names: &[String]) -> Result<MemberSet, Refused> {
    let number = |name: &String| group.number_named(name).ok_or_else(|| not_in_group(name, group.name()));
    names.iter().map(number).collect()
}

fn name_of(group: &RunningGroup, number: u8) -> Option<String> {
    group.core.member(number).map(|member| member.name().to_owned())
}

/// Whether packets to this address are multicast or broadcast on the link of the group.
fn is_cast(group: &RunningGroup, destination: IpAddr) -> bool {
    let IpAddr::V4(v4) = destination else { return destination.is_multicast() };
    let is_directed = |(address, prefix): (IpAddr, u8)| match address {
        IpAddr::V4(own) if prefix < 31 => v4.to_bits() == own.to_bits() | u32::MAX >> prefix,
        _ => false,
    };
    v4.is_multicast() || v4.is_broadcast() || group.addresses.iter().any(is_directed)
}

/// The flow of a packet, complete enough for the policy of the group.
fn flow(group: &RunningGroup, packet: &Packet) -> Result<Flow, Refused> {
    let Packet { source, destination, protocol, .. } = *packet;
    let is_complete = protocol.is_some_and(|protocol| packet.ports().is_some() || !protocol.has_ports());
    if group.policy() == HashPolicy::Flow && !is_complete {
        return Err(Refused::new(
            reason::BAD_PACKET,
            format!(
                "{} has hash=flow, which uses the protocol and the ports of tcp, udp and sctp: name them as well",
                group.name()
            ),
        ));
    }
    let protocol = protocol.map_or(0, |protocol| protocol.0);
    Ok(Flow { source, destination, protocol, ports: packet.ports().unwrap_or_default() })
}
