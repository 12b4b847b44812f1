//! Routes of interfaces, kept whole: metrics, encapsulations and next hops move as they are.

use std::net::IpAddr;

use rtnetlink::{
    packet_core::{Emitable, Parseable},
    packet_route::{
        AddressFamily,
        route::{
            RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol,
            RouteType, RouteVia,
        },
    },
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Ticks a second of the times that netlink reports (`USER_HZ`).
const USER_HZ: u32 = 100;

/// A route, as its netlink message. Saved as the bytes of the message, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route(RouteMessage);

/// Metric of IPv6 routes that are added without one (`IP6_RT_PRIO_USER` in include/net/ip6_route.h).
pub const USUAL_V6_METRIC: u32 = 1024;

/// Where a route leads: destination, source, type of service, table and metric. To the kernel, two routes with the same next
/// hops and one of these are one route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination(Vec<u8>);

impl Route {
    /// Takes the message; `None` for routes that are not configuration: what the kernel keeps for local, broadcast
    /// and multicast addresses, and exceptions cloned from others.
    pub fn parse(message: RouteMessage) -> Option<Self> {
        let configured = matches!(
            message.header.kind,
            RouteType::Unicast
                | RouteType::BlackHole
                | RouteType::Unreachable
                | RouteType::Prohibit
                | RouteType::Throw
        );
        let cloned = message.header.flags.contains(RouteFlags::Cloned);
        (configured && !cloned).then_some(Self(message))
    }

    /// The same for those that lead packets anywhere but to this host: to broadcast addresses, too.
    pub(super) fn leading(message: RouteMessage) -> Option<Self> {
        let broadcast = message.header.kind == RouteType::Broadcast;
        if broadcast { Some(Self(message)) } else { Self::parse(message) }
    }

    /// Whether it leads to a broadcast address: the kernel made it.
    pub fn is_broadcast(&self) -> bool {
        self.0.header.kind == RouteType::Broadcast
    }

    /// The table that it is in.
    pub(super) fn table(&self) -> u32 {
        table_of(&self.0)
    }

    /// The same without the address that it sends from.
    #[must_use]
    pub fn without_source(&self) -> Self {
        let mut message = self.0.clone();
        message.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::PrefSource(_)));
        Self(message)
    }

    /// Whether it leads through the interface: by itself, or as one of several next hops.
    pub fn uses(&self, ifindex: u32) -> bool {
        self.0.attributes.iter().any(|attribute| match attribute {
            RouteAttribute::Oif(index) => *index == ifindex,
            RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == ifindex),
            _ => false,
        })
    }

    /// Whether it leads through other interfaces, too.
    pub fn has_other_hops(&self, ifindex: u32) -> bool {
        self.0.attributes.iter().any(|attribute| match attribute {
            RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index != ifindex),
            _ => false,
        })
    }

    /// The nexthop object that it names, which moves by itself.
    pub fn nexthop_object(&self) -> Option<u32> {
        self.0.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::NhId(id) => Some(*id),
            _ => None,
        })
    }

    /// Whether it leads to a gateway, which must be reachable when it is installed.
    pub fn has_gateway(&self) -> bool {
        self.0.attributes.iter().any(|attribute| match attribute {
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => true,
            RouteAttribute::MultiPath(hops) => !hops.is_empty(),
            _ => false,
        })
    }

    /// Whether the kernel made it, for an address: it comes and goes with it.
    pub fn is_of_kernel(&self) -> bool {
        self.0.header.protocol == RouteProtocol::Kernel
    }

    /// Whether it leads to link-local destinations, which every interface has for itself.
    pub fn is_link_local(&self) -> bool {
        self.0.attributes.iter().any(|attribute| {
            matches!(attribute, RouteAttribute::Destination(RouteAddress::Inet6(to)) if to.is_unicast_link_local())
        })
    }

    /// The one host that it leads to; `None` if it leads to several.
    pub fn host(&self) -> Option<IpAddr> {
        let to = self.0.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(to)) => Some((IpAddr::V4(*to), 32)),
            RouteAttribute::Destination(RouteAddress::Inet6(to)) => Some((IpAddr::V6(*to), 128)),
            _ => None,
        });
        to.filter(|(_, all)| self.0.header.destination_prefix_length == *all).map(|(host, _)| host)
    }

    /// Of a default route: whether it is outside of the main table, and its metric. The kernel prefers the lower ones.
    pub fn default_preference(&self) -> Option<(bool, u32)> {
        let is_default = self.0.header.destination_prefix_length == 0 && self.is_of_traffic();
        is_default.then(|| (self.table() != u32::from(RouteHeader::RT_TABLE_MAIN), self.metric()))
    }

    /// The gateways that it leads to through these interfaces.
    pub fn next_hops(&self, through: impl Fn(u32) -> bool) -> Vec<IpAddr> {
        let index = self.0.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        let one = gateway(&self.0.attributes).filter(|_| index.is_some_and(&through));
        let several = self.0.attributes.iter().filter_map(|attribute| match attribute {
            RouteAttribute::MultiPath(hops) => Some(hops),
            _ => None,
        });
        let several = several.flatten().filter(|hop| through(hop.interface_index));
        one.into_iter().chain(several.filter_map(|hop| gateway(&hop.attributes))).collect()
    }

    /// Where it leads, for comparison.
    pub fn destination(&self) -> Destination {
        let header = &self.0.header;
        let mut key = vec![
            header.address_family.into(),
            header.destination_prefix_length,
            header.source_prefix_length,
            header.tos,
        ];
        key.extend(table_of(&self.0).to_be_bytes());
        key.extend(self.metric().to_be_bytes());
        let ends = |wanted: fn(&RouteAttribute) -> bool| self.0.attributes.iter().find(|nla| wanted(nla));
        let destination = ends(|nla| matches!(nla, RouteAttribute::Destination(_)));
        let source = ends(|nla| matches!(nla, RouteAttribute::Source(_)));
        for attribute in [destination, source].into_iter().flatten() {
            let at = key.len();
            key.resize(at + attribute.buffer_len(), 0);
            attribute.emit(&mut key[at..]);
        }
        Destination(key)
    }

    fn metric(&self) -> u32 {
        let metric = self.0.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        });
        let usual = if self.0.header.address_family == AddressFamily::Inet6 { USUAL_V6_METRIC } else { 0 };
        metric.unwrap_or(usual)
    }

    /// Whether both lead to the same destination, in the same table, with the same metric.
    pub fn same_destination(&self, other: &Self) -> bool {
        self.destination() == other.destination()
    }

    /// Whether both are one route: destination and next hops, whatever else differs.
    pub fn same_route(&self, other: &Self) -> bool {
        self.same_destination(other) && self.hops() == other.hops()
    }

    /// The interfaces of its next hops.
    pub fn interfaces(&self) -> Vec<u32> {
        self.hops().into_iter().map(|(ifindex, _)| ifindex).collect()
    }

    /// Interface and gateway of each next hop, in order.
    fn hops(&self) -> Vec<(u32, Option<IpAddr>)> {
        let mut hops: Vec<(u32, Option<IpAddr>)> = Vec::new();
        for attribute in &self.0.attributes {
            match attribute {
                RouteAttribute::Oif(index) => hops.push((*index, gateway(&self.0.attributes))),
                RouteAttribute::MultiPath(several) => {
                    hops.extend(several.iter().map(|hop| (hop.interface_index, gateway(&hop.attributes))));
                }
                _ => {}
            }
        }
        hops.sort_unstable();
        hops
    }

    /// The same route as it is added anew: its nexthop object has next hop and interface.
    #[must_use]
    pub fn by_object(&self) -> Self {
        let mut message = self.0.clone();
        message.attributes.retain(|attribute| {
            !matches!(
                attribute,
                RouteAttribute::Oif(_)
                    | RouteAttribute::Gateway(_)
                    | RouteAttribute::Via(_)
                    | RouteAttribute::MultiPath(_)
                    | RouteAttribute::Encap(_)
                    | RouteAttribute::EncapType(_)
            )
        });
        Self(message)
    }

    /// The same route through another interface. Next hops that become the same are one, with the sum of their weights:
    /// the kernel refuses an IPv6 route that has one twice.
    #[must_use]
    pub fn through(&self, from: u32, to: u32) -> Self {
        let mut message = self.0.clone();
        message.header.flags &= RouteFlags::Onlink;
        let mut expires = None;
        message.attributes.retain_mut(|attribute| match attribute {
            RouteAttribute::Oif(index) => {
                if *index == from {
                    *index = to;
                }
                true
            }
            RouteAttribute::MultiPath(hops) => {
                for hop in &mut *hops {
                    hop.flags &= rtnetlink::packet_route::route::RouteNextHopFlags::Onlink;
                    if hop.interface_index == from {
                        hop.interface_index = to;
                    }
                }
                merge(hops);
                true
            }
            // What is reported only; an expiry is set by another attribute than the one that reports it.
            RouteAttribute::CacheInfo(info) => {
                if info.expires != 0 && info.expires < i32::MAX as u32 {
                    expires = Some(info.expires / USER_HZ);
                }
                false
            }
            _ => true,
        });
        message.attributes.extend(expires.map(RouteAttribute::Expires));
        Self(message)
    }

    pub(super) fn message(&self) -> RouteMessage {
        self.0.clone()
    }
}

