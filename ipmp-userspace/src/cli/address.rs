//! `ipmpctl address`

use clap::Subcommand;

use super::{
    error::Error,
    host,
    verb::{DryRun, Verb},
};
use crate::control::Request;

/// Add or remove data addresses of a group
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ipmpctl address add 192.168.178.210/24 --group production0\n  ipmpctl address add \
                        192.168.178.211/24 --group production0 --inbound eth1"
)]
pub struct Address {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add data addresses: a group and its members can have 4096
    Add(Added),
    /// Remove data addresses; a note names those that the group does not have
    Del(Arguments),
}

#[derive(Debug, clap::Args)]
struct Added {
    #[command(flatten)]
    arguments: Arguments,
    /// Member that receives for these addresses while it is active; also for addresses that the group has already
    #[arg(long, value_name = "MEMBER")]
    inbound: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Arguments {
    /// Addresses with prefix length, for example 192.168.178.210/24
    #[arg(required = true, value_name = "ADDRESS/PREFIX")]
    addresses: Vec<String>,
    /// Name of the group
    #[arg(long, value_name = "GROUP")]
    group: String,
    #[command(flatten)]
    plan: DryRun,
}

impl Verb for Address {
    fn request(&self) -> Result<Request, Error> {
        let (Action::Add(Added { arguments, .. }) | Action::Del(arguments)) = &self.action;
        let (group, addresses) = (arguments.group.clone(), host::data_addresses(&arguments.addresses)?);
        Ok(match &self.action {
            Action::Add(Added { inbound, .. }) => {
                Request::AddAddress { group, addresses, inbound: inbound.clone(), logical: None }
            }
            Action::Del(_) => Request::RemoveAddress { group, addresses },
        })
    }

    fn is_dry_run(&self) -> bool {
        let (Action::Add(Added { arguments, .. }) | Action::Del(arguments)) = &self.action;
        arguments.plan.dry_run
    }
}
