//! `ipmpctl address`

use clap::Subcommand;

use super::{Error, host};
use crate::control::{Request, name};

/// Add data addresses to a group, or remove them
#[derive(Debug, clap::Args)]
pub struct Address {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add data addresses
    Add(Of),
    /// Remove data addresses
    Del(Of),
}

#[derive(Debug, clap::Args)]
struct Of {
    /// The addresses with their prefix lengths, as 192.168.178.210/24
    #[arg(required = true, value_name = "ADDRESS/PREFIX")]
    addresses: Vec<String>,
    /// Name of the group
    #[arg(long, value_name = "GROUP")]
    group: String,
}

impl Address {
    pub(super) fn request(&self) -> Result<Request, Error> {
        let (Verb::Add(Of { addresses, group }) | Verb::Del(Of { addresses, group })) = &self.verb;
        name::check_group(group)?;
        let (group, addresses) = (group.clone(), host::data_addresses(addresses)?);
        Ok(match self.verb {
            Verb::Add(_) => Request::AddAddress { group, addresses },
            Verb::Del(_) => Request::RemoveAddress { group, addresses },
        })
    }
}
