//! Targets in the routing table: counted, and at most [`MAX_TARGETS`] of a kind, because a router has very many routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{link::Route, types::Family};

/// Most host routes, and most routers, that are targets of a group in a family: more than are ever probed.
pub const MAX_TARGETS: usize = 256;

/// The interfaces of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// The group interface.
    pub group: u32,
    /// The interfaces of its members.
    pub members: Vec<u32>,
}

impl Interfaces {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.members.iter().copied().chain([self.group])
    }

    fn contains(&self, ifindex: u32) -> bool {
        ifindex == self.group || self.members.contains(&ifindex)
    }
}

/// What the routes of a family name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Destinations of host routes.
    pub hosts: Vec<IpAddr>,
    /// Next hops of all other routes.
    pub routers: Vec<IpAddr>,
    /// The next hop of the default route that the kernel prefers.
    pub default: Option<IpAddr>,
}

/// The targets that the routes of a group name.
#[derive(Debug)]
pub struct RoutingTable {
    interfaces: Interfaces,
    /// By family.
    hosts: [Counted; 2],
    routers: [Counted; 2],
    /// Next hops of default routes, each with what decides between them, and how many routes name it so.
    defaults: BTreeMap<((bool, u32), IpAddr), usize>,
}

impl RoutingTable {
    /// Without any route.
    pub fn new(interfaces: Interfaces) -> Self {
        Self { interfaces, hosts: Default::default(), routers: Default::default(), defaults: BTreeMap::new() }
    }

    /// The interfaces of the group.
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Whether a route leads through an interface of the group.
    pub fn has(&self, route: &Route) -> bool {
        self.interfaces.iter().any(|ifindex| route.uses(ifindex))
    }

    /// A route exists. Returns whether it names a new target.
    pub fn add(&mut self, route: &Route) -> bool {
        let (host, routers) = self.named(route);
        let mut is_new = false;
        if let Some(host) = host {
            is_new |= self.hosts[Family::of(host) as usize].add(host);
        }
        for router in routers {
            if let Some(preference) = route.default_preference()
                && self.defaults.len() < MAX_TARGETS
            {
                let count = self.defaults.entry((preference, router)).or_insert(0);
                is_new |= *count == 0;
                *count += 1;
            }
            is_new |= self.routers[Family::of(router) as usize].add(router);
        }
        is_new
    }

    /// A route was removed. Returns whether no other one is known that names one of its targets: the table must be read.
    pub fn remove(&mut self, route: &Route) -> bool {
        let (host, routers) = self.named(route);
        let mut is_last = false;
        if let Some(host) = host {
            is_last |= self.hosts[Family::of(host) as usize].remove(host);
        }
        for router in routers {
            if let Some(preference) = route.default_preference()
                && let Some(count) = self.defaults.get_mut(&(preference, router))
            {
                *count = count.saturating_sub(1);
                is_last |= *count == 0;
            }
            is_last |= self.routers[Family::of(router) as usize].remove(router);
        }
        is_last
    }

    /// Destinations of host routes, and next hops of all other routes, that are no addresses of this host.
    pub fn targets(&self, family: Family, own: &BTreeSet<IpAddr>) -> Targets {
        let list =
            |of: &[Counted; 2]| of[family as usize].in_order().filter(|ip| !own.contains(ip)).collect();
        let mut defaults = self.defaults.keys().map(|(_, router)| *router);
        let default = defaults.find(|router| Family::of(*router) == family && !own.contains(router));
        Targets { hosts: list(&self.hosts), routers: list(&self.routers), default }
    }

    /// What a route names. Of routes through a member only host routes count: so an operator names a target outside of the
    /// data subnets.
    fn named(&self, route: &Route) -> (Option<IpAddr>, Vec<IpAddr>) {
        if !self.has(route) || route.is_broadcast() {
            return (None, Vec::new());
        }
        let next_hops = route.next_hops(|ifindex| self.interfaces.contains(ifindex));
        match route.host() {
            // On the link, or with itself as the gateway.
            Some(host) if next_hops.iter().all(|hop| *hop == host) => (Some(host), Vec::new()),
            _ => (None, route.next_hops(|ifindex| ifindex == self.interfaces.group)),
        }
    }
}

/// What has changed since the report before.
#[derive(Debug, Default)]
pub struct RouteReport {
    /// Targets of the groups, by family. A group has the index of its interface.
    pub targets: Vec<(u32, [Targets; 2])>,
    /// Routes for ordinary traffic through members, as they were added or read.
    pub through_members: Vec<Route>,
    /// Members of which another route was removed.
    pub removed_from: BTreeSet<u32>,
}

impl RouteReport {
    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.through_members.is_empty() && self.removed_from.is_empty()
    }
}

/// Addresses in the order in which they were found, each with the number of routes that name it.
#[derive(Debug, Default)]
struct Counted(BTreeMap<IpAddr, (usize, usize)>);

impl Counted {
    fn add(&mut self, address: IpAddr) -> bool {
        let place = self.0.len();
        if let Some((_, count)) = self.0.get_mut(&address) {
            *count += 1;
            return false;
        }
        let has_room = place < MAX_TARGETS;
        if has_room {
            self.0.insert(address, (place, 1));
        }
        has_room
    }

