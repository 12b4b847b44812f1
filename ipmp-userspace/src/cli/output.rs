//! What is printed: text for people, and one JSON object for programs.

use serde::Serialize;

use super::{show, target};
use crate::control::{
    Response, TargetReport,
    monitor::Event,
    report::{GroupReport, VERSION},
};

/// A response as text.
pub fn text(response: &Response) -> String {
    match response {
        Response::Done(notes) => clean(&notes.iter().map(|note| format!("{note}\n")).collect::<String>()),
        Response::Show(groups) => clean(&show::text(groups)),
        Response::Targets(targets) => clean(&target::text(targets)),
    }
}

/// What `--json` prints, in this order.
#[derive(Serialize)]
struct Object<'a> {
    version: u32,
    #[serde(flatten)]
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Content<'a> {
    Notes(&'a [String]),
    Groups(&'a [GroupReport]),
    Targets(&'a [TargetReport]),
    Event(&'a Event),
    Error { reason: &'a str, message: &'a str },
}

impl Content<'_> {
    fn line(self) -> String {
        let object = Object { version: VERSION, content: self };
        let mut line = serde_json::to_string(&object).expect("every key of it is a string");
        line.push('\n');
        line
    }
}

/// A response as JSON, in one line.
pub fn json(response: &Response) -> String {
    match response {
        Response::Done(notes) => Content::Notes(notes),
        Response::Show(groups) => Content::Groups(groups),
        Response::Targets(targets) => Content::Targets(targets),
    }
    .line()
}

/// An event as JSON, in one line.
pub fn json_event(event: &Event) -> String {
    Content::Event(event).line()
}

/// An error as JSON, in one line.
pub fn json_error(reason: &str, message: &str) -> String {
    Content::Error { reason, message }.line()
}

/// An error as a line of text.
pub fn complaint(message: &str) -> String {
    let line = message.split('\n').collect::<Vec<_>>().join(" ");
    format!("ipmpctl: {}\n", clean(&line))
}

/// An interface may be called anything that is no space; a terminal should not obey its name.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_lines() {
        assert_eq!(text(&Response::Done(vec![])), "");
        assert_eq!(text(&Response::Done(vec!["one".into(), "two".into()])), "one\ntwo\n");
    }

    #[test]
    fn programs_get_one_line() {
        assert_eq!(json(&Response::Done(vec!["one".into()])), "{\"version\":1,\"notes\":[\"one\"]}\n");
        assert_eq!(json(&Response::Show(vec![])), "{\"version\":1,\"groups\":[]}\n");
        assert_eq!(json(&Response::Targets(vec![])), "{\"version\":1,\"targets\":[]}\n");
        assert_eq!(
            json_error("not-empty", "IPMP group is not empty"),
            "{\"version\":1,\"error\":{\"reason\":\"not-empty\",\"message\":\"IPMP group is not empty\"}}\n"
        );
    }

    #[test]
    fn terminals_obey_nobody() {
        assert_eq!(complaint("no \u{1b}[2Jeth0\nhere"), "ipmpctl: no \u{fffd}[2Jeth0 here\n");
        assert_eq!(text(&Response::Done(vec!["\u{1b}c".into()])), "\u{fffd}c\n");
    }
}
