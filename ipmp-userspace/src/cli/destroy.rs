//! `ipmpctl destroy`

use super::{error::Error, verb::Verb};
use crate::control::Request;

/// Remove an empty group with its interface and addresses
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ipmpctl destroy production0")]
pub struct Destroy {
    /// Name of the group
    group: String,
}

impl Verb for Destroy {
    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Destroy { group: self.group.clone() })
    }
}
