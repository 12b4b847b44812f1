//! What is announced of a group.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use super::port::{Pace, Port, family};
use crate::{announce::Announcement, core::Time};

/// An address, in a VLAN or in none.
pub(super) type Key = (Option<u16>, IpAddr);

/// The members that answer for addresses, by interface index.
pub(super) type Ports = HashMap<u32, Port>;

/// An address to announce.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) announcement: Announcement,
    /// Announcements still to come.
    pub(super) left: u8,
    /// Whether none was made yet since it is new or has moved.
    pub(super) first: bool,
    /// Forgotten when it has been announced often enough.
    pub(super) brief: bool,
    /// Whether another host has it, as long as that is not known for certain.
    pub(super) detection: Option<Detection>,
    pub(super) due: Time,
    /// When it was announced last, if it was.
    pub(super) sent: Option<Time>,
}

/// Finding out whether another host has an IPv4 address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detection {
    /// Probes still to come.
    pub(super) probes: u8,
    /// Another host has it.
    pub(super) conflict: bool,
}

/// What is announced of a group, and how.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) pace: Pace,
    pub(super) entries: HashMap<Key, Entry>,
}

impl Group {
    /// Removes the entries that are not to be kept.
    pub(super) fn retain(&mut self, ports: &mut Ports, keep: impl Fn(&Key, &Entry) -> bool) {
        for (_, removed) in self.entries.extract_if(|key, entry| !keep(key, entry)) {
            removed.release(ports);
        }
    }

    /// When the next one is due, without the limit that all groups share.
    pub(super) fn next(&self, ports: &Ports) -> Option<Time> {
        let due = |entry: &Entry| {
            let Announcement { address, ifindex, .. } = entry.announcement;
            let port = ports.get(&ifindex)?;
            let refresh = port.refresh_at(&self.pace);
            let due = match entry.detection {
                Some(_) => entry.due,
                None if entry.left > 0 => entry.due.min(refresh),
                None => refresh,
            };
            Some(port.free_at(&self.pace, family(address)).map_or(due, |free| due.max(free)))
        };
        self.entries.values().filter_map(due).min()
    }

    /// Of each port whose refresh is due, the address that was announced longest ago.
    pub(super) fn refreshes(&self, ports: &Ports, now: Time) -> Vec<Key> {
        let used: HashSet<u32> = self.entries.values().map(|entry| entry.announcement.ifindex).collect();
        let silent = used.into_iter().filter_map(|ifindex| {
            let port = ports.get(&ifindex).filter(|port| port.refresh_at(&self.pace) <= now)?;
            let of_port = self.entries.iter().filter(|((_, address), entry)| {
                entry.announcement.ifindex == ifindex
                    && entry.detection.is_none()
                    && port.is_free(&self.pace, family(*address), now)
            });
            of_port.min_by_key(|((_, address), entry)| (entry.sent, *address)).map(|(key, _)| *key)
        });
        silent.collect()
    }
}

impl Entry {
    /// It was removed: its port has one address less.
    pub(super) fn release(&self, ports: &mut Ports) {
        if let Some(port) = ports.get_mut(&self.announcement.ifindex) {
            port.remove(self.announcement.address);
        }
    }
}
