//! When an address is announced: at once, then as the reference spaces it (docs/reference.md 4.4), and after that in turn, so
//! that no bridge and no neighbour forgets the member (docs/announcements.md).
//!
//! | frames | limit |
//! |---|---|
//! | of one family through one member | [`Pace::rate`] in any second |
//! | of all groups | `BURST` in a millisecond |

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::Announcement;
use crate::core::Time;

/// Announcements of an IPv4 address: five ARP requests.
const TIMES_V4: u8 = 5;
/// Announcements of an IPv6 address: three advertisements (`MAX_NEIGHBOR_ADVERTISEMENT` of RFC 4861).
const TIMES_V6: u8 = 3;
/// Between two announcements of an address.
const SPACING: Duration = Duration::from_secs(2);
/// Most frames in one `BURST_TIME`. A group of 256 addresses has announced each of them after 8 ms.
const BURST: usize = 32;
/// What `BURST` is counted in.
const BURST_TIME: Duration = Duration::from_millis(1);
/// What [`Pace::rate`] is counted in: switches count ARP packets by the second.
const RATE_TIME: Duration = Duration::from_secs(1);
/// With [`Pace::rate`] unset: the rate through a member with at most this many addresses of a family. ARP inspection shuts a
/// port at 15 a second; the others are left to requests and probes.
const FEW: usize = 10;
/// Probes for an IPv4 address before it is announced first (`PROBE_NUM` of RFC 5227).
const PROBES: u8 = 3;
/// Between two of them (`PROBE_MIN`).
const PROBE_SPACING: Duration = Duration::from_secs(1);
/// From the last of them to the first announcement (`ANNOUNCE_WAIT`).
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// From a conflict to the next detection (`DEFEND_INTERVAL`).
const DETECT_AGAIN: Duration = Duration::from_secs(10);
/// Every address is announced at least this often, however many a member has.
const ROUND: Duration = Duration::from_secs(60);
/// For how long after an announcement neighbours that have missed it are corrected.
pub const CORRECTED_FOR: Duration = Duration::from_secs(120);
/// Most corrections through a member in a second: forged senders must not displace announcements.
const CORRECTIONS: usize = 3;
/// Families are counted separately: ARP inspection does not count advertisements.
const FAMILIES: usize = 2;

/// How the addresses of a group are announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Most announcements of a family through a member in any second. `None`: `FEW` through a member with few addresses,
    /// else no limit but `BURST`.
    pub rate: Option<u16>,
    /// Announcements of an address that is new or has moved. `None`: `TIMES_V4` and `TIMES_V6`.
    pub count: Option<u8>,
    /// A member with addresses is never silent for longer.
    pub interval: Duration,
    /// Whether new IPv4 addresses are probed for before they are announced first.
    pub detect: bool,
}

impl Default for Pace {
    /// Three frames within 15 s, the shortest ageing time that bridges are configured with: two may be lost.
    fn default() -> Self {
        Self { rate: None, count: None, interval: Duration::from_secs(5), detect: false }
    }
}

impl Pace {
    fn times(&self, address: IpAddr) -> u8 {
        self.count.unwrap_or(if address.is_ipv4() { TIMES_V4 } else { TIMES_V6 })
    }
}

/// The addresses to announce, and when. The caller passes the time.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: HashMap<Key, Entry>,
    /// The members that answer for addresses, by interface index.
    ports: HashMap<u32, Port>,
    /// Of groups, by the index of their interface, as far as it is not the default.
    paces: HashMap<u32, Pace>,
    /// Since when frames are counted, and how many there were.
    burst: (Time, usize),
    /// [`Schedule::next`], as long as nothing has changed: asked in each turn of the event loop, and there may be thousands of
    /// addresses.
    next: Option<Option<Time>>,
}

/// An address of a group, in one of its VLANs or in none.
type Key = (u32, Option<u16>, IpAddr);

#[derive(Debug)]
struct Entry {
    announcement: Announcement,
    /// Announcements still to come.
    left: u8,
    /// Whether none was made yet since it is new or has moved.
    first: bool,
    /// Forgotten when it has been announced often enough.
    brief: bool,
    /// Whether another host has it, as long as that is not known for certain.
    detection: Option<Detection>,
    due: Time,
    /// When it was announced last, if it was.
    sent: Option<Time>,
}

