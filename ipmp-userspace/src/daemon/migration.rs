//! Moving addresses and routes between a NIC and the group interface without interruption.
//!
//! The session that runs `ipmpctl attach` often uses the NIC that is attached. So addresses, then routes are copied first,
//! each route replaced in one step. Only then the old interface is cleared. An established connection has its local
//! address, and a route to its peer, at every moment.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::link::{Address, Device, Error, Links, Route};

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
}

impl Configuration {
    /// Whether there is nothing to move.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.routes.is_empty()
    }

    /// The configuration of an interface.
    pub async fn of(links: &Links, ifindex: u32) -> Result<Self, Error> {
        let addresses = links.addresses_of(ifindex).await?;
        let addresses =
            addresses.into_iter().filter(|address| address.is_global() && !address.is_duplicate()).collect();
        let routes = links.routes().await?;
        let routes =
            routes.into_iter().filter(|route| route.uses(ifindex) && !route.is_link_local()).collect();
        Ok(Self { ifindex, addresses, routes })
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
        }
    }

    /// The part that `now` has, too: what was removed since is not restored.
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
        let there = links.addresses_of(to.ifindex).await?;
        for address in &self.addresses {
            if there.iter().any(|known| known.ip == address.ip) {
                continue;
            }
            links.add_address(to.ifindex, to.name, &address.clone().without_detection()).await?;
            copied.addresses.push(address.clone());
        }
        let present = links.routes().await?;
        // A gateway must be reachable before a route can name it.
        let mut routes: Vec<&Route> = self.routes.iter().collect();
        routes.sort_by_key(|route| route.has_gateway());
        for route in routes {
            if let Some(id) = route.nexthop_object() {
                copied.notes.push(format!(
                    "the route {route} uses nexthop object {id}, which stays on {}: point it at {} by hand",
                    from.name, to.name
                ));
                continue;
            }
            // The kernel adds the route of an address with the address, and another member may have had the same route.
            if present.iter().any(|known| known.uses(to.ifindex) && known.same_destination(route)) {
                copied.in_both.push(route.clone());
                continue;
            }
            links.replace_route(&route.through(self.ifindex, to.ifindex)).await?;
            copied.replaced.push(route.through(self.ifindex, from.ifindex));
        }
        Ok(())
    }

    /// Clears the old interface, after [`copy`](Self::copy).
    pub async fn clear(&self, links: &Links, from: Place<'_>, copied: &Copied) -> Result<(), Error> {
        for route in &copied.in_both {
            // The kernel deletes its own with their addresses.
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

/// What was added to the new interface.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// Addresses that were added.
    pub addresses: Vec<Address>,
    /// Routes that were replaced, as they were before.
    replaced: Vec<Route>,
    /// Routes that both interfaces have.
    in_both: Vec<Route>,
    /// Notes for the operator.
    pub notes: Vec<String>,
}

impl Copied {
    /// Undoes everything, as far as the kernel allows.
    pub async fn undo(&self, links: &Links, to: Place<'_>) {
        // In reverse order: a gateway must be reachable while a route uses it.
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
