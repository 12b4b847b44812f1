//! Targets of probes: as the operator specifies them, and as they are listed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::address;
use crate::{
    core::probe::targets::ACTIVE,
    types::{TargetSource, TargetStatus},
};

/// Most targets that an operator can add to a group. [`ACTIVE`] of a family are probed in turn; one that does not reply is
/// replaced by another.
pub const MOST: usize = 32;

/// Why addresses cannot be targets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither IPv4 nor IPv6.
    #[error(
        "{0:?} is not the address of a host: write one like 192.168.178.1 or 2001:db8::1, without a prefix length"
    )]
    NotAnAddress(String),
    /// No host has it.
    #[error("{address} {why}, which cannot be a target: name a host on the link of the group")]
    Impossible {
        /// The address.
        address: IpAddr,
        /// What it is.
        why: &'static str,
    },
    /// Given twice.
    #[error("{0} is given twice: give each address once")]
    Twice(IpAddr),
    /// Too many.
    #[error(
        "a group can have {MOST} targets of its own, and probes {ACTIVE} of a family in turn: name those that matter most"
    )]
    Many,
}

/// Checks that these can be targets, none of them twice.
///
/// # Errors
/// The first that cannot.
pub fn check(addresses: &[IpAddr]) -> Result<(), Error> {
    for (at, &address) in addresses.iter().enumerate() {
        if let Some(why) = address::impossible(address) {
            return Err(Error::Impossible { address, why });
        }
        if addresses[..at].contains(&address) {
            return Err(Error::Twice(address));
        }
    }
    if addresses.len() > MOST { Err(Error::Many) } else { Ok(()) }
}

/// Parses an address. [`check`] decides whether it can be a target.
///
/// # Errors
/// [`Error::NotAnAddress`].
pub fn read(text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| Error::NotAnAddress(text.to_owned()))
}

/// Use of a target by a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prober {
    /// Name of the member.
    pub member: String,
    /// Status.
    pub status: TargetStatus,
    /// Average round-trip time in microseconds; `None`: no recent reply.
    pub rtt_us: Option<u64>,
}

/// A target of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Its address.
    pub address: IpAddr,
    /// Source.
    pub source: TargetSource,
    /// `false`: disabled by the operator.
    pub enabled: bool,
    /// It replied to a multicast probe since the last discovery.
    pub answered: bool,
    /// The members that use it; empty: other targets are preferred, or no member can reach it.
    pub members: Vec<Prober>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_host_has_is_no_target() {
        for (text, line) in [
            ("192.168.178.1", None),
            ("fe80::1", None),
            (
                "192.168.178.1/24",
                Some(
                    "\"192.168.178.1/24\" is not the address of a host: write one like 192.168.178.1 or 2001:db8::1, \
                     without a prefix length",
                ),
            ),
            (
                "224.0.0.1",
                Some(
                    "224.0.0.1 is a multicast address, which cannot be a target: name a host on the link of the group",
                ),
            ),
            (
                "ff02::1",
                Some(
                    "ff02::1 is a multicast address, which cannot be a target: name a host on the link of the group",
                ),
            ),
            (
                "0.0.0.0",
                Some(
                    "0.0.0.0 is unspecified (0.0.0.0/8), which cannot be a target: name a host on the link of the group",
                ),
            ),
        ] {
            let result = read(text).and_then(|address| check(&[address]));
            assert_eq!(result.err().map(|error| error.to_string()).as_deref(), line, "{text}");
        }
    }

    #[test]
    fn duplicate_and_too_many_targets_are_refused() {
        let some =
            |count: usize| (0..count).map(|last| IpAddr::from([10, 0, 0, last as u8])).collect::<Vec<_>>();
        assert_eq!(check(&some(MOST)), Ok(()));
        assert_eq!(
            check(&some(MOST + 1)).unwrap_err().to_string(),
            "a group can have 32 targets of its own, and probes 5 of a family in turn: name those that matter most"
        );
        let twice = [some(1), some(1)].concat();
        assert_eq!(check(&twice).unwrap_err().to_string(), "10.0.0.0 is given twice: give each address once");
    }
}
