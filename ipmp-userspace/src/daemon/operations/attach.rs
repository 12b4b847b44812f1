//! `ipmpctl attach`: a transaction. Everything is checked first, then done; on an error everything is undone.

mod checks;
mod plan;

use std::{net::IpAddr, time::Duration};

use ipmp_common::{maps::SHORT_UPDELAY_NS, steer::MemberSet};
use rtnetlink::packet_route::link::LinkFlags;

pub(super) use self::checks::program_refusal;
use self::checks::{Check, check_all, staying};
pub use self::plan::plan;
use super::{
    create, destroy,
    firewall::{self, Firewall},
    link_up_check,
    refusals::{kernel, no_such_group, no_such_interface},
    set, test_address,
};
use crate::{
    control::{
        Setting, TestAddressSpec,
        request::{Refused, reason},
    },
    core::{Attachment, Input},
    daemon::{
        clock::now,
        events::trigger::Trigger,
        group::{
            MemberDevice, RunningGroup, actions,
            addresses::{self, AddressChange, ChangeKind},
            links, members,
            mirrored_memberships::of_programs,
        },
        loading,
        manager::Manager,
        migration::{Configuration, Place},
        returns,
        state_file::{
            DEFAULT_WEIGHT, SavedFilters, SavedIdentity, SavedMember, SavedTestAddresses, Unfinished,
        },
    },
    datapath::other_filters,
    link::{Address, Device, Saved as SavedSetting, memberships, speed, sysctl},
};

/// How long the first member may take until its link is trusted, before addresses are moved to a group that cannot send yet: its
/// short updelay, and the second that the kernel may take to report a link (`linkwatch_schedule_work` in
/// net/core/link_watch.c).
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two readings of `live` meanwhile.
const POLL: Duration = Duration::from_millis(5);
/// Between two readings of the link state meanwhile: its messages are handled after the operation.
const LINK_POLL: Duration = Duration::from_millis(50);

/// A new member has its hardware filters within this time, before its link is trusted: the short updelay. To update them after each one
/// would take long with very many groups.
const FILTERS_WITHIN: Duration = Duration::from_nanos(SHORT_UPDELAY_NS);

/// How interfaces are attached.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// As standbys.
    pub standby: bool,
    /// With these test addresses.
    pub test_addresses: &'a [TestAddressSpec],
    /// Although firewall rules name them.
    pub firewall: Firewall,
}

/// Attaches interfaces in this order, all or none.
pub async fn attach(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    interfaces: &[String],
    options: Options<'_>,
) -> Result<Vec<String>, Refused> {
    // An interface that is an absent member rejoins, whatever its name.
    returns::check(manager, trigger, true).await;
    let interfaces = check_all(manager, group, interfaces, options.test_addresses, Check::Refuse).await?;
    let single = (interfaces.len() == 1).then(|| interfaces[0].as_str());
    test_address::check(manager, options.test_addresses, single).await?;
    let mut notes = firewall::check(manager, group, &interfaces, options.firewall).await?;
    let is_new = !manager.groups.contains_key(group);
    let change = Unfinished::Attach { group: group.to_owned(), interfaces: interfaces.clone(), is_new };
    manager.file.begin(change).map_err(|error| kernel(&error))?;
    let result = join_all(manager, trigger, group, &interfaces, options, is_new).await;
    manager.file.end();
    notes.extend(result?);
    Ok(notes)
}

/// Interfaces join, all or none.
async fn join_all(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    interfaces: &[String],
    options: Options<'_>,
    is_new: bool,
) -> Result<Vec<String>, Refused> {
    let mut notes = Vec::new();
    if is_new {
        notes.push(format!("group {group} did not exist and was created"));
        notes.extend(create::create_empty(manager, trigger, group, None).await?);
    }
    let mut filtered = now();
    for (at, name) in interfaces.iter().enumerate() {
        match join(manager, trigger, group, name, options).await {
            Ok(more) => {
                notes.extend(more);
                if now() - filtered > FILTERS_WITHIN {
                    manager.update_filters(trigger).await;
                    filtered = now();
                }
                let (groups, mut context) = manager.context(trigger);
                links::read_live_of_all(groups, &mut context).await;
            }
            Err(refused) => {
                for name in interfaces[..at].iter().rev() {
                    undo_join(manager, trigger, group, name).await;
                }
                if is_new {
                    destroy::remove_group(manager, trigger, group).await;
                }
                return Err(refused);
            }
        }
    }
    manager.update_filters(trigger).await;
    set::update_weights(manager, trigger, group).await;
    if let Some(group) = manager.groups.get(group) {
        notes.extend(multicast_notes(group, interfaces));
        notes.extend(link_up_check::message(group, interfaces));
    }
    Ok(notes)
}

