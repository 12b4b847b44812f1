//! Makes the steps of a plan. If one is refused, those before it are undone, the last one first.

use std::{collections::BTreeMap, net::IpAddr};

use super::members;
use crate::{
    config::plan::{NewMember, Running, RunningMember, Step},
    control::{
        DataAddress, LastMember, Setting,
        request::{Refused, reason},
    },
    daemon::{
        events::trigger::Trigger,
        manager::Manager,
        operations::{
            address, attach, create, destroy, detach,
            firewall::Firewall,
            offline,
            refusals::{kernel, no_such_group, not_in_group},
            set, test_address,
        },
        state_file::SavedInbound,
    },
    link::{Route, RouteEntry},
    types::Origin,
};

/// What undoes a step.
enum Undo {
    Step(Step),
    /// Gives addresses the preferred inbound members that they had.
    Inbound {
        group: String,
        before: Vec<(IpAddr, address::Inbound)>,
    },
    /// Adds addresses again, with their preferred inbound members.
    Addresses {
        group: String,
        addresses: Vec<(DataAddress, Option<address::Inbound>, Origin)>,
    },
    Leave {
        group: String,
        member: String,
    },
    Group {
        group: String,
        before: set::Before,
    },
    Member {
        group: String,
        member: String,
        settings: Vec<Setting>,
    },
    /// Removes a route, and restores those that it replaced.
    Route {
        group: String,
        route: RouteEntry,
        before: Vec<Route>,
    },
    RemoveNewGroup {
        group: String,
    },
}

/// Makes the steps. Returns notes.
pub async fn execute(
    manager: &mut Manager,
    trigger: &Trigger,
    steps: &[Step],
    running: &Running,
) -> Result<Vec<String>, Refused> {
    let (mut done, mut notes) = (Vec::new(), Vec::new());
    for step in steps {
        let Err(refused) = make(manager, trigger, (step, steps), running, &mut done, &mut notes).await else {
            continue;
        };
        let mut refused = of_step(step, refused);
        if !done.is_empty() {
            refused.message += "; all steps before it were undone";
        }
        while let Some(step) = done.pop() {
            if let Err(error) = undo(manager, trigger, step).await {
                refused.message += &format!(", but not this: {error}");
            }
        }
        manager.announce();
        return Err(refused);
    }
    Ok(notes)
}

/// A refusal with the step that was refused.
pub fn of_step(step: &Step, refused: Refused) -> Refused {
    Refused::new(refused.reason, format!("cannot {step}: {}", refused.message))
}

