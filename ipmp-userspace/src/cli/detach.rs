//! `ipmpctl detach`

use super::Error;
use crate::control::{Last, Request, name};

/// Detach an interface from its group
///
/// The last member of a group needs a word on what becomes of the group; for any other the options mean nothing.
#[derive(Debug, clap::Args)]
pub struct Detach {
    /// Name of the member
    interface: String,
    #[command(flatten)]
    last: OfLast,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct OfLast {
    /// Of the last member: give addresses and routes back to it, and remove the group
    #[arg(long)]
    restore: bool,
    /// Of the last member: keep the group, empty, with its addresses
    #[arg(long)]
    keep_group: bool,
    /// Of the last member: remove the group with its addresses
    #[arg(long)]
    force: bool,
}

impl Detach {
    pub(super) fn request(&self) -> Result<Request, Error> {
        name::check_interface(&self.interface)?;
        let last = match self.last {
            OfLast { restore: true, .. } => Some(Last::Restore),
            OfLast { keep_group: true, .. } => Some(Last::KeepGroup),
            OfLast { force: true, .. } => Some(Last::Force),
            _ => None,
        };
        Ok(Request::Detach { interface: self.interface.clone(), last })
    }
}