/// Finding out whether another host has an IPv4 address.
#[derive(Clone, Copy, Debug)]
struct Detection {
    /// Probes still to come.
    probes: u8,
    /// Another host has it.
    conflict: bool,
}

/// What is announced through a member.
#[derive(Debug, Default)]
struct Port {
    /// Number of addresses, by family.
    addresses: [usize; FAMILIES],
    /// When the latest frames were sent, by family: as many as the rate needs.
    sent: [VecDeque<Time>; FAMILIES],
    /// Corrections in the last second.
    corrected: Vec<Time>,
    /// ARP probes of regular rounds in the last second that were counted.
    probed: Vec<Time>,
    /// When the last one was sent; before any, since when it has addresses.
    spoke: Time,
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

impl Port {
    fn is_unused(&self) -> bool {
        self.addresses == [0; FAMILIES]
    }

    /// Whether it has sent anything in the last second.
    fn is_recent(&self, now: Time) -> bool {
        let sent = self.sent.iter().filter_map(|sent| sent.back());
        sent.chain([&self.spoke]).any(|sent| now - *sent < RATE_TIME)
    }

    /// Most frames of a family in a second.
    fn limit(&self, pace: &Pace, family: usize) -> Option<usize> {
        let few = (self.addresses[family] <= FEW).then_some(FEW);
        pace.rate.map(usize::from).or(few)
    }

    /// From when on another frame may be sent; `None`: now.
    fn free_at(&self, pace: &Pace, family: usize) -> Option<Time> {
        let limit = self.limit(pace, family)?;
        let sent = &self.sent[family];
        sent.len().checked_sub(limit).map(|excess| sent[excess] + RATE_TIME)
    }

    fn record(&mut self, pace: &Pace, family: usize, now: Time) {
        let kept = pace.rate.map_or(FEW, usize::from);
        let sent = &mut self.sent[family];
        sent.push_back(now);
        sent.drain(..sent.len().saturating_sub(kept));
        self.spoke = now;
    }

    /// When one of its addresses is announced again, so that it is not silent and all of them have their turn.
    fn refresh_at(&self, pace: &Pace) -> Time {
        let addresses = self.addresses.iter().sum::<usize>().max(1) as u32;
        self.spoke + pace.interval.min(ROUND / addresses)
    }
}

impl Schedule {
    /// Sets how a group announces its addresses, from now on.
    pub fn set_pace(&mut self, group: u32, pace: Pace) {
        self.next = None;
        if pace == Pace::default() {
            self.paces.remove(&group);
        } else {
            self.paces.insert(group, pace);
        }
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
        self.next = None;
        let pace = self.pace(group);
        for ((of, _, address), entry) in &mut self.entries {
            if *of == group && !entry.first {
                entry.left = pace.times(*address);
                entry.due = now;
            }
        }
    }

    /// Announces an address once more, as soon as the rate allows.
    pub fn defend(&mut self, group: u32, vlan: Option<u16>, address: IpAddr, now: Time) {
        self.next = None;
        if let Some(entry) = self.entries.get_mut(&(group, vlan, address)) {
            entry.left = entry.left.max(1);
            entry.due = now;
        }
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
        let entry = self.entries.get(&(group, vlan, address))?;
        let is_recent = entry.sent.is_some_and(|sent| at < sent + CORRECTED_FOR);
        is_recent.then_some(&entry.announcement)
    }

    /// Whether a correction of this announcement may be sent now; it is counted as sent.
    pub fn correct(&mut self, announcement: &Announcement, now: Time) -> bool {
        self.next = None;
        let (pace, family) = (self.pace(announcement.group), family(announcement.address));
        let Some(port) = self.ports.get_mut(&announcement.ifindex) else { return false };
        port.corrected.retain(|sent| now < *sent + RATE_TIME);
        if port.corrected.len() >= CORRECTIONS || port.free_at(&pace, family).is_some_and(|free| free > now) {
            return false;
        }
        port.corrected.push(now);
        let spoke = port.spoke;
        port.record(&pace, family, now);
        // Not every switch has seen it.
        port.spoke = spoke;
        true
    }

