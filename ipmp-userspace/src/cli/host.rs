//! Addresses as they are typed at a shell: `192.168.178.200/24`, or `node1/24`.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
};

use crate::control::{self, DataAddress, TestAddress, address, target};

/// Why what was typed is no address.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be a data address.
    #[error(transparent)]
    Address(#[from] address::Error),
    /// It cannot be a target.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// Nobody knows the name.
    #[error(
        "cannot find the address of {name}: {source}; write the address itself, or add {name} to /etc/hosts"
    )]
    Lookup {
        /// The name.
        name: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The name is known, but no address of it has such a prefix.
    #[error(
        "{name} has no address that a prefix length of {prefix} suits, only {found}: write the address itself"
    )]
    Unsuitable {
        /// The name.
        name: String,
        /// Prefix length in bits.
        prefix: String,
        /// Its addresses.
        found: String,
    },
    /// The name has several addresses.
    #[error("{name} has several addresses, {found}: write the one that you mean")]
    Several {
        /// The name.
        name: String,
        /// Its addresses.
        found: String,
    },
    /// A name came without its prefix length.
    #[error("{0} has no prefix length: write {0}/24, or whatever its network has")]
    NoPrefix(String),
    /// The same address came twice.
    #[error("{0} is given twice: give each address once")]
    Twice(IpAddr),
}

impl Error {
    /// Whether the resolver is to blame, not what was typed.
    pub fn is_lookup(&self) -> bool {
        matches!(self, Self::Lookup { .. })
    }
}

/// What was typed, as data addresses: an address taken literally, else a name looked up.
pub fn data_addresses(typed: &[String]) -> Result<Vec<DataAddress>, Error> {
    let mut addresses: Vec<DataAddress> = Vec::new();
    for text in typed {
        let address = data_address(text, look_up)?;
        if addresses.iter().any(|other| other.address() == address.address()) {
            return Err(Error::Twice(address.address()));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// What was typed, as addresses of hosts: an address taken literally, else a name looked up.
pub fn addresses(typed: &[String]) -> Result<Vec<IpAddr>, Error> {
    typed.iter().map(|text| address(text, look_up)).collect()
}

fn address(text: &str, look_up: impl Fn(&str) -> io::Result<Vec<IpAddr>>) -> Result<IpAddr, Error> {
    let literally = target::read(text);
    if literally.is_ok() || !is_name(text) {
        return Ok(literally?);
    }
    let mut found = look_up(text).map_err(|source| Error::Lookup { name: text.into(), source })?;
    found.sort_unstable();
    found.dedup();
    // As for data addresses: the IPv4 address, if it has one.
    let v6 = !found.iter().any(IpAddr::is_ipv4);
    found.retain(|address| address.is_ipv6() == v6);
    match found[..] {
        [address] => Ok(address),
        _ => Err(Error::Several { name: text.into(), found: list(&found) }),
    }
}

fn list(found: &[IpAddr]) -> String {
    found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ")
}

/// What was typed, as a test address: `dhcp`, or what a data address could be.
pub fn test_address(typed: &str) -> Result<TestAddress, super::Error> {
    match typed.parse() {
        Err(control::test_address::Error::Address(address::Error::NotAnAddress(_))) => {
            Ok(TestAddress::Is(data_address(typed, look_up)?))
        }
        other => Ok(other?),
    }
}

fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|socket| socket.ip()).collect())
}

fn data_address(text: &str, look_up: impl Fn(&str) -> io::Result<Vec<IpAddr>>) -> Result<DataAddress, Error> {
    match text.parse() {
        // Only a name has a letter that is none of an address: 192.168.178.300 is a slip of the finger, and a query for
        // it would take its time.
        Err(address::Error::NotAnAddress(name)) if is_name(&name) => {
            let Some((_, prefix)) = text.split_once('/') else { return Err(Error::NoPrefix(name)) };
            named(&name, prefix, look_up)
        }
        other => Ok(other?),
    }
}

