//! `ipmpctl create`

use super::{Error, host};
use crate::control::{Request, name};

/// Create an empty group and its interface
#[derive(Debug, clap::Args)]
pub struct Create {
    /// Name of the group interface, as production0: at most 15 bytes
    group: String,
    /// A data address with its prefix length, as 192.168.178.200/24; may be given more than once
    #[arg(long = "address", value_name = "ADDRESS/PREFIX")]
    addresses: Vec<String>,
    /// Second name of the group, if not that of its interface: at most 31 bytes
    #[arg(long, value_name = "NAME")]
    groupname: Option<String>,
}

impl Create {
    pub(super) fn request(&self) -> Result<Request, Error> {
        let Self { group, addresses, groupname } = self;
        name::check_group(group)?;
        if let Some(groupname) = groupname {
            name::check_groupname(groupname)?;
        }
        Ok(Request::Create {
            group: group.clone(),
            groupname: groupname.clone(),
            addresses: host::data_addresses(addresses)?,
        })
    }
}
