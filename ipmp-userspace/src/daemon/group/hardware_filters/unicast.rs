//! The MAC of the group interface at the cast member.

use std::collections::BTreeMap;

use super::Kind;
use crate::daemon::{
    group::{Context, RunningGroup},
    state_file::SavedMember,
};

/// Whether a member should receive packets to the MAC of the group interface.
fn is_wanted(group: &RunningGroup, saved: &SavedMember) -> bool {
    match group.core.cast() {
        Some(cast) => cast == saved.number,
        // While no member has the role, the last one keeps the filter.
        None => saved.filters.unicast.is_some(),
    }
}

/// Updates the filters of all members: additions are saved before they are made, removals after.
pub async fn update(groups: &mut BTreeMap<String, RunningGroup>, context: &mut Context<'_>) {
    let mut is_changed = false;
    for group in groups.values().filter(|group| group.filters.roles) {
        let Some(saved) = context.file.state.groups.get_mut(group.name()) else { continue };
        for member in saved.members.values_mut() {
            if member.filters.unicast.is_none() && is_wanted(group, member) {
                member.filters.unicast = Some(group.interface.mac);
                is_changed = true;
            }
        }
    }
    if is_changed {
        context.file.save_or_log();
    }
    let mut is_changed = false;
    for group in groups.values_mut().filter(|group| group.filters.roles) {
        group.filters.roles = false;
        let (name, mac) = (group.interface.name.clone(), group.interface.mac);
        let Some(saved) = context.file.state.groups.get_mut(&name) else { continue };
        for member in saved.members.values_mut().filter(|member| member.filters.unicast.is_some()) {
            let Some(device) = group.members.get(&member.number) else { continue };
            let result = if is_wanted(group, member) {
                context.links.accept_mac(device.ifindex, &device.name, mac).await
            } else {
                (member.filters.unicast, is_changed) = (None, true);
                context.links.refuse_mac(device.ifindex, &device.name, mac).await
            };
            let message = result.err().filter(|error| !error.is_missing()).map(|error| {
                (member.filters.unicast, is_changed) = (None, true);
                format!(
                    "{} may not receive packets to the MAC of {name}, such as replies to a DHCP client: {error}",
                    device.name
                )
            });
            group.filters.note(member.number, Kind::Unicast, message);
        }
    }
    if is_changed {
        context.file.save_or_log();
    }
}

/// The MAC of the group interface has changed: members no longer receive the earlier one.
pub async fn replace_mac(group: &mut RunningGroup, context: &mut Context<'_>) {
    let Some(saved) = context.file.state.groups.get_mut(group.name()) else { return };
    for member in saved.members.values_mut() {
        let Some(device) = group.members.get(&member.number) else { continue };
        if let Some(mac) = member.filters.unicast.take()
            && let Err(error) = context.links.refuse_mac(device.ifindex, &device.name, mac).await
        {
            log::debug!(group = group.name(), member = device.name.as_str(); "{error}");
        }
    }
    context.file.save_or_log();
    group.filters.roles_changed();
}
