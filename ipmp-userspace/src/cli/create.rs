//! `ipmpctl create`

use super::{
    error::Error,
    host,
    verb::{DryRun, Verb},
};
use crate::control::Request;

/// Create an empty group and its group interface
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ipmpctl create production0 --address 192.168.178.200/24")]
pub struct Create {
    /// Name of the group interface, 15 bytes at most
    group: String,
    /// Data address with prefix length, for example 192.168.178.200/24; may be repeated
    #[arg(long = "address", value_name = "ADDRESS/PREFIX")]
    addresses: Vec<String>,
    /// Group name, 31 bytes at most [default: name of the group interface]
    #[arg(long, value_name = "NAME")]
    groupname: Option<String>,
    #[command(flatten)]
    plan: DryRun,
}

impl Verb for Create {
    fn request(&self) -> Result<Request, Error> {
        let Self { group, addresses, groupname, .. } = self;
        Ok(Request::Create {
            group: group.clone(),
            groupname: groupname.clone(),
            addresses: host::data_addresses(addresses)?,
        })
    }

    fn is_dry_run(&self) -> bool {
        self.plan.dry_run
    }
}