    fn remove(&mut self, address: IpAddr) -> bool {
        let Some((_, count)) = self.0.get_mut(&address) else { return false };
        *count = count.saturating_sub(1);
        *count == 0
    }

    fn in_order(&self) -> impl Iterator<Item = IpAddr> {
        let mut all: Vec<_> = self.0.iter().map(|(address, (place, _))| (*place, *address)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, address)| address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use rtnetlink::{RouteMessageBuilder, RouteNextHopBuilder};

    use super::*;

    const GROUP: u32 = 10;
    const MEMBER: u32 = 3;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn v4(to: &str, prefix: u8, via: Option<&str>, ifindex: u32) -> Route {
        let to: Ipv4Addr = to.parse().unwrap();
        let message =
            RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to, prefix).output_interface(ifindex);
        let message = match via {
            Some(via) => message.gateway(via.parse().unwrap()),
            None => message,
        };
        Route::parse(message.build()).unwrap()
    }

    fn table(routes: &[Route]) -> RoutingTable {
        let mut table = RoutingTable::new(Interfaces { group: GROUP, members: vec![MEMBER] });
        for route in routes {
            table.add(route);
        }
        table
    }

    fn targets(routes: &[Route], own: &[&str]) -> Targets {
        table(routes).targets(Family::V4, &own.iter().map(|text| ip(text)).collect())
    }

    #[test]
    fn host_routes_give_targets_and_other_routes_give_routers() {
        let Targets { hosts, routers, default } = targets(
            &[
                v4("0.0.0.0", 0, Some("192.168.178.1"), GROUP),
                v4("192.168.178.0", 24, None, GROUP),
                v4("192.168.178.7", 32, None, GROUP),
                v4("192.168.178.8", 32, Some("192.168.178.8"), GROUP),
                v4("10.1.2.3", 32, Some("192.168.178.2"), GROUP),
                v4("10.0.0.0", 8, Some("192.168.178.1"), GROUP),
                v4("10.9.0.0", 16, Some("192.168.178.200"), GROUP),
                v4("0.0.0.0", 0, Some("172.16.0.1"), 99),
            ],
            &["192.168.178.200"],
        );
        assert_eq!(hosts, [ip("192.168.178.7"), ip("192.168.178.8")]);
        assert_eq!(routers, [ip("192.168.178.1"), ip("192.168.178.2")]);
        assert_eq!(default, Some(ip("192.168.178.1")));
    }

    #[test]
    fn routes_through_member_give_only_host_targets() {
        let Targets { hosts, routers, .. } = targets(
            &[
                v4("10.0.0.1", 32, None, MEMBER),
                v4("10.0.0.0", 24, None, MEMBER),
                v4("10.7.0.0", 16, Some("10.0.0.9"), MEMBER),
                v4("10.8.0.1", 32, Some("10.0.0.9"), MEMBER),
            ],
            &[],
        );
        assert_eq!((hosts, routers), (vec![ip("10.0.0.1")], vec![]));
    }

    #[test]
    fn multipath_route_gives_next_hops_of_group_only() {
        let hop = |via: &str, ifindex| {
            RouteNextHopBuilder::new_ipv4().via(ip(via)).unwrap().interface(ifindex).build()
        };
        let hops = vec![hop("192.168.178.1", GROUP), hop("192.168.178.2", GROUP), hop("172.16.0.1", 99)];
        let message = RouteMessageBuilder::<Ipv4Addr>::new().multipath(hops).build();
        let Targets { routers, .. } = targets(&[Route::parse(message).unwrap()], &[]);
        assert_eq!(routers, [ip("192.168.178.1"), ip("192.168.178.2")]);
    }

    #[test]
    fn families_are_separate() {
        let router: Ipv6Addr = "fe80::1".parse().unwrap();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().gateway(router).output_interface(GROUP).build();
        let table = table(&[Route::parse(v6).unwrap(), v4("0.0.0.0", 0, Some("192.168.178.1"), GROUP)]);
        let of = |family| table.targets(family, &BTreeSet::new()).routers;
        assert_eq!((of(Family::V4), of(Family::V6)), (vec![ip("192.168.178.1")], vec![ip("fe80::1")]));
    }

    #[test]
    fn target_of_several_routes_is_last_with_the_last_of_them() {
        let router = |to| v4(to, 24, Some("192.168.178.1"), GROUP);
        let mut table = table(&[]);
        assert!(table.add(&router("10.1.0.0")));
        assert!(!table.add(&router("10.2.0.0")));
        assert!(!table.remove(&router("10.1.0.0")));
        assert!(table.remove(&router("10.2.0.0")));
        assert!(!table.remove(&v4("10.3.0.0", 24, Some("192.168.178.9"), GROUP)), "it was never known");
    }

    #[test]
    fn very_many_host_routes_give_a_limited_number_of_targets() {
        let host = |number: u32| v4(&Ipv4Addr::from((10 << 24) + number).to_string(), 32, None, GROUP);
        let routes: Vec<Route> = (0..2 * MAX_TARGETS as u32).map(host).collect();
        let Targets { hosts, .. } = targets(&routes, &[]);
        let first: Vec<IpAddr> =
            (0..MAX_TARGETS as u32).map(|n| Ipv4Addr::from((10 << 24) + n).into()).collect();
        assert_eq!(hosts, first);
    }
}
