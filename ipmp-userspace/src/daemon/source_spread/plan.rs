//! Which addresses serve equally as source, for which destinations.
//!
//! For a destination behind a router, the kernel selects an address of the network that the router is in; the others in this network
//! serve equally. A router with a link-local address is in no network: then the addresses of the group must be in one. Routes for which
//! an operator chose a source, and those through other interfaces, keep the kernel's selection.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use ipmp_common::maps::{MAX_SOURCE_PREFIXES, MAX_SOURCE_SETS, MAX_SOURCES};

use crate::{
    datapath::source_spread::{Network, Sources},
    link::{Address, Lookup},
    types::network::{first_of, is_in},
};

/// What is spread in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Destination networks.
    networks: usize,
    /// Addresses that serve as source for one of them.
    addresses: BTreeSet<IpAddr>,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.networks == 0 {
            return f.write_str(
                "the sources of TCP connections are not spread: no network is reached by a route for which several data addresses serve \
                 equally",
            );
        }
        let Self { networks, addresses } = self;
        let addresses = addresses.len();
        write!(
            f,
            "the sources of TCP connections to {networks} networks are spread over {addresses} addresses"
        )
    }
}

/// The addresses of a group in one network.
struct Set {
    group: u32,
    network: Network,
    addresses: Vec<IpAddr>,
}

/// What is known of the routes so far.
pub struct Plan {
    sets: Vec<Set>,
    /// The best route to a network: its metric, and its set.
    networks: BTreeMap<Network, (u32, Option<usize>)>,
    /// The lengths of the prefixes that have a set.
    lengths: BTreeSet<u8>,
    groups: BTreeMap<u32, Spread>,
    is_full: bool,
}

impl Plan {
    /// For groups with these interfaces, and the addresses of this host.
    pub fn new(groups: &[u32], addresses: Vec<(u32, Address)>) -> Self {
        let mut sets: Vec<Set> = Vec::new();
        let usable = |(group, address): &(u32, Address)| groups.contains(group) && address.serves_as_source();
        for (group, address) in addresses.into_iter().filter(usable) {
            let network = network(address.ip, address.prefix);
            match sets.iter_mut().find(|set| (set.group, set.network) == (group, network)) {
                Some(set) if set.addresses.len() < MAX_SOURCES => set.addresses.push(address.ip),
                Some(_) => {}
                None => sets.push(Set { group, network, addresses: vec![address.ip] }),
            }
        }
        let groups = groups.iter().map(|group| (*group, Spread::default())).collect();
        Self { sets, networks: BTreeMap::new(), lengths: BTreeSet::new(), groups, is_full: false }
    }

    /// The first reading: notes a route for which several addresses serve equally.
    pub fn add_spread(&mut self, route: &Lookup) {
        let (Some(metric), Some(set)) = (route.metric, self.set_of(route)) else { return };
        let entry = self.networks.entry(route.to).or_insert((metric, Some(set)));
        if metric < entry.0 {
            *entry = (metric, Some(set));
        }
        self.lengths.insert(route.to.1);
        self.check_size();
    }

    /// The second reading: notes a route for which the kernel selects the source, in a network of those.
    pub fn add_other(&mut self, route: &Lookup) {
        if self.set_of(route).is_some() && route.metric.is_some() {
            return;
        }
        if let Some(entry) = self.networks.get_mut(&route.to) {
            // Of two routes with one metric, either may be used.
            if route.metric.is_none_or(|metric| metric <= entry.0) {
                *entry = (route.metric.unwrap_or(0), None);
            }
            return;
        }
        let (to, length) = route.to;
        let is_covered = self
            .lengths
            .range(..length)
            .any(|shorter| self.networks.get(&network(to, *shorter)).is_some_and(|(_, set)| set.is_some()));
        if is_covered && !self.is_full {
            self.networks.insert(route.to, (route.metric.unwrap_or(0), None));
            self.check_size();
        }
    }

    /// What follows; why nothing does.
    pub fn finish(mut self) -> Result<(Sources, BTreeMap<u32, Spread>), String> {
        if self.is_full {
            return Err(format!(
                "more than {MAX_SOURCE_PREFIXES} routes are in networks that are reached through groups"
            ));
        }
        if self.sets.len() > MAX_SOURCE_SETS as usize {
            return Err(format!("the groups have addresses in more than {MAX_SOURCE_SETS} networks"));
        }
        for set in self.networks.values().filter_map(|(_, set)| self.sets.get((*set)?)) {
            let spread = self.groups.entry(set.group).or_default();
            spread.networks += 1;
            spread.addresses.extend(&set.addresses);
        }
        let networks = self.networks.into_iter().map(|(network, (_, set))| (network, set)).collect();
        let sets = self.sets.into_iter().map(|set| set.addresses).collect();
        Ok((Sources { sets, networks }, self.groups))
    }

