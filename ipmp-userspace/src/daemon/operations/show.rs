//! `ipmpctl show`, and the reports on which `explain`, `monitor` and `ipmpstat` are based.

use std::{collections::HashMap, net::IpAddr};

use ipmp_common::maps;
use rtnetlink::packet_route::{address::AddressFlags, link::LinkFlags};

pub mod configuration;
mod kernel;
pub mod probing;
mod unread_replies;

use self::kernel::{Interface, Kernel};
use super::{link_up_check, refusals::no_such_name};
use crate::{
    announce::Schedule,
    control::{
        report::{self, AddressReport, GroupConfiguration, GroupReport, MemberReport},
        request::Refused,
        timeline::Transition,
    },
    core::{
        self,
        member::{self, Condition, FullFrame, Hole},
    },
    daemon::{
        clock::now,
        group::{MemberDevice, RunningGroup, replaced, stale_neighbours},
        manager::Manager,
        state_file::{SavedGroup, SavedMember},
    },
    link::{Address, show_mac},
    types::{GroupState, LinkState, XdpMode},
};

/// Reports on all groups, or on those with this name or group name. With the name of a member: on its group, with that member
/// alone.
pub async fn show(manager: &Manager, name: Option<&str>) -> Result<Vec<GroupReport>, Refused> {
    let mut reports = groups(manager, name).await?;
    for report in &mut reports {
        let is_member = name.is_some_and(|name| report.name != name && report.groupname != name);
        if is_member {
            report.members.retain(|member| name == Some(member.name.as_str()));
        }
    }
    Ok(reports)
}

/// The last failures and repairs of all groups, or of those with this name, group name or member, oldest first.
pub fn timeline(
    manager: &Manager,
    name: Option<&str>,
    last: Option<u32>,
) -> Result<Vec<Transition>, Refused> {
    let groups = matching(manager, name)?;
    groups.iter().for_each(|group| replaced::report_all(group, &manager.event_log));
    let mut all: Vec<Transition> =
        groups.into_iter().flat_map(|group| manager.event_log.timeline(group.name())).collect();
    all.sort_by_key(|transition| transition.stamps.first().map(|stamp| stamp.at_ns));
    let surplus = last.map_or(0, |last| all.len().saturating_sub(last as usize));
    Ok(all.split_off(surplus))
}

/// All groups, or those with this name, group name or member.
fn matching<'a>(manager: &'a Manager, name: Option<&str>) -> Result<Vec<&'a RunningGroup>, Refused> {
    let is_wanted = |group: &&RunningGroup| {
        name.is_none_or(|name| {
            group.name() == name || group.groupname == name || group.number_named(name).is_some()
        })
    };
    let groups: Vec<&RunningGroup> = manager.groups.values().filter(is_wanted).collect();
    match name {
        Some(name) if groups.is_empty() => Err(no_such_name(name)),
        _ => Ok(groups),
    }
}

/// Reports on all groups, or on those with this name, group name or member.
pub async fn groups(manager: &Manager, name: Option<&str>) -> Result<Vec<GroupReport>, Refused> {
    let groups = matching(manager, name)?;
    let kernel = Kernel::read(&manager.links, &groups).await?;
    let mut of_host = manager.datapath.status();
    of_host.extend(manager.sentinel_check.message());
    Ok(groups.into_iter().map(|group| report_on(manager, group, &kernel, &of_host)).collect())
}

fn report_on(manager: &Manager, group: &RunningGroup, kernel: &Kernel, of_host: &[String]) -> GroupReport {
    let saved = manager.file.group(group.name());
    let shares = group.core.slots().shares();
    let mut members = Vec::new();
    for known in group.core.members() {
        let member = group.members.get(&known.number());
        if member.is_none() && !known.absent() {
            continue;
        }
        let saved = saved.and_then(|saved| saved.members.get(&known.number()));
        let recognised_by = saved.filter(|_| known.absent()).map(SavedMember::recognised_by);
        let slots = shares[usize::from(known.number())];
        let report = member_report(group, known, member, kernel, slots);
        members.push(MemberReport { recognised_by, ..report });
    }
    let interface = kernel.interfaces.get(&group.interface.ifindex);
    let addresses = data_addresses(group, interface, kernel, &manager.schedule, saved);
    let mut checks = of_host.to_vec();
    checks.extend(manager.tcp_evidence.message().filter(|_| group.core.uses_evidence()));
    checks.extend(manager.tcp_losses.message().filter(|_| group.core.counts_segments()));
    checks.extend(manager.source_spread.message(group.interface.ifindex));
    checks.extend(group.addresses.over_limit_message());
    checks.extend(stale_neighbours::messages(group));
    checks.extend(group.filters.missing());
    checks.extend(group.hooks.messages(None));
    checks.extend(group.sysctls.messages(group.name(), None));
    for (number, member) in &group.members {
        checks.extend(group.test_addresses.conflicts(*number, &member.name));
    }
    let classic = saved.is_some_and(SavedGroup::is_classic);
    let report = group_report(group, interface, addresses, members, checks);
    let configuration = configuration::report(manager, group, &report);
    GroupReport { classic, configuration, ..report }
}

