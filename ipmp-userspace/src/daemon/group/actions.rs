//! Feeding the state machine, and applying what it decides.

use std::{collections::VecDeque, net::IpAddr};

use super::{Context, RunningGroup, followers, probing, replaced, vlans};
use crate::{
    announce::Announcement,
    core::{Action, Cause, Event, Input, Refusal, Time, probe::history::ProbeProgress},
    daemon::{
        clock::now,
        events::{
            timeline::{LastProbes, Work},
            trigger::LinkLoss,
        },
    },
    datapath,
    link::sysctl,
    types::Family,
};

/// An action that the kernel refused.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Link(#[from] crate::link::Error),
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
}

/// Feeds an event to the state machine and applies the resulting actions. Errors of the kernel are logged; the next event
/// tries again.
pub async fn feed(group: &mut RunningGroup, context: &mut Context<'_>, event: Input) -> Result<(), Refusal> {
    feed_at(group, context, now(), event).await
}

/// As [`feed`], for events that cannot be refused.
pub async fn tell(group: &mut RunningGroup, context: &mut Context<'_>, event: Input) {
    if let Err(refusal) = feed(group, context, event).await {
        log::error!(group = group.name(); "{refusal}");
    }
}

/// Reports to the state machine that its deadline has passed at `time`.
pub async fn expire(group: &mut RunningGroup, context: &mut Context<'_>, time: Time) {
    if let Err(refusal) = feed_at(group, context, time, Input::Deadline).await {
        log::error!(group = group.name(); "{refusal}");
    }
}

async fn feed_at(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    time: Time,
    event: Input,
) -> Result<(), Refusal> {
    group.core.watch_probes(context.event_log.probes_are_watched());
    let actions = group.core.handle(time, event)?;
    apply(group, context, actions).await;
    Ok(())
}

/// Applies actions in their order, and then those that follow from them.
pub async fn apply(group: &mut RunningGroup, context: &mut Context<'_>, actions: Vec<Action>) {
    let mut is_scheduled = false;
    // When the network was informed.
    let mut done = None;
    let mut work = Work { decided: now(), masks: None, announced: None };
    let mut reported = Vec::new();
    let mut actions = VecDeque::from(actions);
    while let Some(action) = actions.pop_front() {
        match action {
            Action::Announce { .. } | Action::AnnounceAll => is_scheduled = true,
            // Announcements first: the network waits for them, and netlink may take its time.
            Action::Report(..) | Action::SetCarrier(_) | Action::SetMtu(_) if is_scheduled => {
                replaced::arm(group);
                context.announce();
                is_scheduled = false;
                done = Some(now());
                work.announced = done;
            }
            _ => {}
        }
        if let Action::Report(line, why) = &action {
            let done = *done.get_or_insert_with(now);
            let loss = || link_loss(group, why);
            context.event_log.log_with(context.trigger, Some(group.name()), line, why, Some(done), loss);
            reported.push((line.clone(), why.clone()));
            continue;
        }
        if let Action::Probe { member, target, via, sequence, size, is_extra } = action {
            let sent = probing::send_probe(
                group,
                context,
                member,
                target,
                probing::Request { via, sequence, size, is_extra },
            );
            match group.core.handle(sent.at, sent.event) {
                Ok(more) => actions.extend(more),
                Err(refusal) => log::error!(group = group.name(); "{refusal}"),
            }
            continue;
        }
        let is_mask = matches!(action, Action::SetUsable(_) | Action::SetReserve(_));
        let result = match apply_one(group, context, action.clone()).await {
            Err(Error::Link(error)) if error.is_missing() => Err(Error::Link(error)),
            // There need not be a next event.
            Err(_) => apply_one(group, context, action).await,
            done => done,
        };
        match result {
            // Its removal is reported by another event.
            Err(Error::Link(error)) if error.is_missing() => log::debug!(group = group.name(); "{error}"),
            Err(error) => log::error!(group = group.name(); "{error}"),
            Ok(()) if is_mask => work.masks = Some(now()),
            Ok(()) => {}
        }
    }
    for (line, why) in &reported {
        let probes = |member: &str| last_probes(group, member);
        let failed = context.event_log.record(group.name(), context.trigger, (line, why), work, probes);
        failed.inspect(|member| replaced::failed(group, member));
    }
    replaced::follow(group, context.event_log);
    vlans::follow(group, context);
    followers::follow_cast(group, context);
}

