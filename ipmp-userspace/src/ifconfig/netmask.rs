//! The netmask of an address that is given without one: `/etc/netmasks`, else an on-link route, else its class.

use std::{fmt, net::Ipv4Addr};

use super::grammar::prefix_of;
use crate::types::network::netmask;

/// The file of netmasks.
pub const NETMASKS: &str = "/etc/netmasks";
/// The IPv4 routes of this network namespace.
pub const ROUTES: &str = "/proc/net/route";

/// `RTF_UP` and `RTF_GATEWAY` in the flags of [`ROUTES`].
const UP: u32 = 1;
const GATEWAY: u32 = 2;

/// Where a netmask comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// [`NETMASKS`].
    File,
    /// A route to this network on this interface.
    Route(Ipv4Addr, u8, String),
    /// The class of the address.
    Class,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str(NETMASKS),
            Self::Route(network, prefix, interface) => {
                write!(f, "the route to {network}/{prefix} on {interface}")
            }
            Self::Class => {
                write!(f, "the class of the address: {NETMASKS} and the routes do not have its network")
            }
        }
    }
}

/// The prefix length of an address, by the text of [`NETMASKS`] and of [`ROUTES`].
pub fn prefix(address: Ipv4Addr, netmasks: &str, routes: &str) -> (u8, Source) {
    let address = u32::from(address);
    let holds = |network: u32, prefix: u8| (address ^ network) & u32::from(netmask(prefix)) == 0;
    let in_file = lines(netmasks).filter(|(network, prefix)| holds(*network, *prefix));
    if let Some((_, prefix)) = in_file.max_by_key(|(_, prefix)| *prefix) {
        return (prefix, Source::File);
    }
    let on_link = routes.lines().filter_map(on_link).filter(|(network, prefix, _)| holds(*network, *prefix));
    if let Some((network, prefix, interface)) = on_link.max_by_key(|(_, prefix, _)| *prefix) {
        return (prefix, Source::Route(network.into(), prefix, interface.into()));
    }
    let class = match address >> 28 {
        0..8 => 8,
        8..12 => 16,
        _ => 24,
    };
    (class, Source::Class)
}

/// Networks and prefix lengths of a file of netmasks. Invalid lines are ignored, as by Solaris.
fn lines(text: &str) -> impl Iterator<Item = (u32, u8)> {
    text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let network: Ipv4Addr = words.next()?.parse().ok()?;
        let mask: Ipv4Addr = words.next()?.parse().ok()?;
        Some((network.into(), prefix_of(mask.into())?))
    })
}

/// Network, prefix length and interface of an on-link route to a network. Routes to all addresses and to one are none.
fn on_link(line: &str) -> Option<(u32, u8, &str)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |field: usize| u32::from_str_radix(fields.get(field)?, 16).ok();
    let flags = number(3)?;
    let prefix = prefix_of(u32::from_be(number(7)?)).filter(|prefix| *prefix < 32)?;
    (flags & (UP | GATEWAY) == UP).then_some((u32::from_be(number(1)?), prefix, fields[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME_ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
eth1\t0502000A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
eth1\t0000A8C0\t0102000A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
";

    #[test]
    fn netmask_is_from_file_then_route_then_class() {
        let netmasks = "# network mask\n192.168.178.0\t255.255.255.128 # ours\n192.168.0.0 255.255.0.0\n10.0.2.0 255.0.255.0\n";
        let route = |network: [u8; 4], prefix, interface: &str| {
            Source::Route(network.into(), prefix, interface.into())
        };
        for (address, expected) in [
            ([192, 168, 178, 100], (25, Source::File)),
            // Beside the /25.
            ([192, 168, 178, 200], (16, Source::File)),
            ([10, 0, 2, 5], (24, route([10, 0, 2, 0], 24, "eth0"))),
            ([10, 9, 9, 9], (8, route([10, 0, 0, 0], 8, "eth1"))),
            ([9, 0, 0, 1], (8, Source::Class)),
            ([172, 16, 0, 1], (16, Source::Class)),
            ([193, 0, 0, 1], (24, Source::Class)),
        ] {
            assert_eq!(prefix(address.into(), netmasks, SOME_ROUTES), expected, "{address:?}");
        }
        assert_eq!(
            prefix([192, 168, 1, 1].into(), "", SOME_ROUTES),
            (24, Source::Class),
            "not through a gateway"
        );
    }

    #[test]
    fn source_of_netmask_is_named() {
        let text = |source: Source| source.to_string();
        assert_eq!(text(Source::File), "/etc/netmasks");
        assert_eq!(
            text(Source::Route([10, 0, 2, 0].into(), 24, "eth0".into())),
            "the route to 10.0.2.0/24 on eth0"
        );
        assert!(text(Source::Class).starts_with("the class of the address"));
    }
}
