//! Which executables run in which order, and how often.

use super::lane::{Clsact, LabTest, Lane};
use crate::project::Executable;

/// One run of an executable.
pub struct Turn<'a> {
    pub executable: &'a Executable,
    /// `None` for tests of other packages.
    pub lane: Option<&'a Lane>,
    /// Whether the programs are attached by clsact, not as the kernel prefers.
    pub clsact: bool,
    /// Only tests whose names contain this; empty: all.
    pub only: &'a str,
}

impl<'a> Turn<'a> {
    fn of(test: &'a LabTest) -> Self {
        Self { executable: &test.executable, lane: Some(&test.lane), clsact: false, only: "" }
    }

    pub fn name(&self) -> String {
        let Executable { package, target, .. } = self.executable;
        format!("{package} {target}{}", if self.clsact { " clsact" } else { "" })
    }

    /// The test harness's arguments. A word that is the executable's name selects all its tests.
    pub fn arguments(&self, arguments: &[String]) -> Vec<String> {
        let (flags, words): (Vec<String>, Vec<String>) =
            arguments.iter().cloned().partition(|argument| argument.starts_with("--"));
        let is_named = words.contains(&self.executable.target);
        let words = if is_named { Vec::new() } else { words };
        let is_whole = flags.is_empty() && words.is_empty() && !self.only.is_empty();
        let only = is_whole.then(|| self.only.to_owned());
        flags.into_iter().chain(words).chain(only).collect()
    }
}

/// What runs side by side, in the order in which it starts: the test that takes longest, then the other packages, whose tests
/// need the processors meanwhile, then the rest.
pub fn side_by_side<'a>(lab: &'a [LabTest], rest: &'a [Executable]) -> Vec<Turn<'a>> {
    let mut tests: Vec<&LabTest> = lab.iter().filter(|test| test.lane.side_by_side).collect();
    tests.sort_by_key(|test| std::cmp::Reverse(test.lane.seconds));
    let mut tests = tests.into_iter().map(Turn::of);
    let longest = tests.next();
    let rest = rest.iter().map(|executable| Turn { executable, lane: None, clsact: false, only: "" });
    longest.into_iter().chain(rest).chain(tests).collect()
}

/// What runs one at a time: every executable (in the first round without those that have run side by side), then some or all
/// of them by clsact.
pub fn one_at_a_time(lab: &[LabTest], soak: bool, first_round: bool) -> Vec<Turn<'_>> {
    let first = lab.iter().filter(|test| !first_round || !test.lane.side_by_side).map(Turn::of);
    let again = lab.iter().filter_map(|test| {
        let only = match (&test.lane.clsact, soak) {
            (Clsact::Always(only), false) => only.as_str(),
            (Clsact::Always(_) | Clsact::Soak, true) => "",
            (Clsact::Soak, false) | (Clsact::Never, _) => return None,
        };
        Some(Turn { clsact: true, only, ..Turn::of(test) })
    });
    first.chain(again).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executable(target: &str) -> Executable {
        Executable {
            package: "p".into(),
            target: target.into(),
            path: target.into(),
            package_dir: ".".into(),
            test: true,
            integration: true,
        }
    }

    fn test(target: &str, side_by_side: bool, seconds: u32, clsact: Clsact) -> LabTest {
        LabTest {
            executable: executable(target),
            lane: Lane { side_by_side, seconds, clsact, ..Lane::default() },
        }
    }

    fn lab() -> [LabTest; 4] {
        [
            test("failover", false, 0, Clsact::Always("stopped".into())),
            test("snooping", true, 10, Clsact::Soak),
            test("packets", true, 20, Clsact::Never),
            test("silence", true, 30, Clsact::Never),
        ]
    }

    #[test]
    fn longest_test_starts_first_and_other_packages_next() {
        let (lab, rest) = (lab(), [executable("ipmp_common")]);
        let turns = side_by_side(&lab, &rest);
        let targets: Vec<_> = turns.iter().map(|turn| turn.executable.target.as_str()).collect();
        assert_eq!(targets, ["silence", "ipmp_common", "packets", "snooping"]);
    }

    #[test]
    fn tests_by_clsact_run_as_declared() {
        let lab = lab();
        let by_clsact = |soak| {
            let turns = one_at_a_time(&lab, soak, true).into_iter().filter(|turn| turn.clsact);
            turns.map(|turn| (turn.executable.target.as_str(), turn.only)).collect::<Vec<_>>()
        };
        assert_eq!(by_clsact(false), [("failover", "stopped")]);
        assert_eq!(by_clsact(true), [("failover", ""), ("snooping", "")]);
    }

    #[test]
    fn name_of_an_executable_selects_all_its_tests() {
        let lab = lab();
        let arguments = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            one_at_a_time(&lab, false, true).iter().map(|turn| turn.arguments(&words)).collect::<Vec<_>>()
        };
        assert_eq!(arguments(&[]), [vec![], vec!["stopped".to_owned()]]);
        assert_eq!(arguments(&["failover"]), [vec![], vec!["stopped".to_owned()]]);
        assert_eq!(arguments(&["pull"]), [["pull"], ["pull"]]);
        assert_eq!(
            arguments(&["--include-ignored", "failover"]),
            [["--include-ignored"], ["--include-ignored"]]
        );
    }

    #[test]
    fn second_round_includes_what_ran_side_by_side() {
        let lab = lab();
        assert_eq!(one_at_a_time(&lab, false, true).iter().filter(|turn| !turn.clsact).count(), 1);
        assert_eq!(one_at_a_time(&lab, false, false).iter().filter(|turn| !turn.clsact).count(), 4);
    }
}
