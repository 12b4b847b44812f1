//! `ipmpctl undo`

use std::io::Write;

use super::{
    error::Error,
    output, pending,
    verb::{Command, DryRun, Invocation, Outcome},
};

/// Undo a change that was made with --confirm and is not confirmed
///
/// Without this command it is undone at its deadline.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  ipmpctl undo    at once, not at the deadline")]
pub struct Undo {
    /// Wait for the deadline of this change
    #[arg(long, value_name = "ID", hide = true)]
    at_deadline: Option<String>,
    /// Restore the files of a change that was not confirmed before the host was started again
    #[arg(long, hide = true)]
    at_boot: bool,
    #[command(flatten)]
    plan: DryRun,
}

impl Command for Undo {
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        if let Some(id) = &self.at_deadline {
            pending::undo_at_deadline(invocation, id)?;
            return Ok(Outcome::done(String::new()));
        }
        if self.at_boot {
            let change = pending::undo_of_earlier_boot(invocation)?;
            let text =
                |change| format!("undone: {change}: not confirmed before the host was started again\n");
            return Ok(Outcome::done(change.map(text).unwrap_or_default()));
        }
        let (undone, verb) = if self.plan.dry_run {
            (pending::plan_undo(invocation)?, "undo")
        } else {
            (pending::undo(invocation)?, "undone")
        };
        let (notes, changed) = match undone {
            Some((change, mut notes)) => {
                notes.insert(0, format!("{verb}: {change}"));
                (notes, true)
            }
            None => (vec!["nothing to undo: no change waits for a confirmation".to_owned()], false),
        };
        Ok(Outcome::done(output::notes(&notes, changed, invocation.format)))
    }
}
