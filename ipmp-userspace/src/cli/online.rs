//! `ipmpctl online`

use super::{
    error::Error,
    verb::{DryRun, Verb},
};
use crate::control::Request;

/// Return an offline member to service
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ipmpctl online eth0")]
pub struct Online {
    /// Name of the member
    interface: String,
    #[command(flatten)]
    plan: DryRun,
}

impl Verb for Online {
    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Online { interface: self.interface.clone() })
    }

    fn is_dry_run(&self) -> bool {
        self.plan.dry_run
    }
}
