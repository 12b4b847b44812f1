//! `ipmpctl offline`

use super::Error;
use crate::control::{Request, name};

/// Take a member out of service; its traffic moves to the others
#[derive(Debug, clap::Args)]
pub struct Offline {
    /// Name of the member
    interface: String,
}

impl Offline {
    pub(super) fn request(&self) -> Result<Request, Error> {
        name::check_interface(&self.interface)?;
        Ok(Request::Offline { interface: self.interface.clone() })
    }
}
