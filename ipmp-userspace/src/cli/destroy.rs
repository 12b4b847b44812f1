//! `ipmpctl destroy`

use super::{
    error::Error,
    verb::{DryRun, Verb},
};
use crate::control::Request;

/// Remove an empty group with its interface and addresses
///
/// If there is no such group, nothing changes, and a note reports it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ipmpctl destroy production0")]
pub struct Destroy {
    /// Name of the group
    group: String,
    #[command(flatten)]
    plan: DryRun,
}

impl Verb for Destroy {
    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Destroy { group: self.group.clone() })
    }

    fn is_dry_run(&self) -> bool {
        self.plan.dry_run
    }
}
