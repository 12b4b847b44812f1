//! A test address as the operator specifies it: `ADDRESS/PREFIX`, or `dhcp`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::address::{self, DataAddress};
use crate::types::Family;

/// The address is assigned by a DHCP client.
const DHCP: &str = "dhcp";

/// Where a member's test address comes from. In the state file and on the socket it is its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TestAddressSpec {
    /// A fixed address; the rules of data addresses apply.
    Is(DataAddress),
    /// The IPv4 address that a DHCP client assigns.
    Dhcp,
}

/// Why test addresses are invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an address with a prefix length.
    #[error(transparent)]
    Address(address::Error),
    /// No host can have it.
    #[error("{address} {why}, which cannot be a test address: give it an address of a host, or dhcp")]
    Impossible {
        /// The address.
        address: std::net::IpAddr,
        /// The reason.
        why: &'static str,
    },
    /// Two are of one family.
    #[error("{0} and {1} are both {family}: a member has one test address in each family", family = family(*.0))]
    Twice(TestAddressSpec, TestAddressSpec),
    /// One address, and several interfaces.
    #[error("{address} can be on one interface only, not on {}: attach each with its own --test-address", .interfaces.join(" and "))]
    Ambiguous {
        /// The address.
        address: TestAddressSpec,
        /// The interfaces.
        interfaces: Vec<String>,
    },
}

fn family(address: TestAddressSpec) -> &'static str {
    match address.family() {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

impl From<address::Error> for Error {
    fn from(error: address::Error) -> Self {
        match error {
            address::Error::Impossible { address, why } => Self::Impossible { address, why },
            other => Self::Address(other),
        }
    }
}

impl TestAddressSpec {
    /// The family that it is the test address of.
    pub fn family(self) -> Family {
        match self {
            Self::Is(address) => Family::of(address.address()),
            Self::Dhcp => Family::V4,
        }
    }

    /// The address, unless DHCP assigns it.
    pub fn address(self) -> Option<DataAddress> {
        match self {
            Self::Is(address) => Some(address),
            Self::Dhcp => None,
        }
    }

    /// Checks that all of these interfaces can have these test addresses: one a family, and an address on one interface.
    ///
    /// # Errors
    /// [`Error::Twice`] and [`Error::Ambiguous`].
    pub fn check(all: &[Self], interfaces: &[String]) -> Result<(), Error> {
        for (at, address) in all.iter().enumerate() {
            if let Some(other) = all[..at].iter().find(|other| other.family() == address.family()) {
                return Err(Error::Twice(*other, *address));
            }
            if interfaces.len() > 1 && address.address().is_some() {
                return Err(Error::Ambiguous { address: *address, interfaces: interfaces.to_vec() });
            }
        }
        Ok(())
    }
}

impl FromStr for TestAddressSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == DHCP { Ok(Self::Dhcp) } else { Ok(Self::Is(text.parse()?)) }
    }
}

impl TryFrom<String> for TestAddressSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<TestAddressSpec> for String {
    fn from(address: TestAddressSpec) -> Self {
        address.to_string()
    }
}

impl fmt::Display for TestAddressSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(address) => address.fmt(f),
            Self::Dhcp => f.write_str(DHCP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<TestAddressSpec> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn test_address_keeps_its_text() {
        for (text, family) in
            [("192.168.178.203/24", Family::V4), ("dhcp", Family::V4), ("fe80::203/64", Family::V6)]
        {
            let address: TestAddressSpec = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.family()), (text, family));
        }
    }

    #[test]
    fn invalid_test_address_is_refused_in_one_line() {
        for (text, line) in [
            ("DHCP", "\"DHCP\" is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"),
            (
                "10.0.0.1",
                "10.0.0.1 has no prefix length: write 10.0.0.1/24, or the prefix length of its network",
            ),
            (
                "127.0.0.1/8",
                "127.0.0.1 is a loopback address, which cannot be a test address: give it an address of a host, or dhcp",
            ),
        ] {
            assert_eq!(text.parse::<TestAddressSpec>().unwrap_err().to_string(), line);
        }
    }

    #[test]
    fn second_test_address_of_a_family_is_refused() {
        let one = ["eth0".to_owned()];
        assert_eq!(TestAddressSpec::check(&all(&["10.0.0.1/24", "2001:db8::1/64"]), &one), Ok(()));
        let refused = TestAddressSpec::check(&all(&["10.0.0.1/24", "dhcp"]), &one).unwrap_err().to_string();
        assert_eq!(
            refused,
            "10.0.0.1/24 and dhcp are both IPv4: a member has one test address in each family"
        );
    }

    #[test]
    fn address_for_several_interfaces_is_refused() {
        let two = ["eth0".to_owned(), "eth1".to_owned()];
        assert_eq!(TestAddressSpec::check(&all(&["dhcp"]), &two), Ok(()));
        let refused = TestAddressSpec::check(&all(&["10.0.0.1/24"]), &two).unwrap_err().to_string();
        assert_eq!(
            refused,
            "10.0.0.1/24 can be on one interface only, not on eth0 and eth1: attach each with its own --test-address"
        );
    }
}
