//! What the NICs of a group get back when the group is removed without its daemon, or its interface was deleted.

use std::collections::BTreeMap;

use super::{SavedGroup, SavedMember};
use crate::{
    daemon::migration::{Configuration, Place, restore_all},
    link::{Address, Device, Error, Links, Route},
    types::Origin,
};

impl SavedGroup {
    /// Restores the configuration of the NICs, as [`restore_all`] does, and returns it.
    ///
    /// # Errors
    /// Of the kernel, if it does not list the interfaces or what the group interface has.
    pub async fn restore(
        &self,
        links: &Links,
        group: &str,
        interface: Option<Place<'_>>,
    ) -> Result<BTreeMap<String, Configuration>, Error> {
        let devices = links.devices()?;
        let restored = self.restored(&devices);
        restore_all(links, &devices, group, interface, &restored).await?;
        Ok(restored)
    }

    /// The addresses and routes of each interface. To the one that was moved from it, the first member that exists gets what files
    /// added, which is the network of a host that was booted with the group, and what came from interfaces that do not exist any more.
    fn restored(&self, devices: &[Device]) -> BTreeMap<String, Configuration> {
        let exists = |name: &str| devices.iter().any(|device| device.name == name);
        let present = |member: &&SavedMember| member.absent.is_none() && exists(&member.name);
        let Some(first) = self.members.values().find(present) else { return self.moved.clone() };
        let (mut restored, missing): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.moved.clone().into_iter().partition(|(name, _)| exists(name));
        let mut addresses: Vec<Address> =
            missing.values().flat_map(|moved| moved.addresses.clone()).collect();
        let of_files = self.added.iter().filter(|added| added.origin == Origin::File);
        addresses.extend(of_files.map(|added| Address::new(added.address.address(), added.address.prefix())));
        let is_moved = |ip| restored.values().flat_map(|moved| &moved.addresses).any(|known| known.ip == ip);
        addresses.retain(|address| !is_moved(address.ip));

        let ifindex = restored.get(&first.name).map_or(first.ifindex, |moved| moved.ifindex);
        let of_missing = missing.values().flat_map(|moved| {
            // The kernel adds its own with the addresses.
            let routes = moved.routes.iter().filter(|route| !route.is_of_kernel());
            routes.map(|route| route.through(moved.ifindex, ifindex))
        });
        let of_files = self.routes.iter().map(|entry| Route::of_entry(entry, ifindex));
        let mut routes: Vec<Route> = of_missing.chain(of_files).collect();
        let is_moved = |route: &Route| {
            restored
                .values()
                .flat_map(|moved| &moved.routes)
                .any(|known| known.destination() == route.destination())
        };
        routes.retain(|route| !is_moved(route));
        let nexthops = missing.into_values().flat_map(|moved| moved.nexthops);

        let own = restored.entry(first.name.clone()).or_default();
        own.ifindex = ifindex;
        own.addresses.extend(addresses);
        own.routes.extend(routes);
        own.nexthops.extend(nexthops);
        restored
    }
}
