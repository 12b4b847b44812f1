//! What the routing table says of targets. It is read beside, a moment after it has changed.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use crate::daemon::{
    event_loop::Engine,
    group::{Group, now},
};
use crate::{
    core::{Input, Time},
    link::{Change, Error, Links, Route},
    types::Family,
};

/// Routes change together: so long after the first of them all are read.
const SETTLE: Duration = Duration::from_millis(100);

/// What a question that was asked beside has brought.
#[derive(Debug)]
pub enum Brought {
    /// Something may have changed.
    Change(Change),
    /// The routes of our interfaces.
    Table(Table),
    /// They could not be read.
    NoTable,
}

/// The routing table, as far as it leads through our interfaces.
#[derive(Debug)]
pub struct Table {
    routes: Vec<Route>,
    /// Every address of this host.
    own: BTreeSet<IpAddr>,
}

impl Table {
    async fn read(links: &Links, interfaces: &BTreeSet<u32>) -> Result<Self, Error> {
        let mut routes = Vec::new();
        for ifindex in interfaces {
            routes.extend(links.routes_of(*ifindex).await?);
        }
        let own = links.addresses().await?.into_iter().map(|(_, address)| address.ip).collect();
        Ok(Self { routes, own })
    }

    /// Targets of host routes, and next hops of all others, of a group with this interface and these members. Through a
    /// member alone lead only host routes: its operator names a target so that its data addresses do not reach.
    fn targets(&self, family: Family, group: u32, members: &BTreeSet<u32>) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let (mut hosts, mut routers) = (Vec::new(), Vec::new());
        for route in &self.routes {
            let of_group = route.uses(group);
            if !of_group && !members.iter().any(|member| route.uses(*member)) {
                continue;
            }
            let next_hops = route.next_hops(|ifindex| ifindex == group || members.contains(&ifindex));
            match route.host() {
                // To itself, or on the link: either names it.
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

/// When the table is to be read.
#[derive(Debug, Default)]
pub struct Reading {
    due: Option<Time>,
    going_on: bool,
}

impl Reading {
    /// Something has changed.
    pub fn soon(&mut self) {
        self.due.get_or_insert_with(|| now() + SETTLE);
    }

    /// When it is to begin.
    pub fn next(&self) -> Option<Time> {
        self.due.filter(|_| !self.going_on)
    }
}

impl Group {
    /// What this table says of the group; nothing, if that has been told.
    fn routes_told(&mut self, table: &Table) -> Vec<Input> {
        let members = self.members.values().map(|member| member.ifindex).collect();
        let mut events = Vec::new();
        for (family, told) in Family::ALL.into_iter().zip(&mut self.routes) {
            let targets = table.targets(family, self.interface.ifindex, &members);
            if *told != targets {
                told.clone_from(&targets);
                let (hosts, routers) = targets;
                events.push(Input::Routes { family, hosts, routers });
            }
        }
        events
    }
}

impl Engine {
    /// A route has changed.
    pub(in crate::daemon) fn route_changed(&mut self, route: &Route) {
        if self.groups.values().any(|group| group.devices().any(|ifindex| route.uses(ifindex))) {
            self.reading.soon();
        }
    }

    /// Something about an interface has changed that routes may depend on: the kernel drops some without a word.
    pub(in crate::daemon) fn routes_may_change(&mut self, ifindex: u32) {
        if self.groups.values().any(|group| group.devices().any(|ours| ours == ifindex)) {
            self.reading.soon();
        }
    }

    /// Reads the table, beside, if it is time.
    pub(in crate::daemon) fn read_table(&mut self, time: Time) {
        if self.reading.next().is_none_or(|due| time < due) {
            return;
        }
        self.reading = Reading { due: None, going_on: true };
        let interfaces: BTreeSet<u32> = self.groups.values().flat_map(Group::devices).collect();
        let (links, asked) = (self.links.clone(), self.asked.clone());
        tokio::spawn(async move {
            let brought = Table::read(&links, &interfaces).await.map_or_else(
                |error| {
                    // An interface has gone meanwhile; that it has is news, and the table is read again.
                    log::debug!("{error}");
                    Brought::NoTable
                },
                Brought::Table,
            );
            // Where the engine has ended nobody wants to know.
            drop(asked.send(brought));
        });
    }

    /// The table has been read, or could not be.
    pub(in crate::daemon) async fn table_read(&mut self, table: Option<&Table>) {
        self.reading.going_on = false;
        let Some(table) = table else { return };
        let (groups, mut hands) = self.with_hands();
        for group in groups.values_mut() {
            for event in group.routes_told(table) {
                group.tell(&mut hands, event).await;
            }
        }
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
        let table = Table { routes, own: own.iter().map(|text| ip(text)).collect() };
        table.targets(Family::V4, GROUP, &BTreeSet::from([MEMBER]))
    }

    #[test]
    fn host_routes_name_targets_and_others_their_routers() {
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
    fn a_member_has_host_routes_and_no_routers() {
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
    fn of_several_next_hops_those_of_the_group_count() {
        let hop = |via: &str, ifindex| {
            RouteNextHopBuilder::new_ipv4().via(ip(via)).unwrap().interface(ifindex).build()
        };
        let hops = vec![hop("192.168.178.1", GROUP), hop("192.168.178.2", GROUP), hop("172.16.0.1", 99)];
        let message = RouteMessageBuilder::<Ipv4Addr>::new().multipath(hops).build();
        let (_, routers) = targets(vec![Route::parse(message).unwrap()], &[]);
        assert_eq!(routers, [ip("192.168.178.1"), ip("192.168.178.2")]);
    }

    #[test]
    fn each_family_has_its_own() {
        let router: Ipv6Addr = "fe80::1".parse().unwrap();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().gateway(router).output_interface(GROUP).build();
        let routes = vec![Route::parse(v6).unwrap(), v4("0.0.0.0", 0, Some("192.168.178.1"), GROUP)];
        let table = Table { routes, own: BTreeSet::new() };
        let of = |family| table.targets(family, GROUP, &BTreeSet::new()).1;
        assert_eq!((of(Family::V4), of(Family::V6)), (vec![ip("192.168.178.1")], vec![ip("fe80::1")]));
    }
}
