//! Link trust where the sentinel cannot run: the rule of [`ipmp_common::maps::Watch`], applied by the daemon to netlink's
//! reports. A member leaves `live` at once, and returns when its link has been up for the delay.

use std::{collections::BTreeMap, time::Duration};

use ipmp_common::steer::MemberSet;

use crate::{core::Time, daemon::state_file::Updelays, types::LinkState};

/// The links of a group's members, and since when they are up.
#[derive(Clone, Debug, Default)]
pub struct Updelay {
    up_since: BTreeMap<u8, Time>,
    /// Members that [`live`](Self::live) returned last.
    trusted: MemberSet,
}

impl Updelay {
    /// In place of a time: the link of an adopted member, which was trusted before.
    const ADOPTED: Time = Time(Duration::ZERO);

    /// Netlink reports a member's link.
    pub fn set_link(&mut self, member: u8, link: LinkState, now: Time) {
        match link {
            LinkState::Down => self.forget(member),
            LinkState::Up | LinkState::Unknown => drop(self.up_since.entry(member).or_insert(now)),
        }
    }

    /// An adopted member was trusted before, and its link is up.
    pub fn trust(&mut self, member: u8) {
        self.up_since.insert(member, Self::ADOPTED);
    }

    /// A member has left.
    pub fn forget(&mut self, member: u8) {
        self.up_since.remove(&member);
        self.trusted = self.trusted.without(member);
    }

    /// Since when the link of a member has been up.
    pub fn up_since(&self, member: u8) -> Option<Time> {
        self.up_since.get(&member).copied()
    }

    /// The members that are trusted now. As in the sentinel, a member waits for a short time only while no other is trusted.
    pub fn live(&mut self, now: Time, delays: &Updelays) -> MemberSet {
        for (member, since) in &self.up_since {
            let due = Self::due(*member, *since, delays, self.trusted.is_empty());
            if now >= due {
                self.trusted = self.trusted.with(*member);
            }
        }
        self.trusted
    }

    /// When another member will be trusted, if no link changes. A time that has passed counts until [`live`](Self::live) is
    /// called.
    pub fn next(&self, delays: &Updelays) -> Option<Time> {
        let waiting = self.up_since.iter().filter(|(member, _)| !self.trusted.has(**member));
        let due = |(member, since): (&u8, &Time)| Self::due(*member, *since, delays, self.trusted.is_empty());
        waiting.map(due).min()
    }

    fn due(member: u8, since: Time, delays: &Updelays, alone: bool) -> Time {
        if since == Self::ADOPTED { since } else { since + delays.of(member, alone) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The default.
    fn delays() -> Updelays {
        Updelays::default()
    }

    fn at(milliseconds: u64) -> Time {
        Time(Duration::from_millis(10_000 + milliseconds))
    }

    #[test]
    fn link_down_counts_at_once_and_link_up_after_delay() {
        let mut links = Updelay::default();
        links.set_link(2, LinkState::Up, at(0));
        assert_eq!(links.live(at(199), &delays()), MemberSet::EMPTY);
        assert_eq!(links.next(&delays()), Some(at(200)));
        assert_eq!(links.live(at(200), &delays()), MemberSet::of(2));
        assert_eq!(links.next(&delays()), None);
        links.set_link(2, LinkState::Down, at(300));
        assert_eq!(links.live(at(300), &delays()), MemberSet::EMPTY);
    }

    #[test]
    fn repeated_report_does_not_restart_delay() {
        let mut links = Updelay::default();
        links.set_link(2, LinkState::Up, at(0));
        links.set_link(2, LinkState::Unknown, at(150));
        assert_eq!(links.live(at(200), &delays()), MemberSet::of(2));
        links.set_link(2, LinkState::Down, at(210));
        links.set_link(2, LinkState::Up, at(220));
        assert_eq!(links.live(at(410), &delays()), MemberSet::EMPTY);
        links.forget(2);
        assert_eq!(links.next(&delays()), None);
    }

    #[test]
    fn long_delay_counts_only_while_another_member_is_trusted() {
        let second = Duration::from_secs(1);
        let delays = Updelays { group: 30 * second, own: [(2, 2 * second)].into() };
        let mut links = Updelay::default();
        for member in 0..3 {
            links.set_link(member, LinkState::Up, at(0));
        }
        assert_eq!(links.next(&delays), Some(at(200)), "no member is trusted");
        assert_eq!(links.live(at(200), &delays), MemberSet::of(0));
        assert_eq!(links.next(&delays), Some(at(2000)));
        assert_eq!(links.live(at(2000), &delays), MemberSet::of(0).with(2));
        assert_eq!(links.next(&delays), Some(at(30_000)));
        links.forget(0);
        links.forget(2);
        assert_eq!(links.live(at(2001), &delays), MemberSet::of(1), "it is the last one");
    }

    /// The loop wakes up after the deadline.
    #[test]
    fn deadline_stays_due_until_live_is_read() {
        let mut links = Updelay::default();
        links.set_link(0, LinkState::Up, at(0));
        assert_eq!(links.live(at(199), &delays()), MemberSet::EMPTY);
        links.set_link(1, LinkState::Up, at(50));
        assert_eq!(links.next(&delays()), Some(at(200)));
        assert_eq!(links.live(at(203), &delays()), MemberSet::of(0));
        assert_eq!(links.next(&delays()), Some(at(250)));
        assert_eq!(links.live(at(260), &delays()), MemberSet::of(0).with(1));
        links.set_link(0, LinkState::Down, at(300));
        links.set_link(0, LinkState::Up, at(310));
        assert_eq!(links.next(&delays()), Some(at(510)));
    }

    #[test]
    fn adopted_member_stays_trusted_without_delay() {
        let mut links = Updelay::default();
        links.trust(3);
        links.set_link(3, LinkState::Up, at(0));
        assert_eq!(links.live(at(0), &delays()), MemberSet::of(3));
        links.set_link(3, LinkState::Down, at(1));
        assert_eq!(links.live(at(1), &delays()), MemberSet::EMPTY);
    }
}
