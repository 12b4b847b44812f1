//! When an address is announced: the first time at once, then as the reference spaces it (docs/reference.md 4.4), and ever
//! after often enough that switches do not forget the member.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use super::Announcement;
use crate::core::Time;

/// Announcements of an IPv4 address: five ARP requests.
const TIMES_V4: u8 = 5;
/// Announcements of an IPv6 address: three advertisements (`MAX_NEIGHBOR_ADVERTISEMENT` of RFC 4861).
const TIMES_V6: u8 = 3;
/// Between two announcements of an address.
const SPACING: Duration = Duration::from_secs(2);
/// Most frames in one [`PACE`]. A group of 256 addresses has announced each of them after 8 ms.
const BURST: usize = 32;
/// What [`BURST`] is counted in.
const PACE: Duration = Duration::from_millis(1);
/// A member that answers for addresses is never silent for longer, because switches forget a MAC after minutes (docs/design/group-interface.md).
const REFRESH: Duration = Duration::from_secs(60);

/// The addresses to announce, and when. The caller passes the time.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: HashMap<Key, Entry>,
    /// When each member was last made to speak.
    spoke: HashMap<u32, Time>,
    /// Since when frames are counted, and how many there were.
    pace: (Time, usize),
}

/// An address of a group, in one of its VLANs or in none.
type Key = (u32, Option<u16>, IpAddr);

#[derive(Debug)]
struct Entry {
    announcement: Announcement,
    /// Announcements still to come.
    left: u8,
    /// Whether none was made yet.
    first: bool,
    /// Forgotten when it has been announced often enough.
    brief: bool,
    due: Time,
}

impl Schedule {
    /// Announces an address from now on; what was planned for it under another member is forgotten.
    pub fn announce(&mut self, announcement: Announcement, now: Time) {
        self.insert(announcement, false, now);
    }

    /// Announces an address that may soon be elsewhere: as often as any other, and then no more. After those that stay.
    pub fn announce_briefly(&mut self, announcement: Announcement, now: Time) {
        self.insert(announcement, true, now);
    }

    fn insert(&mut self, announcement: Announcement, brief: bool, now: Time) {
        let left = if announcement.address.is_ipv4() { TIMES_V4 } else { TIMES_V6 };
        let entry = Entry { announcement, left, first: true, brief, due: now };
        self.entries.insert((announcement.group, announcement.vlan, announcement.address), entry);
        self.spoke.entry(announcement.ifindex).or_insert(now);
    }

    /// Stops announcing the addresses of a group that [`announce_briefly`](Self::announce_briefly) has started, except
    /// those for which `keep` is true.
    pub fn keep_brief(&mut self, group: u32, keep: impl Fn(IpAddr) -> bool) {
        self.entries.retain(|(of, _, address), entry| *of != group || !entry.brief || keep(*address));
        self.forget_silent();
    }

    /// Stops announcing what follows the cast member of a group: what is brief, and what is in its VLANs.
    pub fn stop_following(&mut self, group: u32) {
        self.entries.retain(|(of, vlan, _), entry| *of != group || !entry.brief && vlan.is_none());
        self.forget_silent();
    }

    /// Stops announcing an address in a VLAN.
    pub fn stop_in_vlan(&mut self, group: u32, vlan: u16, address: IpAddr) {
        self.entries.remove(&(group, Some(vlan), address));
        self.forget_silent();
    }

    /// Stops announcing an address.
    pub fn stop(&mut self, group: u32, address: IpAddr) {
        self.entries.remove(&(group, None, address));
        self.forget_silent();
    }

    /// Stops announcing anything of a group.
    pub fn stop_group(&mut self, group: u32) {
        self.entries.retain(|(of, ..), _| *of != group);
        self.forget_silent();
    }

    /// Stops announcing anything through a member's interface.
    pub fn stop_member(&mut self, ifindex: u32) {
        self.entries.retain(|_, entry| entry.announcement.ifindex != ifindex);
        self.forget_silent();
    }

    fn forget_silent(&mut self) {
        let entries = &self.entries;
        self.spoke.retain(|ifindex, _| entries.values().any(|entry| entry.announcement.ifindex == *ifindex));
    }

    /// What is to be sent now, first announcements before repeats; each is counted as sent.
    pub fn take(&mut self, now: Time) -> Vec<Announcement> {
        if now - self.pace.0 >= PACE {
            self.pace = (now, 0);
        }
        let mut due: Vec<_> =
            self.entries.values_mut().filter(|entry| entry.left > 0 && entry.due <= now).collect();
        due.sort_by_key(|entry| (!entry.first, entry.brief, entry.due, entry.announcement.address));
        let mut taken = Vec::new();
        for entry in due.into_iter().take(BURST - self.pace.1) {
            entry.left -= 1;
            entry.first = false;
            entry.due = now + SPACING;
            taken.push(entry.announcement);
            self.spoke.insert(entry.announcement.ifindex, now);
        }
        self.pace.1 += taken.len();
        self.entries.retain(|_, entry| !entry.brief || entry.left > 0);
        self.forget_silent();
        // Members that have been silent for long: any of their addresses will do.
        for (&ifindex, spoke) in &mut self.spoke {
            let of_member = self.entries.values().filter(|entry| entry.announcement.ifindex == ifindex);
            if now - *spoke >= REFRESH
                && self.pace.1 < BURST
                && let Some(entry) = of_member.min_by_key(|entry| entry.announcement.address)
            {
                taken.push(entry.announcement);
                self.pace.1 += 1;
                *spoke = now;
            }
        }
        taken
    }

    /// When [`take`](Self::take) has something to give next.
    pub fn next(&self) -> Option<Time> {
        let planned = self.entries.values().filter(|entry| entry.left > 0).map(|entry| entry.due).min();
        let silent = self.spoke.values().map(|spoke| *spoke + REFRESH).min();
        let next = [planned, silent].into_iter().flatten().min()?;
        Some(if self.pace.1 >= BURST { next.max(self.pace.0 + PACE) } else { next })
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
    fn as_the_reference_spaces_them() {
        let mut schedule = Schedule::default();
        schedule.announce(announcement(address(200), 3), at(0));
        assert_eq!(times(&run(&mut schedule, at(30_000))), [0, 2000, 4000, 6000, 8000]);
        let mut schedule = Schedule::default();
        schedule.announce(announcement("2001:db8::1".parse().unwrap(), 3), at(0));
        assert_eq!(times(&run(&mut schedule, at(30_000))), [0, 2000, 4000]);
    }

    #[test]
    fn an_address_that_moves_is_announced_by_its_new_member_alone() {
        let mut schedule = Schedule::default();
        schedule.announce(announcement(address(200), 3), at(0));
        run(&mut schedule, at(3000));
        schedule.announce(announcement(address(200), 4), at(3000));
        let sent = run(&mut schedule, at(30_000));
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
        let sent = run(&mut schedule, at(1999));
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
        let sent = run(&mut schedule, at(30_000));
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
        assert!(run(&mut schedule, at(6000)).iter().all(|(_, one)| one.vlan.is_none()));
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
    fn a_member_that_answers_for_addresses_is_never_silent_for_more_than_a_minute() {
        let mut schedule = Schedule::default();
        schedule.announce(announcement(address(200), 3), at(0));
        schedule.announce(announcement(address(201), 3), at(0));
        run(&mut schedule, at(30_000));
        let sent = run(&mut schedule, at(200_000));
        assert_eq!(times(&sent), [68_000, 128_000, 188_000]);
    }
}
