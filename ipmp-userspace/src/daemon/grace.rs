//! How long a new member may be without a test address before that is worth a line (reference.md 5.3).

use std::{collections::BTreeMap, time::Duration};

use crate::core::Time;

/// From joining to the line.
pub const GRACE: Duration = Duration::from_secs(20);

/// Members whose grace has not ended.
#[derive(Clone, Debug, Default)]
pub struct Grace(BTreeMap<u8, Time>);

impl Grace {
    /// A member has joined.
    pub fn begin(&mut self, member: u8, now: Time) {
        self.0.insert(member, now + GRACE);
    }

    /// A member has left.
    pub fn forget(&mut self, member: u8) {
        self.0.remove(&member);
    }

    /// When the next grace ends.
    pub fn next(&self) -> Option<Time> {
        self.0.values().min().copied()
    }

    /// The members whose grace has ended; each is told once.
    pub fn take(&mut self, now: Time) -> Vec<u8> {
        let over: Vec<u8> =
            self.0.iter().filter(|(_, end)| **end <= now).map(|(member, _)| *member).collect();
        over.iter().for_each(|member| self.forget(*member));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_once_after_twenty_seconds() {
        let at = |seconds| Time(Duration::from_secs(seconds));
        let mut grace = Grace::default();
        assert_eq!(grace.next(), None);
        grace.begin(1, at(105));
        grace.begin(0, at(100));
        grace.begin(2, at(100));
        grace.forget(2);
        assert_eq!((grace.next(), grace.take(at(119))), (Some(at(120)), vec![]));
        assert_eq!((grace.take(at(120)), grace.next()), (vec![0], Some(at(125))));
        assert_eq!((grace.take(at(130)), grace.take(at(130)), grace.next()), (vec![1], vec![], None));
    }
}