    fn check_size(&mut self) {
        self.is_full |= self.networks.len() > MAX_SOURCE_PREFIXES as usize;
    }

    /// The addresses that serve equally for the destinations of a route, if there are several.
    fn set_of(&self, route: &Lookup) -> Option<usize> {
        let (interface, router) = route.hop.filter(|_| !route.has_source)?;
        let of_family = |set: &Set| set.group == interface && set.network.0.is_ipv4() == route.to.0.is_ipv4();
        let of_group = || self.sets.iter().enumerate().filter(|(_, set)| of_family(set));
        let in_network = |on_link: IpAddr| of_group().filter(move |(_, set)| is_in(on_link, set.network));
        let router =
            router.filter(|router| router.is_ipv4() == route.to.0.is_ipv4() && !is_link_local(*router));
        let mut candidates: Vec<(usize, &Set)> = match router {
            Some(router) => in_network(router).collect(),
            None => in_network(route.to.0).filter(|(_, set)| set.network.1 <= route.to.1).collect(),
        };
        if candidates.is_empty() && router.is_none() {
            candidates = of_group().collect();
        }
        // Of several networks, the kernel selects by rules of its own.
        let [(number, set)] = candidates[..] else { return None };
        (set.addresses.len() > 1).then_some(number)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The network of an address.
fn network(address: IpAddr, prefix: u8) -> Network {
    (first_of(address, prefix), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: u32 = 7;
    const OTHER: u32 = 3;

    fn at(text: &str) -> Network {
        let (address, prefix) = text.split_once('/').unwrap();
        (address.parse().unwrap(), prefix.parse().unwrap())
    }

    fn addresses(texts: &[&str]) -> Vec<(u32, Address)> {
        let address = |text: &&str| {
            let (ip, prefix) = at(text);
            (GROUP, Address::new(ip, prefix))
        };
        texts.iter().map(address).collect()
    }

    fn route(to: &str, hop: Option<(u32, &str)>) -> Lookup {
        let router = |router: &str| (!router.is_empty()).then(|| router.parse().unwrap());
        let hop = hop.map(|(ifindex, text)| (ifindex, router(text)));
        Lookup { to: at(to), metric: Some(0), hop, has_source: false }
    }

    fn plan(
        addresses: Vec<(u32, Address)>,
        routes: &[Lookup],
    ) -> Result<(Sources, BTreeMap<u32, Spread>), String> {
        let mut plan = Plan::new(&[GROUP], addresses);
        routes.iter().for_each(|route| plan.add_spread(route));
        routes.iter().for_each(|route| plan.add_other(route));
        plan.finish()
    }

    fn networks(addresses: &[&str], routes: &[Lookup]) -> Vec<(String, Option<usize>)> {
        let (sources, _) = plan(self::addresses(addresses), routes).unwrap();
        sources.networks.into_iter().map(|((to, prefix), set)| (format!("{to}/{prefix}"), set)).collect()
    }

    #[test]
    fn networks_through_the_group_have_the_addresses_of_the_routers_network() {
        let own = ["192.0.2.10/24", "198.51.100.1/25", "192.0.2.11/24", "192.0.2.12/24", "203.0.113.1/32"];
        let routes = [
            route("0.0.0.0/0", Some((GROUP, "192.0.2.1"))),
            route("192.0.2.0/24", Some((GROUP, ""))),
            route("198.51.100.0/25", Some((GROUP, ""))),
            route("10.0.0.0/8", Some((OTHER, "203.0.113.9"))),
            route("10.1.0.0/16", Some((GROUP, "192.0.2.1"))),
            Lookup { metric: None, ..route("127.0.0.0/8", None) },
            Lookup { metric: None, ..route("192.0.2.10/32", None) },
            Lookup { has_source: true, ..route("172.16.0.0/12", Some((GROUP, "192.0.2.1"))) },
            route("172.32.0.0/16", None),
        ];
        let expected = [
            ("0.0.0.0/0", Some(0)),
            ("10.0.0.0/8", None),
            ("10.1.0.0/16", Some(0)),
            ("127.0.0.0/8", None),
            ("172.16.0.0/12", None),
            ("172.32.0.0/16", None),
            ("192.0.2.0/24", Some(0)),
            ("192.0.2.10/32", None),
            ("198.51.100.0/25", None),
        ];
        assert_eq!(networks(&own, &routes), expected.map(|(to, set)| (to.to_owned(), set)));
        let (sources, groups) = plan(addresses(&own), &routes).unwrap();
        let [set, ..] = &sources.sets[..] else { panic!() };
        assert_eq!(
            set.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
            ["192.0.2.10", "192.0.2.11", "192.0.2.12"]
        );
        assert_eq!(
            groups[&GROUP].to_string(),
            "the sources of TCP connections to 3 networks are spread over 3 addresses"
        );
    }

    #[test]
    fn routes_of_other_interfaces_matter_only_in_networks_of_the_group() {
        let own = ["192.0.2.10/24", "192.0.2.11/24"];
        let routes = [
            route("192.0.2.0/24", Some((GROUP, ""))),
            route("0.0.0.0/0", Some((OTHER, "10.0.0.1"))),
            route("10.0.0.0/8", Some((OTHER, ""))),
        ];
        assert_eq!(networks(&own, &routes), [("192.0.2.0/24".to_owned(), Some(0))]);
    }

    #[test]
    fn of_several_routes_to_a_network_the_best_one_counts() {
        let own = ["192.0.2.10/24", "192.0.2.11/24"];
        let with = |metric, ifindex| Lookup {
            metric: Some(metric),
            ..route("0.0.0.0/0", Some((ifindex, "192.0.2.1")))
        };
        for (group, other, set) in [(10, 20, Some(0)), (20, 10, None), (10, 10, None)] {
            for routes in [[with(group, GROUP), with(other, OTHER)], [with(other, OTHER), with(group, GROUP)]]
            {
                assert_eq!(networks(&own, &routes), [("0.0.0.0/0".to_owned(), set)], "{group} {other}");
            }
        }
    }

    #[test]
    fn router_with_link_local_address_needs_addresses_in_one_network() {
        let routes = [route("::/0", Some((GROUP, "fe80::1"))), route("2001:db8::/64", Some((GROUP, "")))];
        let both = [("::/0".to_owned(), Some(0)), ("2001:db8::/64".to_owned(), Some(0))];
        assert_eq!(networks(&["2001:db8::1/64", "2001:db8::2/64"], &routes), both);
        let two = ["2001:db8::1/64", "2001:db8::2/64", "fd00::1/64"];
        assert_eq!(networks(&two, &routes), both[1..], "the kernel selects one of two networks");
        assert_eq!(networks(&["2001:db8::1/64", "fe80::2/64"], &routes), []);
        // A network on the link that no address is in.
        let on_link = [route("10.0.0.0/8", Some((GROUP, "")))];
        assert_eq!(
            networks(&["192.0.2.1/24", "192.0.2.2/24"], &on_link),
            [("10.0.0.0/8".to_owned(), Some(0))]
        );
    }

    #[test]
    fn addresses_that_the_kernel_avoids_are_no_sources() {
        let mut own = addresses(&["2001:db8::1/64", "2001:db8::2/64", "2001:db8::3/64", "2001:db8::4/64"]);
        for ((_, address), flag) in own.iter_mut().skip(1).zip([0x20, 0x40, 0x01]) {
            address.flags = flag;
        }
        let (sources, groups) = plan(own, &[route("2001:db8::/64", Some((GROUP, "")))]).unwrap();
        assert_eq!(sources.networks, BTreeMap::new());
        assert!(groups[&GROUP].to_string().contains("not spread"), "{}", groups[&GROUP]);
    }

    #[test]
    fn too_many_routes_are_refused() {
        let own = ["192.0.2.10/24", "192.0.2.11/24"];
        let others = (0..=MAX_SOURCE_PREFIXES).map(|number| {
            let network = IpAddr::V4((0x0a00_0000 + (number << 8)).into());
            Lookup { to: (network, 24), metric: Some(0), hop: Some((OTHER, None)), has_source: false }
        });
        let routes: Vec<_> = others.chain([route("0.0.0.0/0", Some((GROUP, "192.0.2.1")))]).collect();
        assert!(plan(addresses(&own), &routes).unwrap_err().contains("16384 routes"));
        // Without a route through the group they do not matter.
        assert_eq!(plan(addresses(&own), &routes[..routes.len() - 1]).unwrap().0.networks.len(), 0);
    }
}