fn group_report(
    group: &RunningGroup,
    interface: Option<&Interface>,
    addresses: Vec<AddressReport>,
    members: Vec<MemberReport>,
    mut checks: Vec<String>,
) -> GroupReport {
    for member in group.core.members().iter().filter(|member| member.link() == LinkState::Unknown) {
        checks.push(format!("{} cannot report its link: it is taken as up", member.name()));
    }
    for member in group.core.members() {
        let counters = group.datapath.reply_counters(member.number()).unwrap_or_default();
        checks.extend(unread_replies::message(member.name(), &counters));
    }
    let names: Vec<String> = group.core.members().iter().map(|member| member.name().to_owned()).collect();
    checks.extend(link_up_check::message(group, &names));
    let drops = group.datapath.drops().unwrap_or_else(|error| {
        log::warn!(group = group.name(); "{error}");
        maps::Drops::default()
    });
    GroupReport {
        name: group.name().to_owned(),
        groupname: group.groupname.clone(),
        ifindex: group.interface.ifindex,
        mac: show_mac(group.interface.mac),
        mtu: interface.map_or(group.mtu, |interface| interface.mtu),
        state: group.core.state(),
        fdt_ms: probing::fdt_ms(&group.core),
        detection: probing::detection(&group.core, now()),
        hash: group.policy(),
        classic: false,
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
        configuration: GroupConfiguration::default(),
    }
}

/// The addresses of the group interface in the kernel's order. A duplicate is no data address, and is shown as down.
fn data_addresses(
    group: &RunningGroup,
    interface: Option<&Interface>,
    kernel: &Kernel,
    schedule: &Schedule,
    saved: Option<&SavedGroup>,
) -> Vec<AddressReport> {
    let mine = kernel.addresses_of(group.interface.ifindex).iter();
    // Read once: to find one of them takes as long.
    let inbound: HashMap<IpAddr, Option<u8>> = group.core.addresses().collect();
    let is_conflicting = |address| schedule.has_conflict(group.interface.ifindex, address);
    let name = |number: Option<u8>| number.and_then(|number| name_of(group, number));
    mine.map(|address| AddressReport {
        up: is_up(interface) && is_ready(address),
        duplicate: address.is_duplicate() || is_conflicting(address.ip),
        inbound: name(inbound.get(&address.ip).copied().flatten()),
        last_inbound: group.core.last_inbound(address.ip).map(str::to_owned),
        preferred: name(group.core.preferred(address.ip)),
        logical: saved.and_then(|saved| saved.inbound.get(&address.ip)?.logical),
        ..AddressReport::new(address.ip, address.prefix)
    })
    .collect()
}

fn is_up(interface: Option<&Interface>) -> bool {
    interface.is_some_and(|interface| interface.flags.contains(LinkFlags::Up))
}

/// Whether duplicate address detection lets sockets use an address.
fn is_ready(address: &Address) -> bool {
    let has = |flag: AddressFlags| address.flags & flag.bits() != 0;
    !address.is_duplicate() && (!has(AddressFlags::Tentative) || has(AddressFlags::Optimistic))
}

