//! Runs external commands (`ip`, mostly), with errors that name the command.

use std::io::{BufWriter, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::Namespace;

/// Commands of a batch that an error names.
const SHOWN: usize = 20;

/// Runs a command and returns its standard output; an exit status other than 0 is an error with its standard error.
pub fn run(command: &mut Command) -> Result<String> {
    run_with(command, "")
}

/// The same with this standard input, which fits into a pipe.
pub fn run_with(command: &mut Command, input: &str) -> Result<String> {
    let shown = show(command);
    let cannot_start = || format!("cannot start `{shown}`");
    let (stdin, stdout, stderr) = (Stdio::piped(), Stdio::piped(), Stdio::piped());
    let mut child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().with_context(cannot_start)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A command that does not read has ended, and its status reports why.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(cannot_start)?;
    if !output.status.success() {
        bail!("`{shown}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs many `ip` commands in one process, which reads them from standard input.
/// Without a namespace, in the one of the caller.
pub fn ip_batch(namespace: Option<&Namespace>, lines: &[String]) -> Result<()> {
    let mut command = namespace.map_or_else(|| Command::new("ip"), |namespace| namespace.command("ip"));
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start `ip`: is iproute2 installed?")?;
    let input = child.stdin.take().context("`ip` has no standard input")?;
    let mut input = BufWriter::new(input);
    for line in lines {
        writeln!(input, "{line}").with_context(|| format!("`ip -batch` stopped reading at `{line}`"))?;
    }
    input.flush().context("`ip -batch` stopped reading")?;
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let shown = lines.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
        bail!(
            "`ip {shown}` ({} commands) failed in {}: {}",
            lines.len(),
            namespace.map_or("this namespace", Namespace::name),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
