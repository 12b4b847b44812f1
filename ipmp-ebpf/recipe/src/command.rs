//! Commands of the toolchain.

use crate::Missing;
use std::path::PathBuf;
use std::process::Command;

/// Runs a command whose output matters only when it fails.
pub(crate) fn run(mut command: Command, task: &'static str) -> Result<(), Missing> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().map_err(Missing::file(program))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Missing::Command { task, output: last_lines(&String::from_utf8_lossy(&output.stderr)) })
}

/// Enough of a failed compiler's output to see its errors.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_is_cut_to_its_end() {
        let output = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        let cut = last_lines(&output);
        assert!(cut.starts_with("40\n") && cut.ends_with("\n99"), "{cut}");
        assert_eq!(last_lines("one\ntwo\n"), "one\ntwo");
    }
}
