//! Moving addresses and routes between a NIC and the group interface without interruption.
//!
//! The session that runs `ipmpctl attach` often uses the NIC that is attached. So addresses, then routes are copied first,
//! each route replaced in one step. Only then the old interface is cleared. An established connection has its local
//! address, and a route to its peer, at every moment. It has the MAC of its gateway as well: what the old interface knows of
//! its neighbours is copied before the routes that need it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use crate::link::{Address, Destination, Device, Error, Links, Nexthop, Route};

type RoutesByDestination = BTreeMap<Destination, Vec<Route>>;

/// An interface that has a configuration, or gets it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: &'a str,
}

impl<'a> From<&'a Device> for Place<'a> {
    fn from(device: &'a Device) -> Self {
        Self { ifindex: device.ifindex, name: &device.name }
    }
}

/// The addresses and routes of an interface that applications use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Interface that the routes name.
    pub ifindex: u32,
    /// Global addresses, in their order.
    pub addresses: Vec<Address>,
    /// Routes through the interface.
    pub routes: Vec<Route>,
    /// Nexthop objects of the interface.
    #[serde(default)]
    pub nexthops: Vec<Nexthop>,
}

impl Configuration {
    /// Whether there is nothing to move.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.routes.is_empty() && self.nexthops.is_empty()
    }

    /// The configuration of an interface.
    pub async fn of(links: &Links, ifindex: u32) -> Result<Self, Error> {
        let addresses = links.addresses_of(ifindex)?;
        let addresses =
            addresses.into_iter().filter(|address| address.is_global() && !address.is_duplicate()).collect();
        let mut routes = links.routes_of(ifindex)?;
        routes.retain(|route| !route.is_link_local());
        let nexthops = links.nexthops_of(ifindex)?;
        Ok(Self { ifindex, addresses, routes, nexthops })
    }

    /// The same without addresses that stay, the kernel's routes for them, and their use as a preferred source.
    #[must_use]
    pub fn without(&self, stay: &[IpAddr]) -> Self {
        let sends = |route: &Route| stay.iter().any(|ip| route.sends_from(*ip));
        let routes = self.routes.iter().filter(|route| !(route.is_of_kernel() && sends(route)));
        Self {
            ifindex: self.ifindex,
            addresses: self.addresses.iter().filter(|address| !stay.contains(&address.ip)).cloned().collect(),
            routes: routes
                .map(|route| if sends(route) { route.without_source() } else { route.clone() })
                .collect(),
            nexthops: self.nexthops.clone(),
        }
    }

    /// The part that `now` has, too: what was removed since is not restored.
    #[must_use]
    pub fn still_in(&self, now: &Self) -> Self {
        let addresses =
            self.addresses.iter().filter(|address| now.addresses.iter().any(|there| there.ip == address.ip));
        let there: BTreeSet<Destination> = now.routes.iter().map(Route::destination).collect();
        let routes = self.routes.iter().filter(|route| there.contains(&route.destination()));
        let nexthops =
            self.nexthops.iter().filter(|nexthop| now.nexthops.iter().any(|there| there.id == nexthop.id));
        Self {
            ifindex: self.ifindex,
            addresses: addresses.cloned().collect(),
            routes: routes.cloned().collect(),
            nexthops: nexthops.cloned().collect(),
        }
    }

    /// Copies the configuration: from here on the host can be reached through either interface. On an error nothing has
    /// changed.
    pub async fn copy(&self, links: &Links, from: Place<'_>, to: Place<'_>) -> Result<Copied, Error> {
        let mut copied = Copied::default();
        match self.try_copy(links, from, to, &mut copied).await {
            Ok(()) => Ok(copied),
            Err(error) => {
                copied.undo(links, to).await;
                Err(error)
            }
        }
    }

    async fn try_copy(
        &self,
        links: &Links,
        from: Place<'_>,
        to: Place<'_>,
        copied: &mut Copied,
    ) -> Result<(), Error> {
        let there = links.addresses_of(to.ifindex)?;
        // The kernel lists the newest IPv6 address first: added in reverse, they keep their order.
        let (v4, v6): (Vec<_>, Vec<_>) = self.addresses.iter().partition(|address| address.ip.is_ipv4());
        for address in v4.into_iter().chain(v6.into_iter().rev()) {
            if there.iter().any(|known| known.ip == address.ip) {
                continue;
            }
            links.add_address(to.ifindex, to.name, &address.clone().without_detection()).await?;
            copied.addresses.push(address.clone());
        }
        if from.ifindex != to.ifindex {
            match links.copy_neighbours(from.ifindex, to.ifindex).await {
                Ok(fixed) => copied.neighbours = fixed,
                Err(error) => log::debug!("{error}: {} learns its neighbours again", to.name),
            }
        }
        let mut present = RoutesByDestination::new();
        for route in links.routes_beside(&self.routes)? {
            present.entry(route.destination()).or_default().push(route);
        }
        // A gateway must be reachable before a route or a nexthop object can name it.
        let (by_gateway, on_link): (Vec<_>, Vec<_>) = self
            .routes
            .iter()
            .filter(|route| route.nexthop_object().is_none())
            .partition(|r| r.has_gateway());
        for route in on_link {
            self.copy_route(links, &present, (from, to), route, copied).await?;
        }
        for nexthop in &self.nexthops {
            links.point_nexthop(nexthop, to.ifindex, to.name)?;
            copied.nexthops.push((nexthop.clone(), from.ifindex, from.name.to_owned()));
        }
        for route in by_gateway {
            self.copy_route(links, &present, (from, to), route, copied).await?;
        }
        // Routes that name a nexthop object have moved with it, unless the kernel deleted both with the interface.
        for route in self.routes.iter().filter(|route| route.nexthop_object().is_some()) {
            if !present.contains_key(&route.destination()) {
                links.replace_route(&route.through(self.ifindex, to.ifindex).by_object()).await?;
            }
        }
        Ok(())
    }

    async fn copy_route(
        &self,
        links: &Links,
        present: &RoutesByDestination,
        (from, to): (Place<'_>, Place<'_>),
        route: &Route,
        copied: &mut Copied,
    ) -> Result<(), Error> {
        let moved = route.through(self.ifindex, to.ifindex);
        let old = route.through(self.ifindex, from.ifindex);
        let others = || present.get(&route.destination()).into_iter().flatten();
        // The kernel adds the route of an address with the address, and another member may have had the same route.
        let is_there =
            |known: &Route| known.uses(to.ifindex) && (route.is_of_kernel() || known.same_route(&moved));
        if others().any(is_there) {
            copied.in_both.push(old);
        } else if others().any(|known| !known.same_route(&old)) {
            // A replacement could hit another route: this one is added, and the old one is deleted later.
            let first = others().next().is_some_and(|known| known.same_route(&old));
            links.add_route_beside(&moved, first).await?;
            copied.beside.push(moved);
            copied.in_both.push(old);
        } else {
            links.replace_route(&moved).await?;
            copied.replaced.push(old);
        }
        Ok(())
    }

    /// Clears the old interface, after [`copy`](Self::copy).
    pub async fn clear(&self, links: &Links, from: Place<'_>, copied: &Copied) -> Result<(), Error> {
        for neighbour in &copied.neighbours {
            links.delete_neighbour(from.ifindex, *neighbour).await?;
        }
        let (of_kernel, others): (Vec<_>, Vec<_>) =
            copied.in_both.iter().partition(|route| route.is_of_kernel());
        for route in others {
            links.delete_route(route).await?;
        }
        // Secondary addresses first: the kernel drops them with their primary.
        for address in self.addresses.iter().rev() {
            links.delete_address(from.ifindex, from.name, address).await?;
        }
        // The kernel deletes its own routes with their addresses, but not while an address of the same subnet is
        // `noprefixroute` (net/ipv6/addrconf.c, check_cleanup_prefix_route).
        for route in of_kernel {
            links.delete_route(route).await?;
        }
        Ok(())
    }
}

