//! The MACs of targets, as the kernel's neighbour tables have or had them.
//!
//! A probe that is due does not wait for the kernel: it is sent to the last known MAC, and the kernel resolves the address
//! meanwhile. A MAC is kept when its entry fails: on a dead path probes must be lost, not unsent.
//!
//! A router may change its MAC, for example when another one takes its address. Each interface has its own entry, and the
//! kernel verifies each at another time: the first member that probes the new MAC would prove the others failed. So a new
//! MAC in the entry of any interface of a group, the group interface included, counts for all of them.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use crate::{
    core::{Time, probe::RESOLVE},
    link::Mac,
};

/// How often the kernel verifies that a neighbour is reachable.
pub const REFRESH: Duration = Duration::from_secs(5);
/// The same while it has no valid entry: it sends three requests, one second apart. A neighbour that never answered
/// counts as silent after this time.
pub const RETRY: Duration = RESOLVE;
/// A neighbour that no probe was sent to for so long is removed.
const FORGET: Duration = Duration::from_secs(600);

/// What is known of the neighbours that probes go to, by interface and address.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    known: HashMap<(u32, IpAddr), Known>,
    /// The MACs in the kernel's entries, of addresses that a member of the same group probes.
    entries: HashMap<(u32, IpAddr), Mac>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    mac: Option<Mac>,
    /// The kernel has it now.
    valid: bool,
    /// Since when it is wanted.
    since: Time,
    /// When the kernel was last made to resolve it.
    asked: Time,
    /// When it was wanted last.
    wanted: Time,
}

/// A neighbour that a probe is to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its MAC now, or when it was known last.
    Mac(Mac),
    /// The kernel resolves it now.
    Sought,
    /// No host answers for this address.
    Silent,
}

impl Neighbours {
    /// What is known of a neighbour, and whether the kernel is to resolve it now.
    pub fn want(&mut self, ifindex: u32, address: IpAddr, now: Time) -> (Found, bool) {
        let key = (ifindex, address);
        let Some(known) = self.known.get_mut(&key) else {
            self.known.retain(|_, known| now - known.wanted < FORGET);
            self.entries.retain(|(_, address), _| self.known.keys().any(|(_, known)| known == address));
            self.known.insert(key, Known { mac: None, valid: false, since: now, asked: now, wanted: now });
            return (Found::Sought, true);
        };
        known.wanted = now;
        let ask = now - known.asked >= if known.valid { REFRESH } else { RETRY };
        if ask {
            known.asked = now;
        }
        let found = match known.mac {
            Some(mac) => Found::Mac(mac),
            None if now - known.since < RETRY => Found::Sought,
            None => Found::Silent,
        };
        (found, ask)
    }

    /// The kernel has this MAC for a neighbour on an interface now, or none any more; `confirmed`: the neighbour has answered
    /// just now. `group`: all interfaces of the same group. A neighbour without probes is not kept. Returns whether the MAC is
    /// a new one, which counts for the whole group.
    pub fn learn(
        &mut self,
        group: &[u32],
        ifindex: u32,
        address: IpAddr,
        mac: Option<Mac>,
        confirmed: bool,
    ) -> bool {
        if !group.iter().any(|member| self.known.contains_key(&(*member, address))) {
            return false;
        }
        let key = (ifindex, address);
        let before = match mac {
            Some(mac) => self.entries.insert(key, mac),
            None => self.entries.remove(&key),
        };
        let is_new = match (mac, before) {
            // An entry that merely expires or is verified still has the MAC that it had.
            (Some(mac), Some(before)) => mac != before,
            (Some(_), None) => confirmed,
            (None, _) => false,
        };
        if let Some(known) = self.known.get_mut(&key) {
            known.valid = mac.is_some();
            known.mac = known.mac.or(mac);
        }
        if is_new {
            for member in group {
                if let Some(known) = self.known.get_mut(&(*member, address)) {
                    known.mac = mac;
                }
            }
        }
        is_new
    }

    /// The MAC of a neighbour that is probed, now or when it was known last.
    pub fn mac(&self, ifindex: u32, address: IpAddr) -> Option<Mac> {
        self.known.get(&(ifindex, address))?.mac
    }

