//! The log file of a program.

use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::wait_until;

/// Severity and text of a line of `ipmpd`. The severity is empty below a warning.
pub fn parts(line: &str) -> (&str, &str) {
    let line = line.strip_prefix("ipmpd: ").unwrap_or(line);
    match line.split_once(": ") {
        Some((severity @ ("warning" | "error"), text)) => (severity, text),
        _ => ("", line),
    }
}

/// A log file and the name of the program that writes it.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub program: String,
    pub path: PathBuf,
}

impl LogFile {
    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// All text so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap_or_default()).into_owned()
    }

    /// Waits for a line that contains `text`, after the first `since` lines, and returns it. It is an error if the
    /// program ends first, or if the line does not come in time.
    pub fn wait_line(
        &self,
        text: &str,
        since: usize,
        timeout: Duration,
        mut exit_status: impl FnMut() -> Option<ExitStatus>,
    ) -> Result<String> {
        let (mut found, mut ended) = (None, None);
        wait_until(timeout, || {
            ended = exit_status();
            found = self.lines().into_iter().skip(since).find(|line| line.contains(text));
            found.is_some() || ended.is_some()
        });
        let program = &self.program;
        match (found, ended) {
            (Some(line), _) => Ok(line),
            (None, Some(status)) => {
                bail!("{program} ended ({status}) without logging \"{text}\"; its log:\n{}", self.text())
            }
            (None, None) => {
                bail!("{program} did not log \"{text}\" within {timeout:?}; its log:\n{}", self.text())
            }
        }
    }
}