/// Restores what was moved to a group interface to the interfaces it came from, as far as the group interface still has it;
/// all of it if the group interface was deleted. Errors are logged. The group interface is not cleared: it is deleted next.
pub async fn restore_all(
    links: &Links,
    devices: &[Device],
    group: &str,
    interface: Option<Place<'_>>,
    moved: &BTreeMap<String, Configuration>,
) -> Result<(), Error> {
    let mut parts = Vec::new();
    for (name, configuration) in moved {
        let Some(device) = devices.iter().find(|device| device.name == *name) else {
            log::warn!(group = group, member = name.as_str(); "{name} does not exist: its addresses are removed with the group");
            continue;
        };
        let configuration = match interface {
            // What was not moved, because the daemon was killed meanwhile, is still on the member.
            Some(place) => configuration.still_in(&Configuration::of(links, place.ifindex).await?),
            None => configuration.clone(),
        };
        parts.push((device, configuration));
    }
    // A route with next hops through several interfaces needs the addresses of all. The records of those that were
    // attached later name the group interface in it: the first record has it as it was.
    let exists = |ifindex: u32| {
        interface.is_none_or(|place| place.ifindex != ifindex) && devices.iter().any(|d| d.ifindex == ifindex)
    };
    let is_original = |route: &Route, own: u32, device: &Device| {
        route.through(own, device.ifindex).interfaces().into_iter().all(exists)
    };
    for has_routes in [false, true] {
        for (device, all) in &parts {
            let part = if has_routes {
                let routes = all.routes.iter().filter(|route| is_original(route, all.ifindex, device));
                Configuration { addresses: Vec::new(), routes: routes.cloned().collect(), ..all.clone() }
            } else {
                Configuration { routes: Vec::new(), nexthops: Vec::new(), ..all.clone() }
            };
            let to = Place::from(*device);
            if let Err(error) = part.copy(links, interface.unwrap_or(to), to).await {
                log::error!(group = group, member = device.name.as_str(); "{error}; add it by hand");
            }
        }
    }
    Ok(())
}

