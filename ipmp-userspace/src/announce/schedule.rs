//! When an address is announced: at once, then as the reference spaces it (docs/reference.md 4.4), and after that in turn, so
//! that no bridge and no neighbour forgets the member (docs/announcements.md).
//!
//! | frames | limit |
//! |---|---|
//! | of one family through one member | [`Pace::rate`] in any second |
//! | of all groups | `BURST` in a millisecond |

mod group;
mod port;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use self::{
    group::{Detection, Entry, Group, Key, Ports},
    port::{Port, family},
};
use super::Announcement;
use crate::core::Time;

pub use port::Pace;

/// Between two announcements of an address.
const SPACING: Duration = Duration::from_secs(2);
/// Most frames in one `BURST_TIME`. A group of 256 addresses has announced each of them after 8 ms.
const BURST: usize = 32;
/// What `BURST` is counted in.
const BURST_TIME: Duration = Duration::from_millis(1);
/// Probes for an IPv4 address before it is announced first (`PROBE_NUM` of RFC 5227).
const PROBES: u8 = 3;
/// Between two of them (`PROBE_MIN`).
const PROBE_SPACING: Duration = Duration::from_secs(1);
/// From the last of them to the first announcement (`ANNOUNCE_WAIT`).
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// From a conflict to the next detection (`DEFEND_INTERVAL`).
const DETECT_AGAIN: Duration = Duration::from_secs(10);
/// For how long after an announcement neighbours that have missed it are corrected.
pub const CORRECTED_FOR: Duration = Duration::from_secs(120);

/// The addresses to announce, and when. The caller passes the time.
#[derive(Debug, Default)]
pub struct Schedule {
    /// By the index of their interface.
    groups: BTreeMap<u32, Planned>,
    ports: Ports,
    /// Since when frames are counted, and how many there were.
    burst: (Time, usize),
}

/// A group, and what its entries and ports say until they change.
#[derive(Debug, Default)]
struct Planned {
    group: Group,
    /// [`Group::next`]; asked in each turn of the event loop, and there may be thousands of addresses.
    next: Option<Option<Time>>,
}

impl Planned {
    /// To change it, or one of its ports.
    fn changed(&mut self) -> &mut Group {
        self.next = None;
        &mut self.group
    }

    fn next(&self, ports: &Ports) -> Option<Time> {
        self.next.unwrap_or_else(|| self.group.next(ports))
    }
}

impl Schedule {
    /// A group that is known, to change it or one of its ports.
    fn changed(&mut self, group: u32) -> Option<(&mut Group, &mut Ports)> {
        Some((self.groups.get_mut(&group)?.changed(), &mut self.ports))
    }

    /// Sets how a group announces its addresses, from now on.
    pub fn set_pace(&mut self, group: u32, pace: Pace) {
        self.groups.entry(group).or_default().changed().pace = pace;
    }

    /// Announces an address from now on; what was planned for it under another member is forgotten.
    pub fn announce(&mut self, announcement: Announcement, now: Time) {
        self.insert(announcement, false, now);
    }

    /// Announces an address that may soon be elsewhere: as often as any other, and then no more. After those that stay.
    pub fn announce_briefly(&mut self, announcement: Announcement, now: Time) {
        self.insert(announcement, true, now);
    }

    /// Announces every address of a group again, after those that are new or have moved.
    pub fn announce_again(&mut self, group: u32, now: Time) {
        let Some((group, _)) = self.changed(group) else { return };
        for ((_, address), entry) in group.entries.iter_mut().filter(|(_, entry)| !entry.first) {
            entry.left = group.pace.times(*address);
            entry.due = now;
        }
    }

    /// Announces an address once more, as soon as the rate allows.
    pub fn defend(&mut self, group: u32, vlan: Option<u16>, address: IpAddr, now: Time) {
        let Some((group, _)) = self.changed(group) else { return };
        if let Some(entry) = group.entries.get_mut(&(vlan, address)) {
            entry.left = entry.left.max(1);
            entry.due = now;
        }
    }

    fn entry(&self, group: u32, vlan: Option<u16>, address: IpAddr) -> Option<&Entry> {
        self.groups.get(&group)?.group.entries.get(&(vlan, address))
    }

