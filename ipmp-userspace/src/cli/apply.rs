//! `ipmpctl apply`, and what `diff` shares with it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Exit},
    output::{self, Content, Format},
    pending::{self, Change},
    preflight,
    verb::{self, Command, Invocation, Outcome},
};
use crate::{
    config::{self, Finding, Place, Severity, files},
    control::{Request, Response, request::ConfigurationFile},
};

/// Change the groups to what the configuration files describe
///
/// Reads /etc/ipmp/ipmp.toml and /etc/ipmp/ipmp.d/*.toml, or the named files only. Everything is checked before anything changes. A
/// member joins before another one leaves and an address exists before another one is removed, so that no packet is lost. If a step
/// is refused, all steps before it are undone. Only what an earlier apply or a command added is removed: not the addresses and
/// routes of other programs, and not groups that no file has described. Without a difference nothing happens.
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

/// Which files.
#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// Files [default: ipmp.toml and ipmp.d/*.toml of the directory]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directory of the configuration [default: /etc/ipmp, with --netns /etc/netns/NAME/ipmp]
    #[arg(long, value_name = "DIRECTORY")]
    config_dir: Option<PathBuf>,
}

impl Command for Apply {
    fn execute(&self, invocation: &Invocation<'_>, out: &mut dyn Write) -> Result<Outcome, Error> {
        let accept_firewall = self.accept_firewall || self.confirm.is_some();
        let applied = self.files.apply(invocation, self.dry_run, accept_firewall, self.confirm, Some(out))?;
        Ok(applied.outcome(invocation.format, Exit::Done))
    }
}

/// What was applied, or would be.
pub(super) enum Applied {
    /// A file has mistakes: nothing was sent to the daemon.
    Invalid(Vec<Finding>),
    Done {
        notes: Vec<String>,
        changed: bool,
    },
}

impl Applied {
    /// `exit`: if there are differences.
    pub(super) fn outcome(&self, format: Format, exit: Exit) -> Outcome {
        match self {
            Self::Invalid(findings) => {
                let text = || findings.iter().map(|finding| format!("{finding}\n")).collect();
                Outcome { exit: Exit::Refused, printed: Content::Findings { findings }.print(format, text) }
            }
            Self::Done { notes, changed } => {
                let exit = if *changed { exit } else { Exit::Done };
                Outcome { exit, printed: output::notes(notes, *changed, format) }
            }
        }
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
        let directory = self.config_dir.clone().unwrap_or_else(|| config::directory(invocation.netns));
        let paths =
            if self.files.is_empty() { files::of_directory(&directory) } else { Ok(self.files.clone()) };
        let read = paths.and_then(|paths| paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>());
        let texts = match read {
            Ok(texts) => texts,
            Err(finding) => return Ok(Applied::Invalid(vec![finding])),
        };
        let (_, mut findings) = config::parse(&texts);
        findings.retain(|finding| finding.severity == Severity::Error);
        if !findings.is_empty() {
            return Ok(Applied::Invalid(findings));
        }
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
                let change = Change {
                    text: self.text(),
                    seconds,
                    directory,
                    applies_files,
                    checks_gateways: true,
                    ..Change::default()
                };
                pending::execute(invocation, change, |client| {
                    if let Some(out) = out {
                        preflight::check(client, &request, invocation.format, out)?;
                    }
                    Ok(client.call(&request)?)
                })?
            }
            None => {
                let mut client = verb::connect(invocation.socket, invocation.netns, !dry_run)?;
                let response = client.call(&request)?;
                if dry_run && out.is_some() {
                    preflight::with_line(&client, &request, response)
                } else {
                    response
                }
            }
        };
        match response {
            Response::Done { notes, changed } => Ok(Applied::Done { notes, changed }),
            _ => Ok(Applied::Done { notes: Vec::new(), changed: false }),
        }
    }
}

impl Files {
    /// The command in words.
    fn text(&self) -> String {
        let files = self.files.iter().map(|path| format!(" {}", path.display()));
        std::iter::once("apply".to_owned()).chain(files).collect()
    }
}

fn read(path: &Path) -> Result<(PathBuf, String), Finding> {
    let failed = |why: &dyn std::fmt::Display| {
        Finding::error(&Place::whole(path.into()), format!("cannot read it: {why}"))
    };
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    Ok((path.to_owned(), text))
}
