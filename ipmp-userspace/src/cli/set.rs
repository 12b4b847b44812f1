//! `ipmpctl set`

use super::Error;
use crate::control::{Request, Setting, name, setting};

/// Change settings of a group or of a member, all or none
#[derive(Debug, clap::Args)]
#[command(after_help = setting::help())]
pub struct Set {
    /// Name of the group or of the member
    name: String,
    /// What to set; the settings are listed below
    #[arg(required = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl Set {
    pub(super) fn request(&self) -> Result<Request, Error> {
        name::check_interface(&self.name)?;
        Ok(Request::Set { name: self.name.clone(), settings: Setting::all_of(&self.settings)? })
    }
}