/// Makes one of these steps.
async fn make(
    manager: &mut Manager,
    trigger: &Trigger,
    (step, steps): (&Step, &[Step]),
    running: &Running,
    done: &mut Vec<Undo>,
    notes: &mut Vec<String>,
) -> Result<(), Refused> {
    match step {
        Step::CreateGroup { group, groupname } => {
            notes.extend(create::create_empty(manager, trigger, group, Some(groupname.clone())).await?);
            done.push(Undo::RemoveNewGroup { group: group.clone() });
            if let Some(saved) = manager.file.state.groups.get_mut(group) {
                saved.unfinished = true;
            }
            manager.file.save().map_err(|error| kernel(&error))?;
        }
        Step::SetGroup { group, settings, .. } => {
            let (before, more) = set::replace_of_group(manager, trigger, group, settings).await?;
            done.push(Undo::Group { group: group.clone(), before });
            notes.extend(more);
        }
        Step::SetTargets { group, targets } => {
            let (before, more) = set::replace_targets(manager, trigger, group, targets).await?;
            done.push(Undo::Group { group: group.clone(), before });
            notes.extend(more);
        }
        Step::SetDisabledTargets { group, targets } => {
            let (before, more) = set::replace_disabled_targets(manager, trigger, group, targets).await?;
            done.push(Undo::Group { group: group.clone(), before });
            notes.extend(more);
        }
        Step::AddAddresses { group, addresses } => {
            address::add(manager, trigger, group, addresses, None, Origin::File).await?;
            let (group, addresses) = (group.clone(), addresses.clone());
            done.push(Undo::Step(Step::RemoveAddresses { group, addresses }));
        }
        Step::Attach { group, member } => join(manager, trigger, group, member, done, notes).await?,
        Step::Expect { group, member } => {
            let member = members::expect(manager, trigger, group, member).await?;
            done.push(Undo::Leave { group: group.clone(), member });
        }
        Step::SetMember { group, member, settings, .. } => {
            let member = shown(manager, group, member);
            let (before, more) = set::replace_of_member(manager, trigger, group, &member, settings).await?;
            done.push(Undo::Member { group: group.clone(), member, settings: before });
            notes.extend(more);
        }
        Step::SetOffline { group, member, offline } => {
            let shown = shown(manager, group, member);
            if *offline {
                attach::wait_for_others(manager, trigger, group, &[&shown]).await;
                notes.extend(offline::offline(manager, trigger, &shown).await?);
            } else {
                notes.extend(offline::online(manager, trigger, &shown).await?);
            }
            let (group, member) = (group.clone(), member.clone());
            done.push(Undo::Step(Step::SetOffline { group, member, offline: !offline }));
        }
        Step::SetInbound { group, inbound, .. } => {
            let before = preferred(manager, group);
            let logical = |ip: IpAddr, member: &str| {
                let known = before.iter().find(|(other, known)| *other == ip && known.member == member);
                known.and_then(|(_, known)| known.logical)
            };
            let wanted: Vec<(IpAddr, address::Inbound)> = inbound
                .iter()
                .map(|(ip, member)| {
                    let member = shown(manager, group, member);
                    (*ip, address::Inbound { logical: logical(*ip, &member), member })
                })
                .collect();
            prefer(manager, trigger, group, &wanted).await?;
            done.push(Undo::Inbound { group: group.clone(), before });
        }
        Step::AddTestAddress { member, address } => {
            test_address::add(manager, trigger, member, *address).await?;
            let (member, address) = (member.clone(), *address);
            done.push(Undo::Step(Step::RemoveTestAddress { member, address }));
        }
        Step::RemoveTestAddress { member, address } => {
            test_address::remove(manager, trigger, member, *address).await?;
            let (member, address) = (member.clone(), *address);
            done.push(Undo::Step(Step::AddTestAddress { member, address }));
        }
        Step::AddRoute { group, route } => {
            let before = add_route(manager, group, route).await?;
            done.push(Undo::Route { group: group.clone(), route: route.clone(), before });
        }
        Step::RemoveRoute { group, route } => {
            remove_route(manager, group, route).await?;
            done.push(Undo::Step(Step::AddRoute { group: group.clone(), route: route.clone() }));
        }
        Step::RemoveAddresses { group, addresses } => {
            let saved = manager.file.group(group).cloned().unwrap_or_default();
            let origin = |address: DataAddress| saved.origin_of(address.address(), address.prefix());
            let inbound = |address: DataAddress| {
                let preference = saved.inbound.get(&address.address())?;
                let member = saved.members.get(&preference.member)?.name.clone();
                Some(address::Inbound { member, logical: preference.logical })
            };
            let before =
                addresses.iter().map(|&address| (address, inbound(address), origin(address))).collect();
            address::remove(manager, trigger, group, addresses).await?;
            done.push(Undo::Addresses { group: group.clone(), addresses: before });
        }
        Step::Detach { group, member } | Step::Return { group, member } => {
            let leaves = |step: &Step| match step {
                Step::Detach { group: of, member } | Step::Return { group: of, member } if of == group => {
                    Some(member.clone())
                }
                _ => None,
            };
            let leaving: Vec<String> = steps.iter().filter_map(leaves).collect();
            let leaving: Vec<&str> = leaving.iter().map(String::as_str).collect();
            attach::wait_for_others(manager, trigger, group, &leaving).await;
            let returns = matches!(step, Step::Return { .. });
            let before = preferred(manager, group);
            let last = Some(if returns { LastMember::MoveBack } else { LastMember::KeepGroup });
            notes.extend(detach::detach(manager, trigger, &shown(manager, group, member), last).await?);
            // Undone after the member has joined again.
            if is_offline(running, group, member) {
                let (group, member) = (group.clone(), member.clone());
                done.push(Undo::Step(Step::SetOffline { group, member, offline: true }));
            }
            if before != preferred(manager, group) {
                done.push(Undo::Inbound { group: group.clone(), before });
            }
            done.extend(rejoin(running, group, member).map(Undo::Step));
        }
        Step::RemoveGroup { group } => {
            notes.extend(members::remove_group(manager, trigger, group, false).await?);
        }
        Step::Dissolve { group } => notes.extend(members::remove_group(manager, trigger, group, true).await?),
    }
    Ok(())
}

/// The preferred inbound members of addresses of a group.
fn preferred(manager: &Manager, group: &str) -> Vec<(IpAddr, address::Inbound)> {
    let Some(saved) = manager.file.group(group) else { return Vec::new() };
    let named = |(ip, preference): (&IpAddr, &SavedInbound)| {
        let member = saved.members.get(&preference.member)?.name.clone();
        Some((*ip, address::Inbound { member, logical: preference.logical }))
    };
    saved.inbound.iter().filter_map(named).collect()
}

/// Gives addresses of a group these preferred inbound members, and no others.
async fn prefer(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    wanted: &[(IpAddr, address::Inbound)],
) -> Result<(), Refused> {
    let mut all = BTreeMap::new();
    for (ip, address::Inbound { member, logical }) in wanted {
        let saved = manager.file.member(group, member).ok_or_else(|| not_in_group(member, group))?;
        all.insert(*ip, SavedInbound { member: saved.number, logical: *logical });
    }
    address::set_preferences(manager, trigger, group, all).await
}

fn running_member<'a>(running: &'a Running, group: &str, member: &str) -> Option<&'a RunningMember> {
    let known = running.groups.iter().find(|known| known.name == group)?;
    known.members.iter().find(|known| known.name == member)
}

fn is_offline(running: &Running, group: &str, member: &str) -> bool {
    running_member(running, group, member).is_some_and(|known| known.offline)
}

