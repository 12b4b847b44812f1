//! Kernel settings of the group interface and the members that another program changes: restored, or reported with
//! `manage-sysctls=warn`. The kernel reports few of them, hence the period.

use std::{collections::BTreeMap, time::Duration};

use super::{Context, RunningGroup};
use crate::{
    core::{Event, Time},
    daemon::clock::{now, stretched},
    link::{Error, Saved, sysctl},
    priority::at_normal_priority,
    types::SysctlPolicy,
};

/// Time between two checks of a group, on a host with at most [`PER_PERIOD`].
const PERIOD: Duration = Duration::from_secs(3);
/// Most groups that are checked in a [`PERIOD`]. With more, each of them is checked less often, so that it never costs more.
const PER_PERIOD: usize = 16;
/// Most groups that are checked at once: a hint must not wait for long.
const AT_ONCE: usize = 8;
/// How often a setting is restored within [`WINDOW`]: a program that sets it each time wins, and is reported.
const TIMES: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// The settings of a group's interfaces, as last checked.
#[derive(Debug, Default)]
pub struct Sysctls {
    due: Time,
    /// By interface and setting.
    changes: BTreeMap<(String, String), Changes>,
}

/// What other programs did to one setting.
#[derive(Debug, Default)]
struct Changes {
    /// When it was restored.
    restored: Vec<Time>,
    /// What is wrong now, as reported.
    message: Option<String>,
}

impl Sysctls {
    /// When the next check is due.
    pub fn next(&self) -> Time {
        self.due
    }

    /// What is wrong with the settings of a member and of the group interface; of all members without one. A sentence each.
    pub fn messages(&self, group: &str, member: Option<&str>) -> Vec<String> {
        let is_concerned = |interface: &str| {
            member.is_none_or(|member| [member, group, sysctl::ALL_INTERFACES].contains(&interface))
        };
        let concerned = self.changes.iter().filter(|((interface, _), _)| is_concerned(interface));
        concerned.filter_map(|(_, changes)| changes.message.clone()).collect()
    }
}

/// What was found on an interface: its name, and the settings that differ.
type Found = (String, Result<Vec<Saved>, Error>);

/// Checks all settings of the groups for which that is due, at most of [`AT_ONCE`].
pub fn check_due(groups: &mut BTreeMap<String, RunningGroup>, context: &mut Context<'_>, time: Time) {
    let period = stretched(PERIOD, groups.len(), PER_PERIOD);
    let due: Vec<&mut RunningGroup> = groups
        .values_mut()
        .filter(|group| group.is_due(time) && group.sysctls.due <= time)
        .take(AT_ONCE)
        .collect();
    if due.is_empty() {
        return;
    }
    let interfaces: Vec<Interfaces> = due.iter().map(|group| Interfaces::of(group)).collect();
    // One thread reads all: each setting alone would take one.
    let found: Vec<Vec<Found>> = at_normal_priority(|| {
        let all = sysctl::plan_all().unwrap_or_else(|error| {
            log::debug!("{error}");
            Vec::new()
        });
        interfaces.iter().map(|interfaces| interfaces.read(&all)).collect()
    });
    for (group, found) in due.into_iter().zip(found) {
        group.sysctls.due = now().next_multiple(period);
        handle(group, context, found);
    }
}

/// The interfaces of a group whose settings are read.
struct Interfaces {
    group: String,
    members: Vec<String>,
    has_own_sources: bool,
}

impl Interfaces {
    fn of(group: &RunningGroup) -> Self {
        Self {
            group: group.name().to_owned(),
            members: group.members.values().map(|member| member.name.clone()).collect(),
            has_own_sources: group.test_addresses.has_own_sources(),
        }
    }

    /// Reads what differs, with what differs in the settings of all interfaces.
    fn read(&self, all: &[Saved]) -> Vec<Found> {
        let group = &self.group;
        let mut found = vec![(group.clone(), sysctl::plan(group, sysctl::Role::Group))];
        found.push((sysctl::ALL_INTERFACES.to_owned(), Ok(all.to_vec())));
        if self.has_own_sources {
            found.push((group.clone(), sysctl::plan_own_sources(group)));
        }
        let member = |member: &String| (member.clone(), sysctl::plan(member, sysctl::Role::Member));
        found.extend(self.members.iter().map(member));
        found
    }
}

/// Restores or reports what differs.
fn handle(group: &mut RunningGroup, context: &mut Context<'_>, found: Vec<Found>) {
    let policy = context.file.group(group.name()).map(|saved| saved.sysctl_policy()).unwrap_or_default();
    let mut differences = Vec::new();
    for (interface, plan) in found {
        match plan {
            Ok(plan) => differences.extend(plan.into_iter().map(|setting| (interface.clone(), setting))),
            Err(error) => log::debug!(group = group.name(); "{error}"),
        }
    }
    let is_different = |(interface, setting): &(String, String)| {
        differences.iter().any(|(other, saved)| other == interface && saved.name(other) == *setting)
    };
    for (key, changes) in &mut group.sysctls.changes {
        if !is_different(key) {
            changes.message = None;
        }
    }
    for (interface, setting) in differences {
        correct(group, context, policy, &interface, &setting);
    }
}

/// Restores one setting, or reports it.
fn correct(
    group: &mut RunningGroup,
    context: &mut Context<'_>,
    policy: SysctlPolicy,
    interface: &str,
    found: &Saved,
) {
    let (time, name) = (now(), found.name(interface));
    let group_name = group.name().to_owned();
    let is_of_all = interface == sysctl::ALL_INTERFACES;
    let member = (interface != group_name && !is_of_all).then(|| interface.to_owned());
    let changes = group.sysctls.changes.entry((interface.to_owned(), name.clone())).or_default();
    changes.restored.retain(|restored| time - *restored < WINDOW);
    let (value, ours) = (found.before.clone(), found.ours.clone());
    let why = if is_of_all {
        format!("it holds for all interfaces, and ipmpd does not change it; set it (sysctl {name}={ours})")
    } else if policy == SysctlPolicy::Warn {
        format!(
            "set it (sysctl {name}={ours}), or let ipmpd do it (ipmpctl set {group_name} manage-sysctls=yes)"
        )
    } else if changes.restored.len() >= TIMES {
        format!("another program has changed it {} times within a minute; end that", TIMES + 1)
    } else {
        match sysctl::apply(interface, std::slice::from_ref(found)) {
            Ok(()) => {
                changes.restored.push(time);
                changes.message = None;
                remember(context, &group_name, interface, found);
                let line = Event::SysctlRestored { member, setting: name, value, ours };
                return context.log(&group_name, &line);
            }
            Err(error) => error.to_string(),
        }
    };
    let message = format!("{name} is {value}, and the group needs {ours}: {why}");
    if changes.message.as_ref() != Some(&message) {
        changes.message = Some(message);
        let line = Event::SysctlChanged { member, setting: name, value, ours, why };
        context.log(&group_name, &line);
    }
}

/// Detach restores what the other program has set.
fn remember(context: &mut Context<'_>, group: &str, member: &str, found: &Saved) {
    let Some(saved) = context.file.member_mut(group, member) else { return };
    let same = |other: &&mut Saved| (&other.family, &other.setting) == (&found.family, &found.setting);
    match saved.settings.iter_mut().find(same) {
        Some(known) => known.before.clone_from(&found.before),
        None => saved.settings.push(found.clone()),
    }
    context.file.save_or_log();
}
