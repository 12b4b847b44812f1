//! Output: text, or one JSON object a line.

use serde::Serialize;

use super::flow_table::Observation;
use crate::config::Finding;
use crate::control::{
    TargetReport,
    explanation::Explanation,
    monitor::EventRecord,
    path::{PathReport, Simulation},
    report::{GroupReport, MemberReport, VERSION},
};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

/// What `--json` prints, in this order.
#[derive(Serialize)]
struct Object<'a> {
    version: u32,
    #[serde(flatten)]
    content: Content<'a>,
}

/// A result, as `--json` prints it.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Notes { changed: bool, notes: &'a [String] },
    Groups { groups: &'a [GroupReport] },
    Member { group: &'a str, member: &'a MemberReport },
    Explanation { explanation: &'a Explanation },
    Targets { targets: &'a [TargetReport] },
    Path { path: &'a PathReport },
    Simulation { simulation: &'a Simulation, traffic: &'a [Rate] },
    Observed { observed: Observed<'a> },
    Flows { flows: &'a Observation },
    Event { event: &'a EventRecord },
    Findings { findings: &'a [Finding] },
    Health { health: HealthSummary<'a> },
    Metrics { metrics: &'a str },
    Error { error: Failure<'a> },
}

#[derive(Serialize)]
pub(super) struct HealthSummary<'a> {
    pub status: &'a str,
    pub message: &'a str,
}

/// A packet that `path --watch` has read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Observed<'a> {
    pub group: &'a str,
    /// The member that has sent it.
    pub member: &'a str,
    /// Its length in bytes, from the IP header on.
    pub length: usize,
    /// How long it was waited for, in milliseconds.
    pub after_ms: u64,
}

/// What a member transmits and receives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rate {
    pub member: String,
    /// Sent, in bit/s.
    pub out_bits: u64,
    /// Received, in bit/s.
    pub in_bits: u64,
}

#[derive(Serialize)]
pub(super) struct Failure<'a> {
    reason: &'a str,
    message: &'a str,
}

impl Content<'_> {
    /// The result as JSON in one line, or as `text` that a terminal can show.
    pub(super) fn print(self, format: Format, text: impl FnOnce() -> String) -> String {
        match format {
            Format::Text => clean(&text()),
            Format::Json => {
                let object = Object { version: VERSION, content: self };
                serde_json::to_string(&object).expect("every key is a string") + "\n"
            }
        }
    }
}

/// Notes on a change, one a line.
pub(super) fn notes(notes: &[String], changed: bool, format: Format) -> String {
    Content::Notes { changed, notes }.print(format, || notes.iter().map(|note| format!("{note}\n")).collect())
}

/// An error for standard output: an object in JSON, nothing in text.
pub(super) fn error(reason: &str, message: &str, format: Format) -> String {
    Content::Error { error: Failure { reason, message } }.print(format, String::new)
}

/// An error as a line of text for standard error.
pub(super) fn error_line(message: &str) -> String {
    format!("ipmpctl: {}\n", one_line(message))
}

/// A message in one line that a terminal can show.
pub fn one_line(message: &str) -> String {
    clean(&message.split('\n').collect::<Vec<_>>().join(" "))
}

/// Replaces control characters, which interface names may contain and a terminal would interpret.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(content: Content<'_>) -> String {
        content.print(Format::Json, || unreachable!("JSON needs no text"))
    }

    #[test]
    fn notes_are_printed_one_a_line() {
        assert_eq!(notes(&[], true, Format::Text), "");
        assert_eq!(notes(&["one".into(), "two".into()], true, Format::Text), "one\ntwo\n");
    }

    #[test]
    fn json_is_one_line_that_starts_with_the_version() {
        assert_eq!(
            notes(&["one".into()], false, Format::Json),
            "{\"version\":1,\"changed\":false,\"notes\":[\"one\"]}\n"
        );
        assert_eq!(json(Content::Groups { groups: &[] }), "{\"version\":1,\"groups\":[]}\n");
        assert_eq!(json(Content::Targets { targets: &[] }), "{\"version\":1,\"targets\":[]}\n");
        assert_eq!(
            error("not-empty", "IPMP group is not empty", Format::Json),
            "{\"version\":1,\"error\":{\"reason\":\"not-empty\",\"message\":\"IPMP group is not empty\"}}\n"
        );
        assert_eq!(error("not-empty", "IPMP group is not empty", Format::Text), "");
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(error_line("no \u{1b}[2Jeth0\nhere"), "ipmpctl: no \u{fffd}[2Jeth0 here\n");
        assert_eq!(notes(&["\u{1b}c".into()], true, Format::Text), "\u{fffd}c\n");
    }
}
