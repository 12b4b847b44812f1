//! `ipmpctl detach`.

use super::{
    attach, destroy,
    refusals::{kernel, no_such_group, no_such_interface, not_a_member},
};
use crate::{
    config::plan::Step,
    control::{
        LastMember,
        request::{Refused, reason},
    },
    daemon::{
        events::trigger::Trigger,
        group::{members, test_addresses},
        manager::Manager,
        migration::{Configuration, Place},
        state_file::Unfinished,
    },
};

/// Detaches a member. For the last one `last` says whether the group stays.
pub async fn detach(
    manager: &mut Manager,
    trigger: &Trigger,
    member: &str,
    last: Option<LastMember>,
) -> Result<Vec<String>, Refused> {
    let (group, last_of_group) = check(manager, member, last)?;
    let change = Unfinished::Detach { group: group.clone(), interface: member.to_owned(), last };
    manager.file.begin(change).map_err(|error| kernel(&error))?;
    let result = detach_member(manager, trigger, &group, member, last_of_group).await;
    manager.file.end();
    result
}

/// What a detach would do, a line each.
pub async fn plan(manager: &Manager, member: &str, last: Option<LastMember>) -> Result<Vec<String>, Refused> {
    let (group, last) = check(manager, member, last)?;
    let step = |step: Step| step.to_string();
    let (name, interface) = (group.clone(), member.to_owned());
    let mut lines = match last {
        Some(LastMember::MoveBack) => {
            let mut lines = moves(&group, member, &came_from(manager, &group, member).await?);
            lines.push(step(Step::Return { group: name, member: interface }));
            return Ok(lines);
        }
        Some(LastMember::Restore) => moves(&group, member, &configuration(manager, &group).await?),
        _ => Vec::new(),
    };
    lines.push(step(Step::Detach { group: name, member: interface }));
    match last {
        Some(LastMember::Restore | LastMember::Force) => lines.push(step(Step::RemoveGroup { group })),
        Some(LastMember::KeepGroup) => lines.push(kept(&group)),
        _ => {}
    }
    Ok(lines)
}

/// The addresses and routes of a group interface.
pub async fn configuration(manager: &Manager, group: &str) -> Result<Configuration, Refused> {
    let known = manager.groups.get(group).ok_or_else(|| no_such_group(group))?;
    Configuration::of(&manager.links, known.interface.ifindex).await.map_err(|error| kernel(&error))
}

/// What came from a member and is still on the group interface.
pub async fn came_from(manager: &Manager, group: &str, member: &str) -> Result<Configuration, Refused> {
    let present = configuration(manager, group).await?;
    let moved = manager.file.group(group).and_then(|saved| saved.moved.get(member));
    Ok(moved.map(|moved| moved.still_in(&present)).unwrap_or_default())
}

/// Lines on addresses and routes that move to a member.
pub fn moves(group: &str, member: &str, all: &Configuration) -> Vec<String> {
    let addresses = all.addresses.iter().map(|address| format!("{group}: move {address} to {member}"));
    let routes = all.routes.iter().filter(|route| !route.is_of_kernel());
    addresses.chain(routes.map(|route| format!("{group}: move route {route} to {member}"))).collect()
}

fn kept(group: &str) -> String {
    format!("group {group} stays, without members: its addresses cannot be reached")
}

/// Refuses a detach that does not say what happens to the group. Returns the group, and `last` if it matters.
fn check(
    manager: &Manager,
    member: &str,
    last: Option<LastMember>,
) -> Result<(String, Option<LastMember>), Refused> {
    let found = manager.group_of(member).ok_or_else(|| not_a_member(member))?;
    let group = found.name().to_owned();
    let others = found.core.members().iter().filter(|other| other.name() != member);
    let absent: Vec<&str> = others.clone().filter(|other| other.absent()).map(|other| other.name()).collect();
    let is_absent = found.core.member_named(member).is_some_and(|member| member.absent());
    // The last one that is present restores the network, whether or not others are absent.
    let is_last = if is_absent { others.count() == 0 } else { others.count() == absent.len() };
    let others = match absent[..] {
        [] => String::new(),
        _ => format!(" that is not absent ({})", absent.join(", ")),
    };
    if is_last && is_absent && last == Some(LastMember::Restore) {
        return Err(Refused::new(
            reason::LAST_MEMBER,
            format!(
                "{member} is absent, and addresses and routes cannot be restored to it: use --keep-group to keep the empty \
                 group with them, or --force to remove both"
            ),
        ));
    }
    if is_last && last.is_none() {
        return Err(Refused::new(
            reason::LAST_MEMBER,
            format!(
                "{member} is the last member of {group}{others}: add --restore to give addresses and routes to {member}, \
                 --keep-group to keep the empty group with them, or --force to remove both"
            ),
        ));
    }
    Ok((group, last.filter(|last| is_last || *last == LastMember::MoveBack)))
}

async fn detach_member(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    member: &str,
    last: Option<LastMember>,
) -> Result<Vec<String>, Refused> {
    match last {
        Some(LastMember::MoveBack) => {
            let returned = attach::undo_join(manager, trigger, group, member).await;
            Ok(attach::moved_note(group, member, &returned).into_iter().collect())
        }
        None => {
            remove_member(manager, trigger, group, member).await;
            Ok(Vec::new())
        }
        Some(LastMember::KeepGroup) => {
            remove_member(manager, trigger, group, member).await;
            Ok(vec![kept(group)])
        }
        Some(LastMember::Force) => {
            remove_member(manager, trigger, group, member).await;
            destroy::remove_group(manager, trigger, group).await;
            Ok(vec![format!("group {group} was removed with its addresses")])
        }
        Some(LastMember::Restore) => {
            let mut notes = move_out(manager, trigger, group, member).await?;
            remove_member(manager, trigger, group, member).await;
            destroy::remove_group(manager, trigger, group).await;
            notes.push(format!("group {group} was removed"));
            Ok(notes)
        }
    }
}

async fn remove_member(manager: &mut Manager, trigger: &Trigger, group: &str, member: &str) {
    if let Some((group, mut context)) = manager.group(group, trigger) {
        members::detach(group, &mut context, member).await;
    }
}

/// Copies all addresses and routes of the group interface to the last member, before the group is removed.
async fn move_out(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    member: &str,
) -> Result<Vec<String>, Refused> {
    let device = manager.links.device_named(member).await.map_err(|error| kernel(&error))?;
    let device = device.ok_or_else(|| no_such_interface(member))?;
    let (group, mut context) = manager.group(group, trigger).ok_or_else(|| no_such_group(group))?;
    let all = Configuration::of(context.links, group.interface.ifindex).await;
    let all = all.map_err(|error| kernel(&error))?;
    // The addresses of one subnet have one scope: the test addresses go first.
    test_addresses::restore(group, &mut context, member).await;
    if let Err(error) = all.copy(context.links, group.place(), Place::from(&device)).await {
        if let Some(number) = group.number_named(member) {
            test_addresses::reconcile(group, &mut context, number).await;
        }
        return Err(kernel(&error));
    }
    // The group interface is not cleared: it is deleted once the datapath no longer uses it.
    Ok(attach::moved_note(group.name(), member, &all.addresses).into_iter().collect())
}
