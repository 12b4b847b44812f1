//! Moving addresses and routes between a NIC and the group interface without a moment in which neither has them.
//!
//! The session that typed `ipmpctl attach` often runs over the NIC that is attached. So the new place is furnished
//! first: addresses, then routes, each replaced in one step. Only then the old place is cleared. An established
//! connection finds its local address at every moment, and a route to its peer.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::link::{Address, Device, Error, Links, Route};

/// Where a configuration is, or goes.
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
}

impl Configuration {
    /// Whether there is nothing to move.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.routes.is_empty()
    }

    /// What an interface has.
    pub async fn of(links: &Links, ifindex: u32) -> Result<Self, Error> {
        let addresses = links.addresses_of(ifindex).await?;
        let addresses =
            addresses.into_iter().filter(|address| address.is_global() && !address.is_duplicate()).collect();
        let routes = links.routes().await?;
        let routes =
            routes.into_iter().filter(|route| route.uses(ifindex) && !route.is_link_local()).collect();
        Ok(Self { ifindex, addresses, routes })
    }

    /// The same without addresses that stay where they are, the kernel's routes for them, and what sends from them.
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
        }
    }

    /// The same, but only what another configuration has, too: what has been removed since does not come back.
    #[must_use]
    pub fn still_in(&self, now: &Self) -> Self {
        let addresses =
            self.addresses.iter().filter(|address| now.addresses.iter().any(|there| there.ip == address.ip));
        let routes =
            self.routes.iter().filter(|route| now.routes.iter().any(|there| there.same_destination(route)));
        Self {
            ifindex: self.ifindex,
            addresses: addresses.cloned().collect(),
            routes: routes.cloned().collect(),
        }
    }

    /// Furnishes the new place: from here on the host can be reached through either. If the kernel refuses anything,
    /// everything is as before.
    pub async fn furnish(&self, links: &Links, from: Place<'_>, to: Place<'_>) -> Result<Furnished, Error> {
        let mut furnished = Furnished::default();
        match self.try_furnish(links, from, to, &mut furnished).await {
            Ok(()) => Ok(furnished),
            Err(error) => {
                furnished.undo(links, to).await;
                Err(error)
            }
        }
    }

    async fn try_furnish(
        &self,
        links: &Links,
        from: Place<'_>,
        to: Place<'_>,
        furnished: &mut Furnished,
    ) -> Result<(), Error> {
        let there = links.addresses_of(to.ifindex).await?;
        for address in &self.addresses {
            if there.iter().any(|known| known.ip == address.ip) {
                continue;
            }
            links.add_address(to.ifindex, to.name, &address.clone().without_detection()).await?;
            furnished.addresses.push(address.clone());
        }
        let present = links.routes().await?;
        // A gateway must be reachable before a route can name it.
        let mut routes: Vec<&Route> = self.routes.iter().collect();
        routes.sort_by_key(|route| route.has_gateway());
        for route in routes {
            if let Some(id) = route.nexthop_object() {
                furnished.notes.push(format!(
                    "the route {route} uses nexthop object {id}, which stays on {}: point it at {} by hand",
                    from.name, to.name
                ));
                continue;
            }
            // The kernel has made the route of an address with it; and a route of another member's may be there.
            if present.iter().any(|known| known.uses(to.ifindex) && known.same_destination(route)) {
                furnished.doubled.push(route.clone());
                continue;
            }
            links.replace_route(&route.through(self.ifindex, to.ifindex)).await?;
            furnished.replaced.push(route.through(self.ifindex, from.ifindex));
        }
        Ok(())
    }

    /// Clears the old place, after [`furnish`](Self::furnish).
    pub async fn clear(&self, links: &Links, from: Place<'_>, furnished: &Furnished) -> Result<(), Error> {
        for route in &furnished.doubled {
            // Those of the kernel go with their addresses.
            if !route.is_of_kernel() {
                links.delete_route(&route.through(self.ifindex, from.ifindex)).await?;
            }
        }
        // Secondary addresses first: the kernel drops them with their primary.
        for address in self.addresses.iter().rev() {
            links.delete_address(from.ifindex, from.name, address).await?;
        }
        Ok(())
    }
}

/// What was put into the new place.
#[derive(Clone, Debug, Default)]
pub struct Furnished {
    /// Addresses that were added.
    pub addresses: Vec<Address>,
    /// Routes that lead through the new place now, as they were before.
    replaced: Vec<Route>,
    /// Routes that are in both places.
    doubled: Vec<Route>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

impl Furnished {
    /// Takes everything back, as far as the kernel lets us.
    pub async fn undo(&self, links: &Links, to: Place<'_>) {
        // Last first: a gateway is needed for as long as a route names it.
        for route in self.replaced.iter().rev() {
            if let Err(error) = links.replace_route(route).await {
                log::warn!("{error}; add it by hand");
            }
        }
        for address in self.addresses.iter().rev() {
            if let Err(error) = links.delete_address(to.ifindex, to.name, address).await {
                log::warn!("{error}; remove it by hand");
            }
        }
    }
}