    /// Counts an ARP probe through a member like an announcement: together they are at most [`Pace::rate`] in a second.
    /// Whether it may be sent. Probes of regular rounds (`is_extra` is false) always are, and leave half of the rate to
    /// announcements; others only while the rate permits.
    pub fn count_arp(&mut self, group: u32, ifindex: u32, is_extra: bool, now: Time) -> bool {
        self.next = None;
        let pace = self.pace(group);
        let port = self.ports.entry(ifindex).or_insert_with(|| Port { spoke: now, ..Port::default() });
        let family = family(Ipv4Addr::UNSPECIFIED.into());
        let is_free = port.free_at(&pace, family).is_none_or(|free| free <= now);
        if is_extra && !is_free {
            return false;
        }
        let rate = port.limit(&pace, family).unwrap_or(FEW);
        port.probed.retain(|sent| now < *sent + RATE_TIME);
        if is_extra || 2 * port.probed.len() < rate {
            if !is_extra {
                port.probed.push(now);
            }
            let spoke = port.spoke;
            port.record(&pace, family, now);
            port.spoke = spoke;
        }
        true
    }

    /// Whether it is not yet known if another host has the address.
    pub fn is_detecting(&self, group: u32, vlan: Option<u16>, address: IpAddr) -> bool {
        self.entries.get(&(group, vlan, address)).is_some_and(|entry| entry.detection.is_some())
    }

    /// Whether another host has an address of the group that is therefore not announced.
    pub fn has_conflict(&self, group: u32, address: IpAddr) -> bool {
        let entry = self.entries.get(&(group, None, address));
        entry.and_then(|entry| entry.detection).is_some_and(|detection| detection.conflict)
    }

    /// Another host has an address that is being detected: it is not announced, and the detection starts again later.
    /// Whether that is new.
    pub fn conflict(&mut self, group: u32, vlan: Option<u16>, address: IpAddr, now: Time) -> bool {
        self.next = None;
        let Some(entry) = self.entries.get_mut(&(group, vlan, address)) else { return false };
        let Some(before) = entry.detection.replace(Detection { probes: PROBES, conflict: true }) else {
            entry.detection = None;
            return false;
        };
        entry.due = now + DETECT_AGAIN;
        !before.conflict
    }

    fn pace(&self, group: u32) -> Pace {
        self.paces.get(&group).copied().unwrap_or_default()
    }

    fn insert(&mut self, announcement: Announcement, brief: bool, now: Time) {
        self.next = None;
        let Announcement { group, vlan, address, ifindex, .. } = announcement;
        let pace = self.pace(group);
        let left = pace.times(address);
        // A failover ends a detection that has found no other host: neighbours have the address already, since the kernel
        // answers requests for it meanwhile.
        let before = self.entries.get(&(group, vlan, address)).and_then(|entry| entry.detection);
        let before = before.filter(|before| before.conflict);
        let new = announcement.probe && address.is_ipv4();
        let detection = before
            .map(|before| Detection { probes: PROBES, ..before })
            .or(new.then_some(Detection { probes: PROBES, conflict: false }))
            .filter(|_| pace.detect);
        let announcement = Announcement { probe: false, ..announcement };
        let entry = Entry { announcement, left, first: true, brief, detection, due: now, sent: None };
        let port = self.ports.entry(ifindex).or_insert_with(|| Port { spoke: now, ..Port::default() });
        if port.is_unused() {
            port.spoke = now;
        }
        port.addresses[family(address)] += 1;
        if let Some(before) = self.entries.insert((group, vlan, address), entry) {
            self.released(&before);
        }
    }

    /// An entry was removed: its port has one address less.
    fn released(&mut self, entry: &Entry) {
        let Announcement { address, ifindex, .. } = entry.announcement;
        if let Some(port) = self.ports.get_mut(&ifindex) {
            port.addresses[family(address)] -= 1;
        }
    }

    fn remove(&mut self, key: Key) {
        self.next = None;
        if let Some(entry) = self.entries.remove(&key) {
            self.released(&entry);
        }
    }

