//! A route as configuration files describe it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rtnetlink::{
    RouteMessageBuilder,
    packet_route::route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteProtocol, RouteScope, RouteType,
    },
};
use serde::{Deserialize, Serialize};

use super::route::{Route, USUAL_V6_METRIC};

/// A route through an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteEntry {
    /// Network and prefix length; 0: a default route.
    pub to: (IpAddr, u8),
    /// The router; `None`: the network is on the link.
    pub via: Option<IpAddr>,
    /// Metric; `None`: the kernel's default.
    pub metric: Option<u32>,
    /// Routing table; `None`: the main table.
    pub table: Option<u32>,
    /// Preferred source address.
    pub src: Option<IpAddr>,
    /// The router is on the link although no network of the interface has it.
    #[serde(default)]
    pub onlink: bool,
}

impl RouteEntry {
    /// A default route through this router.
    pub fn default_through(router: IpAddr) -> Self {
        let any = if router.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Self { to: (any, 0), via: Some(router), metric: None, table: None, src: None, onlink: false }
    }

    /// The same with no more values than needed.
    #[must_use]
    pub fn shortest(&self) -> Self {
        let usual = if self.to.0.is_ipv4() { 0 } else { USUAL_V6_METRIC };
        Self {
            metric: self.metric.filter(|metric| *metric != usual),
            table: self.table.filter(|table| *table != u32::from(RouteHeader::RT_TABLE_MAIN)),
            ..self.clone()
        }
    }

    /// Whether both describe one route. `onlink` makes no difference: some programs add it where it is not needed.
    pub fn is_same(&self, other: &Self) -> bool {
        let known = |entry: &Self| Self { onlink: false, ..entry.shortest() };
        known(self) == known(other)
    }
}

impl fmt::Display for RouteEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            (_, 0) => f.write_str("default")?,
            (network, prefix) => write!(f, "{network}/{prefix}")?,
        }
        for (name, value) in [
            ("via", self.via.map(|via| via.to_string())),
            ("metric", self.metric.map(|metric| metric.to_string())),
            ("table", self.table.map(|table| table.to_string())),
            ("src", self.src.map(|src| src.to_string())),
        ] {
            if let Some(value) = value {
                write!(f, " {name} {value}")?;
            }
        }
        if self.onlink { f.write_str(" onlink") } else { Ok(()) }
    }
}

impl Route {
    /// The route of an entry, through an interface.
    pub fn of_entry(entry: &RouteEntry, ifindex: u32) -> Self {
        let scope =
            if entry.via.is_none() && entry.to.0.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
        let table = entry.table.unwrap_or(RouteHeader::RT_TABLE_MAIN.into());
        // The families of the addresses are the same: the reader of the files checks it.
        let mut message = match entry.to {
            (IpAddr::V4(network), prefix) => {
                let mut builder = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network, prefix);
                if let Some(IpAddr::V4(via)) = entry.via {
                    builder = builder.gateway(via);
                }
                if let Some(IpAddr::V4(src)) = entry.src {
                    builder = builder.pref_source(src);
                }
                let builder = builder.table_id(table).scope(scope).protocol(RouteProtocol::Static);
                builder.output_interface(ifindex).build()
            }
            (IpAddr::V6(network), prefix) => {
                let mut builder = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(network, prefix);
                if let Some(IpAddr::V6(via)) = entry.via {
                    builder = builder.gateway(via);
                }
                if let Some(IpAddr::V6(src)) = entry.src {
                    builder = builder.pref_source(src);
                }
                let builder = builder.table_id(table).scope(scope).protocol(RouteProtocol::Static);
                builder.output_interface(ifindex).build()
            }
        };
        if entry.to.1 == 0 {
            message.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Destination(_)));
        }
        message.attributes.extend(entry.metric.map(RouteAttribute::Priority));
        if entry.onlink {
            message.header.flags |= RouteFlags::Onlink;
        }
        Self::from(message)
    }

    /// The entry that describes this route through an interface; `None`: an entry cannot.
    pub fn entry(&self, ifindex: u32) -> Option<RouteEntry> {
        let message = self.message();
        let header = &message.header;
        let (mut to, mut via, mut metric, mut src, mut through) = (None, None, None, None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => to = Some(ip(address)?),
                RouteAttribute::Gateway(address) => via = Some(ip(address)?),
                RouteAttribute::PrefSource(address) => src = Some(ip(address)?),
                RouteAttribute::Priority(value) => metric = Some(*value),
                RouteAttribute::Oif(index) => through = Some(*index),
                RouteAttribute::MultiPath(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::NhId(_)
                | RouteAttribute::Encap(_)
                | RouteAttribute::Source(_) => return None,
                _ => {}
            }
        }
        let is_plain = header.kind == RouteType::Unicast && header.tos == 0 && through == Some(ifindex);
        let any = match header.address_family {
            rtnetlink::packet_route::AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let to = (to.unwrap_or(any), header.destination_prefix_length);
        let onlink = header.flags.contains(RouteFlags::Onlink);
        let entry = RouteEntry { to, via, metric, table: Some(self.table()), src, onlink };
        is_plain.then(|| entry.shortest())
    }

    /// Whether a program or the operator added it for good: not the kernel for an address, no DHCP client, no router
    /// advertisement.
    pub fn is_static(&self) -> bool {
        matches!(self.message().header.protocol, RouteProtocol::Static | RouteProtocol::Boot)
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_of_an_entry_is_described_by_it() {
        let entry = |to: &str, prefix, via: Option<&str>, metric, table, src: Option<&str>| RouteEntry {
            to: (to.parse().unwrap(), prefix),
            via: via.map(|via| via.parse().unwrap()),
            metric,
            table,
            src: src.map(|src| src.parse().unwrap()),
            onlink: false,
        };
        for entry in [
            RouteEntry::default_through("192.168.178.1".parse().unwrap()),
            RouteEntry::default_through("2001:db8::1".parse().unwrap()),
            entry("10.0.0.0", 8, Some("192.168.178.2"), Some(100), Some(1000), Some("192.168.178.200")),
            entry("10.1.0.0", 16, None, None, None, None),
            entry("2001:db8:1::", 48, None, Some(7), Some(10), None),
        ] {
            let route = Route::of_entry(&entry, 7);
            assert_eq!(route.entry(7), Some(entry.clone()), "{entry}");
            assert_eq!(route.entry(8), None, "{entry}");
            assert!(route.is_static());
        }
    }

    #[test]
    fn onlink_is_kept_and_makes_no_other_route() {
        let entry = RouteEntry::default_through("192.168.178.1".parse().unwrap());
        let onlink = RouteEntry { onlink: true, ..entry.clone() };
        assert_eq!(Route::of_entry(&onlink, 7).entry(7), Some(onlink.clone()));
        assert!(onlink.is_same(&entry));
        assert_eq!(onlink.to_string(), "default via 192.168.178.1 onlink");
    }

    #[test]
    fn usual_metric_and_table_make_no_difference() {
        let plain = RouteEntry::default_through("2001:db8::1".parse().unwrap());
        let long = RouteEntry { metric: Some(1024), table: Some(254), ..plain.clone() };
        assert!(plain.is_same(&long));
        assert!(!plain.is_same(&RouteEntry { metric: Some(1), ..plain.clone() }));
        assert_eq!(long.to_string(), "default via 2001:db8::1 metric 1024 table 254");
    }
}
