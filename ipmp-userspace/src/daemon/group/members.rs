//! Members join and leave.

use super::{Context, MemberDevice, RunningGroup, actions, hardware_filters, links, test_addresses};
use crate::{
    core::{Attachment, Input},
    daemon::{
        again::again,
        migration::{Configuration, Place},
        state_file::SavedMember,
    },
    link::{self, Address, Links, sysctl},
};

/// A member whose datapath is attached joins.
pub async fn join(group: &mut RunningGroup, context: &mut Context<'_>, attachment: Attachment) {
    links::record_link(group, attachment.member, attachment.link);
    actions::tell(group, context, Input::Joined(attachment)).await;
}

/// Updates the weights of all members: those that the operator has set; else the speeds, if every speed is known; else equal
/// ones, since a guessed speed beside a known one would overload the wrong member.
pub async fn update_weights(group: &mut RunningGroup, context: &mut Context<'_>) {
    let Some(saved) = context.file.state.groups.get_mut(group.name()) else { return };
    let weights = saved.update_weights();
    context.file.save_or_log();
    for (member, weight) in weights {
        if group.core.member(member).is_some_and(|known| known.weight() != weight) {
            actions::tell(group, context, Input::Weight { member, weight }).await;
        }
    }
}

/// A member leaves: the state machine first, so that no more packets are sent to it.
pub async fn leave(group: &mut RunningGroup, context: &mut Context<'_>, number: u8) -> Option<MemberDevice> {
    actions::tell(group, context, Input::Left { member: number }).await;
    remove_device(group, context, number)
}

/// Detaches the datapath from the device of a member, which may have been deleted.
pub(super) fn remove_device(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    number: u8,
) -> Option<MemberDevice> {
    let member = group.members.remove(&number);
    group.filters.member_left(number);
    group.test_addresses.member_left(number);
    if let Some(updelay) = &mut group.updelay {
        updelay.forget(number);
    }
    if let Some(member) = &member {
        context.schedule.stop_member(member.ifindex);
        context.prober.forget(member.ifindex);
    }
    if let Err(error) = group.datapath.detach(number).or_else(|_| group.datapath.detach(number)) {
        log::error!(group = group.name(); "{error}");
    }
    member
}

/// Detaches a member, and restores its interface. Its addresses and routes stay on the group interface.
pub async fn detach(group: &mut RunningGroup, context: &mut Context<'_>, name: &str) {
    test_addresses::restore(group, context, name).await;
    if let Some(number) = group.number_named(name) {
        if group.core.member(number).is_some() {
            leave(group, context, number).await;
        } else {
            // It has not joined yet.
            group.members.remove(&number);
            if let Err(error) = group.datapath.detach(number).or_else(|_| group.datapath.detach(number)) {
                log::error!(group = group.name(), member = name; "{error}");
            }
        }
    }
    hardware_filters::release_member(group, context, name).await;
    // Another interface may have the name of an absent one.
    if let Some(saved) = context.file.member(group.name(), name).filter(|saved| saved.absent.is_none()) {
        restore_settings(context.links, group.name(), name, saved).await;
    }
    context.file.forget_member(&group.interface.name, name);
}

/// Undoes a join: as [`detach`], and what was moved from the interface moves back. Returns the addresses that did.
pub async fn undo_join(group: &mut RunningGroup, context: &mut Context<'_>, name: &str) -> Vec<Address> {
    test_addresses::restore(group, context, name).await;
    let returned = move_back(group, context, name).await.unwrap_or_default();
    detach(group, context, name).await;
    returned
}

/// Moves what came from an interface, and is still on the group interface, back to it. Returns the addresses; `None`: nothing
/// came from it, or it cannot be moved, which is logged.
async fn move_back(group: &RunningGroup, context: &mut Context<'_>, name: &str) -> Option<Vec<Address>> {
    let moved = context.file.state.groups.get_mut(group.name())?.moved.remove(name)?;
    let device = again(async || context.links.device_named(name).await).await.ok().flatten()?;
    let (from, to) = (group.place(), Place::from(&device));
    let result = again(async || {
        let present = Configuration::of(context.links, group.interface.ifindex).await?;
        let back = moved.still_in(&present);
        let copied = back.copy(context.links, from, to).await?;
        back.clear(context.links, from, &copied).await?;
        Ok::<_, link::Error>(back.addresses)
    });
    result.await.inspect_err(|error| log::error!(group = group.name(), member = name; "{error}")).ok()
}

/// Restores the settings of an interface from before it was attached.
async fn restore_settings(links: &Links, group: &str, name: &str, saved: &SavedMember) {
    sysctl::restore(name, &saved.settings);
    if saved.was_down
        && let Ok(Some(device)) = again(async || links.device_named(name).await).await
        && let Err(error) = again(async || links.set_up(&device, false).await).await
    {
        log::warn!(group = group, member = name; "{error}");
    }
}