    /// The interface is a member no more.
    pub fn forget(&mut self, ifindex: u32) {
        self.known.retain(|(index, _), _| *index != ifindex);
        self.entries.retain(|(index, _), _| *index != ifindex);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    fn at(ms: u64) -> Time {
        Time(Duration::from_secs(1000) + Duration::from_millis(ms))
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 178, last])
    }

    #[test]
    fn kernel_resolves_at_once_then_every_second_and_less_often_when_valid() {
        let mut neighbours = Neighbours::default();
        assert_eq!(neighbours.want(3, ip(1), at(0)), (Found::Sought, true));
        assert_eq!(neighbours.want(3, ip(1), at(999)), (Found::Sought, false));
        assert_eq!(neighbours.want(3, ip(1), at(1000)), (Found::Silent, true));
        neighbours.learn(&[3], 3, ip(1), Some(MAC), true);
        assert_eq!(neighbours.want(3, ip(1), at(5999)), (Found::Mac(MAC), false));
        assert_eq!(neighbours.want(3, ip(1), at(6000)), (Found::Mac(MAC), true));
        assert_eq!(neighbours.want(3, ip(1), at(6001)), (Found::Mac(MAC), false));
    }

    #[test]
    fn a_mac_is_kept_when_its_entry_fails_and_asked_for_more_often() {
        let mut neighbours = Neighbours::default();
        neighbours.want(3, ip(1), at(0));
        neighbours.learn(&[3], 3, ip(1), Some(MAC), true);
        neighbours.learn(&[3], 3, ip(1), None, true);
        assert_eq!(neighbours.want(3, ip(1), at(1000)), (Found::Mac(MAC), true));
        let other = [2, 0, 0, 0, 0, 2];
        neighbours.learn(&[3], 3, ip(1), Some(other), true);
        assert_eq!(neighbours.want(3, ip(1), at(2000)), (Found::Mac(other), false));
    }

    #[test]
    fn new_mac_of_any_interface_counts_for_its_group() {
        const GROUP: [u32; 3] = [2, 3, 4];
        let new = |last: u8| [2, 0, 0, 0, 1, last];
        let mut neighbours = Neighbours::default();
        let macs =
            |neighbours: &mut Neighbours, ms| [3, 4].map(|member| neighbours.want(member, ip(1), at(ms)).0);
        macs(&mut neighbours, 0);
        for ifindex in GROUP {
            neighbours.learn(&GROUP, ifindex, ip(1), Some(MAC), true);
        }
        neighbours.want(9, ip(1), at(0));
        neighbours.learn(&[9], 9, ip(1), Some(MAC), true);
        assert_eq!(macs(&mut neighbours, 100), [Found::Mac(MAC); 2]);
        // Of a member, unconfirmed as by a gratuitous ARP; then of the group interface.
        for (ifindex, mac) in [(4, new(1)), (2, new(2))] {
            assert!(neighbours.learn(&GROUP, ifindex, ip(1), Some(mac), false));
            assert_eq!(macs(&mut neighbours, 200), [Found::Mac(mac); 2]);
            // The entry of the other member has not changed yet, and is no news.
            assert!(!neighbours.learn(&GROUP, 3, ip(1), Some(MAC), false));
            assert_eq!(macs(&mut neighbours, 300), [Found::Mac(mac); 2]);
        }
        // It failed there, and was resolved again.
        assert!(!neighbours.learn(&GROUP, 3, ip(1), None, false));
        assert!(neighbours.learn(&GROUP, 3, ip(1), Some(new(2)), true));
        assert_eq!(macs(&mut neighbours, 400), [Found::Mac(new(2)); 2]);
        assert_eq!(neighbours.want(9, ip(1), at(400)).0, Found::Mac(MAC), "another group");
    }

    #[test]
    fn each_interface_has_neighbours_of_its_own() {
        let mut neighbours = Neighbours::default();
        neighbours.want(3, ip(1), at(0));
        neighbours.learn(&[3], 3, ip(1), Some(MAC), true);
        assert_eq!(neighbours.want(4, ip(1), at(1)), (Found::Sought, true));
        neighbours.forget(3);
        assert_eq!(neighbours.want(3, ip(1), at(2)), (Found::Sought, true));
        assert_eq!(neighbours.want(4, ip(1), at(3)), (Found::Sought, false));
    }

    #[test]
    fn neighbour_without_probes_is_not_kept() {
        let mut neighbours = Neighbours::default();
        neighbours.learn(&[3], 3, ip(9), Some(MAC), true);
        assert_eq!(neighbours.want(3, ip(9), at(0)), (Found::Sought, true));
        neighbours.want(3, ip(8), at(600_000));
        assert_eq!((neighbours.known.len(), neighbours.entries.len()), (1, 0));
    }
}
