//! `ipmpctl online`

use super::{error::Error, verb::Verb};
use crate::control::Request;

/// Return an offline member to service
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ipmpctl online eth0")]
pub struct Online {
    /// Name of the member
    interface: String,
}

impl Verb for Online {
    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Online { interface: self.interface.clone() })
    }
}
