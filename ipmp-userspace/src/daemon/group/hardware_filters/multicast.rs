//! The multicast MACs of the group interface at every member.

use std::collections::{BTreeMap, BTreeSet};

use super::Kind;
use crate::{
    daemon::{
        group::{Context, RunningGroup},
        state_file::StateFile,
    },
    link::{
        Links, Mac,
        multicast::{self, Multicast},
    },
};

/// What is to be changed at one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Difference {
    /// To be added; the daemon's then.
    add: BTreeSet<Mac>,
    /// To be removed: the daemon's, and no longer wanted.
    remove: BTreeSet<Mac>,
}

/// Compares what a member should receive with what was added there, by any program and by the daemon.
fn difference(wanted: &BTreeSet<Mac>, requested: &BTreeSet<Mac>, ours: &BTreeSet<Mac>) -> Difference {
    Difference {
        add: wanted.difference(requested).copied().collect(),
        remove: ours.difference(wanted).copied().collect(),
    }
}

/// The change of one member.
struct Change {
    group: String,
    number: u8,
    difference: Difference,
}

/// Updates the filters of all members: additions are saved before they are made, removals after.
pub async fn update(groups: &mut BTreeMap<String, RunningGroup>, context: &mut Context<'_>) {
    let lists = match multicast::lists() {
        Ok(lists) => lists,
        Err(error) => {
            return log::error!("{error}; the members' multicast filters are not updated");
        }
    };
    let changes = plan(groups, context.file, &lists);
    let mut is_changed = false;
    for change in changes {
        let Some(group) = groups.get_mut(&change.group) else { continue };
        is_changed |= apply(group, context.file, context.links, change).await;
    }
    if is_changed {
        context.file.save_or_log();
    }
}

fn plan(
    groups: &mut BTreeMap<String, RunningGroup>,
    file: &mut StateFile,
    lists: &BTreeMap<u32, Multicast>,
) -> Vec<Change> {
    let nothing = Multicast::default();
    let list = |ifindex| lists.get(&ifindex).unwrap_or(&nothing);
    let (mut changes, mut is_changed) = (Vec::new(), false);
    for group in groups.values_mut() {
        group.filters.multicast = false;
        let wanted = &list(group.interface.ifindex).all;
        let Some(saved) = file.state.groups.get_mut(group.name()) else { continue };
        for member in saved.members.values_mut().filter(|saved| group.members.contains_key(&saved.number)) {
            let requested = &list(member.ifindex).requested;
            let difference = difference(wanted, requested, &member.filters.multicast);
            if difference == Difference::default() {
                continue;
            }
            is_changed |= !difference.add.is_subset(&member.filters.multicast);
            member.filters.multicast.extend(&difference.add);
            changes.push(Change { group: group.name().to_owned(), number: member.number, difference });
        }
    }
    if is_changed {
        file.save_or_log();
    }
    changes
}

/// Returns whether the record has changed.
async fn apply(group: &mut RunningGroup, file: &mut StateFile, links: &Links, change: Change) -> bool {
    let Change { group: name, number, difference: Difference { add, remove } } = change;
    let saved = file.state.groups.get_mut(&name);
    let member = saved.and_then(|saved| saved.members.values_mut().find(|saved| saved.number == number));
    let Some(member) = member else { return false };
    let (mut refused, mut is_changed) = (None, false);
    let has_added = !add.is_empty();
    for mac in add {
        if let Err(error) = multicast::accept(member.ifindex, mac) {
            (refused, is_changed) = (Some(error), true);
            member.filters.multicast.remove(&mac);
        }
    }
    for mac in remove {
        is_changed = true;
        match multicast::refuse(member.ifindex, mac) {
            Ok(()) => drop(member.filters.multicast.remove(&mac)),
            Err(error) => log::warn!(group = name.as_str(); "{error}"),
        }
    }
    let device = group.members.get(&number).map_or("", |member| member.name.as_str()).to_owned();
    match refused.filter(|error| !error.is_missing()) {
        None if has_added => group.filters.note(number, Kind::Multicast, None),
        None => {}
        Some(error) => {
            let fallback = links.set_all_multicast(member.ifindex, &device, true).await;
            member.filters.all_multicast |= fallback.is_ok();
            let message = match fallback {
                Ok(()) => {
                    format!("{device} receives all multicast, since its filter cannot be set: {error}")
                }
                Err(_) => format!("{device} may not receive the multicast of {name}: {error}"),
            };
            group.filters.note(number, Kind::Multicast, Some(message));
        }
    }
    is_changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macs(lasts: &[u8]) -> BTreeSet<Mac> {
        lasts.iter().map(|last| [0x33, 0x33, 0, 0, 0, *last]).collect()
    }

    /// All states of one MAC.
    #[test]
    fn multicast_mac_is_added_once_and_only_own_is_removed() {
        let one = macs(&[1]);
        let none = macs(&[]);
        for (wanted, requested, ours, add, remove, what) in [
            (&one, &none, &none, &one, &none, "new"),
            (&one, &one, &one, &none, &none, "in place"),
            (&one, &one, &none, &none, &none, "added by the operator: wanted, and not ours"),
            (&one, &none, &one, &one, &none, "ours, and removed by another program"),
            (&none, &one, &one, &none, &one, "obsolete"),
            (&none, &none, &one, &none, &one, "obsolete, and removed already"),
            (&none, &one, &none, &none, &none, "the operator's"),
            (&none, &none, &none, &none, &none, "nothing"),
        ] {
            let expected = Difference { add: add.clone(), remove: remove.clone() };
            assert_eq!(difference(wanted, requested, ours), expected, "{what}");
        }
    }
}
