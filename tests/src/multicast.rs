//! Multicast group memberships.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use crate::namespace::Namespace;

/// Multicast group memberships. Dropping this value leaves the groups.
#[derive(Debug)]
pub struct Memberships {
    _sockets: Vec<Socket>,
}

/// Joins multicast groups on an interface, for all sockets of the namespace.
pub fn join(namespace: &Namespace, interface: &str, groups: &[IpAddr]) -> Result<Memberships> {
    let index = namespace.link(interface)?.index;
    let join_one = |group: &IpAddr| -> std::io::Result<Socket> {
        let domain = if group.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, None)?;
        match group {
            IpAddr::V4(group) => {
                socket.join_multicast_v4_n(group, &InterfaceIndexOrAddress::Index(index))?;
            }
            IpAddr::V6(group) => socket.join_multicast_v6(group, index)?,
        }
        Ok(socket)
    };
    let sockets = namespace.run(|| groups.iter().map(join_one).collect::<std::io::Result<Vec<_>>>());
    let sockets =
        sockets.with_context(|| format!("cannot join {groups:?} on {interface} of {}", namespace.name()))?;
    Ok(Memberships { _sockets: sockets })
}
