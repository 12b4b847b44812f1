//! The rules for names and addresses in a request. `ipmpctl` applies them before it contacts or starts a daemon, the server
//! when it decodes a call.

use super::{DataAddress, Refused, Request, TestAddressSpec, reason};
use crate::control::{name, path, setting::LIMITS, target, test_address};

/// Why a request is invalid, whatever the state of the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Invalid name.
    #[error(transparent)]
    Name(#[from] name::Error),
    /// The same interface again.
    #[error("{0} is named twice: name each interface once")]
    InterfaceTwice(String),
    /// The same data address again.
    #[error("{0} is given twice: give each address once")]
    AddressTwice(std::net::IpAddr),
    /// A logical number without the one address that has it.
    #[error("a logical number needs an inbound member and a single address: add the others in another call")]
    Logical,
    /// Invalid packet.
    #[error(transparent)]
    Packet(#[from] path::Error),
    /// Invalid targets.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// The time of a drain is too short or too long.
    #[error("a drain cannot take {0} s: name {min} to {max} seconds", min = LIMITS.start(), max = LIMITS.end())]
    DrainTime(u16),
    /// Invalid test addresses.
    #[error(transparent)]
    TestAddress(#[from] test_address::Error),
}

impl Invalid {
    /// The word for scripts, one of [`reason`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::InterfaceTwice(_) => reason::BAD_NAME,
            Self::Packet(_) => reason::BAD_PACKET,
            Self::DrainTime(_) => reason::BAD_SETTING,
            Self::AddressTwice(_) | Self::Logical | Self::Target(_) | Self::TestAddress(_) => {
                reason::BAD_ADDRESS
            }
        }
    }
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Self {
        Self::new(invalid.reason(), invalid.to_string())
    }
}

impl Request {
    /// Checks names, and that no interface or address is given twice.
    ///
    /// # Errors
    /// The first violation.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Create { group, groupname, addresses } => {
                name::check_group(group)?;
                groupname.as_deref().map_or(Ok(()), name::check_groupname)?;
                check_distinct(addresses)?;
            }
            Self::Attach { group, interfaces, test_addresses, .. } => {
                name::check_group(group)?;
                check_interfaces(interfaces)?;
                TestAddressSpec::check(test_addresses, interfaces)?;
            }
            Self::AddAddress { group, addresses, inbound, logical } => {
                name::check_group(group)?;
                check_distinct(addresses)?;
                inbound.as_deref().map_or(Ok(()), name::check_interface)?;
                if logical.is_some() && (inbound.is_none() || addresses.len() != 1) {
                    return Err(Invalid::Logical);
                }
            }
            Self::RemoveAddress { group, addresses } => {
                name::check_group(group)?;
                check_distinct(addresses)?;
            }
            Self::AddTarget { group, addresses }
            | Self::RemoveTarget { group, addresses }
            | Self::EnableTarget { group, addresses }
            | Self::DisableTarget { group, addresses } => {
                name::check_group(group)?;
                target::check(addresses)?;
            }
            Self::AddTargetRoute { group, addresses } | Self::RemoveTargetRoute { group, addresses } => {
                group.as_deref().map_or(Ok(()), name::check_group)?;
                target::check(addresses)?;
            }
            Self::Path { group, packet, lost } => {
                name::check_group(group)?;
                packet.check()?;
                check_interfaces(lost)?;
            }
            Self::Simulate { group, lost } => {
                name::check_group(group)?;
                check_interfaces(lost)?;
            }
            Self::Plan { parameters, .. } => parameters.check()?,
            Self::DetachAll { group } => group.as_deref().map_or(Ok(()), name::check_group)?,
            Self::Destroy { group } | Self::DiscoverTargets { group } | Self::ListTargets { group } => {
                name::check_group(group)?;
            }
            // The daemon checks the content.
            Self::Apply { .. }
            | Self::RecordState {}
            | Self::CheckGateways {}
            | Self::RestoreState { .. } => {}
            Self::Drain { interface, seconds } => {
                name::check_interface(interface)?;
                if !LIMITS.contains(seconds) {
                    return Err(Invalid::DrainTime(*seconds));
                }
            }
            Self::Detach { interface: name, .. }
            | Self::AddTestAddress { interface: name, .. }
            | Self::RemoveTestAddress { interface: name, .. }
            | Self::Offline { interface: name }
            | Self::Online { interface: name }
            | Self::Set { name, .. }
            | Self::Explain { member: name } => name::check_interface(name)?,
            Self::Show { name }
            | Self::Monitor { name }
            | Self::Probes { name }
            | Self::Timeline { name, .. } => {
                name.as_deref().map_or(Ok(()), name::check_groupname)?;
            }
        }
        Ok(())
    }
}

fn check_interfaces(interfaces: &[String]) -> Result<(), Invalid> {
    for (at, interface) in interfaces.iter().enumerate() {
        name::check_interface(interface)?;
        if interfaces[..at].contains(interface) {
            return Err(Invalid::InterfaceTwice(interface.clone()));
        }
    }
    Ok(())
}

fn check_distinct(addresses: &[DataAddress]) -> Result<(), Invalid> {
    for (at, address) in addresses.iter().enumerate() {
        if addresses[..at].iter().any(|other| other.address() == address.address()) {
            return Err(Invalid::AddressTwice(address.address()));
        }
    }
    Ok(())
}
