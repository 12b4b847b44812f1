//! `ipmpctl set`

use super::{Error, host};
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
        let texts = self.settings.iter().map(|text| with_addresses(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Request::Set { name: self.name.clone(), settings: Setting::all_of(&texts)? })
    }
}

/// Names of targets work as their addresses do.
fn with_addresses(text: &str) -> Result<String, host::Error> {
    let Some(list) = text.strip_prefix("targets=").filter(|list| !list.is_empty() && *list != "auto") else {
        return Ok(text.to_owned());
    };
    let typed: Vec<String> = list.split(',').map(str::to_owned).collect();
    let addresses: Vec<String> = host::addresses(&typed)?.iter().map(ToString::to_string).collect();
    Ok(format!("targets={}", addresses.join(",")))
}