fn member_report(
    group: &RunningGroup,
    known: &core::member::Member,
    member: Option<&MemberDevice>,
    kernel: &Kernel,
    slots: u32,
) -> MemberReport {
    let number = known.number();
    let ifindex = member.map_or(0, |member| member.ifindex);
    let interface = kernel.interfaces.get(&ifindex);
    let addresses = kernel.addresses_of(ifindex);
    let ready = |ip| addresses.iter().any(|address| address.ip == ip && is_ready(address));
    MemberReport {
        name: known.name().to_owned(),
        ifindex,
        number,
        mac: show_mac(known.mac()),
        mtu: known.mtu(),
        weight: known.weight(),
        updelay_ms: probing::milliseconds(group.updelays.of(number, false)),
        slots,
        link: known.link(),
        probe: group.core.probe_column(known),
        state: known.state(),
        offline: known.offline(),
        recognised_by: None,
        active: group.core.active().contains(&number),
        usable: known.usable(),
        live: group.live().has(number),
        cast: group.core.cast() == Some(number),
        standby: known.standby(),
        inactive: known.inactive(),
        moving: known.transition().map(|member::Transition { direction, limit, .. }| report::Moving {
            direction,
            in_ms: probing::milliseconds(limit - now()),
        }),
        mtu_hole: known.hole().map(|Hole { target, passes, elsewhere }| report::MtuHole {
            target,
            passes,
            elsewhere,
        }),
        unreached_router: known.unreached_router(),
        failed_direction: group.core.failed_direction(number).map(|finding| report::DirectionFailure {
            direction: finding.direction,
            peer: group.core.member(finding.peer).map(|peer| peer.name().to_owned()).unwrap_or_default(),
            ago_ms: probing::milliseconds(now() - finding.at),
        }),
        degraded: known.loss().map(|loss| report::Degraded {
            of: loss.of,
            minutes: (loss.window.as_secs() / 60) as u32,
            percent: loss.lost.number(),
            others_percent: loss.others.number(),
            avoided: loss.is_avoided,
        }),
        loss: probing::loss(&group.core, known, now()),
        exchanged: group.core.exchanged(known).map(|FullFrame { bytes, at }| report::Exchanged {
            bytes,
            ago_ms: probing::milliseconds(now() - at),
        }),
        probing: probing::probing(known, now()),
        flags: member_flags(interface, known),
        addresses: member
            .iter()
            .flat_map(|member| &member.addresses)
            .map(|(&address, &prefix)| {
                let up = is_up(interface) && ready(address);
                AddressReport { up, ..AddressReport::new(address, prefix) }
            })
            .collect(),
        attach: group.datapath.attach_kind().to_string(),
        traffic: traffic(group, known),
        xdp: xdp_report(group, number, ifindex, kernel),
    }
}

/// Traffic of a member since it was attached.
pub fn traffic(group: &RunningGroup, known: &core::member::Member) -> report::Traffic {
    let counters = group.datapath.counters(known.number()).unwrap_or_else(|error| {
        log::warn!(group = group.name(), member = known.name(); "{error}");
        maps::Counters::default()
    });
    report::Traffic {
        out_packets: counters.out_packets,
        out_bytes: counters.out_bytes,
        in_packets: counters.in_packets,
        in_bytes: counters.in_bytes,
        failed_over_packets: counters.failed_over_packets,
    }
}

/// Frames that a member drops by XDP; `None`: it is not set to.
fn xdp_report(group: &RunningGroup, number: u8, ifindex: u32, kernel: &Kernel) -> Option<report::Xdp> {
    let mode = group.early_drops.of(number);
    let attached = kernel.with_xdp.contains(&ifindex);
    if mode == XdpMode::Off && !attached {
        return None;
    }
    let drops = group.datapath.early_drops(number).unwrap_or_default();
    let why = group.early_drops.refused(ifindex).filter(|_| !attached);
    Some(report::Xdp {
        mode,
        attached,
        why: why.map(str::to_owned),
        reflected: drops.reflected,
        other_copy: drops.other_copy,
        flooded: drops.flooded,
        passed: drops.passed,
    })
}

fn name_of(group: &RunningGroup, number: u8) -> Option<String> {
    group.core.member(number).map(|member| member.name().to_owned())
}

/// The names of flags in the order of their bits (docs/reference.md 1.6 and 7.2). IPv4 and IPv6 are not among them: a report
/// is of an interface, not of a family.
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
fn group_flags(interface: Option<&Interface>, state: GroupState) -> Vec<String> {
    let failed = state == GroupState::Failed;
    let [up, broadcast, multicast] = device_flags(interface);
    in_order(&[up, broadcast, ("RUNNING", !failed), multicast, ("FAILED", failed), ("IPMP", true)])
}

