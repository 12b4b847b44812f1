//! The MACs of targets, as the kernel's neighbour tables have had them.
//!
//! Nobody waits for the kernel when a probe is due: it goes to the MAC that was known last, and the kernel is asked
//! beside. A MAC is kept when its entry fails: a dead path must look lost, and not unsent.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use crate::{core::Time, link::Mac};

/// How often the kernel is made to look whether a neighbour is still there.
pub const REFRESH: Duration = Duration::from_secs(5);
/// The same while its MAC is not known: the kernel gives up after three seconds.
pub const RETRY: Duration = Duration::from_secs(1);
/// After so long nobody sends anything to a neighbour any more, and it is forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// What is known of the neighbours that probes go to, by interface and address.
#[derive(Clone, Debug, Default)]
pub struct Neighbours(HashMap<(u32, IpAddr), Known>);

#[derive(Clone, Copy, Debug)]
struct Known {
    mac: Option<Mac>,
    /// When the kernel was asked last.
    asked: Time,
    /// When its MAC was wanted last.
    wanted: Time,
}

impl Neighbours {
    /// The MAC of a neighbour, if one was ever known, and whether the kernel is to be asked for it now.
    pub fn want(&mut self, ifindex: u32, address: IpAddr, now: Time) -> (Option<Mac>, bool) {
        let key = (ifindex, address);
        let Some(known) = self.0.get_mut(&key) else {
            self.0.retain(|_, known| now - known.wanted < FORGET);
            self.0.insert(key, Known { mac: None, asked: now, wanted: now });
            return (None, true);
        };
        known.wanted = now;
        let ask = now - known.asked >= if known.mac.is_some() { REFRESH } else { RETRY };
        if ask {
            known.asked = now;
        }
        (known.mac, ask)
    }

    /// The kernel has this MAC for a neighbour now. What nobody wants is not kept.
    pub fn learn(&mut self, ifindex: u32, address: IpAddr, mac: Mac) {
        if let Some(known) = self.0.get_mut(&(ifindex, address)) {
            known.mac = Some(mac);
        }
    }

    /// The interface is a member no more.
    pub fn forget(&mut self, ifindex: u32) {
        self.0.retain(|(index, _), _| *index != ifindex);
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
    fn the_kernel_is_asked_at_once_then_every_second_and_less_often_when_it_has_answered() {
        let mut neighbours = Neighbours::default();
        assert_eq!(neighbours.want(3, ip(1), at(0)), (None, true));
        assert_eq!(neighbours.want(3, ip(1), at(999)), (None, false));
        assert_eq!(neighbours.want(3, ip(1), at(1000)), (None, true));
        neighbours.learn(3, ip(1), MAC);
        assert_eq!(neighbours.want(3, ip(1), at(5999)), (Some(MAC), false));
        assert_eq!(neighbours.want(3, ip(1), at(6000)), (Some(MAC), true));
        assert_eq!(neighbours.want(3, ip(1), at(6001)), (Some(MAC), false));
    }

    #[test]
    fn each_interface_has_neighbours_of_its_own() {
        let mut neighbours = Neighbours::default();
        neighbours.want(3, ip(1), at(0));
        neighbours.learn(3, ip(1), MAC);
        assert_eq!(neighbours.want(4, ip(1), at(1)), (None, true));
        neighbours.forget(3);
        assert_eq!(neighbours.want(3, ip(1), at(2)), (None, true));
        assert_eq!(neighbours.want(4, ip(1), at(3)), (None, false));
    }

    #[test]
    fn what_nobody_wants_is_not_kept() {
        let mut neighbours = Neighbours::default();
        neighbours.learn(3, ip(9), MAC);
        assert_eq!(neighbours.want(3, ip(9), at(0)), (None, true));
        neighbours.learn(3, ip(9), MAC);
        neighbours.want(3, ip(8), at(600_000));
        assert_eq!(neighbours.0.len(), 1);
    }
}
