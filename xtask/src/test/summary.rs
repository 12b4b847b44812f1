//! The results of all executables and lanes.

use super::failures::Failures;
use std::process::ExitCode;
use std::time::Duration;

/// The result of an executable or a lane.
pub struct Outcome {
    pub name: String,
    /// The line that the test harness ends with, or what happened instead.
    pub result: String,
    pub good: bool,
    /// What failed first, also if it has passed when it was repeated.
    pub failures: Failures,
    /// Why it could not run.
    pub not_run: Option<String>,
    pub took: Duration,
}

impl Outcome {
    pub fn new(name: String, good: bool) -> Self {
        Self {
            name,
            result: String::new(),
            good,
            failures: Failures::default(),
            not_run: None,
            took: Duration::ZERO,
        }
    }

    /// A lane that could not run. It counts as a failure unless this host can never run it.
    pub fn not_run(name: String, reason: String, is_failure: bool) -> Self {
        let result = format!("not run: {reason}");
        Self { result, not_run: Some(reason), ..Self::new(name, !is_failure) }
    }

    /// Executables in which no test ran only hide the others.
    fn is_shown(&self) -> bool {
        !self.good || !self.result.starts_with("ok. 0 passed; 0 failed; 0 ignored")
    }

    /// Whether tests that failed have passed when they were repeated.
    fn is_unreliable(&self) -> bool {
        self.good && !self.failures.tests.is_empty()
    }

    fn state(&self) -> &'static str {
        match (self.good, self.not_run.is_some()) {
            (_, true) => "NOT RUN",
            (true, false) if self.is_unreliable() => "AGAIN",
            (true, false) => "ok",
            (false, false) => "FAILED",
        }
    }
}

/// More executables with unreliable tests are a failure: something is wrong with the project, or with the machine.
const UNRELIABLE: usize = 3;

/// When a lane that should take `limit` is ended.
pub fn end_of(limit: Duration) -> Duration {
    limit + limit / 2
}

/// Prints all outcomes; the last line counts failures and names the lanes that did not run.
pub fn print(outcomes: &[Outcome], took: Duration, limit: Duration) -> ExitCode {
    println!("\n== summary");
    for outcome in outcomes.iter().filter(|outcome| outcome.is_shown()) {
        let Outcome { name, result, took, .. } = outcome;
        println!("{:7} {name:32} {:6.1} s  {result}", outcome.state(), took.as_secs_f32());
    }
    for Outcome { name, failures, .. } in outcomes {
        failures.causes().for_each(|(test, cause)| println!("{name}: {test}: {cause}"));
    }
    if took > limit {
        println!("longer than the limit for two processors: shorten the tests, or use a faster machine");
    }
    println!("{}", last_line(outcomes, took, limit));
    let has_run = outcomes.iter().any(Outcome::is_shown);
    if !has_run {
        println!("no test ran: no executable and no test has such a name");
    }
    let unreliable = outcomes.iter().filter(|outcome| outcome.is_unreliable()).count();
    if unreliable > UNRELIABLE {
        println!("tests of {unreliable} executables passed only when repeated, which is too many");
    }
    let good = has_run
        && outcomes.iter().all(|outcome| outcome.good)
        && unreliable <= UNRELIABLE
        && took <= end_of(limit);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn last_line(outcomes: &[Outcome], took: Duration, limit: Duration) -> String {
    let failed = outcomes.iter().filter(|outcome| !outcome.good && outcome.not_run.is_none()).count();
    let (all, took, limit) = (outcomes.len(), took.as_secs(), limit.as_secs());
    let mut line = format!("{failed} of {all} executables failed; {took} s of {limit} s");
    let not_run: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| Some(format!("{} ({})", outcome.name, outcome.not_run.as_ref()?)))
        .collect();
    if !not_run.is_empty() {
        line += &format!("; not run: {}", not_run.join(", "));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::LIMIT;

    fn outcome(result: &str, good: bool) -> Outcome {
        Outcome { result: result.into(), ..Outcome::new("p t".into(), good) }
    }

    #[test]
    fn failure_is_always_shown() {
        assert!(outcome("ok. 3 passed; 0 failed", true).is_shown());
        assert!(!outcome("ok. 0 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out", true).is_shown());
        assert!(outcome("ended without a result (signal: 9)", false).is_shown());
    }

    #[test]
    fn lane_over_its_limit_fails_after_half_as_much_again() {
        let good = [outcome("ok. 3 passed; 0 failed", true)];
        let code = |took| format!("{:?}", print(&good, Duration::from_secs(took), LIMIT));
        assert_eq!(code(1), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(1201), format!("{:?}", ExitCode::SUCCESS), "a slower machine");
        assert_eq!(code(1801), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn filter_that_selects_no_test_fails() {
        let none = [outcome("ok. 0 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out", true)];
        let code = print(&none, Duration::from_secs(1), LIMIT);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn few_unreliable_tests_are_no_failure_and_many_are() {
        let again = || {
            let mut again = outcome("FAILED. 2 passed; 1 failed", true);
            again.failures.tests.push("a::b".into());
            again
        };
        let code = |outcomes: &[Outcome]| format!("{:?}", print(outcomes, Duration::from_secs(1), LIMIT));
        assert_eq!(again().state(), "AGAIN");
        assert_eq!(code(&[again(), again(), again()]), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(&[again(), again(), again(), again()]), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn lane_that_cannot_run_is_named_in_the_last_line() {
        let outcomes = [
            outcome("ok. 3 passed; 0 failed", true),
            Outcome::not_run("smoke on Linux 6.1".into(), "no Debian".into(), false),
        ];
        let line = last_line(&outcomes, Duration::from_secs(5), LIMIT);
        assert_eq!(line, "0 of 2 executables failed; 5 s of 1200 s; not run: smoke on Linux 6.1 (no Debian)");
    }
}