    fn retain(&mut self, keep: impl Fn(&Key, &Entry) -> bool) {
        self.next = None;
        let removed: Vec<(Key, Entry)> = self.entries.extract_if(|key, entry| !keep(key, entry)).collect();
        removed.iter().for_each(|(_, entry)| self.released(entry));
    }

    /// Stops announcing the addresses of a group that [`announce_briefly`](Self::announce_briefly) has started, except
    /// those for which `keep` is true.
    pub fn keep_brief(&mut self, group: u32, keep: impl Fn(IpAddr) -> bool) {
        self.retain(|(of, _, address), entry| *of != group || !entry.brief || keep(*address));
    }

    /// Stops announcing what follows the cast member of a group: what is brief.
    pub fn stop_following(&mut self, group: u32) {
        self.retain(|(of, ..), entry| *of != group || !entry.brief);
    }

    /// Stops announcing an address in a VLAN.
    pub fn stop_in_vlan(&mut self, group: u32, vlan: u16, address: IpAddr) {
        self.remove((group, Some(vlan), address));
    }

    /// Stops announcing an address.
    pub fn stop(&mut self, group: u32, address: IpAddr) {
        self.remove((group, None, address));
    }

    /// Stops announcing anything of a group, which is removed.
    pub fn stop_group(&mut self, group: u32) {
        self.retain(|(of, ..), _| *of != group);
        self.paces.remove(&group);
    }

    /// Stops announcing anything through a member's interface.
    pub fn stop_member(&mut self, ifindex: u32) {
        self.retain(|_, entry| entry.announcement.ifindex != ifindex);
    }

    /// What is to be sent now, first announcements before repeats; each is counted as sent.
    pub fn take(&mut self, now: Time) -> Vec<Announcement> {
        let taken = match self.next() {
            Some(next) if next <= now => self.take_due(now),
            _ => Vec::new(),
        };
        self.next = Some(self.next());
        taken
    }

    fn take_due(&mut self, now: Time) -> Vec<Announcement> {
        self.next = None;
        if now - self.burst.0 >= BURST_TIME {
            self.burst = (now, 0);
        }
        let mut taken = Vec::new();
        let planned = self.entries.iter().filter(|(_, entry)| entry.left > 0 && entry.due <= now);
        let mut planned: Vec<_> =
            planned.map(|(key, entry)| (!entry.first, entry.brief, entry.due, key.2, *key)).collect();
        planned.sort_unstable();
        for (.., key) in planned {
            self.send(key, now, &mut taken);
        }
        self.retain(|_, entry| !entry.brief || entry.left > 0);
        // A port that is in use again at once must not exceed the rate.
        self.ports.retain(|_, port| !port.is_unused() || port.is_recent(now));
        for ifindex in self.silent(now) {
            let is_free = |key: &Key| {
                let port = self.ports.get(&ifindex);
                port.and_then(|port| port.free_at(&self.pace(key.0), family(key.2)))
                    .is_none_or(|free| free <= now)
            };
            let of_port = self
                .entries
                .iter()
                .filter(|(_, entry)| entry.announcement.ifindex == ifindex && entry.detection.is_none());
            let next = of_port
                .filter(|(key, _)| is_free(key))
                .min_by_key(|(key, entry)| (entry.sent, key.2))
                .map(|(key, _)| *key);
            if let Some(key) = next {
                self.send(key, now, &mut taken);
            }
        }
        taken
    }

    /// Ports whose next refresh is due.
    fn silent(&self, now: Time) -> Vec<u32> {
        let groups: HashMap<u32, u32> = self
            .entries
            .values()
            .map(|entry| (entry.announcement.ifindex, entry.announcement.group))
            .collect();
        let due = |(ifindex, group): (u32, u32)| {
            let port = self.ports.get(&ifindex)?;
            (port.refresh_at(&self.pace(group)) <= now).then_some(ifindex)
        };
        groups.into_iter().filter_map(due).collect()
    }

