//! Searches for hosts: an echo request goes to all hosts of the link; each that returns the cookie is one.

use std::collections::VecDeque;

use ipmp_common::steer::MAX_MEMBERS;

/// The cookies of the last requests of a group: of two by each member in each family.
#[derive(Clone, Debug, Default)]
pub struct Searches(VecDeque<u64>);

impl Searches {
    const LENGTH: usize = 4 * MAX_MEMBERS;

    /// A request to all hosts with this cookie was sent.
    pub fn asked(&mut self, cookie: u64) {
        if self.0.len() == Self::LENGTH {
            self.0.pop_front();
        }
        self.0.push_back(cookie);
    }

    /// Whether this cookie is of one of the last requests.
    pub fn knows(&self, cookie: u64) -> bool {
        self.0.contains(&cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_cookies_are_known_and_older_ones_forgotten() {
        let mut searches = Searches::default();
        assert!(!searches.knows(0));
        (0..65).for_each(|cookie| searches.asked(cookie));
        assert!(!searches.knows(0) && searches.knows(1) && searches.knows(64) && !searches.knows(65));
    }
}
