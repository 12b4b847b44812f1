//! The host as the command finds it: the groups of the daemon, and the interfaces and addresses of the kernel.

use crate::{
    control::{
        Client, client,
        report::{GroupReport, MemberReport},
    },
    link::{self, Address, Device, GroupInterface, Links},
};

/// Groups, interfaces and addresses of a network namespace.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The groups.
    pub groups: Vec<GroupReport>,
    /// The interfaces, without far ends of group interfaces, in the order of their index.
    pub devices: Vec<Device>,
    /// Addresses, with the index of their interface.
    pub addresses: Vec<(u32, Address)>,
}

impl Host {
    /// Reads everything. Without a daemon there are no groups.
    pub fn read(client: Option<&mut Client>) -> Result<Self, Error> {
        let groups = match client {
            Some(client) => client.groups()?,
            None => Vec::new(),
        };
        let (mut devices, addresses) = in_runtime(async |links| Ok((links.devices()?, links.addresses()?)))?;
        devices.retain(|device| !GroupInterface::is_far_end(device));
        devices.sort_by_key(|device| device.ifindex);
        Ok(Self { groups, devices, addresses })
    }

    /// The group with this group interface.
    pub fn group(&self, name: &str) -> Option<&GroupReport> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The group that this interface is a member of.
    pub fn membership(&self, name: &str) -> Option<(&GroupReport, &MemberReport)> {
        self.groups.iter().find_map(|group| {
            let member = group.members.iter().find(|member| member.name == name)?;
            Some((group, member))
        })
    }

    /// The interface of this name.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// The addresses of an interface, link-local ones excluded.
    pub fn addresses_of(&self, ifindex: u32) -> impl Iterator<Item = &Address> {
        self.addresses
            .iter()
            .filter(move |(index, address)| *index == ifindex && !address.is_link_local())
            .map(|(_, address)| address)
    }
}

/// Why the host cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon does not report its groups.
    #[error(transparent)]
    Daemon(#[from] client::Error),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] link::Error),
    /// No runtime for netlink.
    #[error("cannot wait for netlink: {0}")]
    Runtime(std::io::Error),
}

/// Sets an interface up or down.
pub fn set_up(device: &Device, up: bool) -> Result<(), Error> {
    in_runtime(async |links| links.set_up(device, up).await)
}

fn in_runtime<T>(work: impl AsyncFnOnce(Links) -> Result<T, link::Error>) -> Result<T, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(Error::Runtime)?;
    runtime.block_on(async { Ok(work(Links::open()?).await?) })
}
