//! What the kernel finds when it looks up a destination: the tables `local` and `main`, in this order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::{
    MulticastGroup,
    packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType},
    },
};

use super::{
    Error,
    event_socket::EventSocket,
    route::{gateway, table_of},
};

/// Receive buffer in bytes. After an overrun everything is read again, as after every change.
const BUFFER: usize = 256 << 10;

/// A route, as far as it matters for the source address of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The network that it leads to.
    pub to: (IpAddr, u8),
    /// Metric: the smallest is used. Those of the table `local` are used before all others.
    pub metric: Option<u32>,
    /// Interface and router of its only next hop. `None`: it has several, or leads to this host or nowhere, or only packets with a
    /// certain type of service or source use it.
    pub hop: Option<(u32, Option<IpAddr>)>,
    /// Whether an operator chose the source address.
    pub has_source: bool,
}

impl Lookup {
    /// Reads a message; `None` for exceptions that are cloned from routes, and for other families.
    pub(super) fn of(message: RouteMessage) -> Option<Self> {
        let header = &message.header;
        if header.flags.contains(RouteFlags::Cloned) {
            return None;
        }
        let any: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let (prefix, is_unicast) = (header.destination_prefix_length, header.kind == RouteType::Unicast);
        let is_for_all = header.tos == 0 && header.source_prefix_length == 0;
        let by_kernel = header.protocol == RouteProtocol::Kernel;
        let (mut to, mut metric, mut has_source) = (any, 0, false);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => to = (*address).into(),
                RouteAttribute::Destination(RouteAddress::Inet6(address)) => to = (*address).into(),
                RouteAttribute::Priority(value) => metric = *value,
                // That of an address's own network is the kernel's choice.
                RouteAttribute::PrefSource(_) => has_source = !by_kernel,
                _ => {}
            }
        }
        let is_local = table_of(&message) == u32::from(libc::RT_TABLE_LOCAL);
        let hop = only_hop(&message).filter(|_| is_unicast && is_for_all && !is_local);
        Some(Self { to: (to, prefix), metric: (!is_local).then_some(metric), hop, has_source })
    }
}

/// A subscription to everything that a [`Lookup`] or the selection of a source address depends on, rules too, in the network namespace of the thread
/// that opened it.
pub struct LookupWatch(EventSocket);

impl LookupWatch {
    /// Subscribes.
    pub fn open() -> Result<Self, Error> {
        let groups = [
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
        ];
        EventSocket::open(&groups, BUFFER).map(Self)
    }

    /// Waits until something has changed. Cancelling the wait loses nothing.
    pub async fn changed(&mut self) -> Result<(), Error> {
        self.0.receive().await.map(drop)
    }
}

fn only_hop(message: &RouteMessage) -> Option<(u32, Option<IpAddr>)> {
    let several =
        message.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::MultiPath(_)));
    let ifindex = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    });
    ifindex.filter(|_| !several).map(|ifindex| (ifindex, gateway(&message.attributes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{read_lookups, testing::in_namespace};

    /// Runs `ip` in the namespace of this thread.
    fn ip(line: &str) {
        let done = std::process::Command::new("ip").args(line.split(' ')).status().unwrap();
        assert!(done.success(), "{line}");
    }

    fn lookups(to: &str) -> Vec<Lookup> {
        let (network, prefix) = to.split_once('/').unwrap();
        let to = (network.parse().unwrap(), prefix.parse().unwrap());
        let mut found = Vec::new();
        read_lookups(|route| found.extend(Some(route).filter(|route| route.to == to))).unwrap();
        found
    }

    #[test]
    fn routes_are_read_with_hop_source_and_table() {
        in_namespace(|links| async move {
            for line in [
                "link set lo up",
                "link add veth0 type veth peer name veth1",
                "link set veth0 up",
                "link set veth1 up",
                "address add 10.0.0.1/24 dev veth0",
                "address add fd00::1/64 dev veth0 nodad",
                "route add 10.1.0.0/16 via 10.0.0.9 metric 7",
                "route add 10.2.0.0/16 via 10.0.0.9 src 10.0.0.1",
                "route add 10.3.0.0/16 nexthop via 10.0.0.8 nexthop via 10.0.0.9",
                "route add 10.4.0.0/16 tos 0x10 via 10.0.0.9",
                "route add unreachable 10.5.0.0/16",
                "route add default via fd00::9",
            ] {
                ip(line);
            }
            let ifindex = links.need("veth0").await.ifindex;
            let router = |text: &str| Some((ifindex, Some(text.parse().unwrap())));
            let one = |to| {
                let found = lookups(to);
                let [route] = found[..] else { panic!("{to}: {found:?}") };
                (route.metric, route.hop, route.has_source)
            };
            assert_eq!(one("10.0.0.0/24"), (Some(0), Some((ifindex, None)), false), "the kernel's source");
            assert_eq!(one("10.1.0.0/16"), (Some(7), router("10.0.0.9"), false));
            assert_eq!(one("10.2.0.0/16"), (Some(0), router("10.0.0.9"), true));
            for without_hop in ["10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16"] {
                assert_eq!(one(without_hop), (Some(0), None, false), "{without_hop}");
            }
            assert_eq!(one("::/0"), (Some(1024), router("fd00::9"), false));
            assert_eq!(one("10.0.0.1/32"), (None, None, false), "of this host");
            assert_eq!(one("fd00::1/128").0, None);
        });
    }
}