/// Flags of a member. Its addresses never move, and are not chosen as source addresses: NOFAILOVER, and with it DEPRECATED.
/// Its link is monitored while it is offline, so FAILED and OFFLINE may both be set (docs/reference.md 2.12).
fn member_flags(interface: Option<&Interface>, known: &core::member::Member) -> Vec<String> {
    let no_link = matches!(known.condition(), Condition::Down | Condition::Returning | Condition::Held);
    let [up, broadcast, multicast] = device_flags(interface);
    in_order(&[
        up,
        broadcast,
        ("RUNNING", known.link() != LinkState::Down),
        multicast,
        ("DEPRECATED", true),
        ("NOFAILOVER", true),
        ("FAILED", no_link || known.probes_failed() || !known.receives()),
        ("STANDBY", known.standby()),
        ("INACTIVE", known.inactive()),
        ("OFFLINE", known.offline().is_some()),
    ])
}

/// The flags that the kernel keeps.
fn device_flags(interface: Option<&Interface>) -> [(&'static str, bool); 3] {
    let has = |flag| interface.is_some_and(|interface| interface.flags.contains(flag));
    [
        ("UP", has(LinkFlags::Up)),
        ("BROADCAST", has(LinkFlags::Broadcast)),
        ("MULTICAST", has(LinkFlags::Multicast)),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::{Attachment, Input, Time};
    use ipmp_common::steer::MemberSet;

    /// An Ethernet device that is up.
    fn device() -> Interface {
        let flags = LinkFlags::Up | LinkFlags::Broadcast | LinkFlags::Running | LinkFlags::Multicast;
        Interface { flags, mtu: 1500 }
    }

    /// The flags of the first member of two after these events.
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
    fn member_flags_match_the_tutorial() {
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
        // Detected by the datapath, not reported by netlink yet.
        assert_eq!(member_after(&[lost]), "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,FAILED");
        // Reference 1.6: 0x10000000 before 0x80000000.
        let running = "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,OFFLINE";
        assert_eq!(member_after(std::slice::from_ref(&offline)), running);
        let pulled = "UP,BROADCAST,MULTICAST,DEPRECATED,NOFAILOVER,FAILED,OFFLINE";
        assert_eq!(member_after(&[offline.clone(), down.clone()]), pulled);
        assert_eq!(member_after(&[down, offline]), pulled);
        // While the other one is active.
        let standby = "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,STANDBY,INACTIVE";
        let kept = Input::Standby { member, standby: true };
        assert_eq!(member_after(std::slice::from_ref(&kept)), standby);
        let link = LinkState::Down;
        let needed = "UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,NOFAILOVER,STANDBY";
        assert_eq!(member_after(&[kept, Input::Link { member: 1, link }]), needed);
    }

    #[test]
    fn group_flags_match_the_tutorial() {
        let flags = |state| group_flags(Some(&device()), state).join(",");
        // Tutorial 1.6.3 and 1.6: production0 with members, and without any.
        assert_eq!(flags(GroupState::Ok), "UP,BROADCAST,RUNNING,MULTICAST,IPMP");
        assert_eq!(flags(GroupState::Degraded), "UP,BROADCAST,RUNNING,MULTICAST,IPMP");
        assert_eq!(flags(GroupState::Failed), "UP,BROADCAST,MULTICAST,FAILED,IPMP");
        assert_eq!(group_flags(None, GroupState::Failed), ["FAILED", "IPMP"]);
    }

    #[test]
    fn flags_are_in_the_order_of_their_bits() {
        // Reference 1.6: 0x20000000 and 0x40000000.
        let set = ["OFFLINE", "STANDBY", "UP", "INACTIVE", "FAILED"].map(|flag| (flag, true));
        assert_eq!(in_order(&set), ["UP", "FAILED", "STANDBY", "INACTIVE", "OFFLINE"]);
    }

    #[test]
    fn address_is_ready_after_duplicate_address_detection() {
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
    fn mac_is_shown_in_colon_notation() {
        assert_eq!(show_mac([2, 0, 0xab, 0, 0, 1]), "02:00:ab:00:00:01");
    }
}
