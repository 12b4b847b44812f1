//! Trusting links where the sentinel cannot run: the rule of [`ipmp_common::maps::Watch`], applied by the daemon from
//! netlink. A member leaves `live` at once, and returns when its link has been good for the delay.

use std::{collections::BTreeMap, time::Duration};

use ipmp_common::steer::MemberSet;

use crate::{core::Time, types::LinkState};

/// The links of a group's members, and since when they are good.
#[derive(Clone, Debug, Default)]
pub struct Updelay {
    good_since: BTreeMap<u8, Time>,
    /// Members that were found trusted.
    trusted: MemberSet,
}

impl Updelay {
    /// Netlink reports a member's link.
    pub fn set_link(&mut self, member: u8, link: LinkState, now: Time) {
        match link {
            LinkState::Down => self.forget(member),
            LinkState::Up | LinkState::Unknown => drop(self.good_since.entry(member).or_insert(now)),
        }
    }

    /// A member was trusted by an earlier daemon, and its link is good.
    pub fn trust(&mut self, member: u8) {
        self.good_since.insert(member, Time::default());
    }

    /// A member has left.
    pub fn forget(&mut self, member: u8) {
        self.good_since.remove(&member);
        self.trusted = self.trusted.without(member);
    }

    /// The members that are trusted now.
    pub fn live(&mut self, now: Time, delay: Duration) -> MemberSet {
        let good = self.good_since.iter().filter(|(_, since)| now >= **since + delay);
        self.trusted = good.map(|(member, _)| *member).collect();
        self.trusted
    }

    /// When another member will be, if no link changes. A moment that has passed counts until somebody has looked.
    pub fn next(&self, delay: Duration) -> Option<Time> {
        let waiting = self.good_since.iter().filter(|(member, _)| !self.trusted.has(**member));
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
    fn leaving_is_at_once_and_returning_takes_the_delay() {
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
    fn a_report_that_is_no_news_does_not_start_the_delay_anew() {
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

    /// Who wakes up for a moment wakes up after it.
    #[test]
    fn what_was_due_is_due_until_somebody_looks() {
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
    fn who_was_trusted_before_need_not_wait_again() {
        let mut links = Updelay::default();
        links.trust(3);
        links.set_link(3, LinkState::Up, at(0));
        assert_eq!(links.live(at(0), DELAY), MemberSet::of(3));
        links.set_link(3, LinkState::Down, at(1));
        assert_eq!(links.live(at(1), DELAY), MemberSet::EMPTY);
    }
}
