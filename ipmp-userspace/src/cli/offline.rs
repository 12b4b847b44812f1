//! `ipmpctl offline`

use super::{
    error::Error,
    verb::{DryRun, Verb},
};
use crate::control::Request;

/// Take a member out of service; its traffic moves to the other members
///
/// The member stays offline until ipmpctl online.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ipmpctl offline eth0")]
pub struct Offline {
    /// Name of the member
    interface: String,
    #[command(flatten)]
    plan: DryRun,
}

impl Verb for Offline {
    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Offline { interface: self.interface.clone() })
    }

    fn is_dry_run(&self) -> bool {
        self.plan.dry_run
    }
}
