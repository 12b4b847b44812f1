//! `ipmpctl online`

use super::Error;
use crate::control::{Request, name};

/// Put an offline member back into service
#[derive(Debug, clap::Args)]
pub struct Online {
    /// Name of the member
    interface: String,
}

impl Online {
    pub(super) fn request(&self) -> Result<Request, Error> {
        name::check_interface(&self.interface)?;
        Ok(Request::Online { interface: self.interface.clone() })
    }
}
