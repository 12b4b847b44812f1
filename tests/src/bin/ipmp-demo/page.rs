//! Output: plain text of 80 columns, or more where two blocks are printed side by side.

use std::io::{IsTerminal as _, Write as _, stdout};

use anyhow::Result;

/// Columns of a terminal with its default size.
const WIDTH: usize = 80;
/// Additional indent of the rest of a folded line.
const INDENT: usize = 4;
/// Columns of the tutorial, printed on the left.
const LEFT: usize = 72;
/// Columns of our output, printed on the right: a line of `ipmpstat -i` with its header.
const RIGHT: usize = 68;

/// Prints a line. A line that is too long is folded, and its rest is indented.
pub fn line(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    for part in fold(text, WIDTH, &[' ']) {
        writeln!(out, "{part}")?;
    }
    out.flush()?;
    Ok(())
}

/// Prints the tutorial's output and ours side by side; one below the other if the terminal is too narrow.
pub fn beside(tutorial: &str, here: &str) -> Result<()> {
    let fold_all =
        |text: &str, width| text.lines().flat_map(|line| fold(line, width, &[' ', ','])).collect::<Vec<_>>();
    let is_wide = !stdout().is_terminal() || columns() > LEFT + 3 + RIGHT;
    let (left, right) = (fold_all(tutorial, LEFT), fold_all(here, RIGHT));
    let mut out = stdout().lock();
    if is_wide {
        writeln!(out, "{:LEFT$} | here", "the tutorial")?;
        writeln!(out, "{:-<LEFT$}-+{:-<RIGHT$}", "", "")?;
        for row in 0..left.len().max(right.len()) {
            let cell = |lines: &[String]| lines.get(row).cloned().unwrap_or_default();
            writeln!(out, "{}", format!("{:LEFT$} | {}", cell(&left), cell(&right)).trim_end())?;
        }
    } else {
        for (name, lines) in [("tutorial", left), ("here", right)] {
            for (row, line) in lines.iter().enumerate() {
                let name = if row == 0 { name } else { "" };
                writeln!(out, "{}", format!("{name:8} | {line}").trim_end())?;
            }
        }
    }
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Columns of the terminal.
fn columns() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes a `winsize`, or nothing.
    unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    size.ws_col.into()
}

/// Prints a block of lines.
pub fn block(text: &str) -> Result<()> {
    text.lines().try_for_each(line)
}

/// Prints a heading, with empty lines around it.
pub fn heading(text: &str) -> Result<()> {
    block(&format!("\n{text}\n{}\n\n", "=".repeat(text.chars().count())))
}

/// Prints the title of a step.
pub fn step(text: &str) -> Result<()> {
    block(&format!("\n--- {text} {}", "-".repeat((WIDTH - 5).saturating_sub(text.chars().count()))))
}

/// A number with separators: 1,234,567.
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

/// Breaks a line after one of these characters.
fn fold(text: &str, width: usize, after: &[char]) -> Vec<String> {
    let indent = text.chars().take_while(|c| *c == ' ').count();
    let mut parts = Vec::new();
    let mut rest = text.trim_end().to_owned();
    while let Some((end, _)) = rest.char_indices().nth(width) {
        let from = if parts.is_empty() { indent } else { indent + INDENT };
        // A space may be right after the last column; a comma must be in it.
        let fits = |(at, c): (usize, &str)| (c == " " || from + at < end).then_some(from + at + c.len());
        let Some(at) = rest[from..=end].rmatch_indices(after).find_map(fits).filter(|at| *at > from + 1)
        else {
            break;
        };
        let next = format!("{}{}", " ".repeat(indent + INDENT), rest[at..].trim_start());
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
    fn lines_are_folded_at_spaces() {
        let fold = |text: &str| fold(text, WIDTH, &[' ']);
        assert_eq!(fold(""), [""]);
        assert_eq!(fold("  short  line "), ["  short  line"]);
        let words = format!("  {}", ["twelve chars"; 8].join(" "));
        let folded = fold(&words);
        assert_eq!(folded.len(), 2);
        assert_eq!(folded[0].len(), 79);
        assert!(folded[1].starts_with("      twelve chars"), "{folded:?}");
        let long = "x".repeat(200);
        assert_eq!(fold(&long), [long.as_str()]);
        // A line that fits exactly, and one that does not.
        let fits = format!("{} {}", "x".repeat(40), "y".repeat(39));
        assert_eq!(fold(&fits), [fits.as_str()]);
        assert_eq!(fold(&format!("{fits}y")).len(), 2);
    }

    #[test]
    fn flags_are_folded_at_commas() {
        assert_eq!(
            fold("rge0: flags=<UP,BROADCAST> mtu 1500", 20, &[' ', ',']),
            ["rge0: flags=<UP,", "    BROADCAST> mtu", "    1500"]
        );
        assert_eq!(fold("a,b,c", 4, &[',']), ["a,b,", "    c"]);
        assert_eq!(fold("abc,d", 3, &[',']), ["abc,d"]);
    }

    #[test]
    fn numbers_have_separators() {
        assert_eq!([0, 999, 1000, 1234567].map(number), ["0", "999", "1,000", "1,234,567"]);
    }
}
