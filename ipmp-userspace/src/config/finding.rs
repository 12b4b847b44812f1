//! What is wrong in a file, with its place.

use std::{fmt, path::PathBuf};

use serde::Serialize;

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Line; 0: the whole file.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Place {
    /// The place of a byte in the text of a file.
    pub fn of(file: PathBuf, text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        Self { file, line, column: before[start..].chars().count() + 1 }
    }

    /// A file as a whole.
    pub fn whole(file: PathBuf) -> Self {
        Self { file, line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 { write!(f, ":{}:{}", self.line, self.column) } else { Ok(()) }
    }
}

/// Whether a file can be used in spite of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but gives less redundancy than it seems to.
    Warning,
}

/// A mistake or a warning, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and what to do, in one line.
    pub message: String,
}

impl Finding {
    /// A mistake.
    pub fn error(place: &Place, message: impl Into<String>) -> Self {
        Self { place: place.clone(), severity: Severity::Error, message: message.into() }
    }

    /// A warning.
    pub fn warning(place: &Place, message: impl Into<String>) -> Self {
        Self { place: place.clone(), severity: Severity::Warning, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {severity}: {}", self.place, self.message)
    }
}
