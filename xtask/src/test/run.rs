//! Runs executables of tests, one or several at a time. A test of the lab that fails is run once more, alone: the machine may
//! have been busy. It is named in the summary even if it passes then.

use super::LAB;
use super::failures::Failures;
use super::summary::Outcome;
use super::turn::Turn;
use crate::project::Executable;
use crate::root;
use anyhow::{Context as _, Result, anyhow};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Packages besides the lab whose tests need root.
const ROOT: [&str; 1] = ["ipmp-userspace"];

/// How many executables run side by side, each with two threads: on two processors, most of them wait.
const SIDE_BY_SIDE: usize = 3;

/// As many tests of an executable may fail because of the machine.
const AGAIN: usize = 2;

/// Makes the test harness print what tests that pass have counted and measured.
pub const SHOW_FIGURES: &str = "--show-output";

/// What every run has in common.
pub struct Context {
    /// The directory of `ipmpd`, `ipmpctl` and `ipmpstat`.
    pub bin_dir: PathBuf,
    /// `PATH` with the services' programs, where they are unpacked.
    pub path: Option<OsString>,
    /// When what still runs is ended.
    pub end: Instant,
    pub soak: bool,
}

impl Context {
    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
}

impl Turn<'_> {
    /// The command without the tests' names.
    fn command(&self, context: &Context) -> Command {
        let Some(lane) = self.lane else {
            let needs_root = ROOT.contains(&self.executable.package.as_str());
            return if needs_root {
                as_root(self.executable, &[], context.left())
            } else {
                Command::new(&self.executable.path)
            };
        };
        let threads = lane.threads.to_string();
        let mut variables = vec![
            ("IPMP_BIN_DIR", context.bin_dir.as_os_str()),
            ("RUST_TEST_THREADS", OsStr::new(threads.as_str())),
            // A test that would be skipped fails.
            ("IPMP_LAB_REQUIRED", OsStr::new("1")),
        ];
        if context.soak {
            variables.push(("IPMP_SOAK", OsStr::new("1")));
        }
        if self.clsact {
            variables.push(("IPMP_ATTACH", OsStr::new("clsact")));
        }
        if let Some(path) = &context.path {
            variables.push(("PATH", path));
        }
        let mut command = as_root(self.executable, &variables, context.left());
        if !lane.quiet {
            command.arg(SHOW_FIGURES);
        }
        command
    }
}

/// Runs an executable in its turn.
pub fn turn(turn: &Turn<'_>, arguments: &[String], context: &Context) -> Result<Outcome> {
    let shown = &mut std::io::stdout();
    let outcome = run_one(turn, turn.command(context), &turn.arguments(arguments), shown)?;
    run_again(turn, outcome, context, shown)
}

/// Runs executables side by side. The output of each is shown when it has ended; the outcomes are in the order given.
pub fn side_by_side(turns: &[Turn<'_>], arguments: &[String], context: &Context) -> Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let run = |turn: &Turn<'_>| -> Result<Outcome> {
        let mut shown = Vec::new();
        let outcome = run_one(turn, turn.command(context), &turn.arguments(arguments), &mut shown)?;
        std::io::stdout().lock().write_all(&shown)?;
        Ok(outcome)
    };
    let worker = || -> Result<Vec<(usize, Outcome)>> {
        let mut outcomes = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(turn) = turns.get(at) else { return Ok(outcomes) };
            outcomes.push((at, run(turn)?));
        }
    };
    let mut outcomes = std::thread::scope(|scope| -> Result<Vec<(usize, Outcome)>> {
        let workers: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(worker)).collect();
        let mut outcomes = Vec::new();
        for worker in workers {
            outcomes.extend(worker.join().map_err(|_| anyhow!("a thread that runs tests panicked"))??);
        }
        Ok(outcomes)
    })?;
    outcomes.sort_by_key(|(at, _)| *at);
    // Only now, so that nothing else runs.
    let shown = &mut std::io::stdout();
    outcomes.into_iter().map(|(at, outcome)| run_again(&turns[at], outcome, context, shown)).collect()
}

/// Runs the tests of the lab that have failed once more. If they pass then, the outcome is good; it keeps the failures.
fn run_again(
    turn: &Turn<'_>,
    outcome: Outcome,
    context: &Context,
    shown: &mut impl Write,
) -> Result<Outcome> {
    let tests = &outcome.failures.tests;
    if outcome.good || turn.lane.is_none() || tests.is_empty() || tests.len() > AGAIN {
        return Ok(outcome);
    }
    let mut command = turn.command(context);
    command.args(["--test-threads=1", "--exact", "--include-ignored"]);
    let again = run_one(turn, command, tests, shown)?;
    // A name that selects no test would also end well.
    if !again.good || !again.result.starts_with(&format!("ok. {} passed", tests.len())) {
        return Ok(outcome);
    }
    let result = format!("{}; {} passed when repeated", outcome.result, tests.join(", "));
    Ok(Outcome { good: true, result, ..outcome })
}

/// An executable as root, under `timeout`, which then runs as root too and can end what hangs.
fn as_root(executable: &Executable, variables: &[(&str, &OsStr)], left: Duration) -> Command {
    let mut variables = variables.to_vec();
    variables.push(("CARGO_MANIFEST_DIR", executable.package_dir.as_os_str()));
    if !root::is_root() {
        // proptest would write its failures beside the source, as root.
        variables.push(("PROPTEST_DISABLE_FAILURE_PERSISTENCE", OsStr::new("1")));
    }
    let mut command = root::command("timeout", &variables);
    command.arg("--kill-after=10").arg(left.as_secs().max(1).to_string()).arg(&executable.path);
    command
}

/// Runs an executable, passes its output on, and keeps the line with its result.
fn run_one(
    turn: &Turn<'_>,
    mut command: Command,
    arguments: &[String],
    shown: &mut impl Write,
) -> Result<Outcome> {
    let (executable, name) = (turn.executable, turn.name());
    writeln!(shown, "\n== {name}")?;
    let start = Instant::now();
    let mut child = command
        .args(arguments)
        .current_dir(&executable.package_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be run", executable.path.display()))?;
    let output = child.stdout.take().context("a child without standard output")?;
    let (mut verdict, mut failures) = (None, Failures::default());
    for line in BufReader::new(output).lines() {
        let line = line.with_context(|| format!("the output of {name}"))?;
        writeln!(shown, "{line}")?;
        failures.read(&line);
        verdict = line.strip_prefix("test result: ").map(str::to_owned).or(verdict);
    }
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    // An executable that ends early without an error has no result.
    let good = status.success() && verdict.is_some();
    let result = match status.code() {
        // The exit codes of `timeout`.
        Some(124 | 137) => "ended: the time of the lane was used up".into(),
        _ => verdict.unwrap_or_else(|| format!("ended without a result ({status})")),
    };
    Ok(Outcome { result, failures, took: start.elapsed(), ..Outcome::new(name, good) })
}

/// Whether an executable is the lab's integration test of this name.
pub fn is_lab_test(executable: &Executable, target: &str) -> bool {
    executable.package == LAB && executable.integration && executable.target == target
}