    /// Takes an announcement, unless that would exceed a limit.
    fn send(&mut self, key: Key, now: Time, taken: &mut Vec<Announcement>) {
        let pace = self.pace(key.0);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(port) = self.ports.get_mut(&entry.announcement.ifindex) else { return };
        let family = family(key.2);
        if self.burst.1 >= BURST || port.free_at(&pace, family).is_some_and(|free| free > now) {
            return;
        }
        self.burst.1 += 1;
        port.record(&pace, family, now);
        if let Some(detection) = &mut entry.detection
            && let Some(left) = detection.probes.checked_sub(1)
        {
            detection.probes = left;
            entry.due = now + if left > 0 { PROBE_SPACING } else { ANNOUNCE_WAIT };
            taken.push(Announcement { probe: true, ..entry.announcement });
            return;
        }
        entry.detection = None;
        if entry.left > 0 && entry.due <= now {
            entry.left -= 1;
            entry.due = now + SPACING;
        }
        entry.first = false;
        entry.sent = Some(now);
        taken.push(entry.announcement);
    }

    /// When [`take`](Self::take) has something to give next.
    pub fn next(&self) -> Option<Time> {
        self.next.unwrap_or_else(|| self.next_due())
    }

    fn next_due(&self) -> Option<Time> {
        let due = |entry: &Entry| {
            let Announcement { group, address, ifindex, .. } = entry.announcement;
            let (pace, port) = (self.pace(group), self.ports.get(&ifindex)?);
            let refresh = port.refresh_at(&pace);
            let due = match entry.detection {
                Some(_) => entry.due,
                None if entry.left > 0 => entry.due.min(refresh),
                None => refresh,
            };
            Some(port.free_at(&pace, family(address)).map_or(due, |free| due.max(free)))
        };
        let next = self.entries.values().filter_map(due).min()?;
        Some(if self.burst.1 >= BURST { next.max(self.burst.0 + BURST_TIME) } else { next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time(Duration::from_secs(1000) + Duration::from_millis(milliseconds))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 178, last])
    }

    fn announcement(address: IpAddr, ifindex: u32) -> Announcement {
        Announcement {
            group: 1,
            vlan: None,
            address,
            ifindex,
            mac: [2, 0, 0, 0, 0, ifindex as u8],
            router: false,
            probe: false,
        }
    }

    /// Lets the schedule run until `end`, and says when it sent what.
    fn run(schedule: &mut Schedule, end: Time) -> Vec<(Time, Announcement)> {
        let mut sent = Vec::new();
        while let Some(next) = schedule.next().filter(|next| *next <= end) {
            let taken = schedule.take(next);
            assert!(!taken.is_empty(), "woken at {next:?} for nothing");
            sent.extend(taken.into_iter().map(|one| (next, one)));
        }
        sent
    }

    fn times(sent: &[(Time, Announcement)]) -> Vec<u128> {
        sent.iter().map(|(time, _)| (*time - at(0)).as_millis()).collect()
    }

    #[test]
    fn arp_probes_share_the_rate_with_announcements() {
        let mut schedule = Schedule::default();
        assert!(
            (0..50).all(|round| schedule.count_arp(1, 3, false, at(20 * round))),
            "rounds are never held back"
        );
        let extra =
            |schedule: &mut Schedule| (0..20).filter(|_| schedule.count_arp(1, 3, true, at(990))).count();
        assert_eq!(extra(&mut schedule), FEW / 2, "rounds leave half of it");
        schedule.announce(announcement(address(200), 3), at(990));
        assert_eq!(times(&run(&mut schedule, at(1999))), [1000], "when the first round was a second ago");
        let mut schedule = Schedule::default();
        (0..8).for_each(|last| schedule.announce(announcement(address(last), 3), at(0)));
        assert_eq!(run(&mut schedule, at(0)).len(), 8);
        assert_eq!((0..5).filter(|_| schedule.count_arp(1, 3, true, at(1))).count(), 2);
        assert_eq!((0..5).filter(|_| schedule.count_arp(1, 4, true, at(1))).count(), 5, "another member");
    }

    #[test]
    fn as_the_reference_spaces_them() {
        let mut schedule = Schedule::default();
        schedule.announce(announcement(address(200), 3), at(0));
        assert_eq!(times(&run(&mut schedule, at(12_999))), [0, 2000, 4000, 6000, 8000]);
        let mut schedule = Schedule::default();
        schedule.announce(announcement("2001:db8::1".parse().unwrap(), 3), at(0));
        assert_eq!(times(&run(&mut schedule, at(8999))), [0, 2000, 4000]);
    }

