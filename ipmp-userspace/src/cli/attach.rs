//! `ipmpctl attach`

use super::{Error, host};
use crate::control::{Request, TestAddress, name};

/// Attach interfaces to a group, which is created if it does not exist
///
/// All are attached, or none. Addresses and routes that they carry move to the group.
#[derive(Debug, clap::Args)]
pub struct Attach {
    /// Names of the interfaces
    #[arg(required = true, value_name = "INTERFACE")]
    interfaces: Vec<String>,
    /// Name of the group
    #[arg(long, value_name = "GROUP")]
    group: String,
    /// Keep the interfaces as standbys: they carry nothing while the members that are no standbys function
    #[arg(long)]
    standby: bool,
    /// A test address: ADDRESS/PREFIX, for a single interface, or dhcp for what a DHCP client brings; one for IPv4 and one
    /// for IPv6
    #[arg(long = "test-address", value_name = "ADDRESS/PREFIX|dhcp")]
    test_addresses: Vec<String>,
}

impl Attach {
    pub(super) fn request(&self) -> Result<Request, Error> {
        let Self { interfaces, group, standby, test_addresses } = self;
        name::check_group(group)?;
        for (at, interface) in interfaces.iter().enumerate() {
            name::check_interface(interface)?;
            if interfaces[..at].contains(interface) {
                return Err(Error::Usage(format!("{interface} is named twice: name each interface once")));
            }
        }
        let test_addresses =
            test_addresses.iter().map(|text| host::test_address(text)).collect::<Result<Vec<_>, _>>()?;
        TestAddress::check(&test_addresses, interfaces)?;
        Ok(Request::Attach {
            group: group.clone(),
            interfaces: interfaces.clone(),
            standby: *standby,
            test_addresses,
        })
    }
}
