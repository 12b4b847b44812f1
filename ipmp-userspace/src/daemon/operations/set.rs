//! `ipmpctl set`: settings are saved first, so that the next daemon has them, too.

use std::net::IpAddr;

use super::{
    early_drop,
    refusals::{kernel, no_such_group, no_such_name, not_a_member},
    target_check,
};
use crate::{
    control::{
        Setting,
        request::{Refused, reason},
        setting::{self, Owner},
    },
    core::{Action, Event, Input},
    daemon::{
        clock::now,
        events::{table, trigger::Trigger},
        group::{actions, early_drops, links, members},
        loading,
        manager::Manager,
        state_file::{SavedGroup, SavedTarget},
    },
    types::MatchBy,
};

/// Changes settings of a group or a member, all or none.
pub async fn set(
    manager: &mut Manager,
    trigger: &Trigger,
    name: &str,
    settings: &[Setting],
) -> Result<Vec<String>, Refused> {
    let (group, member) = check(manager, name, settings).await?;
    let notes = match &member {
        Some(member) => set_member(manager, trigger, &group, member, settings).await?,
        None => set_group(manager, trigger, &group, settings).await?,
    };
    let list: Vec<String> = settings.iter().map(Setting::to_string).collect();
    let line = Event::SettingsChanged { group: group.clone(), member, settings: list.join(", ") };
    manager.log(trigger, Some(&group), &line);
    Ok(notes)
}

/// Refuses settings that a group or a member cannot have. Returns the group, and the member if it is one.
pub async fn check(
    manager: &Manager,
    name: &str,
    settings: &[Setting],
) -> Result<(String, Option<String>), Refused> {
    let (group, member) = match manager.group_of(name) {
        _ if manager.groups.contains_key(name) => (name.to_owned(), None),
        Some(group) => (group.name().to_owned(), Some(name.to_owned())),
        None => return Err(no_such_name(name)),
    };
    let owner = if member.is_some() { Owner::Member } else { Owner::Group };
    let bad = |error: setting::Error| Refused::new(reason::BAD_SETTING, error.to_string());
    settings.iter().try_for_each(|setting| setting.check(name, owner)).map_err(bad)?;
    if member.is_none() {
        target_check::check(manager, name, targets_of(settings).unwrap_or_default()).await?;
    } else if settings.contains(&Setting::Match(MatchBy::PermanentMac))
        && manager.file.member(&group, name).is_some_and(|saved| saved.identity.permanent_mac.is_none())
    {
        return Err(Refused::new(
            reason::BAD_SETTING,
            format!(
                "{name} has no permanent MAC (ip -d link show dev {name}): write match=mac or match=name"
            ),
        ));
    }
    for setting in settings.iter().filter(|_| member.is_some()) {
        if let Setting::Xdp(mode) = setting {
            early_drop::check(manager, &group, name, *mode).await?;
        }
    }
    Ok((group, member))
}

fn targets_of(settings: &[Setting]) -> Option<&[IpAddr]> {
    settings.iter().find_map(|setting| match setting {
        Setting::Targets(targets) => Some(targets.as_slice()),
        _ => None,
    })
}

async fn set_group(
    manager: &mut Manager,
    trigger: &Trigger,
    name: &str,
    settings: &[Setting],
) -> Result<Vec<String>, Refused> {
    let targets = targets_of(settings);
    let saved = manager.file.state.groups.entry(name.to_owned()).or_default();
    let before = saved.clone();
    settings.iter().for_each(|setting| saved.choose(setting));
    let result = manager.file.save().map_err(|error| kernel(&error));
    let result = match result {
        Ok(()) => apply_to_datapath(manager, name).await,
        Err(refused) => Err(refused),
    };
    if let Err(refused) = result {
        manager.file.state.groups.insert(name.to_owned(), before);
        manager.file.save_or_log();
        return Err(refused);
    }
    let mut notes = apply_saved(manager, trigger, name).await;
    notes.extend(targets.and_then(|targets| target_check::note_not_probed(manager, name, targets)));
    Ok(notes)
}

