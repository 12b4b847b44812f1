//! Link trust where the sentinel cannot run: the rule of [`ipmp_common::maps::Watch`], applied by the daemon to netlink's
//! reports. A member leaves `live` at once, and returns when its link has been up for the delay.

use std::{collections::BTreeMap, time::Duration};

use ipmp_common::steer::MemberSet;

use crate::{core::Time, types::LinkState};

/// The links of a group's members, and since when they are up.
#[derive(Clone, Debug, Default)]
pub struct Updelay {
    up_since: BTreeMap<u8, Time>,
    /// Members that [`live`](Self::live) returned last.
    trusted: MemberSet,
}

impl Updelay {
    /// Netlink reports a member's link.
    pub fn set_link(&mut self, member: u8, link: LinkState, now: Time) {
        match link {
            LinkState::Down => self.forget(member),
            LinkState::Up | LinkState::Unknown => drop(self.up_since.entry(member).or_insert(now)),
        }
    }

    /// An adopted member was trusted before, and its link is up.
    pub fn trust(&mut self, member: u8) {
        self.up_since.insert(member, Time::default());
    }

    /// A member has left.
    pub fn forget(&mut self, member: u8) {
        self.up_since.remove(&member);
        self.trusted = self.trusted.without(member);
    }

    /// The members that are trusted now.
    pub fn live(&mut self, now: Time, delay: Duration) -> MemberSet {
        let up = self.up_since.iter().filter(|(_, since)| now >= **since + delay);
        self.trusted = up.map(|(member, _)| *member).collect();
        self.trusted
    }

    /// When another member will be trusted, if no link changes. A time that has passed counts until [`live`](Self::live) is
    /// called.
    pub fn next(&self, delay: Duration) -> Option<Time> {
        let waiting = self.up_since.iter().filter(|(member, _)| !self.trusted.has(**member));
        waiting.map(|(_, since)| *since + delay).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(200);

    fn at(milliseconds: u64) -> Time {
        Time(Duration::from_millis(10_000 + milliseconds))
    }

    #[test]
    fn link_down_counts_at_once_and_link_up_after_delay() {
        let mut links = Updelay::default();
        links.set_link(2, LinkState::Up, at(0));
        assert_eq!(links.live(at(199), DELAY), MemberSet::EMPTY);
        assert_eq!(links.next(DELAY), Some(at(200)));
        assert_eq!(links.live(at(200), DELAY), MemberSet::of(2));
        assert_eq!(links.next(DELAY), None);
        links.set_link(2, LinkState::Down, at(300));
        assert_eq!(links.live(at(300), DELAY), MemberSet::EMPTY);
    }

    #[test]
    fn repeated_report_does_not_restart_delay() {
        let mut links = Updelay::default();
        links.set_link(2, LinkState::Up, at(0));
        links.set_link(2, LinkState::Unknown, at(150));
        assert_eq!(links.live(at(200), DELAY), MemberSet::of(2));
        links.set_link(2, LinkState::Down, at(210));
        links.set_link(2, LinkState::Up, at(220));
        assert_eq!(links.live(at(410), DELAY), MemberSet::EMPTY);
        links.forget(2);
        assert_eq!(links.next(DELAY), None);
    }

    /// The loop wakes up after the deadline.
    #[test]
    fn deadline_stays_due_until_live_is_read() {
        let mut links = Updelay::default();
        links.set_link(0, LinkState::Up, at(0));
        assert_eq!(links.live(at(199), DELAY), MemberSet::EMPTY);
        links.set_link(1, LinkState::Up, at(50));
        assert_eq!(links.next(DELAY), Some(at(200)));
        assert_eq!(links.live(at(203), DELAY), MemberSet::of(0));
        assert_eq!(links.next(DELAY), Some(at(250)));
        assert_eq!(links.live(at(260), DELAY), MemberSet::of(0).with(1));
        links.set_link(0, LinkState::Down, at(300));
        links.set_link(0, LinkState::Up, at(310));
        assert_eq!(links.next(DELAY), Some(at(510)));
    }

    #[test]
    fn adopted_member_stays_trusted_without_delay() {
        let mut links = Updelay::default();
        links.trust(3);
        links.set_link(3, LinkState::Up, at(0));
        assert_eq!(links.live(at(0), DELAY), MemberSet::of(3));
        links.set_link(3, LinkState::Down, at(1));
        assert_eq!(links.live(at(1), DELAY), MemberSet::EMPTY);
    }
}
