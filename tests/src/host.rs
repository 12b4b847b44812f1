//! The router and the peers: hosts with one interface and one address of each family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cable::Cable;
use crate::namespace::Namespace;
use crate::neighbour::{NeighbourReply, arp_request, neighbour_solicitation};
use crate::packet::PacketSocket;
use crate::ping::{Ping, ping};
use crate::{Mac, filter};

/// A host connected to a switch.
#[derive(Debug)]
pub struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) mac: Mac,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    pub(crate) cable: Cable,
}

/// The only interface of a [`Host`].
pub const INTERFACE: &str = "eth0";

/// A reply to an ARP request or a neighbour solicitation.
#[derive(Clone, Copy, Debug)]
pub struct Resolved {
    /// The Ethernet address in the reply.
    pub mac: Mac,
    /// When the reply was read.
    pub at: Instant,
}

impl Host {
    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The Ethernet address of its interface.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Its IPv4 address, a /24.
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    /// Its IPv6 address, a /64.
    pub fn v6(&self) -> Ipv6Addr {
        self.v6
    }

    /// The cable to its switch.
    pub fn cable(&self) -> &Cable {
        &self.cable
    }

    /// Enables or disables replies to echo requests of both families. Nothing else changes.
    pub fn set_echo_replies(&self, enabled: bool) -> Result<()> {
        let ignore = if enabled { "0" } else { "1" };
        self.namespace.sysctl("net.ipv4.icmp_echo_ignore_all", ignore)?;
        self.namespace.sysctl("net.ipv6.icmp.echo_ignore_all", ignore)
    }

    /// Removes all entries from its neighbour tables.
    pub fn flush_neighbours(&self) -> Result<()> {
        self.namespace.ip("-4 neigh flush all")?;
        self.namespace.ip("-6 neigh flush all")?;
        Ok(())
    }

    /// The Ethernet address of a neighbour, as its kernel has it.
    pub fn neighbour(&self, address: IpAddr) -> Result<Option<Mac>> {
        self.namespace.netlink().neighbour(address)
    }

    /// Sends one broadcast ARP request or multicast neighbour solicitation and returns all replies that are received
    /// within `wait`. The neighbour tables of its kernel are not used.
    pub fn resolve(&self, address: IpAddr, wait: Duration) -> Result<Vec<Resolved>> {
        let (ethertype, request) = match address {
            IpAddr::V4(target) => (0x0806, arp_request(self.mac, self.v4, target)?),
            IpAddr::V6(target) => (0x86dd, neighbour_solicitation(self.mac, self.v6, target)?),
        };
        let socket = PacketSocket::open(&self.namespace, Some(INTERFACE), &filter::ethertype(ethertype))?;
        socket.send(&request)?;
        let mut replies = Vec::new();
        socket.receive_for(wait, |seen, frame| {
            let reply =
                NeighbourReply::parse(frame).filter(|reply| reply.target == address && !seen.outgoing);
            replies.extend(reply.map(|reply| Resolved { mac: reply.mac, at: Instant::now() }));
        })?;
        Ok(replies)
    }

    /// Sends echo requests: see [`ping()`].
    pub fn ping(&self, address: IpAddr, count: u16, interval: Duration, timeout: Duration) -> Result<Ping> {
        ping(&self.namespace, None, address, count, interval, timeout)
    }
}
