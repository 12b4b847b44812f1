//! Who is probed, how, and whom: what is known of test addresses, of targets, and of the MACs of those that are probed
//! without an address.

use std::net::IpAddr;

use super::Group;
use crate::{
    core::{
        Action, Event, Time,
        member::{Condition, Member},
        probe::{FAILURES, ProbeSource, TestAddress, history::LENGTH, prober::Prober, targets::Known},
    },
    types::Family,
};

/// A target without an answer of its own kind: what ordinary ARP or ND says of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Neighbour {
    /// Its MAC, and since when it is known.
    pub(super) found: Option<([u8; 6], Time)>,
    /// When it was asked for last.
    pub(super) asked: Option<Time>,
}

impl Group {
    /// What is known of targets.
    pub fn known_targets(&self) -> &Known {
        &self.probes.known
    }

    pub(in crate::core::group) fn set_targets(&mut self, targets: Vec<IpAddr>) {
        self.probes.known.explicit = targets;
        self.probes.stale = true;
    }

    pub(in crate::core::group) fn set_disabled_targets(&mut self, targets: Vec<IpAddr>) {
        self.probes.known.disabled = targets;
        self.probes.stale = true;
    }

    /// Hosts are looked for at once, by every member that has an address to ask from.
    pub(in crate::core::group) fn discover(&mut self) {
        self.forget_hosts(Family::ALL);
        for member in self.members.iter().filter(|member| member.in_service()) {
            for prober in member.probing.all() {
                if let Some(ProbeSource::Echo { source, .. }) = prober.means {
                    self.probes.wanted.push(Action::FindHosts { member: member.number(), source });
                }
            }
        }
    }

    pub(in crate::core::group) fn set_routes(
        &mut self,
        family: Family,
        hosts: Vec<IpAddr>,
        routers: Vec<IpAddr>,
    ) {
        for (known, now) in [(&mut self.probes.known.hosts, hosts), (&mut self.probes.known.routers, routers)]
        {
            known.retain(|address| Family::of(*address) != family);
            known.extend(now);
        }
        self.probes.stale = true;
    }

    pub(in crate::core::group) fn host_answered(&mut self, address: IpAddr) {
        let hosts = &mut self.probes.known.answering;
        let of_family = hosts.iter().filter(|host| Family::of(**host) == Family::of(address)).count();
        if !hosts.contains(&address) && of_family < LENGTH {
            hosts.push(address);
            self.probes.stale = true;
        }
    }

    /// Hosts that once answered are looked for anew.
    pub(in crate::core::group) fn forget_hosts(&mut self, families: impl IntoIterator<Item = Family>) {
        for family in families {
            let hosts = &mut self.probes.known.answering;
            let before = hosts.len();
            hosts.retain(|host| Family::of(*host) != family);
            self.probes.stale |= hosts.len() != before;
        }
    }

    pub(in crate::core::group) fn set_neighbour(&mut self, now: Time, address: IpAddr, mac: [u8; 6]) {
        // What nobody asked for is nothing.
        if let Some(neighbour) = self.probes.neighbours.get_mut(&address)
            && neighbour.found.is_none_or(|(known, _)| known != mac)
        {
            neighbour.found = Some((mac, now));
        }
    }

    /// Stops the ARP and ND probes of a target that answers on no member: it may be starting up, and would take them
    /// for somebody with its address (RFC 5227).
    pub(super) fn lose_neighbours(&mut self) {
        for (&address, neighbour) in &mut self.probes.neighbours {
            let Some((_, since)) = neighbour.found else { continue };
            let probers = self.members.iter().filter(|member| member.in_service());
            let mut probers = probers
                .filter_map(|member| member.probing.probers[Family::of(address).index()].as_ref())
                .filter(|prober| matches!(prober.means, Some(ProbeSource::Arp | ProbeSource::Nd)))
                .filter(|prober| prober.targets.active().any(|target| target.address == address))
                .peekable();
            let probed = probers.peek().is_some();
            if probed && probers.all(|prober| prober.history.losses_since(address, since) >= FAILURES) {
                neighbour.found = None;
            }
        }
    }

