//! Networks of addresses.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// The first address of the network of an address.
pub fn first_of(address: IpAddr, prefix: u8) -> IpAddr {
    IpNet::new(address, prefix).map_or(address, |network| network.network())
}

/// Whether an address is in the network of another one.
pub fn is_in(address: IpAddr, (of, prefix): (IpAddr, u8)) -> bool {
    IpNet::new(of, prefix).is_ok_and(|network| network.contains(&address))
}

/// The netmask of an IPv4 network.
pub fn netmask(prefix: u8) -> Ipv4Addr {
    Ipv4Net::new(Ipv4Addr::UNSPECIFIED, prefix).map_or(Ipv4Addr::BROADCAST, |network| network.netmask())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_their_network_of_every_length() {
        for (address, prefix, first) in [
            ("192.168.178.200", 24, "192.168.178.0"),
            ("192.168.178.200", 0, "0.0.0.0"),
            ("192.168.178.200", 32, "192.168.178.200"),
            ("192.168.178.200", 33, "192.168.178.200"),
            ("2001:db8::8:200", 112, "2001:db8::8:0"),
            ("2001:db8::8:200", 0, "::"),
        ] {
            let [address, first]: [IpAddr; 2] = [address, first].map(|text| text.parse().unwrap());
            assert_eq!(first_of(address, prefix), first);
            assert_eq!(is_in(first, (address, prefix)), prefix <= 32 || first.is_ipv6());
        }
        assert!(!is_in("2001:db8::1".parse().unwrap(), ("0.0.0.0".parse().unwrap(), 0)));
        assert_eq!(
            [0, 20, 32].map(|prefix| netmask(prefix).to_string()),
            ["0.0.0.0", "255.255.240.0", "255.255.255.255"]
        );
    }
}
