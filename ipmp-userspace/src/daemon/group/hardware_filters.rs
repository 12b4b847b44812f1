//! The members' hardware filters: a NIC receives only those multicast groups, VLANs and unicast MACs that it is configured for.
//! Applications configure the group interface, which is no NIC, so its members get the same
//! (docs/design/hardware-filters.md):
//!
//! | the group interface | its members |
//! |---|---|
//! | its multicast MACs | all: the same MACs, by `SIOCADDMULTI`; all multicast where one is refused |
//! | its VLANs | all: a VLAN device that stays down |
//! | its own MAC, to which a DHCP server replies | the cast member: as an additional unicast MAC |
//!
//! The filters outlive the daemon. What it adds is in the state file first, so that it can be removed, and nothing else is:
//! what an operator added stays. A filter that cannot be installed is reported by `ipmpctl show`.
//!
//! The kernel does not notify of a device's multicast list. The daemon reads it when the datapath has seen a membership
//! report leave, when an address was added, and every three seconds for what is not reported: packet sockets, and groups of
//! the host alone.

mod multicast;
mod unicast;
mod vlan;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use self::unicast::replace_mac;
use super::{Context, RunningGroup, mirrored_memberships};
use crate::{
    core::Time,
    daemon::{
        again::again,
        clock::{now, stretched},
        state_file::{SavedFilters, SavedMember},
    },
    link::Links,
};

/// Between two readings of the multicast lists without any hint, for each [`PER_PERIOD`] groups.
const PERIOD: Duration = Duration::from_secs(3);
/// The lists are read of all interfaces: those of a thousand take some ten milliseconds.
const PER_PERIOD: usize = 64;
/// At least between two readings: an application may join and leave all the time.
const SPACING: Duration = Duration::from_millis(20);

/// A filter that could not be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Multicast,
    Vlan(u16),
    Unicast,
}

/// What is known of the filters of a group's members.
#[derive(Debug)]
pub struct FilterState {
    /// The multicast list may have changed.
    multicast: bool,
    /// The cast role, or a member's device, has changed.
    roles: bool,
    /// The VLANs, or the members, have changed.
    vlans: bool,
    /// A message for each filter that could not be installed, by member.
    missing: BTreeMap<(u8, Kind), String>,
}

impl Default for FilterState {
    /// Everything is to be checked.
    fn default() -> Self {
        Self { multicast: true, roles: true, vlans: true, missing: BTreeMap::new() }
    }
}

impl FilterState {
    /// The multicast list may have changed.
    pub fn multicast_changed(&mut self) {
        self.multicast = true;
    }

    /// The cast member, or its device, has changed.
    pub fn roles_changed(&mut self) {
        self.roles = true;
    }

    /// The VLANs of the group, or those of a member, have changed.
    pub fn vlans_changed(&mut self) {
        self.vlans = true;
    }

    /// A member has joined: it needs all filters.
    pub fn member_joined(&mut self) {
        (self.multicast, self.roles, self.vlans) = (true, true, true);
    }

    /// A member has left.
    pub fn member_left(&mut self, number: u8) {
        self.missing.retain(|(member, _), _| *member != number);
    }

    /// Messages for those that could not be installed.
    pub fn missing(&self) -> impl Iterator<Item = String> {
        self.missing.values().cloned()
    }

    fn is_stale(&self) -> bool {
        self.multicast || self.roles || self.vlans
    }

    fn note(&mut self, number: u8, kind: Kind, message: Option<String>) {
        match message {
            None => drop(self.missing.remove(&(number, kind))),
            Some(message) => {
                if self.missing.get(&(number, kind)) != Some(&message) {
                    log::warn!("{message}");
                }
                self.missing.insert((number, kind), message);
            }
        }
    }
}

/// When the filters of all groups are updated.
#[derive(Debug, Default)]
pub struct FilterTimer {
    updated: Time,
}

impl FilterTimer {
    /// The next update.
    pub fn next(&self, groups: &BTreeMap<String, RunningGroup>) -> Option<Time> {
        let is_stale = groups.values().any(|group| group.filters.is_stale());
        let period = stretched(PERIOD, groups.len(), PER_PERIOD);
        let has_members = groups.values().any(|group| !group.members.is_empty());
        has_members
            .then(|| if is_stale { self.updated + SPACING } else { self.updated.next_multiple(period) })
    }

    /// Updates the filters of all members.
    pub async fn update(&mut self, groups: &mut BTreeMap<String, RunningGroup>, context: &mut Context<'_>) {
        self.updated = now();
        mirrored_memberships::update(groups);
        multicast::update(groups, context).await;
        unicast::update(groups, context).await;
        vlan::update(groups, context).await;
    }
}

/// Removes what the daemon added to the filters of a member that leaves.
pub async fn release_member(group: &RunningGroup, context: &mut Context<'_>, name: &str) {
    let Some(saved) = context.file.member_mut(group.name(), name) else { return };
    release(context.links, name, saved).await;
    saved.filters = SavedFilters::default();
}

/// Removes what the daemon added to the filters of an interface. It may have been deleted, and its VLAN devices left in this
/// namespace.
pub async fn release(links: &Links, name: &str, saved: &SavedMember) {
    let mut errors = Vec::new();
    if let Ok(Some(_)) = again(async || links.device(saved.ifindex).await).await {
        for mac in &saved.filters.multicast {
            let refuse = async || crate::link::multicast::refuse(saved.ifindex, *mac);
            errors.extend(again(refuse).await.err());
        }
        if saved.filters.all_multicast {
            let clear = async || links.set_all_multicast(saved.ifindex, name, false).await;
            errors.extend(again(clear).await.err());
        }
        if let Some(mac) = saved.filters.unicast {
            errors.extend(again(async || links.refuse_mac(saved.ifindex, name, mac).await).await.err());
        }
    }
    match again(async || links.devices()).await {
        Ok(devices) => {
            for (ifindex, name) in vlan::difference(&BTreeSet::new(), saved.ifindex, &devices).remove {
                errors.extend(links.delete(ifindex, &name).await.err().filter(|error| !error.is_missing()));
            }
        }
        Err(error) => errors.push(error),
    }
    for error in errors {
        log::warn!(member = name; "{error}; do it by hand");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_filter_is_reported_until_it_is_installed() {
        let mut filters = FilterState::default();
        filters.note(0, Kind::Vlan(20), Some("eth0 may not receive VLAN 20".into()));
        filters.note(1, Kind::Unicast, Some("eth1 may not".into()));
        assert_eq!(filters.missing().count(), 2);
        filters.note(0, Kind::Vlan(20), None);
        filters.member_left(1);
        assert_eq!(filters.missing().count(), 0);
    }
}
