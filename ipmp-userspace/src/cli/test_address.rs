//! `ipmpctl test-address`

use clap::Subcommand;

use super::{Error, host};
use crate::control::{Request, name};

/// Give a member a test address, or take it away
#[derive(Debug, clap::Args)]
pub struct TestAddress {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Give a member a test address
    Add(Of),
    /// Take a test address from a member
    Del(Of),
}

#[derive(Debug, clap::Args)]
struct Of {
    /// Name of the member
    member: String,
    /// The address with its prefix length, as 192.168.178.203/24, or dhcp for what a DHCP client brings
    #[arg(value_name = "ADDRESS/PREFIX|dhcp")]
    address: String,
}

impl TestAddress {
    pub(super) fn request(&self) -> Result<Request, Error> {
        let (Verb::Add(Of { member, address }) | Verb::Del(Of { member, address })) = &self.verb;
        name::check_interface(member)?;
        let (interface, address) = (member.clone(), host::test_address(address)?);
        Ok(match self.verb {
            Verb::Add(_) => Request::AddTestAddress { interface, address },
            Verb::Del(_) => Request::RemoveTestAddress { interface, address },
        })
    }
}
