//! `ipmpctl test-address`

use clap::Subcommand;

use super::{
    error::Error,
    host,
    verb::{DryRun, Verb},
};
use crate::control::Request;

/// Add or remove test addresses of a member; probes are sent from them
///
/// A test address is excluded from source address selection. A member has at most one in each family.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ipmpctl test-address add eth2 192.168.178.203/24")]
pub struct TestAddress {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a test address to a member
    Add(Arguments),
    /// Remove a test address from a member; if it does not have it, a note reports it
    Del(Arguments),
}

#[derive(Debug, clap::Args)]
struct Arguments {
    /// Name of the member
    member: String,
    /// Address with prefix length, for example 192.168.178.203/24, or dhcp for the address that a DHCP client assigns
    #[arg(value_name = "ADDRESS/PREFIX|dhcp")]
    address: String,
    #[command(flatten)]
    plan: DryRun,
}

impl Verb for TestAddress {
    fn request(&self) -> Result<Request, Error> {
        let (Action::Add(arguments) | Action::Del(arguments)) = &self.action;
        let (interface, address) = (arguments.member.clone(), host::test_address(&arguments.address)?);
        Ok(match self.action {
            Action::Add(_) => Request::AddTestAddress { interface, address },
            Action::Del(_) => Request::RemoveTestAddress { interface, address },
        })
    }

    fn is_dry_run(&self) -> bool {
        let (Action::Add(arguments) | Action::Del(arguments)) = &self.action;
        arguments.plan.dry_run
    }
}