    /// The announcement of an address, to correct a neighbour that has sent to another member at this time: `None` if the last
    /// announcement was more than [`CORRECTED_FOR`] before.
    pub fn announced(
        &self,
        group: u32,
        vlan: Option<u16>,
        address: IpAddr,
        at: Time,
    ) -> Option<&Announcement> {
        let entry = self.entry(group, vlan, address)?;
        let is_recent = entry.sent.is_some_and(|sent| at < sent + CORRECTED_FOR);
        is_recent.then_some(&entry.announcement)
    }

    /// Whether a correction of this announcement may be sent now; it is counted as sent.
    pub fn correct(&mut self, announcement: &Announcement, now: Time) -> bool {
        let Some((group, ports)) = self.changed(announcement.group) else { return false };
        let port = ports.get_mut(&announcement.ifindex);
        port.is_some_and(|port| port.correct(&group.pace, family(announcement.address), now))
    }

    /// Counts an ARP probe through a member like an announcement: together they are at most [`Pace::rate`] in a second.
    /// Whether it may be sent. Probes of regular rounds (`is_extra` is false) always are, and leave half of the rate to
    /// announcements; others only while the rate permits.
    pub fn count_arp(&mut self, group: u32, ifindex: u32, is_extra: bool, now: Time) -> bool {
        let pace = self.changed(group).map(|(group, _)| group.pace).unwrap_or_default();
        let port = self.ports.entry(ifindex).or_insert_with(|| Port::new(now));
        port.probe(&pace, is_extra, now)
    }

    /// Whether it is not yet known if another host has the address.
    pub fn is_detecting(&self, group: u32, vlan: Option<u16>, address: IpAddr) -> bool {
        self.entry(group, vlan, address).is_some_and(|entry| entry.detection.is_some())
    }

    /// Whether another host has an address of the group that is therefore not announced.
    pub fn has_conflict(&self, group: u32, address: IpAddr) -> bool {
        let detection = self.entry(group, None, address).and_then(|entry| entry.detection);
        detection.is_some_and(|detection| detection.conflict)
    }

    /// Another host has an address that is being detected: it is not announced, and the detection starts again later.
    /// Whether that is new.
    pub fn conflict(&mut self, group: u32, vlan: Option<u16>, address: IpAddr, now: Time) -> bool {
        let entry = self.changed(group).and_then(|(group, _)| group.entries.get_mut(&(vlan, address)));
        let Some(entry) = entry else { return false };
        let Some(before) = entry.detection.replace(Detection { probes: PROBES, conflict: true }) else {
            entry.detection = None;
            return false;
        };
        entry.due = now + DETECT_AGAIN;
        !before.conflict
    }

    fn insert(&mut self, announcement: Announcement, brief: bool, now: Time) {
        let Announcement { group, vlan, address, ifindex, .. } = announcement;
        let group = self.groups.entry(group).or_default().changed();
        let left = group.pace.times(address);
        // A failover ends a detection that has found no other host: neighbours have the address already, since the kernel
        // answers requests for it meanwhile.
        let before = group.entries.get(&(vlan, address)).and_then(|entry| entry.detection);
        let before = before.filter(|before| before.conflict);
        let new = announcement.probe && address.is_ipv4();
        let detection = before
            .map(|before| Detection { probes: PROBES, ..before })
            .or(new.then_some(Detection { probes: PROBES, conflict: false }))
            .filter(|_| group.pace.detect);
        let announcement = Announcement { probe: false, ..announcement };
        let entry = Entry { announcement, left, first: true, brief, detection, due: now, sent: None };
        self.ports.entry(ifindex).or_insert_with(|| Port::new(now)).add(address, now);
        if let Some(before) = group.entries.insert((vlan, address), entry) {
            before.release(&mut self.ports);
        }
    }

    fn remove(&mut self, group: u32, key: Key) {
        let Some((group, ports)) = self.changed(group) else { return };
        if let Some(entry) = group.entries.remove(&key) {
            entry.release(ports);
        }
    }

    fn retain(&mut self, group: u32, keep: impl Fn(&Key, &Entry) -> bool) {
        if let Some((group, ports)) = self.changed(group) {
            group.retain(ports, keep);
        }
    }

    /// Stops announcing the addresses of a group that [`announce_briefly`](Self::announce_briefly) has started, except
    /// those for which `keep` is true.
    pub fn keep_brief(&mut self, group: u32, keep: impl Fn(IpAddr) -> bool) {
        self.retain(group, |(_, address), entry| !entry.brief || keep(*address));
    }

