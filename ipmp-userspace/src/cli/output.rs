//! What is printed: text for people, and one JSON object for programs.

use serde_json::json;

use super::show;
use crate::control::{Response, report::VERSION};

/// A response as text.
pub fn text(response: &Response) -> String {
    match response {
        Response::Done(notes) => clean(&notes.iter().map(|note| format!("{note}\n")).collect::<String>()),
        Response::Show(groups) => clean(&show::text(groups)),
    }
}

/// A response as JSON, in one line.
pub fn json(response: &Response) -> String {
    let value = match response {
        Response::Done(notes) => json!({ "version": VERSION, "notes": notes }),
        Response::Show(groups) => json!({ "version": VERSION, "groups": groups }),
    };
    format!("{value}\n")
}

/// An error as JSON, in one line.
pub fn json_error(reason: &str, message: &str) -> String {
    format!("{}\n", json!({ "version": VERSION, "error": { "reason": reason, "message": message } }))
}

/// An error as a line of text.
pub fn complaint(message: &str) -> String {
    let line = message.split('\n').collect::<Vec<_>>().join(" ");
    format!("ipmpctl: {}\n", clean(&line))
}

/// An interface may be called anything that is no space; a terminal should not obey its name.
fn clean(text: &str) -> String {
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
        assert_eq!(json(&Response::Done(vec!["one".into()])), "{\"notes\":[\"one\"],\"version\":1}\n");
        assert_eq!(json(&Response::Show(vec![])), "{\"groups\":[],\"version\":1}\n");
        assert_eq!(
            json_error("not-empty", "IPMP group is not empty"),
            "{\"error\":{\"message\":\"IPMP group is not empty\",\"reason\":\"not-empty\"},\"version\":1}\n"
        );
    }

    #[test]
    fn terminals_obey_nobody() {
        assert_eq!(complaint("no \u{1b}[2Jeth0\nhere"), "ipmpctl: no \u{fffd}[2Jeth0 here\n");
        assert_eq!(text(&Response::Done(vec!["\u{1b}c".into()])), "\u{fffd}c\n");
    }
}
