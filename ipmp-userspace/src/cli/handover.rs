//! `ipmpctl handover`

use std::io::Write;

use super::{
    error::{Error, Exit},
    output,
    verb::{Command, DryRun, Invocation, Outcome},
};
use crate::{control::Client, handover, owners::Host};

/// Make the program that configures a NIC leave it, so that it can be attached
///
/// systemd-networkd and NetworkManager, also for netplan or cloud-init: a file is added to their configuration, and they are
/// restarted. Addresses and routes stay. One NIC after the other: if a program removes something or does not leave the NIC, its
/// file is removed again. No other file is changed. Only root can do it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl handover eth0 eth1 --dry-run
  ipmpctl handover eth0 eth1
  ipmpctl handover --undo eth0 eth1    after they were detached: the files are removed")]
pub struct Handover {
    /// NICs
    #[arg(required_unless_present = "at_boot", value_name = "NIC")]
    nics: Vec<String>,
    /// Remove the files that were added: the program configures the NICs again
    #[arg(long)]
    undo: bool,
    /// Fail if all NICs of systemd-networkd are handed over, so that systemd-networkd-wait-online has none to wait for
    #[arg(long, hide = true)]
    at_boot: bool,
    #[command(flatten)]
    plan: DryRun,
}

impl Command for Handover {
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let host = host()?;
        if self.at_boot {
            if handover::networkd_is_awaited(&host) {
                return Ok(Outcome::done(String::new()));
            }
            let printed = "all NICs of systemd-networkd are handed over: ipmp-wait-online.service waits for the groups\n";
            return Ok(Outcome { exit: Exit::Refused, printed: printed.into() });
        }
        let work = handover::Handover::new(&host)?;
        let (notes, changed) = if self.undo {
            self.refuse_members(invocation)?;
            let files = if self.plan.dry_run { work.plan_undo(&self.nics) } else { work.undo(&self.nics)? };
            if files.is_empty() {
                (vec![format!("{}: not handed over: nothing to change", self.nics.join(", "))], false)
            } else {
                (files, true)
            }
        } else if self.plan.dry_run {
            work.plan(&self.nics)?
        } else {
            let (notes, nics) = work.hand_over(&self.nics)?;
            (notes, !nics.is_empty())
        };
        Ok(Outcome::done(output::notes(&notes, changed, invocation.format)))
    }
}

impl Handover {
    /// A program must not configure a member again.
    fn refuse_members(&self, invocation: &Invocation<'_>) -> Result<(), Error> {
        let Ok(mut client) = Client::connect(invocation.socket) else { return Ok(()) };
        for group in client.groups()? {
            if let Some(member) = group.members.iter().find(|member| self.nics.contains(&member.name)) {
                let name = &member.name;
                return Err(Error::Handover(handover::Error::Member {
                    name: name.clone(),
                    group: group.name,
                }));
            }
        }
        Ok(())
    }
}

/// The host whose NICs this command sees.
pub(super) fn host() -> Result<Host, Error> {
    Host::of_this_namespace().ok_or(Error::Handover(handover::Error::OtherNamespace))
}