    /// Stops announcing what follows the cast member of a group: what is brief.
    pub fn stop_following(&mut self, group: u32) {
        self.retain(group, |_, entry| !entry.brief);
    }

    /// Stops announcing an address in a VLAN.
    pub fn stop_in_vlan(&mut self, group: u32, vlan: u16, address: IpAddr) {
        self.remove(group, (Some(vlan), address));
    }

    /// Stops announcing an address.
    pub fn stop(&mut self, group: u32, address: IpAddr) {
        self.remove(group, (None, address));
    }

    /// Stops announcing anything of a group, which is removed.
    pub fn stop_group(&mut self, group: u32) {
        self.retain(group, |_, _| false);
        self.groups.remove(&group);
    }

    /// Stops announcing anything through a member's interface.
    pub fn stop_member(&mut self, ifindex: u32) {
        for planned in self.groups.values_mut() {
            planned.changed().retain(&mut self.ports, |_, entry| entry.announcement.ifindex != ifindex);
        }
    }

    /// What is to be sent now, first announcements before repeats; each is counted as sent.
    pub fn take(&mut self, now: Time) -> Vec<Announcement> {
        let taken = match self.next() {
            Some(next) if next <= now => self.take_due(now),
            _ => Vec::new(),
        };
        for planned in self.groups.values_mut().filter(|planned| planned.next.is_none()) {
            planned.next = Some(planned.group.next(&self.ports));
        }
        taken
    }

    fn take_due(&mut self, now: Time) -> Vec<Announcement> {
        if now - self.burst.0 >= BURST_TIME {
            self.burst = (now, 0);
        }
        let is_due = |planned: &&mut Planned| planned.next(&self.ports).is_some_and(|next| next <= now);
        let mut due: Vec<&mut Group> =
            self.groups.values_mut().filter(is_due).map(Planned::changed).collect();
        let mut planned = Vec::new();
        for (place, group) in due.iter().enumerate() {
            let entries = group.entries.iter().filter(|(_, entry)| entry.left > 0 && entry.due <= now);
            planned.extend(
                entries.map(|(key, entry)| (!entry.first, entry.brief, entry.due, key.1, place, *key)),
            );
        }
        planned.sort_unstable();
        let mut taken = Vec::new();
        for (.., place, key) in planned {
            taken.extend(take_one(due[place], &mut self.ports, &mut self.burst.1, key, now));
        }
        for group in &mut due {
            group.retain(&mut self.ports, |_, entry| !entry.brief || entry.left > 0);
        }
        // A port that is in use again at once must not exceed the rate.
        self.ports.retain(|_, port| !port.is_unused() || port.is_recent(now));
        for group in &mut due {
            for key in group.refreshes(&self.ports, now) {
                taken.extend(take_one(group, &mut self.ports, &mut self.burst.1, key, now));
            }
        }
        taken
    }

    /// When [`take`](Self::take) has something to give next.
    pub fn next(&self) -> Option<Time> {
        let next = self.groups.values().filter_map(|planned| planned.next(&self.ports)).min()?;
        Some(if self.burst.1 >= BURST { next.max(self.burst.0 + BURST_TIME) } else { next })
    }
}

/// Takes an announcement, unless that would exceed a limit: of the port, or of the frames of all groups, which are counted in `burst`.
fn take_one(
    group: &mut Group,
    ports: &mut Ports,
    burst: &mut usize,
    key: Key,
    now: Time,
) -> Option<Announcement> {
    let entry = group.entries.get_mut(&key)?;
    let port = ports.get_mut(&entry.announcement.ifindex)?;
    let family = family(key.1);
    if *burst >= BURST || !port.is_free(&group.pace, family, now) {
        return None;
    }
    *burst += 1;
    port.record(&group.pace, family, now);
    if let Some(detection) = &mut entry.detection
        && let Some(left) = detection.probes.checked_sub(1)
    {
        detection.probes = left;
        entry.due = now + if left > 0 { PROBE_SPACING } else { ANNOUNCE_WAIT };
        return Some(Announcement { probe: true, ..entry.announcement });
    }
    entry.detection = None;
    if entry.left > 0 && entry.due <= now {
        entry.left -= 1;
        entry.due = now + SPACING;
    }
    entry.first = false;
    entry.sent = Some(now);
    Some(entry.announcement)
}
