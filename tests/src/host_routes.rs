//! Very many routes of a host through the group.

use std::ops::Range;

use crate::network::ROUTER;
use crate::production::GROUP;

/// Commands of `ip` (`add`, `del`) for host routes by number, through the router.
pub fn commands(verb: &str, numbers: Range<usize>) -> Vec<String> {
    let route = |number: usize| {
        let [first, second, third, fourth] = (number as u32 + (10 << 24)).to_be_bytes();
        format!("route {verb} {first}.{second}.{third}.{fourth}/32 via {ROUTER} dev {GROUP}")
    };
    numbers.map(route).collect()
}
