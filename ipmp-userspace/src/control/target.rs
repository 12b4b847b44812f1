//! Targets of probes: as an operator names them, and as they are listed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::address;
use crate::{
    core::probe::targets::ACTIVE,
    types::{TargetSource, TargetStatus},
};

/// How many targets an operator can name for a group. [`ACTIVE`] of a family are probed in turn; when one of them does
/// not answer, another one takes its turn.
pub const MOST: usize = 32;

/// What cannot be a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither IPv4 nor IPv6.
    #[error(
        "{0:?} is not the address of a target: write one like 192.168.178.1 or 2001:db8::1, without a prefix length"
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
    /// It came twice.
    #[error("{0} is given twice: give each address once")]
    Twice(IpAddr),
    /// There would be too many.
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

/// Reads an address as it is typed. Whether it can be a target, [`check`] says.
///
/// # Errors
/// [`Error::NotAnAddress`].
pub fn read(text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| Error::NotAnAddress(text.to_owned()))
}

/// What a target is to a member that may probe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prober {
    /// Name of the member.
    pub member: String,
    /// What it is good for.
    pub status: TargetStatus,
    /// Average round-trip time in microseconds; `None`: it has not answered lately.
    pub rtt_us: Option<u64>,
}

/// A target that a group knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Its address.
    pub address: IpAddr,
    /// Where it comes from.
    pub source: TargetSource,
    /// It may be probed; `false`: the operator has disabled it.
    pub enabled: bool,
    /// It has answered a multicast probe since hosts were looked for, wherever else it comes from.
    pub answered: bool,
    /// The members that choose it; none: there are better ones, or no member can reach it.
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
                    "\"192.168.178.1/24\" is not the address of a target: write one like 192.168.178.1 or 2001:db8::1, \
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
    fn targets_are_named_once_and_not_without_end() {
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