    #[test]
    fn an_address_that_moves_is_announced_by_its_new_member_alone() {
        let mut schedule = Schedule::default();
        schedule.announce(announcement(address(200), 3), at(0));
        run(&mut schedule, at(3000));
        schedule.announce(announcement(address(200), 4), at(3000));
        let sent = run(&mut schedule, at(15_999));
        assert_eq!(times(&sent), [3000, 5000, 7000, 9000, 11_000]);
        assert!(sent.iter().all(|(_, one)| one.ifindex == 4));
    }

    #[test]
    fn an_address_that_goes_is_silent() {
        for stop in [
            |schedule: &mut Schedule| schedule.stop(1, address(200)),
            |schedule: &mut Schedule| schedule.stop_group(1),
            |schedule: &mut Schedule| schedule.stop_member(3),
        ] {
            let mut schedule = Schedule::default();
            schedule.announce(announcement(address(200), 3), at(0));
            run(&mut schedule, at(1000));
            stop(&mut schedule);
            assert_eq!(schedule.next(), None);
            assert_eq!(schedule.take(at(100_000)), []);
        }
    }

    #[test]
    fn many_addresses_are_paced_and_each_comes_first_within_milliseconds() {
        let mut schedule = Schedule::default();
        for last in 0..=255 {
            schedule.announce(announcement(address(last), 3), at(0));
        }
        let sent = run(&mut schedule, at(100));
        assert_eq!(sent.len(), 256);
        assert_eq!(sent.last().unwrap().0, at(7));
        for window in 0..8 {
            assert_eq!(sent.iter().filter(|(time, _)| *time == at(window)).count(), BURST);
        }
    }

