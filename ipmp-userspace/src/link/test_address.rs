//! Reserves a member's test address for its probes: sockets use it only if they bind to it, and it adds no route past the group.
//!
//! | | IPv4 | IPv6 |
//! |---|---|---|
//! | not chosen as a source | scope link | deprecated; the group interface chooses among its own addresses alone |
//! | no route to its subnet | noprefixroute | noprefixroute |
//! | no route to its subnet's broadcast address | removed | there is none |
//! | ARP and packets from a subnet that no route leads to | a route that only its own packets see | are no matter |

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::{AddressFlags, AddressScope},
        route::{RouteAttribute, RouteProtocol, RouteScope},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

use super::{
    Address, Error, Links, Route,
    route_dump::{read_routes_through, read_table},
};
use crate::types::network::netmask;

/// The table of a member's test routes has this number and its interface index in sum.
const TABLE: u32 = 0x4950_0000;
/// Priority of the rules that lead there: before those of the main table, and of most operators.
const PRIORITY: u32 = 1000;
/// The tables main, default and local: those of the default rules.
const ORDINARY: [u32; 3] = [254, 253, 255];
/// A lifetime that never ends, in seconds.
const FOREVER: u32 = u32::MAX;

impl Address {
    /// Whether it is kept for probes as [`for_tests`](Self::for_tests) has it. A link-local IPv6 address always is.
    pub fn is_for_tests(&self) -> bool {
        let has = |flag: AddressFlags| self.flags & flag.bits() != 0;
        let hidden = match self.ip {
            IpAddr::V4(_) => self.scope >= u8::from(AddressScope::Link),
            IpAddr::V6(_) => has(AddressFlags::Deprecated),
        };
        self.is_link_local() || (hidden && has(AddressFlags::Noprefixroute))
    }

    /// The same address, kept for probes.
    #[must_use]
    pub fn for_tests(&self) -> Self {
        let mut address = self.clone();
        address.flags |= AddressFlags::Noprefixroute.bits();
        match self.ip {
            IpAddr::V4(_) => {
                address.scope = AddressScope::Link.into();
                address.broadcast = None;
            }
            IpAddr::V6(_) if self.is_link_local() => {}
            IpAddr::V6(_) => {
                address.lifetime = Some((self.lifetime.map_or(FOREVER, |(valid, _)| valid), 0));
            }
        }
        address
    }

    /// The same address as it was before it was kept for probes, with what is left of its lifetime now.
    #[must_use]
    pub fn as_before(&self, before: &Self) -> Self {
        let lifetime = match (self.lifetime, before.lifetime) {
            (Some((valid, _)), Some((_, preferred))) => Some((valid, preferred.min(valid))),
            (Some((valid, _)), None) if valid != FOREVER => Some((valid, valid)),
            _ => None,
        };
        Self { lifetime, ..before.clone() }
    }

    /// Whether sockets can use it: duplicate address detection is over, and no other host has it.
    pub fn is_ready(&self) -> bool {
        let has = |flag: AddressFlags| self.flags & flag.bits() != 0;
        !self.is_duplicate() && (!has(AddressFlags::Tentative) || has(AddressFlags::Optimistic))
    }
}

impl Route {
    /// The family of its destination.
    pub fn is_ipv4(&self) -> bool {
        self.message().header.address_family == AddressFamily::Inet
    }

    /// Whether ordinary traffic uses it: other tables need a rule, and each interface has link-local destinations of its own.
    pub fn is_of_traffic(&self) -> bool {
        ORDINARY.contains(&self.table()) && !self.is_link_local()
    }

    /// Whether it sends from this address.
    pub fn sends_from(&self, ip: IpAddr) -> bool {
        use rtnetlink::packet_route::route::RouteAddress;
        self.message().attributes.iter().any(|attribute| match attribute {
            RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => IpAddr::V4(*v4) == ip,
            RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => IpAddr::V6(*v6) == ip,
            _ => false,
        })
    }
}

