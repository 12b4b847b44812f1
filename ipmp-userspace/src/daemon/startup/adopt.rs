//! Adopting the groups of an earlier daemon, which was stopped or killed, or is an older version
//! (docs/design/adoption.md). Traffic continues meanwhile, and must not be interrupted.

use ipmp_common::{
    maps::{Member as PinnedMember, MemberStatus},
    steer::MemberSet,
};

use super::Error;
use crate::{
    core::{self, Adopted, Attachment, Event, Input, probe::TestAddress},
    daemon::{
        clock::now,
        events::trigger::Trigger,
        group::{MemberDevice, RunningGroup, actions, hardware_filters, links, members, test_addresses},
        manager::Manager,
        migration::restore_all,
        operations::{create, set},
        state_file::{DEFAULT_WEIGHT, SavedGroup},
    },
    datapath,
    link::{Device, GroupInterface, sysctl},
    types::{Family, LinkState},
};

/// The trigger of everything here.
const START: Trigger = Trigger::Start;

/// Adopts every group that has pins or a record. An error in one group does not stop the others.
pub async fn adopt(manager: &mut Manager) -> Result<(), Error> {
    let renamed = manager.file.follow_names();
    manager.datapath.rename_groups(&renamed)?;
    for (before, now) in renamed {
        let event = Event::GroupRenamed { before, group: now.clone() };
        manager.log(&START, Some(&now), &event);
    }
    manager.file.save_or_log();
    let mut names = manager.datapath.pinned_groups()?;
    let saved = manager.file.state.groups.keys().filter(|name| !names.contains(name));
    names.extend(saved.cloned().collect::<Vec<_>>());
    for name in names {
        match GroupInterface::existing(&manager.links, &name).await? {
            Some(interface) => {
                if let Err(error) = adopt_group(manager, interface).await {
                    log::error!(group = name.as_str(); "cannot adopt group {name}: {error}");
                }
            }
            None => clean_up(manager, &name).await?,
        }
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
    let mut datapath = create::open_datapath(manager, &interface)?;
    let pinned = datapath.members()?;
    let own = datapath.own_addresses()?;
    let mut found = Vec::new();
    for (number, member) in &pinned {
        // No address has this prefix length: each present one is new, and one that is not present is missing.
        let own = own.iter().filter(|(_, owner)| owner == number).map(|(ip, _)| (*ip, u8::MAX));
        let mut member = read_member(manager, &saved, *number, member, mtu).await?;
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
        members: found.iter().map(|found| (found.attachment.clone(), found.state)).collect(),
        usable: datapath.usable(),
        reserve: datapath.reserve(),
        live: datapath.live(),
        slots: datapath.slots().into(),
        cast: datapath.cast(),
        inbound: datapath.inbound()?,
        probed: Family::ALL.map(|family| {
            let numbers = pinned.iter().map(|(number, _)| *number);
            let by_policy: MemberSet = numbers.filter(|_| saved.probing().probes(family)).collect();
            by_policy.or(tested[family as usize])
        }),
        standby: saved.standbys(),
    };
    let untested = Family::ALL.map(|family| {
        let probed = adopted.probed[family as usize].iter();
        probed.filter(|member| !tested[family as usize].has(*member)).collect::<MemberSet>()
    });
    let addresses: Vec<_> = adopted.inbound.iter().map(|(address, _)| *address).collect();
    let count = adopted.members.iter().filter(|(_, state)| *state != MemberStatus::Vacant).count();
    let settings = saved.core_settings(manager.mpathd.defaults());
    let (core, actions) = core::Group::adopt(now(), name.as_str(), settings, adopted);
    let mut group = RunningGroup::new(core, datapath, interface, groupname, mtu);
    links::set_updelays(&mut group, saved.updelays());
    let mut deleted = Vec::new();
    for Found { attachment, device, .. } in found {
        let number = attachment.member;
        let Some((member, device)) = device else {
            deleted.push((number, attachment.name));
            continue;
        };
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
        for (number, _) in &deleted {
            members::leave(group, &mut context, *number).await;
        }
        for (_, member) in deleted {
            hardware_filters::release_member(group, &mut context, &member).await;
            context.file.forget_member(&name, &member);
        }
    }
    // Members with a record that the maps do not have: the pins were in a private BPF file system.
    let is_pinned = |number| pinned.iter().any(|(pinned, _)| *pinned == number);
    for member in saved.members.values().filter(|member| !is_pinned(member.number)) {
        rejoin(manager, &name, &member.name).await;
    }
    set::apply_saved(manager, &START, &name).await;
    Ok(())
}

async fn read_member(
    manager: &Manager,
    saved: &SavedGroup,
    number: u8,
    pinned: &PinnedMember,
    mtu: u32,
) -> Result<Found, Error> {
    let device = manager.links.device(pinned.device.ifindex).await?;
    let record = saved.members.get(&number);
    let attachment = Attachment {
        member: number,
        name: device.as_ref().map_or_else(|| datapath::name_of(pinned), |device| device.name.clone()),
        mac: pinned.mac,
        mtu: device.as_ref().map_or(mtu, |device| device.mtu),
        weight: record.map_or(DEFAULT_WEIGHT, |member| member.weight),
        link: device.as_ref().map_or(LinkState::Down, Device::link),
    };
    let state = pinned.state;
    let Some(device) = device else {
        return Ok(Found { attachment, state, device: None, tested: [false; 2] });
    };
    let configured = record.map(|member| member.test_addresses.clone());
    let addresses = manager.links.addresses_of(device.ifindex).await?;
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
async fn rejoin(manager: &mut Manager, group_name: &str, name: &str) {
    let Some(saved) = manager.file.member(group_name, name).cloned() else { return };
    let device = match manager.links.device_named(name).await {
        Ok(Some(device)) if device.ifindex == saved.ifindex => device,
        _ => return manager.file.forget_member(group_name, name),
    };
    let lower = manager.links.below(&device).await.unwrap_or_default();
    let Some((group, mut context)) = manager.group(group_name, &START) else { return };
    let number = saved.number;
    let member =
        MemberDevice { ifindex: device.ifindex, name: name.to_owned(), lower, addresses: Default::default() };
    if let Err(error) = group.datapath.attach(&member.spec(number, &device)) {
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
}

/// Restores the members of a group whose interface was deleted while no daemon ran.
async fn clean_up(manager: &mut Manager, name: &str) -> Result<(), Error> {
    manager.log(&START, Some(name), &Event::GroupInterfaceDeleted { group: name.to_owned() });
    manager.datapath.remove_group(name)?;
    let Some(saved) = manager.file.state.groups.remove(name) else { return Ok(()) };
    let links = &manager.links;
    for record in saved.members.values() {
        let member = record.name.as_str();
        test_addresses::restore_saved(&record.test_addresses, links, member, record.ifindex).await;
        hardware_filters::release(links, member, record).await;
        sysctl::restore(member, &record.settings);
    }
    restore_all(links, name, None, &saved.moved).await?;
    manager.file.save_or_log();
    Ok(())
}