/// The step that undoes the detaching of a member.
fn rejoin(running: &Running, group: &str, member: &str) -> Option<Step> {
    let known = running_member(running, group, member)?;
    let member = NewMember {
        name: known.name.clone(),
        required_name: None,
        permanent_mac: known.permanent_mac,
        mac: known.mac,
        settings: known.settings.clone(),
        test_addresses: known.test_addresses.clone(),
    };
    let group = group.to_owned();
    Some(match known.ifindex {
        Some(_) => Step::Attach { group, member },
        None => Step::Expect { group, member },
    })
}

/// The name under which a member is shown: of an absent one, another interface may have the name that it had.
fn shown(manager: &Manager, group: &str, member: &str) -> String {
    let mut members = manager.file.group(group).into_iter().flat_map(|group| group.members.values());
    let found = members.find(|saved| saved.absent.as_ref().is_some_and(|absent| absent.name == member));
    found.map_or_else(|| member.to_owned(), |saved| saved.name.clone())
}

async fn join(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    member: &NewMember,
    done: &mut Vec<Undo>,
    notes: &mut Vec<String>,
) -> Result<(), Refused> {
    let options = attach::Options {
        standby: member.is_standby(),
        test_addresses: &member.test_addresses,
        firewall: Firewall::Checked,
    };
    let names = [member.name.clone()];
    notes.extend(attach::attach(manager, trigger, group, &names, options).await?);
    done.push(Undo::Leave { group: group.to_owned(), member: member.name.clone() });
    let (_, more) = set::replace_of_member(manager, trigger, group, &member.name, &member.settings).await?;
    notes.extend(more);
    Ok(())
}

async fn undo(manager: &mut Manager, trigger: &Trigger, step: Undo) -> Result<(), Refused> {
    match step {
        Undo::Step(step) => {
            let (mut done, mut notes) = (Vec::new(), Vec::new());
            Box::pin(make(manager, trigger, (&step, &[]), &Running::default(), &mut done, &mut notes)).await
        }
        Undo::Inbound { group, before } => prefer(manager, trigger, &group, &before).await,
        Undo::Addresses { group, addresses } => {
            for (address, inbound, origin) in addresses {
                address::add(manager, trigger, &group, &[address], inbound, origin).await?;
            }
            Ok(())
        }
        Undo::Leave { group, member } => {
            attach::undo_join(manager, trigger, &group, &member).await;
            Ok(())
        }
        Undo::Group { group, before } => set::restore_of_group(manager, trigger, &group, &before).await,
        Undo::Member { group, member, settings } => {
            set::replace_of_member(manager, trigger, &group, &member, &settings).await.map(drop)
        }
        Undo::Route { group, route, before } => {
            remove_route(manager, &group, &route).await?;
            for route in before {
                manager.links.replace_route(&route).await.map_err(|error| kernel(&error))?;
            }
            Ok(())
        }
        Undo::RemoveNewGroup { group } => {
            destroy::remove_group(manager, trigger, &group).await;
            Ok(())
        }
    }
}

/// Adds a route. Returns those to the same destination with the same metric, which it replaced.
async fn add_route(manager: &mut Manager, group: &str, entry: &RouteEntry) -> Result<Vec<Route>, Refused> {
    let ifindex = manager.groups.get(group).ok_or_else(|| no_such_group(group))?.interface.ifindex;
    let route = Route::of_entry(entry, ifindex);
    let present =
        manager.links.routes_beside(std::slice::from_ref(&route)).map_err(|error| kernel(&error))?;
    let before: Vec<Route> = present.into_iter().filter(|other| other.same_destination(&route)).collect();
    if let Some(other) = before.iter().find(|other| !other.uses(ifindex)) {
        let text = format!(
            "{other} leads through another interface: remove that route, or give this one another metric"
        );
        return Err(Refused::new(reason::EXISTS, text));
    }
    // Saved first: what is left after a crash is known to be the group's.
    if let Some(saved) = manager.file.state.groups.get_mut(group) {
        saved.routes.push(entry.clone());
    }
    let result = match manager.file.save() {
        Ok(()) => manager.links.replace_route(&route).await.map_err(|error| kernel(&error)),
        Err(error) => Err(kernel(&error)),
    };
    if let Err(refused) = result {
        forget_route(manager, group, entry);
        return Err(refused);
    }
    Ok(before)
}

async fn remove_route(manager: &mut Manager, group: &str, entry: &RouteEntry) -> Result<(), Refused> {
    let ifindex = manager.groups.get(group).ok_or_else(|| no_such_group(group))?.interface.ifindex;
    let route = Route::of_entry(entry, ifindex);
    manager.links.delete_route(&route).await.map_err(|error| kernel(&error))?;
    forget_route(manager, group, entry);
    Ok(())
}

fn forget_route(manager: &mut Manager, group: &str, entry: &RouteEntry) {
    if let Some(saved) = manager.file.state.groups.get_mut(group) {
        saved.routes.retain(|known| !known.is_same(entry));
    }
    manager.file.save_or_log();
}