/// A sentence for each of these members on which programs had joined multicast groups before it was attached.
fn multicast_notes(group: &RunningGroup, interfaces: &[String]) -> Vec<String> {
    let memberships = memberships().unwrap_or_default();
    let name = group.name();
    let new = group.members.values().filter(|member| interfaces.contains(&member.name));
    let joined =
        new.filter_map(|member| Some((&member.name, of_programs(memberships.get(&member.ifindex)?))));
    joined
        .filter(|(_, joined)| !joined.is_empty())
        .map(|(member, joined)| {
            let joined: Vec<String> = joined.iter().map(ToString::to_string).collect();
            format!(
                "programs have joined multicast groups on {member}: {}; {name} receives these groups for them. Restart those \
                 that send to a group or are bound to {member}, so that they use {name}",
                joined.join(", ")
            )
        })
        .collect()
}

/// Whether an interface can be attached.
pub async fn check(
    manager: &Manager,
    group: &str,
    interface: &str,
    test_addresses: &[TestAddressSpec],
) -> Result<(), Refused> {
    check_all(manager, group, &[interface.to_owned()], test_addresses, Check::Refuse).await.map(drop)
}

/// What is known of an interface that joins, before anything is changed.
struct Candidate {
    device: Device,
    lower: Vec<u32>,
    /// Its addresses.
    addresses: Vec<Address>,
    /// Addresses and routes that move to the group.
    configuration: Configuration,
    /// Addresses that stay, as test addresses.
    staying: Vec<IpAddr>,
    /// Sysctl settings of a member.
    settings: Vec<SavedSetting>,
    speed: Option<u32>,
}

impl Candidate {
    async fn read(manager: &Manager, name: &str, options: Options<'_>) -> Result<Self, Refused> {
        let device = device(manager, name).await?;
        let lower = manager.links.below(&device).await.map_err(|error| kernel(&error))?;
        let all = Configuration::of(&manager.links, device.ifindex).await.map_err(|error| kernel(&error))?;
        let staying = staying(options.test_addresses, &all.addresses);
        Ok(Self {
            lower,
            configuration: all.without(&staying),
            staying,
            addresses: manager.links.addresses_of(device.ifindex).map_err(|error| kernel(&error))?,
            settings: sysctl::plan(&device.name, sysctl::Role::Member).map_err(|error| kernel(&error))?,
            speed: speed(&device.name),
            device,
        })
    }

    fn is_down(&self) -> bool {
        !self.device.flags.contains(LinkFlags::Up)
    }
}

/// One interface joins. On an error nothing has changed.
async fn join(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    name: &str,
    options: Options<'_>,
) -> Result<Vec<String>, Refused> {
    let candidate = Candidate::read(manager, name, options).await?;
    match try_join(manager, trigger, group, &candidate, options).await {
        Ok(notes) => Ok(notes),
        Err(error) => {
            undo_join(manager, trigger, group, &candidate.device.name).await;
            Err(error)
        }
    }
}

/// Undoes the attaching of an interface: what was moved from it moves back. Returns the addresses that did.
pub async fn undo_join(manager: &mut Manager, trigger: &Trigger, group: &str, name: &str) -> Vec<Address> {
    match manager.group(group, trigger) {
        Some((group, mut context)) => members::undo_join(group, &mut context, name).await,
        None => Vec::new(),
    }
}

