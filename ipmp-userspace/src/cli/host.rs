//! Address arguments: `192.168.178.200/24`, or a host name, `node1/24`.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
};

use crate::control::{self, DataAddress, TestAddressSpec, address, target};

/// Why an argument is not an address.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a data address.
    #[error(transparent)]
    Address(#[from] address::Error),
    /// Not a target.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// Not a test address.
    #[error(transparent)]
    TestAddress(#[from] control::test_address::Error),
    /// The resolver failed.
    #[error("cannot resolve {name}: {source}; specify an address, or add {name} to /etc/hosts")]
    #[allow(missing_docs, reason = "the text names the fields")]
    Lookup { name: String, source: io::Error },
    /// The prefix length is too long for the addresses of this name.
    #[error("{name} has no IPv6 address for prefix length {prefix}, only {found}; specify an address")]
    #[allow(missing_docs, reason = "the text names the fields")]
    Unsuitable { name: String, prefix: String, found: String },
    /// The name has several addresses.
    #[error("{name} has several addresses ({found}); specify one of them")]
    #[allow(missing_docs, reason = "the text names the fields")]
    Several { name: String, found: String },
    /// A host name without a prefix length.
    #[error("expected ADDRESS/PREFIX, got {0:?}; append the prefix length, for example {0}/24")]
    NoPrefix(String),
}

impl Error {
    /// Whether the resolver failed, and the argument may be valid.
    pub fn is_lookup(&self) -> bool {
        matches!(self, Self::Lookup { .. })
    }
}

/// Parses data addresses; host names are resolved.
pub fn data_addresses(arguments: &[String]) -> Result<Vec<DataAddress>, Error> {
    arguments.iter().map(|text| data_address(text, resolve)).collect()
}

/// Parses addresses of hosts; host names are resolved.
pub fn addresses(arguments: &[String]) -> Result<Vec<IpAddr>, Error> {
    arguments.iter().map(|text| address(text, resolve)).collect()
}

fn address(text: &str, resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>>) -> Result<IpAddr, Error> {
    let literally = target::read(text);
    if literally.is_ok() || !is_name(text) {
        return Ok(literally?);
    }
    let mut found = resolve(text).map_err(|source| Error::Lookup { name: text.into(), source })?;
    found.sort_unstable();
    found.dedup();
    // IPv4 is preferred, as for data addresses.
    let v6 = !found.iter().any(IpAddr::is_ipv4);
    found.retain(|address| address.is_ipv6() == v6);
    match found[..] {
        [address] => Ok(address),
        _ => Err(Error::Several { name: text.into(), found: list(&found) }),
    }
}

fn list(found: &[IpAddr]) -> String {
    found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// Parses a test address: `dhcp`, or an address; a host name is resolved.
pub fn test_address(argument: &str) -> Result<TestAddressSpec, Error> {
    match argument.parse() {
        Err(control::test_address::Error::Address(address::Error::NotAnAddress(_))) => {
            Ok(TestAddressSpec::Is(data_address(argument, resolve)?))
        }
        other => Ok(other?),
    }
}

fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|socket| socket.ip()).collect())
}

fn data_address(text: &str, resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>>) -> Result<DataAddress, Error> {
    match text.parse() {
        // 192.168.178.300 is a typing error, not a name: no DNS query for it.
        Err(address::Error::NotAnAddress(name)) if is_name(&name) => {
            let Some((_, prefix)) = text.split_once('/') else { return Err(Error::NoPrefix(name)) };
            resolve_data_address(&name, prefix, resolve)
        }
        other => Ok(other?),
    }
}

fn is_name(text: &str) -> bool {
    !text.contains(':')
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

fn resolve_data_address(
    name: &str,
    prefix: &str,
    resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> Result<DataAddress, Error> {
    let mut found = resolve(name).map_err(|source| Error::Lookup { name: name.into(), source })?;
    found.sort_unstable();
    found.dedup();
    // A prefix length over 32 means IPv6. Up to 32 the IPv4 address is preferred: an IPv6 prefix that short is not used on
    // a link.
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

    fn parse(text: &str) -> String {
        data_address(text, hosts).map_or_else(|e| e.to_string(), |a| a.to_string())
    }

    #[test]
    fn host_name_with_prefix_is_resolved() {
        assert_eq!(parse("192.168.178.200/24"), "192.168.178.200/24");
        assert_eq!(parse("node1/24"), "192.168.178.200/24");
        assert_eq!(parse("both1/24"), "192.168.178.200/24");
        assert_eq!(parse("both1/64"), "2001:db8::1/64");
        assert_eq!(parse("six/32"), "2001:db8::1/32");
    }

    #[test]
    fn target_name_without_prefix_is_resolved() {
        let parse =
            |text: &str| address(text, hosts).map_or_else(|e| e.to_string(), |address| address.to_string());
        for (text, address) in [
            ("192.168.178.1", "192.168.178.1"),
            ("fe80::1", "fe80::1"),
            ("node1", "192.168.178.200"),
            ("both1", "192.168.178.200"),
            ("six", "2001:db8::1"),
        ] {
            assert_eq!(parse(text), address);
        }
        assert_eq!(
            parse("many.example.com"),
            "many.example.com has several addresses (10.0.0.1, 10.0.0.2); specify one of them"
        );
        assert_eq!(
            parse("unknown1"),
            "cannot resolve unknown1: unknown name; specify an address, or add unknown1 to /etc/hosts"
        );
        for text in ["192.168.178.300", "node1/24", ""] {
            assert_eq!(
                parse(text),
                format!(
                    "{text:?} is not the address of a host: write one like 192.168.178.1 or 2001:db8::1, without a \
                     prefix length"
                )
            );
        }
    }

    #[test]
    fn unresolvable_name_reports_reason() {
        assert_eq!(
            parse("node1"),
            "expected ADDRESS/PREFIX, got \"node1\"; append the prefix length, for example node1/24"
        );
        assert_eq!(
            parse("unknown1/24"),
            "cannot resolve unknown1: unknown name; specify an address, or add unknown1 to /etc/hosts"
        );
        assert_eq!(
            parse("node1/64"),
            "node1 has no IPv6 address for prefix length 64, only 192.168.178.200; specify an address"
        );
        assert_eq!(
            parse("many.example.com/24"),
            "many.example.com has several addresses (10.0.0.1, 10.0.0.2); specify one of them"
        );
        assert_eq!(
            parse("here/8"),
            "127.0.1.1 is a loopback address, which no group can have as data address: give it an address of a host"
        );
        assert_eq!(parse("node1/x"), "192.168.178.200/x: the prefix length of an IPv4 address is 1 to 32");
    }

    #[test]
    fn malformed_address_is_not_resolved() {
        for text in ["192.168.178.300/24", "2001:db8::g/64", "/24", "10.0.0.1,24/8", "a b/24"] {
            let name = text.split('/').next().unwrap();
            let line = format!(
                "{name:?} is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"
            );
            assert_eq!(parse(text), line);
        }
    }
}
