//! Adopting the groups of an earlier daemon, which was stopped or killed, or is an older version
//! (docs/design/adoption.md). Traffic continues meanwhile, and must not be interrupted.

use std::time::Duration;

use ipmp_common::{
    maps::{Member as PinnedMember, MemberStatus},
    steer::MemberSet,
};

use super::Error;
use crate::{
    core::{self, Adopted, Attachment, Event, Input, Time, probe::TestAddress},
    daemon::{
        clock::now,
        events::trigger::Trigger,
        group::{
            MemberDevice, RunningGroup, absence, actions, hardware_filters, links, members, test_addresses,
        },
        loading,
        manager::Manager,
        operations::{create, set},
        state_file::{DEFAULT_WEIGHT, SavedGroup, SavedIdentity, SavedMember},
    },
    datapath::{self, Upgraded},
    link::{Device, GroupInterface, sysctl},
    probe,
    types::{Family, LinkState},
};

/// The trigger of everything here.
const START: Trigger = Trigger::Start;

/// Adopts every group that has pins or a record. An error in one group does not stop the others.
pub async fn adopt(manager: &mut Manager) -> Result<(), Error> {
    for Upgraded { group, layout } in manager.datapath.upgraded() {
        let event = Event::GroupUpgraded { group: group.clone(), from: *layout, to: ipmp_common::LAYOUT };
        manager.log(&START, Some(group), &event);
    }
    let renamed = manager.file.follow_names();
    manager.datapath.rename_groups(&renamed)?;
    manager.event_log.rename_groups(&renamed);
    for (before, now) in renamed {
        let event = Event::GroupRenamed { before, group: now.clone() };
        manager.log(&START, Some(&now), &event);
    }
    manager.file.save_or_log();
    let mut names = manager.datapath.pinned_groups()?;
    let saved = manager.file.state.groups.keys().filter(|name| !names.contains(name));
    names.extend(saved.cloned().collect::<Vec<_>>());
    let mut are_all_adopted = true;
    for name in names {
        match GroupInterface::existing(&manager.links, &name).await? {
            Some(interface) => {
                if let Err(error) = adopt_group(manager, interface).await {
                    log::error!(group = name.as_str(); "cannot adopt group {name}: {error}");
                    are_all_adopted = false;
                }
            }
            None => clean_up(manager, &name).await?,
        }
    }
    if are_all_adopted && let Err(error) = manager.datapath.finish_upgrade() {
        log::warn!("{error}");
    }
    Ok(())
}

/// A member in the maps.
struct Found {
    attachment: Attachment,
    state: MemberStatus,
    /// Its device; `None`: it was deleted.
    device: Option<(MemberDevice, Device)>,
    /// The families in which it has, or awaits, a test address.
    tested: [bool; 2],
}

