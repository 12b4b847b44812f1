//! What the kernel says of the interfaces of groups and their addresses, read once for a report.

use std::collections::{BTreeMap, BTreeSet};

use rtnetlink::packet_route::link::LinkFlags;

use crate::{
    control::request::{Refused, reason},
    daemon::group::RunningGroup,
    link::{Address, Ioctl, Links},
};

/// What the kernel says of interfaces and addresses. It decides whether an address can be used, and their order.
pub struct Kernel {
    /// By their indexes. One that cannot be read is missing, as one that does not exist.
    pub interfaces: BTreeMap<u32, Interface>,
    /// The members' interfaces with an XDP program.
    pub with_xdp: BTreeSet<u32>,
    addresses: BTreeMap<u32, Vec<Address>>,
}

/// An interface, as the kernel knows it.
#[derive(Clone, Copy)]
pub struct Interface {
    /// Flags (`IFF_UP` and the rest).
    pub flags: LinkFlags,
    /// MTU in bytes.
    pub mtu: u32,
}

impl Kernel {
    /// Of these groups.
    pub async fn read(links: &Links, groups: &[&RunningGroup]) -> Result<Self, Refused> {
        let all = links.addresses().map_err(|error| {
            Refused::new(reason::KERNEL, format!("{error}; addresses are shown from there"))
        })?;
        let mut addresses: BTreeMap<u32, Vec<Address>> = BTreeMap::new();
        for (ifindex, address) in all {
            addresses.entry(ifindex).or_default().push(address);
        }
        let ioctl = Ioctl::open()
            .map_err(|error| Refused::new(reason::KERNEL, format!("interfaces cannot be read: {error}")))?;
        let read = |ifindex| {
            let name = ioctl.name(ifindex)?;
            Some((ifindex, Interface { flags: ioctl.flags(&name)?, mtu: ioctl.mtu(&name)? }))
        };
        let interfaces = groups.iter().flat_map(|group| group.devices()).filter_map(read).collect();
        let mut with_xdp = BTreeSet::new();
        for group in groups {
            let dropping = group.members.iter().filter(|(number, _)| group.datapath.has_early_drop(**number));
            for (_, member) in dropping {
                if let Ok(Some(device)) = links.device(member.ifindex).await
                    && device.xdp.is_some()
                {
                    with_xdp.insert(member.ifindex);
                }
            }
        }
        Ok(Self { interfaces, with_xdp, addresses })
    }

    /// The addresses of an interface.
    pub fn addresses_of(&self, ifindex: u32) -> &[Address] {
        self.addresses.get(&ifindex).map_or(&[], Vec::as_slice)
    }
}