/// The request for the route that packets between two addresses use.
pub(super) fn lookup(to: IpAddr, from: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let bits = if to.is_ipv4() { 32 } else { 128 };
    message.header.address_family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    (message.header.destination_prefix_length, message.header.source_prefix_length) = (bits, bits);
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(to)),
        RouteAttribute::Source(RouteAddress::from(from)),
    ];
    message
}

/// The interface of the reply to it.
pub(super) fn interface_of(found: &RouteMessage) -> Option<u32> {
    found.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

pub(super) fn table_of(message: &RouteMessage) -> u32 {
    let table = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or(message.header.table.into())
}

/// Merges next hops that are the same. The field `hops` of one is its weight less one.
fn merge(hops: &mut Vec<RouteNextHop>) {
    let mut merged: Vec<RouteNextHop> = Vec::new();
    for hop in hops.drain(..) {
        let is_same = |other: &&mut RouteNextHop| {
            other.interface_index == hop.interface_index && other.attributes == hop.attributes
        };
        match merged.iter_mut().find(is_same) {
            Some(other) => other.hops = other.hops.saturating_add(hop.hops).saturating_add(1),
            None => merged.push(hop),
        }
    }
    *hops = merged;
}

/// The gateway among these attributes: an IPv4 route may have one of IPv6.
pub(super) fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(via)) | RouteAttribute::Via(RouteVia::Inet(via)) => {
            Some(IpAddr::V4(*via))
        }
        RouteAttribute::Gateway(RouteAddress::Inet6(via)) | RouteAttribute::Via(RouteVia::Inet6(via)) => {
            Some(IpAddr::V6(*via))
        }
        _ => None,
    })
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = |wanted: fn(&RouteAttribute) -> Option<&RouteAddress>| {
            self.0.attributes.iter().find_map(wanted).and_then(|address| match address {
                RouteAddress::Inet(v4) => Some(v4.to_string()),
                RouteAddress::Inet6(v6) => Some(v6.to_string()),
                _ => None,
            })
        };
        match address(|nla| if let RouteAttribute::Destination(to) = nla { Some(to) } else { None }) {
            Some(to) => write!(f, "{to}/{}", self.0.header.destination_prefix_length)?,
            None => write!(f, "default")?,
        }
        if let Some(via) =
            address(|nla| if let RouteAttribute::Gateway(via) = nla { Some(via) } else { None })
        {
            write!(f, " via {via}")?;
        }
        let (table, metric) = (self.table(), self.metric());
        if metric != 0 {
            write!(f, " metric {metric}")?;
        }
        if table != u32::from(RouteHeader::RT_TABLE_MAIN) {
            write!(f, " table {table}")?;
        }
        Ok(())
    }
}