async fn adopt_group(manager: &mut Manager, interface: GroupInterface) -> Result<(), Error> {
    let name = interface.name.clone();
    let saved = manager.file.state.groups.entry(name.clone()).or_default();
    saved.ifindex = interface.ifindex;
    let saved = saved.clone();
    let groupname = if saved.groupname.is_empty() { name.clone() } else { saved.groupname.clone() };
    let mtu = manager.links.device(interface.ifindex).await?.map_or(0, |device| device.mtu);
    let mut datapath = create::open_datapath(manager, &interface).await?;
    let pinned = datapath.members()?;
    let own = datapath.own_addresses()?;
    let is_pinned = |number| pinned.iter().any(|(pinned, _)| *pinned == number);
    let (lost, absent) = unpinned(manager, &saved, is_pinned).await?;
    let mut found: Vec<Found> = absent.iter().map(|member| Found::absent(member, mtu)).collect();
    if !pinned.is_empty() {
        loading::load(manager, vec![datapath.prepare_ingress()]).await?;
    }
    for (number, member) in &pinned {
        // No address has this prefix length: each present one is new, and one that is not present is missing.
        let own = own.iter().filter(|(_, owner)| owner == number).map(|(ip, _)| (*ip, u8::MAX));
        let runs = datapath.runs_on(*number, member.device.ifindex);
        let mut member = read_member(manager, &saved, *number, member, mtu, runs).await?;
        if let Some((device, described)) = &mut member.device {
            datapath.attach(&device.spec(*number, described))?;
            device.addresses = own.collect();
        }
        found.push(member);
    }
    let tested = Family::ALL.map(|family| {
        let members = found.iter().filter(|found| found.tested[family as usize]);
        members.map(|found| found.attachment.member).collect::<MemberSet>()
    });
    let adopted = Adopted {
        members: members_of(&found),
        usable: datapath.usable_word(),
        draining: saved
            .members
            .values()
            .filter_map(|member| Some((member.number, Time(Duration::from_millis(member.drained_until_ms?)))))
            .collect(),
        reserve: datapath.reserve(),
        live: datapath.live(),
        slots: datapath.slots().into(),
        cast: datapath.cast(),
        inbound: datapath.inbound()?,
        preferred: saved.inbound.iter().map(|(&address, to)| (address, to.member)).collect(),
        probed: Family::ALL.map(|family| {
            let numbers = pinned.iter().map(|(number, _)| *number);
            let by_policy: MemberSet = numbers.filter(|_| saved.probing().probes(family)).collect();
            by_policy.or(tested[family as usize])
        }),
        absent: absent.iter().map(|member| member.number).collect(),
        standby: saved.standbys(),
    };
    let untested = Family::ALL.map(|family| {
        let probed = adopted.probed[family as usize].iter();
        probed.filter(|member| !tested[family as usize].has(*member)).collect::<MemberSet>()
    });
    let addresses: Vec<_> = adopted.inbound.iter().map(|(address, _)| *address).collect();
    let count = adopted.members.len();
    let settings = saved.core_settings(manager.mpathd.defaults());
    let (core, actions) = core::Group::adopt(now(), name.as_str(), settings, adopted);
    let mut group = RunningGroup::new(core, datapath, interface, groupname, mtu);
    links::set_updelays(&mut group, saved.updelays());
    group.core.set_jitter(probe::random::seed());
    let mut deleted = Vec::new();
    for Found { attachment, device, .. } in found {
        let number = attachment.member;
        let Some((member, device)) = device else {
            if is_pinned(number) {
                deleted.push(number);
            }
            continue;
        };
        if let Some(saved) = manager.file.member_mut(&name, &member.name) {
            (saved.identity, saved.absent) = (SavedIdentity::of(&device), None);
        }
        if let Some(saved) = saved.members.get(&number) {
            group.test_addresses.adopt(number, &saved.test_addresses);
        }
        group.members.insert(number, member);
        links::adopt_link(&mut group, number, device.link());
    }
    group.addresses.expect(addresses);
    manager.log(&START, Some(&name), &Event::GroupAdopted { group: name.clone(), members: count });
    manager.groups.insert(name.clone(), group);

    if let Some((group, mut context)) = manager.group(&name, &START) {
        context.schedule.set_pace(group.interface.ifindex, saved.announce_pace());
        actions::apply(group, &mut context, actions).await;
        for family in Family::ALL {
            for member in untested[family as usize].iter() {
                let event = Input::TestAddress { member, family, address: TestAddress::None };
                actions::tell(group, &mut context, event).await;
            }
        }
        for number in deleted {
            absence::device_deleted(group, &mut context, number).await;
        }
        for member in absent.iter().filter(|member| member.absent.is_none()) {
            let event = Event::MemberAbsent { member: member.name.clone(), group: name.clone() };
            context.log(&name, &event);
            absence::record(group, &mut context, member.number);
        }
    }
    for (member, device) in lost {
        rejoin(manager, &name, &member, &device).await;
    }
    manager.file.save_or_log();
    set::apply_saved(manager, &START, &name).await;
    Ok(())
}

impl Found {
    /// A member that was absent already, or has disappeared with its entry in the maps.
    fn absent(record: &SavedMember, mtu: u32) -> Self {
        let absence = record.absent.as_ref();
        let attachment = Attachment {
            member: record.number,
            name: record.name.clone(),
            mac: record.identity.mac.unwrap_or_default(),
            mtu: absence.map_or(mtu, |absence| absence.mtu),
            weight: record.weight,
            link: LinkState::Down,
        };
        let is_offline = absence.is_some_and(|absence| absence.offline);
        let state = if is_offline { MemberStatus::Offline } else { MemberStatus::Failed };
        let tested = Family::ALL.map(|family| record.test_addresses.named_in(family).is_some());
        Self { attachment, state, device: None, tested }
    }
}

/// The members for the state machine, in the order of their numbers.
fn members_of(found: &[Found]) -> Vec<(Attachment, MemberStatus)> {
    let mut members: Vec<_> = found.iter().map(|found| (found.attachment.clone(), found.state)).collect();
    members.sort_by_key(|(attachment, _)| attachment.member);
    members
}

/// Members with a record that the maps do not have: those whose pins were in a private BPF file system, with their devices,
/// and those that are absent.
async fn unpinned(
    manager: &Manager,
    saved: &SavedGroup,
    is_pinned: impl Fn(u8) -> bool,
) -> Result<(Vec<(SavedMember, Device)>, Vec<SavedMember>), Error> {
    let (mut lost, mut absent) = (Vec::new(), Vec::new());
    for member in saved.members.values().filter(|member| !is_pinned(member.number)) {
        let device = match member.absent {
            None => manager.links.device(member.ifindex).await?,
            Some(_) => None,
        };
        match device.filter(|device| member.identity.can_be(device)) {
            Some(device) => lost.push((member.clone(), device)),
            None => absent.push(member.clone()),
        }
    }
    Ok((lost, absent))
}

