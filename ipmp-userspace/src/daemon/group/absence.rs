//! Members whose device does not exist: it was deleted, or moved to another network namespace, and may return
//! (docs/design/identity-of-members.md).

use std::{collections::BTreeMap, time::Duration};

use rtnetlink::packet_route::link::LinkFlags;

use super::{Context, MemberDevice, RunningGroup, actions, hardware_filters, links, members, test_addresses};
use crate::{
    core::{Attachment, Event, Input, Time},
    daemon::{
        clock::now,
        state_file::{self, SavedAbsence, SavedIdentity, SavedMember},
    },
    datapath,
    link::{self, Device, sysctl},
    types::LinkState,
};

/// How long a device that is down and has not the member's name may be renamed before the daemon sets it up: older kernels
/// rename only devices that are down (`dev_change_name`, `net/core/dev.c`).
const RENAME: Duration = Duration::from_secs(1);
/// Time between two attempts with a device that cannot rejoin.
const RETRY: Duration = Duration::from_secs(5);

/// Devices of absent members that cannot rejoin yet.
#[derive(Debug, Default)]
pub struct ReturnTimer {
    /// When each one was seen first, and what was logged about it.
    waiting: BTreeMap<u32, (Time, Option<String>)>,
    due: Option<Time>,
}

impl ReturnTimer {
    /// When the devices are to be checked again.
    pub fn next(&self) -> Option<Time> {
        self.due
    }

    /// A check begins, with these devices.
    pub fn begin(&mut self, is_present: impl Fn(u32) -> bool) {
        self.due = None;
        self.waiting.retain(|ifindex, _| is_present(*ifindex));
    }

    /// Whether the device may still be renamed.
    pub fn waits_for_name(&mut self, device: &Device, name: &str) -> bool {
        if device.name == name || device.flags.contains(LinkFlags::Up) {
            return false;
        }
        let (seen, _) = *self.waiting.entry(device.ifindex).or_insert_with(|| (now(), None));
        self.check_by(seen + RENAME);
        now() < seen + RENAME
    }

    /// The device cannot rejoin. Returns whether this is news.
    pub fn note(&mut self, ifindex: u32, why: &str) -> bool {
        self.check_by(now() + RETRY);
        let (_, logged) = self.waiting.entry(ifindex).or_insert_with(|| (now(), None));
        logged.replace(why.to_owned()).as_deref() != Some(why)
    }

    fn check_by(&mut self, time: Time) {
        self.due = Some(self.due.map_or(time, |due| due.min(time)));
    }
}

/// Cause a device cannot rejoin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a change.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// The datapath.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// The state file.
    #[error(transparent)]
    State(#[from] state_file::Error),
}

/// The device of a member was deleted or moved away: the member becomes absent.
pub async fn device_deleted(group: &mut RunningGroup, context: &mut Context<'_>, number: u8) {
    let Some(name) = group.core.member(number).map(|member| member.name().to_owned()) else { return };
    // The reference logs one line for each family.
    for family in ["inet", "inet6"] {
        context.log(group.name(), &Event::RemovedFromKernel { family, member: name.clone() });
    }
    // First of all, so that no more packets are sent to it.
    actions::tell(group, context, Input::Absent { member: number }).await;
    members::remove_device(group, context, number);
    test_addresses::restore(group, context, &name).await;
    group.test_addresses.member_left(number);
    hardware_filters::release_member(group, context, &name).await;
    record(group, context, number);
}

/// Records that a member is absent, and what the maps no longer have.
pub fn record(group: &RunningGroup, context: &mut Context<'_>, number: u8) {
    let Some(member) = group.core.member(number).filter(|member| member.absent()) else { return };
    let Some(saved) = context.file.state.groups.get_mut(group.name()) else { return };
    let Some(saved) = saved.members.get_mut(&number) else { return };
    // Its settings disappeared with it.
    saved.settings.clear();
    let name = saved.absent.take().map_or_else(|| saved.name.clone(), |absent| absent.name);
    saved.absent = Some(SavedAbsence { name, mtu: member.mtu(), offline: member.is_offline_by_operator() });
    context.file.save_or_log();
}

