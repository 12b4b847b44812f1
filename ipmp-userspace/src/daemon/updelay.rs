//! Trusting links where the sentinel cannot run: the rule of [`ipmp_common::maps::Watch`], applied by the daemon from
//! netlink. A member leaves `live` at once, and returns when its link has been good for the delay.

use std::{collections::BTreeMap, time::Duration};

use ipmp_common::steer::MemberSet;

use crate::core::{Link, Time};

/// The links of a group's members, and since when they are good.
#[derive(Clone, Debug, Default)]
pub struct Updelay {
    good_since: BTreeMap<u8, Time>,
}

impl Updelay {
    /// Netlink reports a member's link.
    pub fn set_link(&mut self, member: u8, link: Link, now: Time) {
        match link {
            Link::Down => drop(self.good_since.remove(&member)),
            Link::Up | Link::Unknown => drop(self.good_since.entry(member).or_insert(now)),
        }
    }

    /// A member has left.
    pub fn forget(&mut self, member: u8) {
        self.good_since.remove(&member);
    }

    /// The members that are trusted now.
    pub fn live(&self, now: Time, delay: Duration) -> MemberSet {
        let good = self.good_since.iter().filter(|(_, since)| now >= **since + delay);
        good.map(|(member, _)| *member).collect()
    }

    /// When another member will be, if no link changes.
    pub fn next(&self, now: Time, delay: Duration) -> Option<Time> {
        self.good_since.values().map(|since| *since + delay).filter(|due| *due > now).min()
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
        links.set_link(2, Link::Up, at(0));
        assert_eq!(links.live(at(199), DELAY), MemberSet::EMPTY);
        assert_eq!(links.next(at(0), DELAY), Some(at(200)));
        assert_eq!(links.live(at(200), DELAY), MemberSet::of(2));
        assert_eq!(links.next(at(200), DELAY), None);
        links.set_link(2, Link::Down, at(300));
        assert_eq!(links.live(at(300), DELAY), MemberSet::EMPTY);
    }

    #[test]
    fn a_report_that_is_no_news_does_not_start_the_delay_anew() {
        let mut links = Updelay::default();
        links.set_link(2, Link::Up, at(0));
        links.set_link(2, Link::Unknown, at(150));
        assert_eq!(links.live(at(200), DELAY), MemberSet::of(2));
        links.set_link(2, Link::Down, at(210));
        links.set_link(2, Link::Up, at(220));
        assert_eq!(links.live(at(410), DELAY), MemberSet::EMPTY);
        links.forget(2);
        assert_eq!(links.next(at(220), DELAY), None);
    }
}
