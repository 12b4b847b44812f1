//! `ipmpctl address`

use clap::Subcommand;

use super::{error::Error, host, verb::Verb};
use crate::control::Request;

/// Add or remove data addresses of a group
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ipmpctl address add 192.168.178.210/24 --group production0")]
pub struct Address {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add data addresses: a group and its members can have 4096
    Add(Arguments),
    /// Remove data addresses
    Del(Arguments),
}

#[derive(Debug, clap::Args)]
struct Arguments {
    /// Addresses with prefix length, for example 192.168.178.210/24
    #[arg(required = true, value_name = "ADDRESS/PREFIX")]
    addresses: Vec<String>,
    /// Name of the group
    #[arg(long, value_name = "GROUP")]
    group: String,
}

impl Verb for Address {
    fn request(&self) -> Result<Request, Error> {
        let (Action::Add(arguments) | Action::Del(arguments)) = &self.action;
        let (group, addresses) = (arguments.group.clone(), host::data_addresses(&arguments.addresses)?);
        Ok(match self.action {
            Action::Add(_) => Request::AddAddress { group, addresses },
            Action::Del(_) => Request::RemoveAddress { group, addresses },
        })
    }
}
