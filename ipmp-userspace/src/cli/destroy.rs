//! `ipmpctl destroy`

use super::Error;
use crate::control::{Request, name};

/// Remove an empty group, its interface and its addresses
#[derive(Debug, clap::Args)]
pub struct Destroy {
    /// Name of the group
    group: String,
}

impl Destroy {
    pub(super) fn request(&self) -> Result<Request, Error> {
        name::check_group(&self.group)?;
        Ok(Request::Destroy { group: self.group.clone() })
    }
}
