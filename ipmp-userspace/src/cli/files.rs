//! The configuration files that `apply`, `diff` and `dns` read, and what they print of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    error::Exit,
    output::{self, Content, Format},
    verb::{Invocation, Outcome},
};
use crate::config::{self, Configuration, Finding, Place, Severity, files};

/// Which files.
#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// Files [default: ipmp.toml and ipmp.d/*.toml of the directory]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Directory of the configuration [default: /etc/ipmp, with --netns /etc/netns/NAME/ipmp]
    #[arg(long, value_name = "DIRECTORY")]
    config_dir: Option<PathBuf>,
}

/// Files that were read.
pub(super) enum Parsed {
    /// What they contain, and the text of each.
    Valid { configuration: Configuration, texts: Vec<(PathBuf, String)> },
    /// Their mistakes.
    Invalid(Vec<Finding>),
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
    /// The directory of the configuration.
    pub(super) fn directory(&self, invocation: &Invocation<'_>) -> PathBuf {
        self.config_dir.clone().unwrap_or_else(|| config::directory(invocation.netns))
    }

    /// Reads the files.
    pub(super) fn parse(&self, invocation: &Invocation<'_>) -> Parsed {
        let directory = self.directory(invocation);
        let paths =
            if self.files.is_empty() { files::of_directory(&directory) } else { Ok(self.files.clone()) };
        let read = paths.and_then(|paths| paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>());
        let texts = match read {
            Ok(texts) => texts,
            Err(finding) => return Parsed::Invalid(vec![finding]),
        };
        let (configuration, mut findings) = config::parse(&texts);
        findings.retain(|finding| finding.severity == Severity::Error);
        if findings.is_empty() { Parsed::Valid { configuration, texts } } else { Parsed::Invalid(findings) }
    }

    /// `apply` of them in words.
    pub(super) fn text(&self) -> String {
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