/// What was added to the new interface.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// Addresses that were added.
    pub addresses: Vec<Address>,
    /// Static neighbours that were copied.
    neighbours: Vec<IpAddr>,
    /// Routes that were replaced, as they were before.
    replaced: Vec<Route>,
    /// Routes that were added beside others to the same destination.
    beside: Vec<Route>,
    /// Routes of the old interface of which the new one has its own.
    in_both: Vec<Route>,
    /// Nexthop objects, with the index and the name of the old interface.
    nexthops: Vec<(Nexthop, u32, String)>,
}

impl Copied {
    /// Undoes everything, as far as the kernel allows.
    pub async fn undo(&self, links: &Links, to: Place<'_>) {
        for route in &self.beside {
            if let Err(error) = links.delete_route(route).await {
                log::warn!("{error}; remove it by hand");
            }
        }
        for (nexthop, ifindex, name) in &self.nexthops {
            if let Err(error) = links.point_nexthop(nexthop, *ifindex, name) {
                log::warn!("{error}; do it by hand");
            }
        }
        // In reverse order: a gateway must be reachable while a route uses it.
        for route in self.replaced.iter().rev() {
            if let Err(error) = links.replace_route(route).await {
                log::warn!("{error}; add it by hand");
            }
        }
        for neighbour in &self.neighbours {
            if let Err(error) = links.delete_neighbour(to.ifindex, *neighbour).await {
                log::warn!("{error}; remove it by hand");
            }
        }
        for address in self.addresses.iter().rev() {
            if let Err(error) = links.delete_address(to.ifindex, to.name, address).await {
                log::warn!("{error}; remove it by hand");
            }
        }
    }
}