    #[test]
    fn what_may_soon_be_elsewhere_is_announced_last_and_then_no_more() {
        let mut schedule = Schedule::default();
        schedule.announce_briefly(announcement(address(100), 3), at(0));
        for last in 200..=232 {
            schedule.announce(announcement(address(last), 3), at(0));
        }
        assert_eq!(schedule.take(at(0)).len(), BURST);
        let last: Vec<_> = schedule.take(at(1)).iter().map(|one| one.address).collect();
        assert_eq!(last, [address(232), address(100)]);
        let sent = run(&mut schedule, at(60_000));
        assert_eq!(sent.iter().filter(|(_, one)| one.address == address(100)).count(), 4);
        schedule.stop_group(1);
        // Alone it lets its member stop: this host does not know which member has the address a minute later.
        schedule.announce_briefly(announcement(address(100), 3), at(100_000));
        assert_eq!(times(&run(&mut schedule, at(300_000))), [100_000, 102_000, 104_000, 106_000, 108_000]);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn what_is_elsewhere_now_is_silent() {
        let mut schedule = Schedule::default();
        schedule.announce(announcement(address(200), 3), at(0));
        for last in [100, 101] {
            schedule.announce_briefly(announcement(address(last), 3), at(0));
        }
        run(&mut schedule, at(0));
        schedule.keep_brief(1, |known| known == address(101));
        let sent = run(&mut schedule, at(9000));
        assert!(sent.iter().all(|(_, one)| one.address != address(100)));
        assert_eq!(sent.iter().filter(|(_, one)| one.address == address(101)).count(), 4);
        assert_eq!(sent.iter().filter(|(_, one)| one.address == address(200)).count(), 4);
    }

    #[test]
    fn an_address_in_a_vlan_is_another_than_the_same_without() {
        let mut schedule = Schedule::default();
        schedule.announce(announcement(address(200), 3), at(0));
        schedule.announce(Announcement { vlan: Some(20), ..announcement(address(200), 4) }, at(0));
        assert_eq!(schedule.take(at(0)).len(), 2);
        schedule.stop_in_vlan(1, 20, address(200));
        assert!(run(&mut schedule, at(3000)).iter().all(|(_, one)| one.vlan.is_none()));
        schedule.announce(Announcement { vlan: Some(20), ..announcement(address(200), 4) }, at(3000));
        schedule.stop_following(1);
        assert!(run(&mut schedule, at(6000)).iter().any(|(_, one)| one.vlan.is_some()));
    }

    #[test]
    fn a_first_announcement_does_not_wait_for_repeats() {
        let mut schedule = Schedule::default();
        for last in 0..100 {
            schedule.announce(announcement(address(last), 3), at(0));
        }
        run(&mut schedule, at(1000));
        schedule.announce(announcement(address(200), 4), at(2010));
        assert_eq!(schedule.take(at(2010))[0].address, address(200));
    }

    #[test]
    fn every_address_has_its_turn_and_no_member_is_silent_for_a_third_of_15_s() {
        let mut schedule = Schedule::default();
        for last in 200..203 {
            schedule.announce(announcement(address(last), 3), at(0));
        }
        schedule.announce(announcement(address(100), 4), at(0));
        run(&mut schedule, at(30_000));
        let sent = run(&mut schedule, at(60_000));
        let of = |ifindex: u32| sent.iter().filter(move |(_, one)| one.ifindex == ifindex).copied();
        assert_eq!(times(&of(3).collect::<Vec<_>>()), [33_000, 38_000, 43_000, 48_000, 53_000, 58_000]);
        assert_eq!(of(4).count(), 6);
        for last in 200..203 {
            assert_eq!(of(3).filter(|(_, one)| one.address == address(last)).count(), 2, "{last}");
        }
    }

    #[test]
    fn many_addresses_of_one_member_are_all_announced_within_a_minute() {
        let mut schedule = Schedule::default();
        for last in 0..=255 {
            schedule.announce(announcement(address(last), 3), at(0));
        }
        run(&mut schedule, at(10_000));
        let sent = run(&mut schedule, at(70_500));
        for last in 0..=255 {
            assert!(sent.iter().any(|(_, one)| one.address == address(last)), "{last}");
        }
        assert!(sent.len() < 300, "{}", sent.len());
    }

    #[test]
    fn pace_of_a_group_sets_rate_count_and_interval() {
        let pace =
            Pace { rate: Some(2), count: Some(1), interval: Duration::from_secs(30), ..Pace::default() };
        let mut schedule = Schedule::default();
        schedule.set_pace(1, pace);
        for last in 0..5 {
            schedule.announce(announcement(address(last), 3), at(0));
        }
        // The other family and the other member have limits of their own.
        schedule.announce(announcement("2001:db8::1".parse().unwrap(), 3), at(0));
        schedule.announce(announcement(address(9), 4), at(0));
        assert_eq!(times(&run(&mut schedule, at(9000))), [0, 0, 0, 0, 1000, 1000, 2000]);
        let sent = run(&mut schedule, at(31_000));
        assert_eq!(
            times(&sent),
            [12_000, 22_000, 30_000],
            "in turn within a minute, and after 30 s of silence"
        );
        schedule.stop_group(1);
        assert_eq!(schedule.pace(1), Pace::default());
    }

    #[test]
    fn few_addresses_stay_within_the_limit_of_arp_inspection() {
        let mut schedule = Schedule::default();
        for last in 0..10 {
            schedule.announce(announcement(address(last), 3), at(0));
        }
        run(&mut schedule, at(100));
        // Another member fails, and its addresses move here and away again.
        schedule.announce_again(1, at(200));
        let mut sent = run(&mut schedule, at(700));
        schedule.stop_member(3);
        schedule.announce(announcement(address(0), 3), at(800));
        sent.extend(run(&mut schedule, at(60_000)));
        for (start, _) in &sent {
            let within = sent.iter().filter(|(time, _)| time >= start && *time - *start < RATE_TIME).count();
            assert!(within <= FEW, "{within} in the second after {start:?}");
        }
    }

    #[test]
    fn new_address_is_announced_first_after_probes_without_conflict() {
        let new = |address| Announcement { probe: true, ..announcement(address, 3) };
        let detecting = Pace { detect: true, ..Pace::default() };
        let mut schedule = Schedule::default();
        schedule.set_pace(1, detecting);
        schedule.announce(new(address(200)), at(0));
        schedule.announce(announcement(address(201), 3), at(0));
        let sent = run(&mut schedule, at(8000));
        let of_new: Vec<_> = sent.iter().filter(|(_, one)| one.address == address(200)).copied().collect();
        assert_eq!(times(&of_new), [0, 1000, 2000, 4000, 6000, 8000]);
        let probes: Vec<bool> = of_new.iter().map(|(_, one)| one.probe).collect();
        assert_eq!(probes, [true, true, true, false, false, false]);
        assert!(!schedule.is_detecting(1, None, address(200)));
        // It moves: no detection.
        schedule.announce(announcement(address(200), 4), at(9000));
        assert!(schedule.take(at(9000)).iter().all(|one| !one.probe));

        schedule.announce(new(address(202)), at(9000));
        assert!(schedule.take(at(9000)).iter().any(|one| one.probe));
        schedule.announce(announcement(address(202), 4), at(9100));
        assert!(schedule.take(at(9100)).iter().all(|one| !one.probe), "a failover does not wait");

        schedule.set_pace(1, Pace::default());
        schedule.announce(new(address(203)), at(10_000));
        assert!(schedule.take(at(10_000)).iter().all(|one| !one.probe));
    }

    #[test]
    fn address_of_another_host_is_not_announced_until_it_is_free() {
        let mut schedule = Schedule::default();
        schedule.set_pace(1, Pace { detect: true, ..Pace::default() });
        schedule.announce(Announcement { probe: true, ..announcement(address(200), 3) }, at(0));
        run(&mut schedule, at(1500));
        assert!(schedule.conflict(1, None, address(200), at(1500)));
        assert!(!schedule.conflict(1, None, address(200), at(1500)), "once");
        assert!(schedule.has_conflict(1, address(200)));
        // Its member fails: the other one does not announce it either.
        schedule.announce(announcement(address(200), 4), at(2000));
        assert!(schedule.take(at(2000))[0].probe);
        schedule.conflict(1, None, address(200), at(2010));
        schedule.announce_again(1, at(3000));
        assert_eq!(schedule.next(), Some(at(12_010)));
        let sent = run(&mut schedule, at(16_500));
        assert_eq!(times(&sent), [12_010, 13_010, 14_010, 16_010]);
        assert!(!sent[3].1.probe && !schedule.has_conflict(1, address(200)));
        assert!(!schedule.conflict(1, None, address(200), at(17_000)), "it is announced, and defended");
        schedule.defend(1, None, address(200), at(17_000));
        assert_eq!(schedule.take(at(17_000)).len(), 1);
    }

    #[test]
    fn corrections_follow_an_announcement_and_leave_room_for_others() {
        let mut schedule = Schedule::default();
        for last in 200..209 {
            schedule.announce(announcement(address(last), 3), at(0));
        }
        let announced = |schedule: &Schedule, time| schedule.announced(1, None, address(200), time).copied();
        assert_eq!(announced(&schedule, at(0)), None, "not announced yet");
        schedule.take(at(0));
        assert_eq!(announced(&schedule, at(119_999)), Some(announcement(address(200), 3)));
        assert_eq!(announced(&schedule, at(120_000)), None);
        let one = announcement(address(200), 3);
        let sent: Vec<bool> =
            [0, 1, 1000, 1001, 1002, 1003].map(|time| schedule.correct(&one, at(time))).into();
        // Ten frames in a second, three of them corrections.
        assert_eq!(sent, [true, false, true, true, true, false]);
        assert!(schedule.correct(&announcement("2001:db8::1".parse().unwrap(), 3), at(2001)));
    }

    #[test]
    fn addresses_are_announced_again_after_those_that_moved() {
        let mut schedule = Schedule::default();
        for last in 200..203 {
            schedule.announce(announcement(address(last), 3), at(0));
        }
        run(&mut schedule, at(20_000));
        schedule.announce(announcement(address(202), 4), at(21_000));
        schedule.announce_again(1, at(21_000));
        let addresses: Vec<_> = schedule.take(at(21_000)).iter().map(|one| one.address).collect();
        assert_eq!(addresses, [address(202), address(200), address(201)]);
        let sent = run(&mut schedule, at(29_500));
        for last in 200..203 {
            assert_eq!(sent.iter().filter(|(_, one)| one.address == address(last)).count(), 4, "{last}");
        }
    }
}
