//! Which members are probed, by which method, and which targets: from test addresses, known targets, and the MACs of
//! targets that are probed without an address.

use std::net::IpAddr;

use super::{Group, GroupProbing};
use crate::{
    core::{
        Action, Cause, Event, Time,
        group::members::Members,
        member::{Condition, Member},
        probe::{FAILURES, ProbeSource, RESOLVE, TestAddress, history::LENGTH, targets::Known},
    },
    types::Family,
};

/// What ARP or ND shows about a target of probes without a test address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Neighbour {
    /// Its MAC, and since when it is known.
    pub(super) found: Option<([u8; 6], Time)>,
    /// Since when its MAC is sought, while it is not known.
    pub(super) sought: Option<Time>,
    /// When the last request was sent.
    pub(super) requested: Option<Time>,
}

impl Neighbour {
    /// Whether it was sought for long enough, and no host has answered.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        self.found.is_none() && self.sought.is_some_and(|sought| now - sought >= RESOLVE)
    }
}

impl GroupProbing {
    pub(in crate::core::group) fn set_targets(&mut self, targets: Vec<IpAddr>) {
        self.known.explicit = targets;
        self.stale = true;
    }

    pub(in crate::core::group) fn set_disabled_targets(&mut self, targets: Vec<IpAddr>) {
        self.known.disabled = targets;
        self.stale = true;
    }

    pub(in crate::core::group) fn set_routes(
        &mut self,
        family: Family,
        hosts: Vec<IpAddr>,
        routers: Vec<IpAddr>,
        default: Option<IpAddr>,
    ) {
        self.default_routers[family.index()] = default;
        for (known, now) in [(&mut self.known.hosts, hosts), (&mut self.known.routers, routers)] {
            known.retain(|address| Family::of(*address) != family);
            known.extend(now);
        }
        self.stale = true;
    }

    /// Starts multicast discovery at once, on every member with a source address.
    pub(in crate::core::group) fn discover(&mut self, members: &Members) {
        self.forget_hosts(Family::ALL);
        for member in members.iter().filter(|member| member.in_service()) {
            for prober in member.probing().probers() {
                if let Some(ProbeSource::Echo { source, .. }) = prober.means {
                    self.requests.push(Action::FindHosts { member: member.number(), source });
                }
            }
        }
    }

    pub(in crate::core::group) fn host_answered(&mut self, address: IpAddr) {
        let hosts = &mut self.known.answering;
        let of_family = hosts.iter().filter(|host| Family::of(**host) == Family::of(address)).count();
        if !hosts.contains(&address) && of_family < LENGTH {
            hosts.push(address);
            self.stale = true;
        }
    }

    /// Hosts that answered multicast probes are discovered anew.
    pub(in crate::core::group) fn forget_hosts(&mut self, families: impl IntoIterator<Item = Family>) {
        for family in families {
            let hosts = &mut self.known.answering;
            let before = hosts.len();
            hosts.retain(|host| Family::of(*host) != family);
            self.stale |= hosts.len() != before;
        }
    }

    pub(in crate::core::group) fn set_neighbour(&mut self, now: Time, address: IpAddr, mac: [u8; 6]) {
        // Unsolicited ones have no entry.
        if let Some(neighbour) = self.neighbours.get_mut(&address)
            && neighbour.found.is_none_or(|(known, _)| known != mac)
        {
            neighbour.found = Some((mac, now));
            neighbour.sought = None;
        }
    }

    /// Stops the ARP and ND probes to a target that replies on no member: it may be starting up, and would take them
    /// for a host with its address (RFC 5227).
    pub(super) fn lose_neighbours(&mut self, members: &Members) {
        for (&address, neighbour) in &mut self.neighbours {
            let Some((_, since)) = neighbour.found else { continue };
            let mut probers = members
                .iter()
                .filter(|member| member.in_service())
                .filter_map(|member| member.prober(Family::of(address)))
                .filter(|prober| matches!(prober.means, Some(ProbeSource::Arp | ProbeSource::Nd)))
                .filter(|prober| prober.targets.active().any(|target| target.address == address))
                .peekable();
            let is_probed = probers.peek().is_some();
            if is_probed && probers.all(|prober| prober.history.losses_since(address, since) >= FAILURES) {
                neighbour.found = None;
            }
        }
    }
}

