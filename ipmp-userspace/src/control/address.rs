//! A data address as an argument: `ADDRESS/PREFIX`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address with its prefix length that a group interface can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DataAddress {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a data address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    /// Neither IPv4 nor IPv6.
    #[error("{0:?} is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64")]
    NotAnAddress(String),
    /// There is no default: a wrong prefix length makes a wrong route.
    #[error("{0} has no prefix length: write {0}/{example}, or the prefix length of its network", example = example(*.0))]
    NoPrefix(IpAddr),
    /// What follows the slash is not a prefix length of the family.
    #[error("{address}/{}: the prefix length of an {} address is 1 to {}", prefix.escape_debug(), family(*.address), bits(*.address))]
    BadPrefix { address: IpAddr, prefix: String },
    /// No host can have it.
    #[error("{address} {why}, which no group can have as data address: give it an address of a host")]
    Impossible { address: IpAddr, why: &'static str },
    /// It is the address of a network, not of a host.
    #[error("{address}/{prefix} is the {what} address of its network: give it an address of a host")]
    OfNetwork { address: IpAddr, prefix: u8, what: &'static str },
}

fn example(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl DataAddress {
    /// Checks that a group interface can have this address with this prefix length.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, Error> {
        if prefix == 0 || prefix > bits(address) {
            return Err(Error::BadPrefix { address, prefix: prefix.to_string() });
        }
        check(address)?;
        match address {
            // On a /31 both addresses are hosts (RFC 3021), on a /32 the one is.
            IpAddr::V4(v4) if prefix < 31 => {
                let host = u32::MAX >> prefix;
                match u32::from(v4) & host {
                    0 => Err(Error::OfNetwork { address, prefix, what: "network" }),
                    all if all == host => Err(Error::OfNetwork { address, prefix, what: "broadcast" }),
                    _ => Ok(Self { address, prefix }),
                }
            }
            // All routers of the network answer for it (RFC 4291 2.6.1), but not on a /127 (RFC 6164).
            IpAddr::V6(v6) if prefix < 127 && u128::from(v6) & (u128::MAX >> prefix) == 0 => {
                Err(Error::OfNetwork { address, prefix, what: "subnet-router anycast" })
            }
            _ => Ok(Self { address, prefix }),
        }
    }

    /// The address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Its prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }
}

/// Checks that a host can have the address, whatever its prefix.
fn check(address: IpAddr) -> Result<(), Error> {
    impossible(address).map_or(Ok(()), |why| Err(Error::Impossible { address, why }))
}

/// Why no host on a link can have the address, if that is so.
pub(super) fn impossible(address: IpAddr) -> Option<&'static str> {
    Some(match address {
        IpAddr::V4(v4) if v4 == Ipv4Addr::BROADCAST => "is the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "is unspecified (0.0.0.0/8)",
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => "is reserved (240.0.0.0/4)",
        // Maps hold IPv4 in this form: the two would be one address.
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "is an IPv4 address in IPv6 form",
        IpAddr::V6(v6) if v6 == Ipv6Addr::UNSPECIFIED => "is unspecified",
        _ if address.is_loopback() => "is a loopback address",
        _ if address.is_multicast() => "is a multicast address",
        _ => return None,
    })
}

impl FromStr for DataAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| Error::NotAnAddress(address.into()))?;
        let prefix = prefix.ok_or(Error::NoPrefix(address))?;
        let digits = prefix.bytes().all(|b| b.is_ascii_digit());
        match prefix.parse() {
            Ok(bits) if digits => Self::new(address, bits),
            _ => Err(Error::BadPrefix { address, prefix: prefix.into() }),
        }
    }
}

impl TryFrom<String> for DataAddress {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<DataAddress> for String {
    fn from(address: DataAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for DataAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_addresses_are_accepted() {
        for text in [
            "192.168.178.200/24",
            "10.0.0.0/31",
            "10.0.0.1/31",
            "10.0.0.0/32",
            "169.254.7.7/16",
            "2001:db8::1/64",
            "2001:db8::/127",
            "2001:db8::/128",
            "fe80::1/10",
        ] {
            let address: DataAddress = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn other_addresses_are_refused_in_one_line() {
        for (text, line) in [
            ("", r#""" is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"#),
            (
                "eth0/24",
                r#""eth0" is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"#,
            ),
            (
                "192.168.178.300/24",
                r#""192.168.178.300" is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"#,
            ),
            (
                "192.168.178.200",
                "192.168.178.200 has no prefix length: write 192.168.178.200/24, or the prefix length of its network",
            ),
            (
                "2001:db8::1",
                "2001:db8::1 has no prefix length: write 2001:db8::1/64, or the prefix length of its network",
            ),
            ("10.1.2.3/33", "10.1.2.3/33: the prefix length of an IPv4 address is 1 to 32"),
            ("10.1.2.3/0", "10.1.2.3/0: the prefix length of an IPv4 address is 1 to 32"),
            ("10.1.2.3/+8", "10.1.2.3/+8: the prefix length of an IPv4 address is 1 to 32"),
            ("10.1.2.3/", "10.1.2.3/: the prefix length of an IPv4 address is 1 to 32"),
            ("10.1.2.3/24/24", "10.1.2.3/24/24: the prefix length of an IPv4 address is 1 to 32"),
            ("2001:db8::1/129", "2001:db8::1/129: the prefix length of an IPv6 address is 1 to 128"),
            (
                "224.0.0.5/24",
                "224.0.0.5 is a multicast address, which no group can have as data address: give it an address of a \
                 host",
            ),
            (
                "ff02::1/64",
                "ff02::1 is a multicast address, which no group can have as data address: give it an address of a host",
            ),
            (
                "0.0.0.0/24",
                "0.0.0.0 is unspecified (0.0.0.0/8), which no group can have as data address: give it an address of a \
                 host",
            ),
            (
                "::/64",
                ":: is unspecified, which no group can have as data address: give it an address of a host",
            ),
            (
                "127.0.0.1/8",
                "127.0.0.1 is a loopback address, which no group can have as data address: give it an address of a \
                 host",
            ),
            (
                "::1/128",
                "::1 is a loopback address, which no group can have as data address: give it an address of a host",
            ),
            (
                "255.255.255.255/32",
                "255.255.255.255 is the broadcast address, which no group can have as data address: give it an \
                 address of a host",
            ),
            (
                "250.1.2.3/8",
                "250.1.2.3 is reserved (240.0.0.0/4), which no group can have as data address: give it an address of \
                 a host",
            ),
            (
                "::ffff:10.1.2.3/128",
                "::ffff:10.1.2.3 is an IPv4 address in IPv6 form, which no group can have as data address: give it an \
                 address of a host",
            ),
            (
                "192.168.178.0/24",
                "192.168.178.0/24 is the network address of its network: give it an address of a host",
            ),
            (
                "192.168.178.255/24",
                "192.168.178.255/24 is the broadcast address of its network: give it an address of a host",
            ),
            (
                "2001:db8::/64",
                "2001:db8::/64 is the subnet-router anycast address of its network: give it an address of a host",
            ),
        ] {
            match text.parse::<DataAddress>() {
                Ok(address) => panic!("{text} was taken as {address}"),
                Err(error) => assert_eq!(error.to_string(), line, "{text}"),
            }
        }
    }
}
