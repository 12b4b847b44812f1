//! `ipmpctl diff`

use std::io::Write;

use super::{
    apply::Files,
    error::{Error, Exit},
    verb::{Command, Invocation, Outcome},
};

/// Report what `ipmpctl apply` would change
///
/// Compares the configuration files with the groups that run and changes nothing. ipmpd must run; it is not started.
///
/// Exit status: 0 no mistake in the files; with --exit-code 0 no difference, 10 differences.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl diff                the files in /etc/ipmp
  ipmpctl diff --exit-code    exit status 10 if they differ from what runs")]
pub struct Diff {
    #[command(flatten)]
    files: Files,
    /// Exit with status 10 if there are differences
    #[arg(long)]
    exit_code: bool,
}

impl Command for Diff {
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let exit = if self.exit_code { Exit::Differs } else { Exit::Done };
        Ok(self.files.apply(invocation, true, false, None, None)?.outcome(invocation.format, exit))
    }
}