async fn try_join(
    manager: &mut Manager,
    trigger: &Trigger,
    group_name: &str,
    candidate: &Candidate,
    options: Options<'_>,
) -> Result<Vec<String>, Refused> {
    let name = candidate.device.name.as_str();
    let group = manager.groups.get(group_name).ok_or_else(|| no_such_group(group_name))?;
    let number = group
        .core
        .free_number()
        .ok_or_else(|| Refused::new(reason::FULL, format!("{name} cannot join {group_name}: it is full")))?;
    let ingress = group.datapath.prepare_ingress();
    let weight = save(manager, group_name, number, candidate, options)?;
    loading::load(manager, vec![ingress]).await.map_err(|error| kernel(&error))?;

    sysctl::apply(name, &candidate.settings).map_err(|error| kernel(&error))?;
    if candidate.is_down() {
        manager.links.set_up(&candidate.device, true).await.map_err(|error| kernel(&error))?;
    }
    let group = manager.groups.get_mut(group_name).ok_or_else(|| no_such_group(group_name))?;
    // An earlier member with this number may have had its own.
    links::set_updelays(group, manager.file.group(group_name).cloned().unwrap_or_default().updelays());
    attach_datapath(group, number, candidate).map_err(|error| kernel(&error))?;
    // Read again: setting it up may have given it a carrier.
    let device = device(manager, name).await?;
    let attachment = Attachment {
        member: number,
        name: device.name.clone(),
        mac: device.mac,
        mtu: device.mtu,
        weight,
        link: device.link(),
    };
    let (group, mut context) = manager.group(group_name, trigger).ok_or_else(|| no_such_group(group_name))?;
    members::join(group, &mut context, attachment).await;
    if options.standby {
        // Before its link is trusted, so that it never becomes active.
        let event = Input::Standby { member: number, standby: true };
        actions::tell(group, &mut context, event).await;
    }
    links::read_live(group, &mut context).await;
    group.filters.member_joined();
    let mut notes = Vec::new();
    let filters = other_filters(device.ifindex).unwrap_or_else(|error| {
        log::warn!(group = group_name, member = name; "cannot list the tc filters of {name}: {error}");
        Vec::new()
    });
    if !filters.is_empty() {
        notes.push(format!(
            "{name} has tc filters of another program: {}; they stay, and do not receive the packets of {group_name}: move \
             them to {group_name}",
            filters.join(", ")
        ));
    }
    if !candidate.configuration.is_empty() {
        notes.extend(move_in(manager, trigger, group_name, &device, candidate).await?);
    }
    test_address::configure(manager, trigger, group_name, name, options.test_addresses).await?;
    Ok(notes)
}

/// Saves what is needed to restore the interface, before it is changed. Returns its weight.
fn save(
    manager: &mut Manager,
    group: &str,
    number: u8,
    candidate: &Candidate,
    options: Options<'_>,
) -> Result<u32, Refused> {
    let saved = manager.file.state.groups.entry(group.to_owned()).or_default();
    let all_known = saved.members.values().all(|member| member.speed.is_some());
    let weight = candidate.speed.filter(|_| all_known).unwrap_or(DEFAULT_WEIGHT);
    let member = SavedMember {
        number,
        name: candidate.device.name.clone(),
        ifindex: candidate.device.ifindex,
        weight,
        speed: candidate.speed,
        settings: candidate.settings.clone(),
        was_down: candidate.is_down(),
        chosen: options.standby.then_some(Setting::Standby(true)).into_iter().collect(),
        test_addresses: SavedTestAddresses::default(),
        filters: SavedFilters::default(),
        identity: SavedIdentity::of(&candidate.device),
        drained_until_ms: None,
        absent: None,
    };
    let name = &candidate.device.name;
    saved.members.insert(number, member);
    if !candidate.configuration.is_empty() {
        saved.moved.insert(name.clone(), candidate.configuration.clone());
    }
    manager.file.save().map_err(|error| kernel(&error))?;
    Ok(weight)
}

/// Attaches the programs. The interface keeps its own addresses until they have moved: packets to them must not be dropped.
/// They are set before, for the program that is about to see packets, and after, for the member that then exists.
fn attach_datapath(
    group: &mut RunningGroup,
    number: u8,
    candidate: &Candidate,
) -> Result<(), crate::datapath::Error> {
    let device = &candidate.device;
    let member = MemberDevice {
        ifindex: device.ifindex,
        name: device.name.clone(),
        lower: candidate.lower.clone(),
        addresses: Default::default(),
    };
    let spec = member.spec(number, device);
    group.members.insert(number, member);
    for address in &candidate.addresses {
        addresses::add_own(group, number, address.ip, address.prefix)?;
    }
    group.datapath.attach(&spec)?;
    for address in &candidate.addresses {
        addresses::add_own(group, number, address.ip, address.prefix)?;
    }
    Ok(())
}