    /// Who is probed, how, and whom.
    pub(super) fn revise(&mut self, now: Time) {
        for at in 0..self.members.len() {
            for family in Family::ALL {
                self.revise_prober(at, family);
            }
        }
        let known = &self.probes.known;
        let tests: Vec<IpAddr> = self.members.iter().flat_map(test_addresses).collect();
        let own: Vec<IpAddr> = self.addresses().map(|(address, _)| address).chain(tests).collect();
        for member in &mut self.members {
            for family in Family::ALL {
                let Some(prober) = member.probing.probers[family.index()].as_mut() else { continue };
                let (mode, targets) = known.choose(|target| {
                    prober.means.is_some_and(|means| means.reaches(family, target)) && !own.contains(&target)
                });
                prober.set_targets(now, mode, &targets);
            }
        }
        let probers = || self.members.iter().flat_map(|member| member.probing.all());
        let used: Vec<IpAddr> =
            probers().flat_map(|prober| prober.targets.all()).map(|target| target.address).collect();
        self.probes.neighbours.retain(|address, _| used.contains(address));

        // A member that nobody probes is worth a word: its link alone tells of it.
        let mut now_configured = Vec::new();
        for member in &mut self.members {
            let without = member.offline.is_none() && !member.probing.enabled();
            if !without {
                member.probing.without = None;
                let has =
                    member.probing.addresses.iter().any(|address| matches!(address, TestAddress::Is { .. }));
                if std::mem::take(&mut member.probing.said_without) && has && member.probing.enabled() {
                    now_configured.push(member.attachment.name.clone());
                }
            } else if member.probing.without.is_none() {
                member.probing.without = Some(now);
            }
        }
        for member in now_configured {
            self.say(|_| Event::TestAddressConfigured { member });
        }
    }

    fn revise_prober(&mut self, at: usize, family: Family) {
        let policy = self.settings.probe;
        let member = &self.members[at];
        let address = member.probing.addresses[family.index()];
        let twin = self.is_twin_address(at, family);
        let means = ProbeSource::of(family, address, policy).filter(|_| !twin);
        let name = member.name().to_owned();
        let was_twin = member.probing.twin[family.index()];
        if let (true, false, TestAddress::Is { address, .. }) = (twin, was_twin, address) {
            self.say(|_| Event::TestAddressNotUnique { member: name, address });
        } else if was_twin && !twin && matches!(means, Some(ProbeSource::Echo { .. })) {
            self.say(|_| Event::TestAddressConfigured { member: name });
        }
        let Member { condition, probing, flap, .. } = &mut self.members[at];
        probing.twin[family.index()] = twin;
        let wanted = address != TestAddress::None || means.is_some();
        let prober = &mut probing.probers[family.index()];
        if !wanted {
            *prober = None;
            return;
        }
        // Who is down, or was found failed, has to be repaired.
        let failed = probing.failed || !matches!(condition, Condition::New | Condition::Ok);
        let prober = prober.get_or_insert_with(|| Prober::new(probing.joined, failed));
        if prober.means != means {
            prober.set_means(means);
        }
        if means.is_some() && flap.until().is_some() {
            // The ten answers are what damps it from now on.
            flap.release();
        }
    }

    /// Whether somebody else in the group has a member's test address.
    fn is_twin_address(&self, at: usize, family: Family) -> bool {
        let TestAddress::Is { address, .. } = self.members[at].probing.addresses[family.index()] else {
            return false;
        };
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != at);
        others.flat_map(|(_, member)| test_addresses(member)).any(|other| other == address)
            || self.addresses().any(|(data, _)| data == address)
    }
}

fn test_addresses(member: &Member) -> impl Iterator<Item = IpAddr> {
    member.probing.addresses.iter().filter_map(|address| match address {
        TestAddress::Is { address, .. } => Some(*address),
        TestAddress::None | TestAddress::Awaited => None,
    })
}