fn is_name(text: &str) -> bool {
    !text.contains(':')
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

fn named(
    name: &str,
    prefix: &str,
    look_up: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> Result<DataAddress, Error> {
    let mut found = look_up(name).map_err(|source| Error::Lookup { name: name.into(), source })?;
    found.sort_unstable();
    found.dedup();
    // A prefix length of 33 and more is IPv6's. Below that the name's IPv4 address is meant, if it has one: an IPv6
    // network of such a size is a provider's.
    let v6 = prefix.parse::<u8>().is_ok_and(|bits| bits > 32) || !found.iter().any(IpAddr::is_ipv4);
    let suitable: Vec<IpAddr> = found.iter().copied().filter(|address| address.is_ipv6() == v6).collect();
    match suitable[..] {
        [address] => Ok(format!("{address}/{prefix}").parse()?),
        [] => Err(Error::Unsuitable { name: name.into(), prefix: prefix.into(), found: list(&found) }),
        _ => Err(Error::Several { name: name.into(), found: list(&suitable) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(name: &str) -> io::Result<Vec<IpAddr>> {
        let addresses: &[&str] = match name {
            "node1" => &["192.168.178.200", "192.168.178.200"],
            "both1" => &["2001:db8::1", "192.168.178.200"],
            "six" => &["2001:db8::1"],
            "many.example.com" => &["10.0.0.2", "10.0.0.1"],
            "here" => &["127.0.1.1"],
            _ => return Err(io::Error::other("unknown name")),
        };
        Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn take(text: &str) -> String {
        data_address(text, hosts).map_or_else(|e| e.to_string(), |a| a.to_string())
    }

    #[test]
    fn names_work_where_addresses_do() {
        assert_eq!(take("192.168.178.200/24"), "192.168.178.200/24");
        assert_eq!(take("node1/24"), "192.168.178.200/24");
        assert_eq!(take("both1/24"), "192.168.178.200/24");
        assert_eq!(take("both1/64"), "2001:db8::1/64");
        assert_eq!(take("six/32"), "2001:db8::1/32");
    }

    #[test]
    fn names_of_targets_need_no_prefix_length() {
        let take =
            |text: &str| address(text, hosts).map_or_else(|e| e.to_string(), |address| address.to_string());
        for (text, address) in [
            ("192.168.178.1", "192.168.178.1"),
            ("fe80::1", "fe80::1"),
            ("node1", "192.168.178.200"),
            ("both1", "192.168.178.200"),
            ("six", "2001:db8::1"),
        ] {
            assert_eq!(take(text), address);
        }
        assert_eq!(
            take("many.example.com"),
            "many.example.com has several addresses, 10.0.0.1 and 10.0.0.2: write the one that you mean"
        );
        assert_eq!(
            take("nobody"),
            "cannot find the address of nobody: unknown name; write the address itself, or add nobody to /etc/hosts"
        );
        for text in ["192.168.178.300", "node1/24", ""] {
            assert_eq!(
                take(text),
                format!(
                    "{text:?} is not the address of a target: write one like 192.168.178.1 or 2001:db8::1, without a \
                     prefix length"
                )
            );
        }
    }

    #[test]
    fn names_that_do_not_work_say_why() {
        assert_eq!(take("node1"), "node1 has no prefix length: write node1/24, or whatever its network has");
        assert_eq!(
            take("nobody/24"),
            "cannot find the address of nobody: unknown name; write the address itself, or add nobody to /etc/hosts"
        );
        assert_eq!(
            take("node1/64"),
            "node1 has no address that a prefix length of 64 suits, only 192.168.178.200: write the address itself"
        );
        assert_eq!(
            take("many.example.com/24"),
            "many.example.com has several addresses, 10.0.0.1 and 10.0.0.2: write the one that you mean"
        );
        assert_eq!(
            take("here/8"),
            "127.0.1.1 is a loopback address, which no group can have as data address: give it an address of a host"
        );
        assert_eq!(take("node1/x"), "192.168.178.200/x: the prefix length of an IPv4 address is 1 to 32");
    }

    #[test]
    fn slips_of_the_finger_are_not_looked_up() {
        for text in ["192.168.178.300/24", "2001:db8::g/64", "/24", "10.0.0.1,24/8", "a b/24"] {
            let name = text.split('/').next().unwrap();
            let line = format!(
                "{name:?} is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"
            );
            assert_eq!(take(text), line);
        }
    }
}