/// Moves addresses and routes of a new member to the group, except those that stay.
async fn move_in(
    manager: &mut Manager,
    trigger: &Trigger,
    group_name: &str,
    device: &Device,
    candidate: &Candidate,
) -> Result<Vec<String>, Refused> {
    wait_until(manager, trigger, group_name, &[device.ifindex], |group| group.core.cast().is_some()).await;
    let configuration = &candidate.configuration;
    let (group, mut context) = manager.group(group_name, trigger).ok_or_else(|| no_such_group(group_name))?;
    let interface = group.interface.clone();
    let (from, to) = (Place::from(device), Place { ifindex: interface.ifindex, name: &interface.name });
    let copied = configuration.copy(context.links, from, to).await.map_err(|error| {
        let mut refused = kernel(&error);
        match (candidate.staying.first(), error.errno()) {
            (Some(ip), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => {
                refused.message += &format!(
                    "; {ip} is to be a test address: add a data address to {group_name} in the subnet of the gateway first"
                );
            }
            // A nexthop object needs an interface with a carrier (`rtm_to_nh_config` in net/ipv4/nexthop.c).
            (_, Some(libc::ENETDOWN)) => {
                refused.message +=
                    &format!("; no member of {group_name} has a working link: attach again once one is up");
            }
            _ => {}
        }
        refused
    })?;
    let moved = |address: &Address| AddressChange {
        address: address.ip,
        prefix: address.prefix,
        kind: ChangeKind::Moved,
    };
    let changes: Vec<_> = configuration.addresses.iter().map(moved).collect();
    addresses::change(group, &mut context, &changes).await;
    context.announce();
    if let Err(error) = configuration.clear(context.links, from, &copied).await {
        // Partly cleared: restore the member, then remove the copy.
        if let Ok(back) = configuration.copy(context.links, to, from).await {
            log::debug!("{} addresses restored to {}", back.addresses.len(), device.name);
        }
        copied.undo(context.links, to).await;
        return Err(kernel(&error));
    }
    Ok(moved_note(&device.name, group_name, &configuration.addresses).into_iter().collect())
}

/// Waits until a member is live besides those that leave, which may have joined just now.
pub async fn wait_for_others(manager: &mut Manager, trigger: &Trigger, group: &str, leaving: &[&str]) {
    let Some(known) = manager.groups.get(group) else { return };
    let leaving: MemberSet = leaving.iter().filter_map(|name| known.number_named(name)).collect();
    let others = known.members.iter().filter(|(number, _)| !leaving.has(**number));
    let others: Vec<u32> = others.map(|(_, member)| member.ifindex).collect();
    if !others.is_empty() {
        wait_until(manager, trigger, group, &others, |group| {
            group.live().iter().any(|number| !leaving.has(number))
        })
        .await;
    }
}

/// Waits until every member is live: one that has joined just now is not yet. A link that is down ends the wait late.
pub async fn wait_for_all(manager: &mut Manager, trigger: &Trigger, group: &str) {
    let Some(known) = manager.groups.get(group) else { return };
    let joined: Vec<u32> = known.members.values().map(|member| member.ifindex).collect();
    wait_until(manager, trigger, group, &joined, |group| {
        group.members.keys().all(|number| group.live().has(*number))
    })
    .await;
}

/// Waits until a group satisfies a condition, as that it has an active member, and so a carrier; not longer than it takes to
/// trust a link that is up. Follows the links of interfaces that have joined.
async fn wait_until(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    joined: &[u32],
    condition: impl Fn(&RunningGroup) -> bool,
) {
    let limit = now() + PATIENCE;
    let mut link_is_due = now();
    while now() < limit {
        let Some((group, mut context)) = manager.group(group, trigger) else { return };
        if now() >= link_is_due {
            link_is_due = now() + LINK_POLL;
            for &ifindex in joined {
                if let Some(number) = group.number_of(ifindex)
                    && let Ok(device) = context.links.device(ifindex).await
                    && let Some(device) = device
                {
                    links::device_changed(group, &mut context, number, &device).await;
                }
            }
        }
        links::read_live(group, &mut context).await;
        if condition(group) {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A note on addresses that were moved; `None`: there are none.
pub(super) fn moved_note(from: &str, to: &str, addresses: &[Address]) -> Option<String> {
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    (!list.is_empty()).then(|| format!("moved from {from} to {to}: {}", list.join(", ")))
}

async fn device(manager: &Manager, name: &str) -> Result<Device, Refused> {
    let device = manager.links.device_named(name).await.map_err(|error| kernel(&error))?;
    device.ok_or_else(|| no_such_interface(name))
}
