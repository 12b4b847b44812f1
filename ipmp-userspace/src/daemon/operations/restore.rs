//! The state before a change, and how it is restored when the change is not confirmed (docs/confirm.md).
//!
//! The record describes the groups as a configuration file does, so that the plan from the present groups back to it is the one
//! of `apply`. What a file cannot express follows from the records of the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{
    address,
    apply::{execute, running},
    offline,
    refusals::{kernel, no_such_group},
    set, show,
};
use crate::{
    config::{self, Severity, plan, plan::Step, save},
    control::request::{Refused, Response, reason},
    core::Event,
    daemon::{
        events::trigger::Trigger,
        manager::Manager,
        migration::Configuration,
        returns,
        state_file::{SavedGroup, SavedInbound, SavedMember},
    },
    types::{OfflineCause, Origin},
};

const VERSION: u32 = 1;
/// Name of the description in messages.
const NAME: &str = "the recorded state";

/// The groups before a change.
#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    version: u32,
    /// As a configuration file describes them.
    text: String,
    groups: BTreeMap<String, RecordedGroup>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordedGroup {
    saved: SavedGroup,
    /// What is not in the description: addresses of other programs, and routes.
    present: Configuration,
    /// Numbers of the members that the operator has taken offline.
    offline: Vec<u8>,
}

/// What restoring the present groups needs.
pub async fn record(manager: &Manager) -> Result<String, Refused> {
    let reports = show::show(manager, None).await?;
    let saved = save::save(&[], Path::new(NAME), &reports)
        .map_err(|why| Refused::new(reason::BAD_CONFIGURATION, format!("cannot record the groups: {why}")))?;
    let text = saved.files.into_iter().map(|(_, text)| text).collect();
    let mut groups = BTreeMap::new();
    for group in manager.groups.values() {
        let saved = manager.file.group(group.name()).cloned().unwrap_or_default();
        let mut present = Configuration::of(&manager.links, group.interface.ifindex)
            .await
            .map_err(|error| kernel(&error))?;
        present.addresses.retain(|address| saved.origin_of(address.ip, address.prefix) == Origin::Other);
        // Routing daemons keep their own, which may be very many.
        present.routes.retain(|route| route.is_static());
        let is_offline = |cause: Option<OfflineCause>| cause == Some(OfflineCause::Operator);
        let members = group.core.members().iter();
        let offline =
            members.filter(|member| is_offline(member.offline())).map(|member| member.number()).collect();
        groups.insert(group.name().to_owned(), RecordedGroup { saved, present, offline });
    }
    let recorded = Recorded { version: VERSION, text, groups };
    serde_json::to_string(&recorded).map_err(|error| kernel(&error))
}

/// What restoring the groups to a record would do, a line each.
pub async fn plan(manager: &mut Manager, trigger: &Trigger, state: &str) -> Result<Vec<String>, Refused> {
    let (_, steps, _) = prepare(manager, trigger, state).await?;
    Ok(steps.iter().map(Step::to_string).collect())
}

/// Reads a record, and plans the steps from the present groups back to it.
async fn prepare(
    manager: &mut Manager,
    trigger: &Trigger,
    state: &str,
) -> Result<(Recorded, Vec<Step>, plan::Running), Refused> {
    let bad = |why: String| Refused::new(reason::BAD_CONFIGURATION, format!("{NAME} cannot be used: {why}"));
    let recorded: Recorded = serde_json::from_str(state).map_err(|error| bad(error.to_string()))?;
    if recorded.version != VERSION {
        return Err(bad(format!("version {}", recorded.version)));
    }
    let (configuration, findings) = config::parse(&[(NAME.into(), recorded.text.clone())]);
    if let Some(error) = findings.iter().find(|finding| finding.severity == Severity::Error) {
        return Err(bad(format!("{}: {}", error.place, error.message)));
    }
    // An interface that is an absent member rejoins.
    returns::check(manager, trigger, true).await;
    let mut running = running::read(manager, &configuration).await?;
    for group in running.groups.iter_mut().filter(|group| !recorded.groups.contains_key(&group.name)) {
        // The plan removes groups of files only.
        group.origin = Origin::File;
    }
    let plan = plan::plan(&configuration, true, &running).map_err(bad)?;
    let steps: Vec<Step> =
        plan.steps.into_iter().filter_map(|step| backwards(manager, &recorded, step)).collect();
    Ok((recorded, steps, running))
}

