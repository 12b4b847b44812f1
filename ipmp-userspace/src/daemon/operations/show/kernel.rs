//! What the kernel says of the interfaces of groups and their addresses, read once for a report.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    control::request::{Refused, reason},
    daemon::group::RunningGroup,
    link::{Address, Device, Links},
};

/// Most interfaces that are requested from the kernel one by one. A list of all is faster for more.
const MAX_SINGLE: usize = 16;

/// What the kernel says of interfaces and addresses. It decides whether an address can be used, and their order.
pub struct Kernel {
    /// By their indexes.
    pub devices: BTreeMap<u32, Device>,
    addresses: BTreeMap<u32, Vec<Address>>,
}

impl Kernel {
    /// Of these groups. An interface that cannot be read is missing, as one that does not exist.
    pub async fn read(links: &Links, groups: &[&RunningGroup]) -> Result<Self, Refused> {
        let all = links.addresses().await.map_err(|error| {
            Refused::new(reason::KERNEL, format!("{error}; addresses are shown from there"))
        })?;
        let mut addresses: BTreeMap<u32, Vec<Address>> = BTreeMap::new();
        for (ifindex, address) in all {
            addresses.entry(ifindex).or_default().push(address);
        }
        let wanted: BTreeSet<u32> = groups.iter().flat_map(|group| group.devices()).collect();
        let mut devices = BTreeMap::new();
        if wanted.len() > MAX_SINGLE {
            let all = links.devices().await.unwrap_or_default();
            devices.extend(all.into_iter().map(|device| (device.ifindex, device)));
        }
        // A list may be incomplete.
        for ifindex in wanted {
            if !devices.contains_key(&ifindex)
                && let Ok(Some(device)) = links.device(ifindex).await
            {
                devices.insert(ifindex, device);
            }
        }
        Ok(Self { devices, addresses })
    }

    /// The addresses of an interface.
    pub fn addresses_of(&self, ifindex: u32) -> &[Address] {
        self.addresses.get(&ifindex).map_or(&[], Vec::as_slice)
    }
}
