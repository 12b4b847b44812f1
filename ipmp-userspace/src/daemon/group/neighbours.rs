//! The parts of the prober that all groups share: the echo identifier, the random number of test frames and the neighbours of the members.

use std::net::IpAddr;

use super::tasks::Tasks;
use crate::{
    daemon::clock::now,
    link::{Mac, Neighbour},
    probe::{Found, Neighbours, random},
};

/// Shared by the probers of all groups.
#[derive(Debug)]
pub struct ProbeResolver {
    identifier: u16,
    nonce: u64,
    neighbours: Neighbours,
    tasks: Tasks,
}

impl ProbeResolver {
    /// Without any known neighbour.
    pub fn new(tasks: Tasks) -> Self {
        Self {
            identifier: random::identifier(),
            nonce: random::seed(),
            neighbours: Neighbours::default(),
            tasks,
        }
    }

    /// The ICMP identifier of every echo request.
    pub fn identifier(&self) -> u16 {
        self.identifier
    }

    /// The random number of every frame between members.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The kernel reports a neighbour on an interface of this group: the interfaces of its members, and its own.
    pub fn learn(&mut self, group: &[u32], neighbour: &Neighbour) {
        let &Neighbour { ifindex, address, mac, confirmed } = neighbour;
        if self.neighbours.learn(group, ifindex, address, mac, confirmed) {
            log::debug!("probes to {address} go to the MAC in the entry of interface {ifindex}");
        }
    }

    /// An interface is no longer a member.
    pub fn forget(&mut self, ifindex: u32) {
        self.neighbours.forget(ifindex);
    }

    /// What is known of a target. Makes the kernel resolve it where that is due.
    pub fn find(&mut self, ifindex: u32, target: IpAddr) -> Found {
        let (found, is_due) = self.neighbours.want(ifindex, target, now());
        if is_due {
            self.tasks.resolve_neighbour(ifindex, target, false);
        }
        found
    }

    /// The MAC to which probes of a target go on an interface.
    pub fn mac(&self, ifindex: u32, target: IpAddr) -> Option<Mac> {
        self.neighbours.mac(ifindex, target)
    }

    /// Makes the kernel resolve a neighbour again, whatever it has cached.
    pub fn resolve(&self, ifindex: u32, address: IpAddr) {
        self.tasks.resolve_neighbour(ifindex, address, true);
    }
}
