//! Targets in the routing table.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    link::{Error, Links, Route},
    types::Family,
};

/// The routes through the interfaces of the groups.
#[derive(Debug)]
pub struct RoutingTable {
    routes: Vec<Route>,
    /// Every address of this host.
    own: BTreeSet<IpAddr>,
}

impl RoutingTable {
    /// Reads the routes through these interfaces.
    pub async fn read(links: &Links, interfaces: &BTreeSet<u32>) -> Result<Self, Error> {
        let mut routes = Vec::new();
        for ifindex in interfaces {
            routes.extend(links.routes_of(*ifindex).await?);
        }
        let own = links.addresses().await?.into_iter().map(|(_, address)| address.ip).collect();
        Ok(Self { routes, own })
    }

    /// Destinations of host routes, and next hops of all other routes, of a group with this interface and these members.
    /// Of routes through a member only host routes count: so an operator names a target outside of the data subnets.
    pub fn targets(&self, family: Family, group: u32, members: &BTreeSet<u32>) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let (mut hosts, mut routers) = (Vec::new(), Vec::new());
        for route in &self.routes {
            let of_group = route.uses(group);
            if !of_group && !members.iter().any(|member| route.uses(*member)) {
                continue;
            }
            let next_hops = route.next_hops(|ifindex| ifindex == group || members.contains(&ifindex));
            match route.host() {
                // On the link, or with itself as the gateway.
                Some(host) if next_hops.iter().all(|hop| *hop == host) => hosts.push(host),
                _ if of_group => routers.extend(route.next_hops(|ifindex| ifindex == group)),
                _ => {}
            }
        }
        for list in [&mut hosts, &mut routers] {
            let mut seen = BTreeSet::new();
            list.retain(|address| {
                Family::of(*address) == family && !self.own.contains(address) && seen.insert(*address)
            });
        }
        (hosts, routers)
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

    fn targets(routes: Vec<Route>, own: &[&str]) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let table = RoutingTable { routes, own: own.iter().map(|text| ip(text)).collect() };
        table.targets(Family::V4, GROUP, &BTreeSet::from([MEMBER]))
    }

    #[test]
    fn host_routes_give_targets_and_other_routes_give_routers() {
        let (hosts, routers) = targets(
            vec![
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
    }

    #[test]
    fn routes_through_member_give_only_host_targets() {
        let (hosts, routers) = targets(
            vec![
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
        let (_, routers) = targets(vec![Route::parse(message).unwrap()], &[]);
        assert_eq!(routers, [ip("192.168.178.1"), ip("192.168.178.2")]);
    }

    #[test]
    fn families_are_separate() {
        let router: Ipv6Addr = "fe80::1".parse().unwrap();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().gateway(router).output_interface(GROUP).build();
        let routes = vec![Route::parse(v6).unwrap(), v4("0.0.0.0", 0, Some("192.168.178.1"), GROUP)];
        let table = RoutingTable { routes, own: BTreeSet::new() };
        let of = |family| table.targets(family, GROUP, &BTreeSet::new()).1;
        assert_eq!((of(Family::V4), of(Family::V6)), (vec![ip("192.168.178.1")], vec![ip("fe80::1")]));
    }
}
