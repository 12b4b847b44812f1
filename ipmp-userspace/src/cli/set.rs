//! `ipmpctl set`

use super::{
    error::Error,
    host,
    verb::{DryRun, Verb},
};
use crate::control::{Request, Setting, setting};

/// Change settings of a group or a member
///
/// Either all settings are applied or none. They are kept until the group is removed or the host restarts;
/// `ipmpctl save` writes them into the configuration files.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Examples:\n  ipmpctl set production0 fdt=1s failback=no\n  ipmpctl set eth2 standby=on\n\n{}", setting::help()))]
pub struct Set {
    /// Name of the group or member
    name: String,
    /// Settings, listed below
    #[arg(required = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    plan: DryRun,
}

impl Verb for Set {
    fn request(&self) -> Result<Request, Error> {
        let texts = self.settings.iter().map(|text| with_addresses(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Request::Set { name: self.name.clone(), settings: Setting::all_of(&texts)? })
    }

    fn is_dry_run(&self) -> bool {
        self.plan.dry_run
    }
}

/// Replaces host names in `targets=` by their addresses.
fn with_addresses(text: &str) -> Result<String, host::Error> {
    let Some(list) = text.strip_prefix("targets=").filter(|list| !list.is_empty() && *list != "auto") else {
        return Ok(text.to_owned());
    };
    let arguments: Vec<String> = list.split(',').map(str::to_owned).collect();
    let addresses: Vec<String> = host::addresses(&arguments)?.iter().map(ToString::to_string).collect();
    Ok(format!("targets={}", addresses.join(",")))
}
