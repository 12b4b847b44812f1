//! Addresses of interfaces, with everything that moving one to another interface must keep.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo},
};
use serde::{Deserialize, Serialize};

/// A lifetime that never ends, in seconds.
const FOREVER: u32 = u32::MAX;
/// Flags that the operator or an address daemon chose, and that go with the address.
const KEPT: AddressFlags = AddressFlags::Nodad
    .union(AddressFlags::Noprefixroute)
    .union(AddressFlags::Homeaddress)
    .union(AddressFlags::Mcautojoin);

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// The other end of a point-to-point address.
    pub peer: Option<IpAddr>,
    /// Broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// Scope: 0 is global, 253 link, 254 host.
    pub scope: u8,
    /// Flags (`IFA_F_*`) as the kernel shows them.
    pub flags: u32,
    /// Metric of its prefix route, if it is not the usual one.
    pub metric: Option<u32>,
    /// Valid and preferred lifetime in seconds; `None`: for ever.
    pub lifetime: Option<(u32, u32)>,
}

impl Address {
    /// An address as `ip address add` makes it.
    pub fn new(ip: IpAddr, prefix: u8) -> Self {
        let broadcast = match ip {
            IpAddr::V4(v4) if prefix < 31 => {
                Some(Ipv4Addr::from(u32::from(v4) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0)))
            }
            _ => None,
        };
        Self { ip, prefix, peer: None, broadcast, scope: 0, flags: 0, metric: None, lifetime: None }
    }

    /// The same address without duplicate address detection, which would keep it silent for a second.
    #[must_use]
    pub fn without_detection(mut self) -> Self {
        if self.ip.is_ipv6() {
            self.flags |= AddressFlags::Nodad.bits();
        }
        self
    }

    /// Whether it is an IPv6 link-local address, which belongs to its interface and never moves.
    pub fn is_link_local(&self) -> bool {
        matches!(self.ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
    }

    /// Whether it is one that applications use: not link-local IPv6, not of host scope.
    pub fn is_global(&self) -> bool {
        !self.is_link_local() && self.scope < u8::from(AddressScope::Link)
    }

    /// Whether connections without a source may have it, and will have it tomorrow: not temporary, deprecated, tentative or duplicate.
    pub fn serves_as_source(&self) -> bool {
        let avoided = AddressFlags::Deprecated | AddressFlags::Tentative | AddressFlags::Dadfailed;
        // The same bit marks the further addresses of an IPv4 network.
        let is_temporary = self.ip.is_ipv6() && self.flags & AddressFlags::Secondary.bits() != 0;
        self.is_global() && self.peer.is_none() && !is_temporary && self.flags & avoided.bits() == 0
    }

    /// Whether duplicate address detection found another host with it.
    pub fn is_duplicate(&self) -> bool {
        self.flags & AddressFlags::Dadfailed.bits() != 0
    }

    /// Whether duplicate address detection is not over yet: until then it must be neither announced nor answered for
    /// (RFC 4862 5.4), and while it is optimistic not with the override flag (RFC 4429 3.3).
    pub fn is_tentative(&self) -> bool {
        self.flags & AddressFlags::Tentative.bits() != 0 && !self.is_duplicate()
    }

    /// Reads a message: the interface index and the address. `None` if it has no unicast address.
    pub fn parse(message: &AddressMessage) -> Option<(u32, Self)> {
        let mut address = None;
        let mut local = None;
        let mut parsed = Self::new(Ipv4Addr::UNSPECIFIED.into(), message.header.prefix_len);
        parsed.broadcast = None;
        parsed.flags = message.header.flags.bits().into();
        parsed.scope = message.header.scope.into();
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Broadcast(ip) => parsed.broadcast = Some(*ip),
                AddressAttribute::Flags(flags) => parsed.flags = flags.bits(),
                AddressAttribute::RoutePriority(metric) => parsed.metric = Some(*metric),
                AddressAttribute::CacheInfo(info)
                    if info.ifa_valid != FOREVER || info.ifa_preferred != FOREVER =>
                {
                    parsed.lifetime = Some((info.ifa_valid, info.ifa_preferred));
                }
                _ => {}
            }
        }
        parsed.ip = local.or(address)?;
        parsed.peer = address.filter(|address| *address != parsed.ip);
        Some((message.header.index, parsed))
    }

    /// The message that gives this address to an interface, or takes it away.
    pub(super) fn message(&self, ifindex: u32) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = if self.ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.prefix_len = self.prefix;
        message.header.scope = self.scope.into();
        message.header.index = ifindex;
        message.attributes.push(AddressAttribute::Local(self.ip));
        message.attributes.push(AddressAttribute::Address(self.peer.unwrap_or(self.ip)));
        if let Some(broadcast) = self.broadcast {
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        let flags = AddressFlags::from_bits_retain(self.flags) & KEPT;
        if !flags.is_empty() {
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        if let Some(metric) = self.metric {
            message.attributes.push(AddressAttribute::RoutePriority(metric));
        }
        if let Some((valid, preferred)) = self.lifetime {
            let mut info = CacheInfo::default();
            info.ifa_valid = valid;
            info.ifa_preferred = preferred;
            message.attributes.push(AddressAttribute::CacheInfo(info));
        }
        message
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_message() {
        for address in [
            Address::new("192.168.178.200".parse().unwrap(), 24),
            Address::new("192.168.178.200".parse().unwrap(), 32),
            Address::new("2001:db8::1".parse().unwrap(), 64).without_detection(),
            Address {
                peer: Some("10.0.0.2".parse().unwrap()),
                ..Address::new("10.0.0.1".parse().unwrap(), 31)
            },
            Address {
                metric: Some(100),
                lifetime: Some((600, 300)),
                flags: AddressFlags::Noprefixroute.bits(),
                ..Address::new("10.0.0.1".parse().unwrap(), 8)
            },
        ] {
            assert_eq!(Address::parse(&address.message(3)), Some((3, address)));
        }
    }

    #[test]
    fn the_broadcast_address_is_the_last_of_the_network() {
        let broadcast = |text: &str, prefix| Address::new(text.parse().unwrap(), prefix).broadcast;
        assert_eq!(broadcast("192.168.178.200", 24), Some(Ipv4Addr::new(192, 168, 178, 255)));
        assert_eq!(broadcast("10.0.0.0", 31), None);
        assert_eq!(broadcast("2001:db8::1", 64), None);
    }

    #[test]
    fn what_detection_leaves_behind_does_not_move() {
        let flags = AddressFlags::Tentative | AddressFlags::Permanent | AddressFlags::Nodad;
        let address = Address { flags: flags.bits(), ..Address::new("2001:db8::1".parse().unwrap(), 64) };
        let (_, moved) = Address::parse(&address.message(3)).unwrap();
        assert_eq!(moved.flags, AddressFlags::Nodad.bits());
    }
}
