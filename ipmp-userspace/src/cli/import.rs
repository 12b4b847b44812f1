//! `ipmpctl import`: a configuration file from what another system had.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Exit},
    verb::{Command, Invocation, Outcome},
};
use crate::{
    daemon::mpathd,
    ifconfig::{
        hostname,
        import::{self, Defaults},
    },
};

/// Print the configuration file for the boot files of a Solaris host
///
/// Reads hostname.*, hostname6.*, hosts, netmasks and default/mpathd in the directory, and changes nothing. What the files
/// contain beside groups is printed as comments. Names are those of the directory's hosts file and of /etc/hosts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ipmpctl import --hostname-dir /mnt/solaris/etc > /etc/ipmp/ipmp.toml")]
pub struct Import {
    /// Directory with the files hostname.*
    #[arg(long, value_name = "DIRECTORY", required = true)]
    hostname_dir: PathBuf,
}

impl Command for Import {
    fn execute(&self, _invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let printed = read(&self.hostname_dir).map_err(Error::Import)?;
        Ok(Outcome { exit: Exit::Done, printed })
    }
}

fn read(directory: &Path) -> Result<String, String> {
    let files = hostname::read(directory).map_err(|error| error.to_string())?;
    let path = directory.join("default/mpathd");
    let mpathd = hostname::text(&path).map_err(|error| error.to_string())?.unwrap_or_default();
    let (found, _) = mpathd::parse(&mpathd, &path);
    let usual = mpathd::Defaults::default();
    let defaults = Defaults {
        fdt_ms: (found.fdt != usual.fdt).then_some(found.fdt.as_millis()),
        failback: (found.failback != usual.failback).then_some(found.failback),
    };
    let source = directory.display().to_string();
    import::configuration(files, defaults, &source).map_err(|error| error.to_string())
}
