//! `cargo xtask test`: set-up, then every test of the project.
//!
//! What needs network namespaces and eBPF needs root: the tests of ipmp-userspace and of the lab. The caller builds them, and
//! only their executables run through sudo, so that nothing in `target` belongs to root; the others run as the caller.
//! Tests that mostly wait run side by side, together with those of the other packages; then the lab's other tests run one at
//! a time, because two labs on two processors disturb each other. A test of the lab that fails is run once more. Each file of
//! lab tests declares how it runs: see [`lane`].

mod failures;
mod lane;
mod machine;
mod run;
mod scenes;
mod summary;
mod turn;

use crate::dist::Dist;
use crate::fuzz::{self, Fuzz};
use crate::setup::Setup;
use crate::unpacked;
use crate::vm::Kernel;
use crate::{debian, project};
use anyhow::Result;
use clap::Args;
use run::Context;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use summary::Outcome;

/// The package of the lab.
const LAB: &str = "ipmp-lab";

/// How long the default lane should take on two processors, builds excepted. A slower machine is reported, and is a failure
/// only after half as much again.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// How long `--soak` should take.
const SOAK_LIMIT: Duration = Duration::from_secs(12 * 60 * 60);

/// Run all tests: unit and property tests, then the lab's
#[derive(Args)]
pub struct Test {
    /// The long runs too: tests marked `ignore` whose names contain `soak`.
    #[arg(long)]
    soak: bool,
    /// Only the lab's tests, in a virtual machine with this kernel.
    #[arg(long, value_name = "VERSION")]
    kernel: Option<Kernel>,
    /// Only the boots of this scene, with the package installed in a Debian system; --soak runs all.
    #[arg(long, value_name = "NAME", value_parser = scenes::names(), conflicts_with_all = ["soak", "kernel", "filter"])]
    scene: Option<String>,
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Run only tests whose name contains one of these, and all tests of executables with one of these names.
    filter: Vec<String>,
}

impl Test {
    pub fn run(self) -> Result<ExitCode> {
        let setup = Setup { yes: self.yes };
        setup.ensure(&[debian::LAB, debian::TESTS].concat())?;
        let mut programs = Vec::new();
        if debian::is_debian() {
            programs.push(setup.unpack(&unpacked::SERVICES)?);
            if self.soak {
                programs.push(setup.unpack(&unpacked::PROMETHEUS)?);
            }
            // A machine runs the tests of stacked devices in any case.
            if self.soak || self.kernel.is_some() {
                programs.push(setup.unpack(&unpacked::SSH)?);
            }
        }
        if self.soak {
            project::next_layout_daemon()?;
        }
        let bin_dir = project::release_binaries()?;
        if self.soak || self.scene.is_some() {
            // The test of the installed system installs it.
            Dist::of(bin_dir.clone(), self.yes).run()?;
        }
        // What measures packets is compiled as what is measured; a scene measures none.
        let of_lab: &[&str] = match self.scene {
            Some(_) => &["--test", machine::SYSTEM],
            None => &["--release"],
        };
        let of_lab = [&["test", "--locked", "--no-run", "--package", LAB], of_lab].concat();
        let mut built = project::build(&of_lab)?;
        if self.kernel.is_none() && self.scene.is_none() {
            let rest = ["test", "--locked", "--no-run", "--workspace", "--exclude", LAB];
            built.extend(project::build(&rest)?);
        }
        let tests = built.into_iter().filter(|executable| executable.test);
        let (lab, rest): (Vec<_>, Vec<_>) = tests.partition(|executable| executable.package == LAB);
        let lab = lane::with_lanes(lab)?;
        let context = Context {
            bin_dir,
            path: (!programs.is_empty()).then(|| unpacked::path(&programs)),
            end: Instant::now() + summary::end_of(self.limit()),
            soak: self.soak,
        };
        if let Some(kernel) = self.kernel {
            return machine::run_all(kernel, &setup, &lab, &self.rounds(), &context);
        }
        let start = Instant::now();
        if self.scene.is_some() {
            let outcomes = scenes::run(self.scene.as_deref(), &setup, &lab, &context);
            return Ok(summary::print(&outcomes, start.elapsed(), self.limit()));
        }
        let rounds = self.rounds();
        let mut outcomes = run::side_by_side(&turn::side_by_side(&lab, &rest), &rounds[0], &context)?;
        for (round, arguments) in rounds.iter().enumerate() {
            for turn in turn::one_at_a_time(&lab, self.soak, round == 0) {
                outcomes.push(run::turn(&turn, arguments, &context)?);
            }
        }
        if self.filter.is_empty() {
            outcomes.extend(machine::run_lanes(self.soak, &setup, &lab, &context));
            if self.soak {
                outcomes.extend(scenes::run(None, &setup, &lab, &context));
                outcomes.push(fuzzed(self.yes));
            }
        }
        Ok(summary::print(&outcomes, start.elapsed(), self.limit()))
    }

    fn limit(&self) -> Duration {
        if self.soak || self.scene.is_some() { SOAK_LIMIT } else { LIMIT }
    }

    /// The arguments of the test harness, for each time that the integration tests run.
    fn rounds(&self) -> Vec<Vec<String>> {
        match (self.soak, self.filter.is_empty()) {
            (false, _) => vec![self.filter.clone()],
            (true, true) => vec![Vec::new(), vec!["--ignored".into(), "soak".into()]],
            (true, false) => {
                let all = std::iter::once("--include-ignored".into());
                vec![all.chain(self.filter.iter().cloned()).collect()]
            }
        }
    }
}

/// The decoders under libFuzzer. Its build counts, as it is part of the soak only.
fn fuzzed(yes: bool) -> Outcome {
    let start = Instant::now();
    let result = Fuzz::all(fuzz::SECONDS, yes).run();
    let good = result.is_ok();
    let result = result.map_or_else(|error| format!("{error:#}"), |()| "ok. no fault found".to_owned());
    Outcome { result, took: start.elapsed(), ..Outcome::new("ipmp-fuzz under libFuzzer".into(), good) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soak_runs_long_tests_and_no_other_ignored_ones() {
        let test = |soak, filter: &[&str]| {
            let filter = filter.iter().map(|s| (*s).to_owned()).collect();
            Test { soak, kernel: None, scene: None, yes: false, filter }.rounds()
        };
        assert_eq!(test(false, &[]), [Vec::<String>::new()]);
        assert_eq!(test(false, &["pull"]), [["pull"]]);
        assert_eq!(test(true, &[]), [vec![], vec!["--ignored", "soak"]]);
        assert_eq!(test(true, &["pull"]), [["--include-ignored", "pull"]]);
    }
}