async fn set_member(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    name: &str,
    settings: &[Setting],
) -> Result<Vec<String>, Refused> {
    if let Some(saved) = manager.file.member_mut(group, name) {
        let before = saved.chosen.clone();
        settings.iter().for_each(|setting| setting.put_into(&mut saved.chosen));
        if let Err(error) = manager.file.save() {
            if let Some(saved) = manager.file.member_mut(group, name) {
                saved.chosen = before;
            }
            return Err(kernel(&error));
        }
        if let Err(refused) = early_drop::apply(manager, group, name).await {
            put_back(manager, group, name, before);
            return Err(refused);
        }
        update_weights(manager, trigger, group).await;
    }
    Ok(apply_saved(manager, trigger, group).await)
}

/// Gives the record of a member the settings that it had.
fn put_back(manager: &mut Manager, group: &str, name: &str, before: Vec<Setting>) {
    if let Some(saved) = manager.file.member_mut(group, name) {
        saved.chosen = before;
    }
    manager.file.save_or_log();
}

/// What settings a group had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    chosen: Vec<Setting>,
    targets: Vec<SavedTarget>,
}

impl Before {
    /// The settings in the record of a group.
    pub fn of(saved: &SavedGroup) -> Self {
        Self { chosen: saved.chosen.clone(), targets: saved.targets.clone() }
    }
}

/// Gives a group these settings and no others, its targets apart. Returns what it had, and notes.
pub async fn replace_of_group(
    manager: &mut Manager,
    trigger: &Trigger,
    name: &str,
    settings: &[Setting],
) -> Result<(Before, Vec<String>), Refused> {
    let before = Before::of(manager.file.group(name).ok_or_else(|| no_such_group(name))?);
    let after = Before { chosen: settings.to_vec(), targets: before.targets.clone() };
    let notes = put(manager, trigger, name, after, &before).await?;
    Ok((before, notes))
}

/// Gives a group these targets and no others; those that are disabled stay so. Returns what it had, and notes.
pub async fn replace_targets(
    manager: &mut Manager,
    trigger: &Trigger,
    name: &str,
    targets: &[IpAddr],
) -> Result<(Before, Vec<String>), Refused> {
    target_check::check(manager, name, targets).await?;
    let before = Before::of(manager.file.group(name).ok_or_else(|| no_such_group(name))?);
    let is_disabled =
        |address: IpAddr| before.targets.iter().any(|target| target.address == address && target.disabled);
    let target = |&address: &IpAddr| SavedTarget { address, disabled: is_disabled(address) };
    let after = Before { chosen: before.chosen.clone(), targets: targets.iter().map(target).collect() };
    let mut notes = put(manager, trigger, name, after, &before).await?;
    notes.extend(target_check::note_not_probed(manager, name, targets));
    Ok((before, notes))
}

/// Has a group not probe these of its targets, and all others. Returns what it had, and notes.
pub async fn replace_disabled_targets(
    manager: &mut Manager,
    trigger: &Trigger,
    name: &str,
    disabled: &[IpAddr],
) -> Result<(Before, Vec<String>), Refused> {
    let before = Before::of(manager.file.group(name).ok_or_else(|| no_such_group(name))?);
    let mut after = before.clone();
    for target in &mut after.targets {
        target.disabled = disabled.contains(&target.address);
    }
    let notes = put(manager, trigger, name, after, &before).await?;
    Ok((before, notes))
}

/// Gives a group the settings that it had.
pub async fn restore_of_group(
    manager: &mut Manager,
    trigger: &Trigger,
    name: &str,
    before: &Before,
) -> Result<(), Refused> {
    put(manager, trigger, name, before.clone(), before).await.map(drop)
}

async fn put(
    manager: &mut Manager,
    trigger: &Trigger,
    name: &str,
    after: Before,
    before: &Before,
) -> Result<Vec<String>, Refused> {
    let set = |manager: &mut Manager, values: &Before| {
        if let Some(saved) = manager.file.state.groups.get_mut(name) {
            (saved.chosen, saved.targets) = (values.chosen.clone(), values.targets.clone());
        }
        manager.file.save().map_err(|error| kernel(&error))
    };
    let result = set(manager, &after);
    let result = match result {
        Ok(()) => apply_to_datapath(manager, name).await,
        Err(refused) => Err(refused),
    };
    if let Err(refused) = result {
        let _ = set(manager, before);
        return Err(refused);
    }
    Ok(apply_saved(manager, trigger, name).await)
}

