//! `ipmpctl confirm`

use std::io::Write;

use super::{
    error::Error,
    output, pending,
    verb::{Command, DryRun, Invocation, Outcome},
};

/// Keep a change that was made with --confirm
///
/// Enter it in a new connection to this host: it shows that the host can be reached after the change. In the session that made
/// the change it is refused without --force.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  ipmpctl attach eth0 eth1 --group production0 --confirm 120
  ipmpctl confirm                                               in a new connection")]
pub struct Confirm {
    /// Confirm from the session that made the change, too
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    plan: DryRun,
}

impl Command for Confirm {
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let change = pending::confirm(invocation, self.force, self.plan.dry_run)?;
        let verb = if self.plan.dry_run { "confirm" } else { "confirmed" };
        let notes = [format!("{verb}: {change}")];
        Ok(Outcome::done(output::notes(&notes, true, invocation.format)))
    }
}