impl Group {
    /// The targets that are known.
    pub fn known_targets(&self) -> &Known {
        &self.probing.known
    }

    /// Assigns each member its probers, and each prober its targets.
    pub(super) fn assign_probers(&mut self, now: Time) {
        for number in self.members.numbers() {
            for family in Family::ALL {
                self.assign_prober(number, family);
            }
        }
        let known = &self.probing.known;
        let tests: Vec<IpAddr> = self.members.iter().flat_map(test_addresses).collect();
        let own: Vec<IpAddr> = self.addresses().map(|(address, _)| address).chain(tests).collect();
        for member in self.members.iter_mut() {
            for family in Family::ALL {
                let Some(prober) = member.probing_mut().prober_mut(family) else { continue };
                let (mode, targets) = known.choose(|target| {
                    prober.means.is_some_and(|means| means.reaches(family, target)) && !own.contains(&target)
                });
                prober.set_targets(now, mode, &targets);
            }
        }
        let probers = self.members.iter().flat_map(|member| member.probing().probers());
        let used: Vec<IpAddr> =
            probers.flat_map(|prober| prober.targets.all()).map(|target| target.address).collect();
        self.probing.neighbours.retain(|address, _| used.contains(address));
        self.track_missing_test_addresses(now);
    }

    /// A member that is not probed is reported after a while: only its link shows failures.
    fn track_missing_test_addresses(&mut self, now: Time) {
        let mut configured = Vec::new();
        for member in self.members.iter_mut() {
            let is_without = member.offline().is_none() && !member.probing().enabled();
            if member.probing_mut().set_without(now, is_without) {
                configured.push(member.name().to_owned());
            }
        }
        for member in configured {
            self.report(Cause::Trigger, |_| Event::TestAddressConfigured { member });
        }
    }

    fn assign_prober(&mut self, number: u8, family: Family) {
        let policy = self.settings.probe;
        let Some(member) = self.members.get(number) else { return };
        let address = member.test_address(family);
        let is_duplicate = self.is_duplicate_test_address(member, family);
        let means = ProbeSource::of(family, address, policy).filter(|_| !is_duplicate);
        let name = member.name().to_owned();
        let is_down = !matches!(member.condition(), Condition::New | Condition::Ok);
        let Some(member) = self.members.get_mut(number) else { return };
        let probing = member.probing_mut();
        let was_duplicate = probing.set_duplicate(family, is_duplicate);
        // A member that is down has to be repaired first.
        probing.assign(family, means, is_down);
        if means.is_some() {
            // From now on the ten replies dampen flapping.
            member.flap_mut().release();
        }
        if let (true, false, TestAddress::Is { address, .. }) = (is_duplicate, was_duplicate, address) {
            self.report(Cause::Trigger, |_| Event::TestAddressNotUnique { member: name, address });
        } else if was_duplicate && !is_duplicate && matches!(means, Some(ProbeSource::Echo { .. })) {
            self.report(Cause::Trigger, |_| Event::TestAddressConfigured { member: name });
        }
    }

    /// Whether another member, or the group, has a member's test address.
    fn is_duplicate_test_address(&self, member: &Member, family: Family) -> bool {
        let TestAddress::Is { address, .. } = member.test_address(family) else {
            return false;
        };
        let others = self.members.iter().filter(|other| other.number() != member.number());
        others.flat_map(test_addresses).any(|other| other == address)
            || self.addresses().any(|(data, _)| data == address)
    }
}

fn test_addresses(member: &Member) -> impl Iterator<Item = IpAddr> {
    Family::ALL.into_iter().filter_map(|family| match member.test_address(family) {
        TestAddress::Is { address, .. } => Some(address),
        TestAddress::None | TestAddress::Awaited => None,
    })
}
