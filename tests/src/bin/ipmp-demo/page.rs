//! What is printed: plain text, 80 columns.

use std::io::{Write as _, stdout};

use anyhow::Result;

/// Columns of a terminal that nobody has made larger.
const WIDTH: usize = 80;
/// How much deeper the rest of a folded line goes.
const DEEPER: usize = 4;

/// Prints a line; one that is too long goes on below, indented a little more.
pub fn line(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    for part in fold(text) {
        writeln!(out, "{part}")?;
    }
    out.flush()?;
    Ok(())
}

/// Prints a block of lines.
pub fn block(text: &str) -> Result<()> {
    text.lines().try_for_each(line)
}

/// Prints a heading, with some room around it.
pub fn heading(text: &str) -> Result<()> {
    block(&format!("\n{text}\n{}\n\n", "=".repeat(text.chars().count())))
}

/// Prints what happens now.
pub fn step(text: &str) -> Result<()> {
    block(&format!("\n--- {text} {}", "-".repeat((WIDTH - 5).saturating_sub(text.chars().count()))))
}

/// A number as people read it: 1,234,567.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Breaks a line at its spaces.
fn fold(text: &str) -> Vec<String> {
    let indent = text.chars().take_while(|c| *c == ' ').count();
    let mut parts = Vec::new();
    let mut rest = text.trim_end().to_owned();
    while let Some((end, _)) = rest.char_indices().nth(WIDTH) {
        let from = if parts.is_empty() { indent } else { indent + DEEPER };
        // A space right after the last column is as good as one before it.
        let Some(at) = rest[from..=end].rfind(' ').map(|at| from + at).filter(|at| *at > from) else { break };
        let next = format!("{}{}", " ".repeat(indent + DEEPER), rest[at..].trim_start());
        rest.truncate(at);
        parts.push(rest.trim_end().to_owned());
        rest = next;
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_folded_at_their_spaces() {
        assert_eq!(fold(""), [""]);
        assert_eq!(fold("  short  line "), ["  short  line"]);
        let words = format!("  {}", ["twelve chars"; 8].join(" "));
        let folded = fold(&words);
        assert_eq!(folded.len(), 2);
        assert_eq!(folded[0].len(), 79);
        assert!(folded[1].starts_with("      twelve chars"), "{folded:?}");
        let long = "x".repeat(200);
        assert_eq!(fold(&long), [long.as_str()]);
        // A line that just fits, and one that does not.
        let fits = format!("{} {}", "x".repeat(40), "y".repeat(39));
        assert_eq!(fold(&fits), [fits.as_str()]);
        assert_eq!(fold(&format!("{fits}y")).len(), 2);
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!([0, 999, 1000, 1234567].map(number), ["0", "999", "1,000", "1,234,567"]);
    }
}
