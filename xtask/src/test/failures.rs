//! The tests that failed, and why, as the test harness prints it.

use std::collections::HashMap;

/// Lines of a cause that are kept: where it panicked, and what it said.
const LINES: usize = 12;

/// What an executable printed about tests that failed.
#[derive(Debug, Default)]
pub struct Failures {
    /// Their names.
    pub tests: Vec<String>,
    /// The test whose output is being read.
    section: Option<String>,
    /// From "panicked at" on, of each test that printed it; a test that passed may have done so on purpose.
    panics: HashMap<String, Vec<String>>,
    in_list: bool,
}

impl Failures {
    /// What is not a test, and failed before it passed when it was repeated.
    pub fn one(name: &str, cause: &str) -> Self {
        let panics = HashMap::from([(name.to_owned(), vec![cause.to_owned()])]);
        Self { tests: vec![name.to_owned()], panics, ..Self::default() }
    }

    /// Reads one line of the output: sections "---- NAME stdout ----", then the names below "failures:".
    pub fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
            self.section = Some(name.to_owned());
        } else if line == "failures:" || line == "successes:" {
            self.in_list = line == "failures:";
            self.section = None;
            self.tests.clear();
        } else if let Some(section) = &self.section {
            let kept = self.panics.get(section).map_or(0, Vec::len);
            if kept < LINES && (kept > 0 || line.contains(" panicked at ")) && !line.is_empty() {
                self.panics.entry(section.clone()).or_default().push(line.to_owned());
            }
        } else if line.starts_with("test result: ") {
            self.in_list = false;
        } else if let Some(name) = line.strip_prefix("    ").filter(|_| self.in_list) {
            self.tests.push(name.to_owned());
        }
    }

    /// The tests that failed, each with what it said when it panicked.
    pub fn causes(&self) -> impl Iterator<Item = (&str, String)> {
        self.tests.iter().map(|test| {
            let lines = self.panics.get(test).map(|lines| lines.join("\n    "));
            (test.as_str(), lines.unwrap_or_else(|| "it did not panic".into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_causes_are_read() {
        let output = "test a::good ... ok\ntest a::bad ... FAILED\n\nsuccesses:\n\n---- a::good stdout ----\n\
            thread 'x' panicked at on/purpose.rs:1:1:\n\nsuccesses:\n    a::good\n\nfailures:\n\n\
            ---- a::bad stdout ----\nipmpd: a line\nthread 'a::bad' (7) panicked at tests/a.rs:3:5:\n\
            not 5: 6\n    members: 3\n\nfailures:\n    a::bad\n\ntest result: FAILED. 1 passed; 1 failed\n";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.read(line));
        assert_eq!(failures.tests, ["a::bad"]);
        let causes: Vec<_> = failures.causes().collect();
        let cause = "thread 'a::bad' (7) panicked at tests/a.rs:3:5:\n    not 5: 6\n        members: 3";
        assert_eq!(causes, [("a::bad", cause.to_owned())]);
    }

    #[test]
    fn success_has_none() {
        let mut failures = Failures::default();
        "test a ... ok\n\ntest result: ok. 1 passed".lines().for_each(|line| failures.read(line));
        assert_eq!(failures.causes().count(), 0);
    }
}