/// Gives a member these settings and no others. Returns those that it had, and notes.
pub async fn replace_of_member(
    manager: &mut Manager,
    trigger: &Trigger,
    group: &str,
    name: &str,
    settings: &[Setting],
) -> Result<(Vec<Setting>, Vec<String>), Refused> {
    let saved = manager.file.member_mut(group, name).ok_or_else(|| not_a_member(name))?;
    let before = std::mem::replace(&mut saved.chosen, settings.to_vec());
    if let Err(error) = manager.file.save() {
        if let Some(saved) = manager.file.member_mut(group, name) {
            saved.chosen = before;
        }
        return Err(kernel(&error));
    }
    if let Err(refused) = early_drop::apply(manager, group, name).await {
        put_back(manager, group, name, before);
        return Err(refused);
    }
    update_weights(manager, trigger, group).await;
    let notes = apply_saved(manager, trigger, group).await;
    Ok((before, notes))
}

/// Applies the saved settings of a group to its datapath.
async fn apply_to_datapath(manager: &mut Manager, name: &str) -> Result<(), Refused> {
    let saved = manager.file.group(name).ok_or_else(|| no_such_group(name))?;
    let (policy, capture) = (saved.hash_policy(), saved.capture());
    let group = manager.groups.get(name).ok_or_else(|| no_such_group(name))?;
    if group.datapath.policy() != policy {
        let egress = group.datapath.prepare_policy(policy);
        loading::load(manager, vec![egress]).await.map_err(|error| kernel(&error))?;
    }
    let group = manager.groups.get_mut(name).ok_or_else(|| no_such_group(name))?;
    if group.datapath.policy() != policy {
        group.datapath.set_policy(policy).map_err(|error| kernel(&error))?;
    }
    group.datapath.set_capture(capture);
    Ok(())
}

/// Applies the saved settings of a group, and the defaults, to its state machine. Returns notes for the operator. Probe
/// results stay.
pub async fn apply_saved(manager: &mut Manager, trigger: &Trigger, name: &str) -> Vec<String> {
    let Some(saved) = manager.file.group(name) else { return Vec::new() };
    let settings = saved.core_settings(manager.mpathd.defaults());
    let [targets, disabled] = saved.targets();
    let pace = saved.announce_pace();
    let updelays = saved.updelays();
    let early_drop_modes = saved.early_drops();
    let standbys: Vec<(u8, bool)> =
        saved.members.values().map(|member| (member.number, member.is_standby())).collect();
    let Some((group, mut context)) = manager.group(name, trigger) else { return Vec::new() };
    context.schedule.set_pace(group.interface.ifindex, pace);
    let mut events = Vec::new();
    if *group.core.settings() != settings {
        events.push(Input::Settings(settings));
    }
    let known = group.core.known_targets();
    if known.disabled != disabled {
        events.push(Input::DisabledTargets(disabled));
    }
    if known.explicit != targets {
        events.push(Input::Targets(targets));
    }
    for (member, standby) in standbys {
        if group.core.member(member).is_some_and(|known| known.standby() != standby) {
            events.push(Input::Standby { member, standby });
        }
    }
    let mut notes = Vec::new();
    links::set_updelays(group, updelays);
    early_drops::set(group, early_drop_modes);
    early_drops::reconcile(group, &context).await;
    for event in events {
        match group.core.handle(now(), event) {
            Ok(actions) => {
                notes.extend(actions.iter().filter_map(|action| match action {
                    Action::Report(event @ Event::HighProbeRate { .. }, _) => Some(table::row(event).text),
                    _ => None,
                }));
                actions::apply(group, &mut context, actions).await;
            }
            Err(refusal) => log::error!(group = name; "{refusal}"),
        }
    }
    notes
}

/// Updates the weights of all members ([`members::update_weights`]).
pub async fn update_weights(manager: &mut Manager, trigger: &Trigger, name: &str) {
    if let Some((group, mut context)) = manager.group(name, trigger) {
        members::update_weights(group, &mut context).await;
    }
}

/// SIGHUP: reads the defaults of all groups again.
pub async fn reload_defaults(manager: &mut Manager) {
    let trigger = &Trigger::Hangup;
    manager.log(trigger, None, &Event::ConfigReread);
    match manager.mpathd.read() {
        Ok(lines) => lines.iter().for_each(|line| manager.log(trigger, None, line)),
        Err(error) => log::error!("{error}; the defaults stay as they were"),
    }
    for name in manager.groups.keys().cloned().collect::<Vec<_>>() {
        apply_saved(manager, trigger, &name).await;
    }
}