/// Whether the device with the index of a pinned member is still its device. If not, it was deleted, and another one has
/// its index; where `runs`, the ingress program of the member is on it.
fn is_still_there(record: Option<&SavedMember>, device: &Device, runs: bool) -> bool {
    let Some(record) = record.filter(|_| !runs) else { return true };
    // Another program can have detached ours. A new device has not our settings.
    let has_settings =
        sysctl::plan(&device.name, sysctl::Role::Member).is_ok_and(|changes| changes.is_empty());
    record.identity.can_be(device) && has_settings
}

async fn read_member(
    manager: &Manager,
    saved: &SavedGroup,
    number: u8,
    pinned: &PinnedMember,
    mtu: u32,
    runs: bool,
) -> Result<Found, Error> {
    let record = saved.members.get(&number);
    let device = manager.links.device(pinned.device.ifindex).await?;
    let device = device.filter(|device| is_still_there(record, device, runs));
    let name = || record.map_or_else(|| datapath::name_of(pinned), |record| record.name.clone());
    let attachment = Attachment {
        member: number,
        name: device.as_ref().map_or_else(name, |device| device.name.clone()),
        mac: pinned.mac,
        mtu: device.as_ref().map_or(mtu, |device| device.mtu),
        weight: record.map_or(DEFAULT_WEIGHT, |member| member.weight),
        link: device.as_ref().map_or(LinkState::Down, Device::link),
    };
    let state = pinned.state;
    let Some(device) = device else {
        let tested = Family::ALL
            .map(|family| record.is_some_and(|record| record.test_addresses.named_in(family).is_some()));
        return Ok(Found { attachment, state, device: None, tested });
    };
    let configured = record.map(|member| member.test_addresses.clone());
    let addresses = manager.links.addresses_of(device.ifindex)?;
    let tested = test_addresses::probed(&configured.unwrap_or_default(), &addresses);
    let member = MemberDevice {
        ifindex: device.ifindex,
        name: device.name.clone(),
        lower: manager.links.below(&device).await?,
        addresses: Default::default(),
    };
    Ok(Found { attachment, state, device: Some((member, device)), tested })
}

/// A member that the maps have lost joins again. Its settings are those of a member already.
async fn rejoin(manager: &mut Manager, group_name: &str, saved: &SavedMember, device: &Device) {
    let (name, number) = (device.name.as_str(), saved.number);
    let lower = manager.links.below(device).await.unwrap_or_default();
    let Some(group) = manager.groups.get(group_name) else { return };
    let ingress = group.datapath.prepare_ingress();
    if let Err(error) = loading::load(manager, vec![ingress]).await {
        log::error!(group = group_name, member = name; "{error}");
        return;
    }
    let Some((group, mut context)) = manager.group(group_name, &START) else { return };
    let member =
        MemberDevice { ifindex: device.ifindex, name: name.to_owned(), lower, addresses: Default::default() };
    if let Err(error) = group.datapath.attach(&member.spec(number, device)) {
        log::error!(group = group_name, member = name; "{error}");
        return;
    }
    group.members.insert(number, member);
    let attachment = Attachment {
        member: number,
        name: name.to_owned(),
        mac: device.mac,
        mtu: device.mtu,
        weight: saved.weight,
        link: device.link(),
    };
    group.test_addresses.adopt(number, &saved.test_addresses);
    members::join(group, &mut context, attachment).await;
    group.filters.member_joined();
    if let Some(saved) = manager.file.member_mut(group_name, name) {
        saved.identity = SavedIdentity::of(device);
    }
}

/// Restores the members of a group whose interface was deleted while no daemon ran.
async fn clean_up(manager: &mut Manager, name: &str) -> Result<(), Error> {
    manager.log(&START, Some(name), &Event::GroupInterfaceDeleted { group: name.to_owned() });
    manager.datapath.remove_group(name)?;
    let Some(saved) = manager.file.state.groups.remove(name) else { return Ok(()) };
    let links = &manager.links;
    for record in saved.members.values().filter(|record| record.absent.is_none()) {
        let member = record.name.as_str();
        test_addresses::restore_saved(&record.test_addresses, links, member, record.ifindex).await;
        hardware_filters::release(links, member, record).await;
        sysctl::restore(member, &record.settings);
    }
    saved.restore(links, name, None).await?;
    manager.file.save_or_log();
    Ok(())
}
