//! Listening to multicast groups: the memberships that switches and network cards are told of.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use crate::namespace::Namespace;

/// Memberships, for as long as this value is kept.
#[derive(Debug)]
pub struct Listening {
    _sockets: Vec<Socket>,
}

/// Joins multicast groups on an interface. Whatever socket is bound to a port then hears what comes for them.
pub fn listen(namespace: &Namespace, interface: &str, groups: &[IpAddr]) -> Result<Listening> {
    let index = namespace.link(interface)?.index;
    let join = |group: &IpAddr| -> std::io::Result<Socket> {
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
    let sockets = namespace.run(|| groups.iter().map(join).collect::<std::io::Result<Vec<_>>>());
    let sockets =
        sockets.with_context(|| format!("cannot join {groups:?} on {interface} of {}", namespace.name()))?;
    Ok(Listening { _sockets: sockets })
}
