//! `ipmpctl apply`, and what `diff` shares with it.

use std::io::Write;

use super::{
    dns,
    error::{Error, Exit},
    files::{Applied, Files, Parsed},
    pending::{self, Change},
    preflight,
    verb::{self, Command, Invocation, Outcome},
};
use crate::{
    config::{Configuration, Group},
    control::{Client, Request, Response, request::ConfigurationFile},
};

/// Change the groups to what the configuration files describe
///
/// Reads /etc/ipmp/ipmp.toml and /etc/ipmp/ipmp.d/*.toml, or the named files only. Everything is checked before anything changes. A
/// member joins before another one leaves and an address exists before another one is removed, so that no packet is lost. If a step
/// is refused, all steps before it are undone. Only what an earlier apply or a command added is removed: not the addresses and
/// routes of other programs, and not groups that no file has described. Without a difference nothing happens. Run by root, it
/// gives the name servers of the files to systemd-resolved at its end, as `ipmpctl dns` does.
///
/// With named files only the groups in them change; a group is removed only if all files are applied.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl apply --dry-run    what would change
  ipmpctl apply              the files in /etc/ipmp
  ipmpctl apply draft.toml   one file
  ipmpctl apply --confirm 120")]
pub struct Apply {
    #[command(flatten)]
    files: Files,
    /// Attach interfaces although firewall rules name them; --confirm does, too
    #[arg(long)]
    accept_firewall: bool,
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Undo it after this time, 1 to 86400 seconds, unless `ipmpctl confirm` is entered before, from a new connection; the files in
    /// the directory, too
    #[arg(long, value_name = "SECONDS", conflicts_with = "dry_run", value_parser = clap::value_parser!(u32).range(1..=86400))]
    confirm: Option<u32>,
}

impl Command for Apply {
    fn execute(&self, invocation: &Invocation<'_>, out: &mut dyn Write) -> Result<Outcome, Error> {
        let accept_firewall = self.accept_firewall || self.confirm.is_some();
        let applied = self.files.apply(invocation, self.dry_run, accept_firewall, self.confirm, Some(out))?;
        Ok(applied.outcome(invocation.format, Exit::Done))
    }
}

impl Files {
    /// Reads the files and sends them to the daemon. `out`: where the line on the SSH session is printed before the change.
    pub(super) fn apply(
        &self,
        invocation: &Invocation<'_>,
        dry_run: bool,
        accept_firewall: bool,
        confirm: Option<u32>,
        out: Option<&mut dyn Write>,
    ) -> Result<Applied, Error> {
        let (configuration, texts) = match self.parse(invocation) {
            Parsed::Valid { configuration, texts } => (configuration, texts),
            Parsed::Invalid(findings) => return Ok(Applied::Invalid(findings)),
        };
        let files = texts
            .into_iter()
            .map(|(path, text)| ConfigurationFile { path: path.display().to_string(), text });
        let request = Request::Apply {
            files: files.collect(),
            complete: self.files.is_empty(),
            dry_run,
            accept_firewall,
        };
        let response = match confirm {
            Some(seconds) => {
                let applies_files = self.files.is_empty();
                let named: Vec<String> = dns::with_dns(&configuration)
                    .filter(|_| invocation.netns.is_none())
                    .map(|group| group.name.value.clone())
                    .collect();
                let change = Change {
                    text: self.text(),
                    seconds,
                    directory: self.directory(invocation),
                    applies_files,
                    checks_gateways: true,
                    steps: dns::undo_steps(&named),
                    ..Change::default()
                };
                pending::execute(invocation, change, |client| {
                    let note = match out {
                        Some(out) => preflight::check(client, &request, invocation.format, out)?,
                        None => None,
                    };
                    let response = preflight::with_note(client.call(&request)?, note);
                    Ok(with_name_servers(response, &configuration, client, false))
                })?
            }
            None => {
                let mut client = verb::connect(invocation.socket, invocation.netns, !dry_run)?;
                let response = client.call(&request)?;
                let response =
                    if dry_run { preflight::with_line(&client, &request, response) } else { response };
                with_name_servers(response, &configuration, &client, dry_run)
            }
        };
        match response {
            Response::Done { notes, changed } => Ok(Applied::Done { notes, changed }),
            _ => Ok(Applied::Done { notes: Vec::new(), changed: false }),
        }
    }
}

/// The reply, and name servers: what fails there is a note, since all the rest is done.
pub(super) fn with_name_servers(
    response: Response,
    configuration: &Configuration,
    client: &Client,
    dry_run: bool,
) -> Response {
    let Response::Done { mut notes, mut changed } = response else { return response };
    if let Some(why) = dns::check(client).err() {
        let note = |group: &Group| format!("name servers of {} are not applied: {why}", group.name.value);
        notes.extend(dns::with_dns(configuration).map(note));
    } else {
        for result in dns::apply(configuration, dry_run) {
            changed |= result.is_ok();
            notes.push(result.unwrap_or_else(|error| error));
        }
    }
    Response::Done { notes, changed }
}