impl Links {
    /// The routes of both families by which an interface transmits ordinary traffic ([`Route::is_of_traffic`]). The call
    /// blocks.
    pub fn routes_by(&self, ifindex: u32) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        read_routes_through(&BTreeSet::from([ifindex]), |route| {
            if route.is_of_traffic() {
                routes.push(route);
            }
        })?;
        Ok(routes)
    }

    /// Changes an address that an interface has, in one step where the kernel can. For a moment an IPv4 address is absent:
    /// its scope and its flags never change.
    pub async fn change_address(
        &self,
        ifindex: u32,
        name: &str,
        from: &Address,
        to: &Address,
    ) -> Result<(), Error> {
        if from.ip.is_ipv4() {
            self.delete_address(ifindex, name, from).await?;
            return self.add_address(ifindex, name, to).await;
        }
        let mut request = self.handle.address().add(ifindex, to.ip, to.prefix).replace();
        *request.message_mut() = to.message(ifindex);
        request.execute().await.map_err(|error| Error::kernel(format!("change {to} on {name}"), error))
    }

    /// Leads the packets of a test address to its own subnet through its interface, and no other packets. Returns whether the
    /// rule was missing.
    pub async fn add_test_route(&self, ifindex: u32, ip: Ipv4Addr, prefix: u8) -> Result<bool, Error> {
        let what = || format!("lead packets of {ip} through interface {ifindex}");
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(ip & netmask(prefix), prefix)
            .output_interface(ifindex)
            .scope(RouteScope::Link)
            .protocol(RouteProtocol::Static)
            .table_id(TABLE.wrapping_add(ifindex))
            .build();
        let route = Route::leading(route).expect("a unicast route");
        // What is there is not made anew: every listener would receive a message.
        let there = read_table(TABLE.wrapping_add(ifindex))?;
        if !there.iter().any(|known| known.uses(ifindex) && known.same_destination(&route)) {
            self.replace_route(&route).await?;
        }
        // A rule that exists is refused without a message to listeners.
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule(ifindex, ip);
        match request.execute().await.map_err(|error| Error::kernel(what(), error)) {
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Removes that route and rule, whether or not the interface is there.
    pub async fn delete_test_route(&self, ifindex: u32, ip: Ipv4Addr) -> Result<(), Error> {
        let what = || format!("forget that packets of {ip} are led through interface {ifindex}");
        let request = self.handle.rule().del(rule(ifindex, ip));
        match request.execute().await.map_err(|error| Error::kernel(what(), error)) {
            Err(error) if !error.is_missing() => return Err(error),
            _ => {}
        }
        for route in read_table(TABLE.wrapping_add(ifindex))? {
            self.delete_route(&route.through(ifindex, ifindex)).await?;
        }
        Ok(())
    }
}

/// The interface index of the member to which a rule leads, and its test address, if it is such a rule.
pub(super) fn of_rule(rule: &RuleMessage) -> Option<(u32, Ipv4Addr)> {
    let table = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    })?;
    let source = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Source(IpAddr::V4(source)) => Some(*source),
        _ => None,
    })?;
    Some((table.checked_sub(TABLE)?, source))
}

