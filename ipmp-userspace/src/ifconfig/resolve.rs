//! Names and netmasks: from a line to addresses with prefix lengths.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, ToSocketAddrs},
};

use super::{
    grammar::{Broadcast, Change, Logical, Mask},
    netmask,
    plan::Wish,
};
use crate::{
    control::{DataAddress, address},
    types::network,
};

/// Why a line has no addresses.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    #[error(transparent)]
    Address(#[from] address::Error),
    #[error("cannot resolve {name}: {source}; specify an address, or add {name} to /etc/hosts")]
    Lookup { name: String, source: io::Error },
    #[error(
        "{0} is in no hosts file: specify an address, or add {0} to /etc/hosts; no name server is queried"
    )]
    NotInHosts(String),
    #[error("{name} has no {family} address: specify one")]
    Family { name: String, family: &'static str },
    #[error("{0:?} is not an IP address: write one like 192.168.178.200")]
    NotAnAddress(String),
    #[error("{0} has no prefix length: write {0}/64, or the prefix length of its network")]
    NoPrefix(IpAddr),
    #[error("the broadcast address of {address} is {own}, not {given}: write broadcast +")]
    Broadcast { address: DataAddress, own: Ipv4Addr, given: Ipv4Addr },
}

/// Where names and netmasks are from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Addresses and names of hosts files; `None`: the resolver of the host.
    pub hosts: Option<Vec<(IpAddr, String)>>,
    /// The text of [`netmask::NETMASKS`].
    pub netmasks: String,
    /// The text of [`netmask::ROUTES`].
    pub routes: String,
}

impl Names {
    /// Those of this host.
    pub fn of_host() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self { hosts: None, netmasks: read(netmask::NETMASKS), routes: read(netmask::ROUTES) }
    }
}

/// Addresses and names of a hosts file. Invalid lines are ignored, as by the resolver.
pub fn hosts(text: &str) -> impl Iterator<Item = (IpAddr, String)> {
    text.lines().flat_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        address.into_iter().flat_map(move |address| words.clone().map(move |name| (address, name.to_owned())))
    })
}

/// Resolves the names in a line, and finds the netmasks that it does not give.
///
/// # Errors
/// The first name or address that cannot be resolved.
pub fn resolve(change: Change, names: &Names, notes: &mut Vec<String>) -> Result<Wish, Error> {
    let v6 = change.v6;
    let base = match &change.base.address {
        Some(text) => Some(data_address(text, &change.base, v6, names, notes)?),
        None => None,
    };
    let mut added = Vec::new();
    for line in &change.added {
        added.push(data_address(line.address.as_deref().unwrap_or_default(), line, v6, names, notes)?);
    }
    let removed = change.removed.iter().map(|text| ip(text, v6, names)).collect::<Result<_, _>>()?;
    Ok(Wish { change, base, added, removed })
}

fn data_address(
    text: &str,
    line: &Logical,
    v6: bool,
    names: &Names,
    notes: &mut Vec<String>,
) -> Result<DataAddress, Error> {
    let (host, prefix) = match text.split_once('/') {
        Some((host, prefix)) => (host, Some(prefix)),
        None => (text, None),
    };
    let found = ip(host, v6, names)?;
    let address = match (prefix, line.netmask, found) {
        (Some(prefix), _, _) => format!("{found}/{prefix}").parse()?,
        (None, Some(Mask::Prefix(prefix)), _) => DataAddress::new(found, prefix)?,
        (None, _, IpAddr::V4(v4)) => {
            let (prefix, source) = netmask::prefix(v4, &names.netmasks, &names.routes);
            let address = DataAddress::new(found, prefix)?;
            notes.push(format!("{v4}: netmask {} from {source}", network::netmask(prefix)));
            address
        }
        (None, _, IpAddr::V6(_)) => return Err(Error::NoPrefix(found)),
    };
    if let (Some(Broadcast::Is(given)), IpAddr::V4(v4)) = (line.broadcast, found) {
        let own = v4 | !network::netmask(address.prefix());
        if own != given {
            return Err(Error::Broadcast { address, own, given });
        }
    }
    Ok(address)
}

/// An address, or that of a host name.
fn ip(text: &str, v6: bool, names: &Names) -> Result<IpAddr, Error> {
    let family = if v6 { "IPv6" } else { "IPv4" };
    let none = || Error::Family { name: text.into(), family };
    if let Ok(address) = text.parse::<IpAddr>() {
        return if address.is_ipv6() == v6 { Ok(address) } else { Err(none()) };
    }
    // 192.168.178.300 is a typing error, not a name: no DNS query for it.
    if text.contains([':', '/']) || !text.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return Err(Error::NotAnAddress(text.into()));
    }
    if let Some(hosts) = &names.hosts {
        let mut found = hosts.iter().filter(|(_, name)| name == text).map(|(address, _)| *address).peekable();
        if found.peek().is_none() {
            return Err(Error::NotInHosts(text.into()));
        }
        return found.find(|address| address.is_ipv6() == v6).ok_or_else(none);
    }
    let found = (text, 0).to_socket_addrs().map_err(|source| Error::Lookup { name: text.into(), source })?;
    found.map(|socket| socket.ip()).find(|address| address.is_ipv6() == v6).ok_or_else(none)
}