/// The device of an absent member is back: the member rejoins with its settings. On an error it stays absent.
pub async fn rejoin(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    number: u8,
    device: &Device,
) -> Result<(), Error> {
    let lower = context.links.below(device).await?;
    let plan = sysctl::plan(&device.name, sysctl::Role::Member)?;
    save(group, context, number, device, &plan)?;
    let result = try_rejoin(group, context, number, device, lower, &plan).await;
    if result.is_err() {
        group.members.remove(&number);
        sysctl::restore(&device.name, &plan);
        record(group, context, number);
    }
    result
}

/// Saves what is needed to restore the device, before it is changed.
fn save(
    group: &RunningGroup,
    context: &mut Context<'_>,
    number: u8,
    device: &Device,
    plan: &[link::Saved],
) -> Result<(), Error> {
    let Some(saved) = context.file.state.groups.get_mut(group.name()) else { return Ok(()) };
    if let Some(saved) = saved.members.get_mut(&number) {
        saved.ifindex = device.ifindex;
        saved.settings = plan.to_vec();
        saved.identity = SavedIdentity::of(device);
        saved.speed = saved.speed.or_else(|| link::speed(&device.name));
    }
    Ok(context.file.save()?)
}

async fn try_rejoin(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    number: u8,
    device: &Device,
    lower: Vec<u32>,
    plan: &[link::Saved],
) -> Result<(), Error> {
    sysctl::apply(&device.name, plan)?;
    if !device.flags.contains(LinkFlags::Up) {
        context.links.set_up(device, true).await?;
    }
    let member = MemberDevice {
        ifindex: device.ifindex,
        name: device.name.clone(),
        lower,
        addresses: BTreeMap::default(),
    };
    group.datapath.attach(&member.spec(number, device))?;
    group.members.insert(number, member);
    // Read again: setting it up may have given it a carrier.
    let present = context.links.device(device.ifindex).await?;
    let device = present.as_ref().unwrap_or(device);
    rename(group, context, number, &device.name);
    if let Some(saved) = context.file.state.groups.get_mut(group.name())
        && let Some(saved) = saved.members.get_mut(&number)
    {
        saved.absent = None;
    }
    context.file.save_or_log();
    links::record_link(group, number, device.link());
    let (mac, mtu, link) = (device.mac, device.mtu, device.link());
    actions::tell(group, context, Input::Returned { member: number, mac, mtu, link }).await;
    members::update_weights(group, context).await;
    group.filters.member_joined();
    test_addresses::reconcile(group, context, number).await;
    links::read_live(group, context).await;
    Ok(())
}

/// A member whose device does not exist yet: it joins when a device appears that its record describes.
pub async fn expect(group: &mut RunningGroup, context: &mut Context<'_>, record: &SavedMember) {
    let attachment = Attachment {
        member: record.number,
        name: record.name.clone(),
        mac: record.identity.mac.unwrap_or_default(),
        mtu: group.mtu,
        weight: record.weight,
        link: LinkState::Down,
    };
    actions::tell(group, context, Input::Expected(attachment)).await;
    if record.is_standby() {
        let event = Input::Standby { member: record.number, standby: true };
        actions::tell(group, context, event).await;
    }
}

/// An interface has this name now: an absent member that has it is shown by its number instead.
pub fn release_name(group: &mut RunningGroup, context: &mut Context<'_>, name: &str) {
    let absent = group.core.members().iter().find(|member| member.absent() && member.name() == name);
    if let Some(number) = absent.map(crate::core::member::Member::number) {
        rename(group, context, number, &format!("absent-{number}"));
    }
}

fn rename(group: &mut RunningGroup, context: &mut Context<'_>, number: u8, name: &str) {
    let Some(before) = group.core.member(number).map(|member| member.name().to_owned()) else { return };
    if before == name {
        return;
    }
    let names = BTreeMap::from([(number, name.to_owned())]);
    group.core.rename_members(&names);
    if let Some(saved) = context.file.state.groups.get_mut(group.name()) {
        saved.rename_members(&names);
    }
    context.file.save_or_log();
    let group = group.name().to_owned();
    context.log(&group, &Event::MemberRenamed { before, member: name.to_owned(), group: group.clone() });
}
