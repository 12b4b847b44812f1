//! `ipmpctl check`: what is wrong in the configuration files.

use std::{io::Write, path::PathBuf};

use super::{
    error::{Error, Exit},
    output::Content,
    verb::{Command, Invocation, Outcome},
};
use crate::{
    config::{self, Configuration, Finding, Place, Severity, files, host::Host},
    control::Client,
};

/// Report every mistake in the configuration files, with its place and the remedy
///
/// Reads /etc/ipmp/ipmp.toml and /etc/ipmp/ipmp.d/*.toml, or the named files only, and changes nothing. It also compares them
/// with the interfaces of this host and, if ipmpd runs, with the replies of the targets. A warning is a configuration with less
/// redundancy than it seems to have: one member, members without probes, no target, all members on one PCI device.
///
/// Exit status: 0 no mistake, warnings included; 1 mistakes; 2 invalid command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl check              the files in /etc/ipmp
  ipmpctl check draft.toml   one file")]
pub struct Check {
    /// Files [default: ipmp.toml and ipmp.d/*.toml of the directory]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directory of the configuration [default: /etc/ipmp, with --netns /etc/netns/NAME/ipmp]
    #[arg(long, value_name = "DIRECTORY")]
    config_dir: Option<PathBuf>,
}

impl Command for Check {
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let directory = self.config_dir.clone().unwrap_or_else(|| config::directory(invocation.netns));
        let files =
            if self.files.is_empty() { files::of_directory(&directory) } else { Ok(self.files.clone()) };
        let (configuration, mut findings) = match &files {
            Ok(files) => config::load(files),
            Err(finding) => (Configuration::default(), vec![finding.clone()]),
        };
        match Host::read() {
            Ok(host) => config::host::check(&configuration, &host, &mut findings),
            Err(error) => findings.push(Finding::warning(
                &Place::whole(directory),
                format!("the interfaces of this host are not checked: {error}"),
            )),
        }
        unreachable_targets(&configuration, invocation, &mut findings);
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        let printed = Content::Findings { findings: &findings }.print(invocation.format, || {
            let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
            text += &format!(
                "{}, {}: {}, {}\n",
                count(files.as_ref().map_or(0, Vec::len), "file"),
                count(configuration.groups.len(), "group"),
                count(errors, "error"),
                count(findings.len() - errors, "warning")
            );
            text
        });
        Ok(Outcome { exit: if errors == 0 { Exit::Done } else { Exit::Refused }, printed })
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Warns of groups that run and whose targets do not reply. Without a daemon nothing is known.
fn unreachable_targets(
    configuration: &Configuration,
    invocation: &Invocation<'_>,
    findings: &mut Vec<Finding>,
) {
    let groups = Client::connect(invocation.socket).and_then(|mut client| client.groups());
    let Ok(running) = groups else { return };
    for group in &configuration.groups {
        let running = running.iter().find(|running| running.name == group.name.value);
        for family in running.into_iter().flat_map(|running| &running.detection.unreachable_families) {
            let message = format!(
                "no {family} target of {} replies: a failure behind the switch is not detected; check targets and gateways",
                group.name.value
            );
            findings.push(Finding::warning(&group.name.place, message));
        }
    }
}