/// Restores the groups to a record, all or nothing. `why`: for the log.
pub async fn restore(
    manager: &mut Manager,
    trigger: &Trigger,
    state: &str,
    why: &str,
) -> Result<Response, Refused> {
    let (recorded, steps, running) = prepare(manager, trigger, state).await?;
    if !steps.is_empty() {
        manager.log(trigger, None, &Event::ChangeUndone { why: why.to_owned() });
    }
    // Routes exist before those are removed that replaced them.
    for (name, group) in recorded.groups.iter().filter(|(name, _)| manager.groups.contains_key(*name)) {
        add_present(manager, name, &group.present).await?;
    }
    let mut notes: Vec<String> = steps.iter().map(Step::to_string).collect();
    notes.extend(execute::execute(manager, trigger, &steps, &running).await?);
    for (name, group) in &recorded.groups {
        add_present(manager, name, &group.present).await?;
        restore_records(manager, trigger, name, group).await?;
    }
    manager.announce();
    Ok(Response::Done { notes, changed: !steps.is_empty() })
}

/// A step of `apply` as the undoing needs it.
fn backwards(manager: &Manager, recorded: &Recorded, step: Step) -> Option<Step> {
    match step {
        Step::Detach { group, member } => {
            // An absent member whose name another interface has is not in the description.
            let saved = manager.file.group(&group)?.members.values();
            let mut saved = saved.filter(|saved| {
                saved.name == member || saved.absent.as_ref().is_some_and(|absent| absent.name == member)
            });
            let before = recorded.groups.get(&group).map(|group| &group.saved);
            let is_recorded = saved.any(|now| {
                before.is_some_and(|before| {
                    before.members.values().any(|before| now.absent.is_some() && is_same(before, now))
                })
            });
            (!is_recorded).then_some(Step::Return { group, member })
        }
        Step::RemoveGroup { group } => Some(Step::Dissolve { group }),
        // These are restored as they were, not as a file describes them.
        Step::AddRoute { .. } | Step::SetDisabledTargets { .. } | Step::SetOffline { .. } => None,
        step => Some(step),
    }
}

/// Whether two records are of one NIC.
fn is_same(one: &SavedMember, other: &SavedMember) -> bool {
    match (one.identity.permanent_mac, other.identity.permanent_mac) {
        (Some(one), Some(other)) => one == other,
        _ => one.name == other.name || (one.ifindex != 0 && one.ifindex == other.ifindex),
    }
}

/// Adds addresses and routes that a group interface had and has not any more.
async fn add_present(manager: &Manager, name: &str, present: &Configuration) -> Result<(), Refused> {
    let group = manager.groups.get(name).ok_or_else(|| no_such_group(name))?;
    let (links, place) = (&manager.links, group.place());
    present.copy(links, place, place).await.map(drop).map_err(|error| kernel(&error))
}

/// Restores what the plan cannot: which program added what, disabled targets, preferred inbound members, offline members.
async fn restore_records(
    manager: &mut Manager,
    trigger: &Trigger,
    name: &str,
    recorded: &RecordedGroup,
) -> Result<(), Refused> {
    let before = &recorded.saved;
    let now = manager.file.group(name).cloned().unwrap_or_default();
    let number = |before: &SavedMember| now.members.values().find(|now| is_same(before, now));
    let numbers: BTreeMap<u8, (u8, String)> = before
        .members
        .values()
        .filter_map(|before| {
            let now = number(before)?;
            Some((before.number, (now.number, now.name.clone())))
        })
        .collect();
    if let Some(saved) = manager.file.state.groups.get_mut(name) {
        (saved.origin, saved.unfinished) = (before.origin, before.unfinished);
        (saved.added, saved.routes) = (before.added.clone(), before.routes.clone());
        saved.moved.clone_from(&before.moved);
    }
    manager.file.save().map_err(|error| kernel(&error))?;
    let settings = set::Before::of(before);
    if settings != set::Before::of(&now) {
        set::restore_of_group(manager, trigger, name, &settings).await?;
    }
    for member in before.members.values() {
        let Some((_, shown)) = numbers.get(&member.number) else { continue };
        if manager.file.member(name, shown).is_some_and(|now| now.chosen != member.chosen) {
            set::replace_of_member(manager, trigger, name, shown, &member.chosen).await?;
        }
    }
    let inbound = before.inbound.iter().filter_map(|(address, saved)| {
        let (member, _) = numbers.get(&saved.member)?;
        Some((*address, SavedInbound { member: *member, logical: saved.logical }))
    });
    address::set_preferences(manager, trigger, name, inbound.collect()).await?;
    let group = manager.groups.get(name).ok_or_else(|| no_such_group(name))?;
    let is_offline: BTreeSet<u8> = group
        .core
        .members()
        .iter()
        .filter(|member| member.offline() == Some(OfflineCause::Operator))
        .map(|member| member.number())
        .collect();
    for number in &recorded.offline {
        if let Some((number, member)) = numbers.get(number)
            && !is_offline.contains(number)
        {
            offline::offline(manager, trigger, member).await?;
        }
    }
    for (before, (number, member)) in &numbers {
        if is_offline.contains(number) && !recorded.offline.contains(before) {
            offline::online(manager, trigger, member).await?;
        }
    }
    Ok(())
}