impl From<RouteMessage> for Route {
    fn from(message: RouteMessage) -> Self {
        Self(message)
    }
}

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = vec![0; self.0.buffer_len()];
        self.0.emit(&mut bytes);
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = (0..text.len())
            .step_by(2)
            .map(|at| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
            .collect::<Option<Vec<u8>>>()
            .ok_or_else(|| de::Error::custom("a route is not in hexadecimal"))?;
        RouteMessage::parse(&bytes).map(Self).map_err(|error| de::Error::custom(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rtnetlink::{RouteMessageBuilder, RouteNextHopBuilder};

    use super::*;

    fn default_route() -> Route {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(Ipv4Addr::new(192, 168, 178, 1))
            .output_interface(3)
            .priority(100)
            .build();
        Route::parse(message).unwrap()
    }

    #[test]
    fn a_route_survives_the_file() {
        let text = serde_json::to_string(&default_route()).unwrap();
        assert_eq!(serde_json::from_str::<Route>(&text).unwrap(), default_route());
        assert!(serde_json::from_str::<Route>("\"zz\"").is_err());
        assert!(serde_json::from_str::<Route>("\"0\"").is_err());
    }

    #[test]
    fn a_route_moves_with_everything_but_its_interface() {
        let moved = default_route().through(3, 7);
        assert!(moved.uses(7) && !moved.uses(3));
        assert!(moved.same_destination(&default_route()));
        assert_eq!(moved.through(7, 3), default_route());
        assert_eq!(moved.to_string(), "default via 192.168.178.1 metric 100");
    }

    #[test]
    fn of_several_next_hops_only_those_of_the_interface_move() {
        let hops = [3, 4].map(|index| RouteNextHopBuilder::new_ipv4().interface(index).build());
        let message = RouteMessageBuilder::<Ipv4Addr>::new().multipath(hops.to_vec()).build();
        let moved = Route::parse(message).unwrap().through(3, 7);
        assert!(moved.uses(7) && moved.uses(4) && !moved.uses(3));
    }
}