/// The rule that has packets of this address, and no others, look into the table of this interface.
fn rule(ifindex: u32, ip: Ipv4Addr) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.src_len = 32;
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Source(ip.into()));
    message.attributes.push(RuleAttribute::Priority(PRIORITY));
    message.attributes.push(RuleAttribute::Table(TABLE.wrapping_add(ifindex)));
    message
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::testing::in_namespace;

    fn address(text: &str, prefix: u8) -> Address {
        Address::new(text.parse().unwrap(), prefix)
    }

    #[test]
    fn test_address_is_recognized_and_restored() {
        for before in [
            address("192.168.178.203", 24),
            Address { lifetime: Some((600, 300)), ..address("192.168.178.203", 24) },
            address("2001:db8::203", 64),
            Address { lifetime: Some((600, 300)), ..address("2001:db8::203", 64) },
        ] {
            assert!(!before.is_for_tests(), "{before:?}");
            let mut kept = before.for_tests();
            assert_eq!(kept.as_before(&before), before);
            // The kernel's flag, which user space does not set.
            if kept.ip.is_ipv6() {
                kept.flags |= AddressFlags::Deprecated.bits();
            }
            assert!(kept.is_for_tests(), "{kept:?}");
        }
        assert!(address("fe80::203", 64).is_for_tests());
        assert_eq!(address("fe80::203", 64).for_tests().lifetime, None);
        let renewed = Address { lifetime: Some((900, 0)), ..address("2001:db8::203", 64).for_tests() };
        assert_eq!(renewed.as_before(&address("2001:db8::203", 64)).lifetime, Some((900, 900)));
    }

    #[test]
    fn test_address_is_kept_and_has_no_route() {
        in_namespace(|links| async move {
            let (eth0, _) = links.add_pair("eth0", "sw0").await;
            for address in [address("192.168.178.203", 24), address("2001:db8::203", 64).without_detection()]
            {
                links.add_address(eth0.ifindex, "eth0", &address).await.unwrap();
            }
            links.add_default_routes(&eth0).await;
            let routes = links.routes_by(eth0.ifindex).unwrap();
            let mut shown: Vec<String> = routes.iter().map(Route::to_string).collect();
            shown.sort();
            // IPv4: default, connected, broadcast. IPv6: default and connected.
            assert_eq!(
                shown,
                [
                    "192.168.178.0/24",
                    "192.168.178.255/32 table 255",
                    "2001:db8::/64 metric 256",
                    "default via 192.168.178.1 metric 100",
                    "default via 2001:db8::1 metric 1024",
                ]
            );
            for address in links.addresses_of(eth0.ifindex).unwrap() {
                if !address.is_for_tests() {
                    let kept = address.for_tests();
                    links.change_address(eth0.ifindex, "eth0", &address, &kept).await.unwrap();
                }
            }
            for route in links.routes_by(eth0.ifindex).unwrap() {
                links.delete_route(&route.through(eth0.ifindex, eth0.ifindex)).await.unwrap();
            }
            assert_eq!(links.routes_by(eth0.ifindex).unwrap(), []);
            let there = links.addresses_of(eth0.ifindex).unwrap();
            assert_eq!(there.iter().filter(|address| address.ip.is_ipv4()).count(), 1);
            assert!(there.iter().all(Address::is_for_tests), "{there:?}");
        });
    }

    #[test]
    fn a_test_route_is_seen_by_the_test_address_alone() {
        in_namespace(|links| async move {
            let (eth0, _) = links.add_pair("eth0", "sw0").await;
            let test = address("10.9.9.203", 24).for_tests();
            let ip = Ipv4Addr::new(10, 9, 9, 203);
            links.add_address(eth0.ifindex, "eth0", &test).await.unwrap();
            for _ in 0..2 {
                links.add_test_route(eth0.ifindex, ip, 24).await.unwrap();
            }
            let connects = |from: Option<Ipv4Addr>| {
                let socket = std::net::UdpSocket::bind((from.unwrap_or(Ipv4Addr::UNSPECIFIED), 0)).unwrap();
                socket.connect("10.9.9.1:9").is_ok()
            };
            assert!(connects(Some(ip)) && !connects(None));
            for _ in 0..2 {
                links.delete_test_route(eth0.ifindex, ip).await.unwrap();
            }
            assert!(!connects(Some(ip)));
            assert!(links.routes().iter().all(Route::is_link_local));
            links.add_test_route(eth0.ifindex, ip, 24).await.unwrap();
            links.delete(eth0.ifindex, "eth0").await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            links.delete_test_route(eth0.ifindex, ip).await.unwrap();
        });
    }
}