async fn apply_one(group: &mut RunningGroup, context: &mut Context<'_>, action: Action) -> Result<(), Error> {
    match action {
        Action::SetUsable(members) => group.datapath.set_usable(members),
        Action::SetReserve(members) => group.datapath.set_reserve(members),
        Action::SetSlots(slots) => group.datapath.set_slots(&slots),
        Action::SetCast(list) => group.datapath.set_cast(list),
        Action::SetInbound { address, inbound, from } => {
            group.datapath.set_inbound(address, inbound, from)?
        }
        Action::ForgetAddress(address) => {
            group.datapath.remove_address(address)?;
            context.schedule.stop(group.interface.ifindex, address);
        }
        Action::SetState { member, state } => group.datapath.set_state(member, state)?,
        Action::Announce { address, member } => schedule_announcement(group, context, address, member),
        Action::AnnounceAll => followers::announce_all(group, context),
        Action::StopAnnouncing(address) => context.schedule.stop(group.interface.ifindex, address),
        Action::SetCarrier(carrier) => group.interface.set_carrier(context.links, carrier).await?,
        Action::SetMtu(mtu) => set_mtu(group, context, mtu).await?,
        Action::ProbeOver(outcome) => context.event_log.probe_over(group.name(), outcome),
        Action::FindHosts { member, source } => probing::find_hosts(group, context, member, source),
        Action::Control { member, target, source } => {
            probing::send_control(group, context, member, target, source);
        }
        Action::TestFrame { from, to, sequence, bytes } => {
            probing::send_test_frame(group, context, (from, to), sequence, bytes);
        }
        Action::FindNeighbour(address) => probing::find_neighbour(group, context, address),
        // Handled by `apply`.
        Action::Probe { .. } | Action::Report(..) => {}
    }
    Ok(())
}

async fn set_mtu(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    mtu: u32,
) -> Result<(), crate::link::Error> {
    context.links.set_mtu(group.interface.ifindex, &group.interface.name, mtu).await?;
    if std::mem::replace(&mut group.mtu, mtu) != mtu {
        let line = Event::MtuChanged { group: group.name().to_owned(), mtu };
        let smallest = group.core.members().iter().min_by_key(|member| member.mtu());
        let why =
            smallest.map_or(Cause::Trigger, |member| Cause::SmallestMtu { member: member.name().to_owned() });
        let loss = || LinkLoss::Carrier;
        context.event_log.log_with(context.trigger, Some(group.name()), &line, &why, None, loss);
    }
    Ok(())
}

/// The last reply of a member that has failed by its probes, and the first lost one: of the family in which it failed.
fn last_probes(group: &RunningGroup, member: &str) -> LastProbes {
    let probers =
        Family::ALL.into_iter().filter_map(|family| group.core.member_named(member)?.prober(family));
    let Some(prober) = probers.into_iter().find(|prober| prober.failed()) else {
        return LastProbes::default();
    };
    let mut found = LastProbes::default();
    for probe in prober.history().probes().rev().filter(|probe| probe.is_in_row()) {
        match probe.fate {
            ProbeProgress::Lost => found.lost = Some(probe.sent),
            ProbeProgress::Answered(rtt) => {
                found.replied = Some(Time(probe.sent.0 + rtt));
                break;
            }
            _ => {}
        }
    }
    found
}

/// How a link was lost.
fn link_loss(group: &RunningGroup, why: &Cause) -> LinkLoss {
    let Cause::LinkLost { member } = why else { return LinkLoss::Carrier };
    let device = group.members.values().find(|known| known.name == *member);
    device.map_or(LinkLoss::Deleted, |device| match group.datapath.is_up(member, device.ifindex) {
        None => LinkLoss::Deleted,
        Some(false) => LinkLoss::Down,
        Some(true) => LinkLoss::Carrier,
    })
}

fn schedule_announcement(group: &mut RunningGroup, context: &mut Context<'_>, address: IpAddr, number: u8) {
    let (Some(device), Some(member)) = (group.members.get(&number), group.core.member(number)) else {
        return;
    };
    let announcement = Announcement {
        group: group.interface.ifindex,
        vlan: None,
        address,
        ifindex: device.ifindex,
        mac: member.mac(),
        router: address.is_ipv6() && sysctl::forwards_ipv6(group.name()),
        probe: group.addresses.take_new(address),
    };
    context.schedule.announce(announcement, now());
}
