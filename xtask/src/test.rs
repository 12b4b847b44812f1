//! `cargo xtask test`: set-up, then every test of the project.
//!
//! What needs network namespaces and eBPF needs root: the tests of ipmp-userspace and of the lab. They are built by the caller,
//! and only their executables run through sudo, so that nothing in `target` ever belongs to root; the others run as the caller.
//! What mostly waits runs side by side, and beside the tests of the other packages; then the lab's other tests run one at a
//! time, because two labs on two processors disturb each other.

use crate::fuzz::{self, Fuzz};
use crate::project::{self, Executable};
use crate::setup::Setup;
use crate::vm::{Kernel, Machine, Nic, quote};
use crate::{debian, root};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The package of the lab.
const LAB: &str = "ipmp-lab";

/// Packages whose own tests need root.
const ROOT: [&str; 1] = ["ipmp-userspace"];

/// What the default lane may take on two processors, builds excepted. That it took longer is said. A slower machine is no
/// fault of what is tested: only half as much again ends it.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What `--soak` may take.
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
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Run only tests whose name contains one of these.
    filter: Vec<String>,
}

/// Makes the test harness print what tests that succeed have counted and measured, too.
const SHOW_FIGURES: &str = "--show-output";

/// How one executable went.
struct Outcome {
    name: String,
    /// The line that the test harness ends with, or what happened instead.
    result: String,
    good: bool,
    took: Duration,
}

impl Test {
    pub fn run(self) -> Result<ExitCode> {
        let setup = Setup { yes: self.yes };
        setup.ensure(&[debian::LAB, debian::SERVICES].concat())?;
        let bin_dir = project::release_binaries()?;
        // What measures packets is compiled as what is measured.
        let mut built = project::build(&["test", "--release", "--locked", "--no-run", "--package", LAB])?;
        if self.kernel.is_none() {
            let rest = ["test", "--locked", "--no-run", "--workspace", "--exclude", LAB];
            built.extend(project::build(&rest)?);
        }
        let tests = built.into_iter().filter(|executable| executable.test);
        let (lab, rest): (Vec<_>, Vec<_>) = tests.partition(|executable| executable.package == LAB);
        if let Some(kernel) = self.kernel {
            return self.run_in_machine(kernel, &setup, &lab, &bin_dir);
        }
        let start = Instant::now();
        let left = || end_of(self.limit()).saturating_sub(start.elapsed());
        let rounds = self.rounds();
        let mut outcomes = side_by_side(&patient_first(&lab, &rest), &rounds[0], &bin_dir, &left)?;
        for (round, arguments) in rounds.iter().enumerate() {
            // Those that have run side by side have run, but for the long runs and by clsact.
            let is_left =
                |turn: &Turn<'_>| round > 0 || !turn.attach.is_empty() || !is_patient(turn.executable);
            for turn in turns(&lab, self.soak).filter(is_left) {
                let mut command = turn.command(&bin_dir, left());
                if !turn.only.is_empty() && arguments.is_empty() {
                    command.arg(turn.only);
                }
                let outcome = run_one(turn.executable, command, arguments, &mut std::io::stdout())?;
                outcomes.push(Outcome { name: format!("{} {}", outcome.name, turn.attach), ..outcome });
            }
        }
        if self.filter.is_empty() {
            for boot in self.boots() {
                outcomes.push(boot.run(&setup, &lab, &bin_dir)?);
            }
            if self.soak {
                outcomes.push(fuzzed(self.yes));
            }
        }
        Ok(summary(&outcomes, start.elapsed(), self.limit()))
    }

    fn limit(&self) -> Duration {
        if self.soak { SOAK_LIMIT } else { LIMIT }
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

    /// All of them in one boot. Each prints its own verdict; the exit code is that of the last that failed.
    fn run_in_machine(
        &self,
        kernel: Kernel,
        setup: &Setup,
        executables: &[Executable],
        bin_dir: &Path,
    ) -> Result<ExitCode> {
        ensure!(!executables.is_empty(), "ipmp-lab has no tests");
        let mut script = String::from("failed=0\n");
        for arguments in self.rounds() {
            for executable in executables {
                let mut arguments = arguments.clone();
                if executable.target == HARDWARE
                    && !arguments.iter().any(|argument| argument.starts_with("--"))
                {
                    // Ignored only where there are no network cards.
                    arguments.insert(0, "--include-ignored".into());
                }
                script += &format!("echo '== {} {}'\n", executable.package, executable.target);
                script += &format!("{} || failed=1\n", in_machine(executable, &arguments));
            }
        }
        script += "exit $failed\n";
        let nics = [Nic::E1000, Nic::E1000, Nic::Virtio, Nic::Virtio];
        boot((kernel, &nics), setup, &script, bin_dir, self.soak).map(ExitCode::from)
    }

    /// What runs in virtual machines of its own: the smoke test on every kernel, and the tests on network cards, of which the
    /// default lane has time for one.
    fn boots(&self) -> Vec<Boot> {
        let soak = self.soak;
        let smoke = Kernel::ALL.map(|kernel| Boot { target: "smoke", kernel, nic: None, soak });
        let cards =
            [Nic::E1000, Nic::Virtio].into_iter().flat_map(|nic| Kernel::ALL.map(|kernel| (nic, kernel)));
        let cards = cards.filter(|(nic, kernel)| soak || (*nic == Nic::E1000 && *kernel == Kernel::V6_12));
        let cards = cards.map(|(nic, kernel)| Boot { target: HARDWARE, kernel, nic: Some(nic), soak });
        smoke.into_iter().chain(cards).collect()
    }
}

/// The decoders under libFuzzer; its build counts, as it is part of the soak alone.
fn fuzzed(yes: bool) -> Outcome {
    let start = Instant::now();
    let result = Fuzz::all(fuzz::SECONDS, yes).run();
    let good = result.is_ok();
    let result = result.map_or_else(|error| format!("{error:#}"), |()| "ok. no fault found".to_owned());
    Outcome { name: "ipmp-fuzz under libFuzzer".into(), result, good, took: start.elapsed() }
}

/// The tests on emulated network cards.
const HARDWARE: &str = "hardware";

/// One executable in a virtual machine.
struct Boot {
    target: &'static str,
    kernel: Kernel,
    /// Two network cards of this model, and the tests that need them.
    nic: Option<Nic>,
    soak: bool,
}

impl Boot {
    fn run(&self, setup: &Setup, executables: &[Executable], bin_dir: &Path) -> Result<Outcome> {
        let Self { target, kernel, nic, soak } = self;
        let executable = executables.iter().find(|executable| executable.target == *target);
        let executable = executable.with_context(|| format!("ipmp-lab has no test {target}"))?;
        let mut arguments = vec![SHOW_FIGURES.to_owned()];
        let (mut nics, mut name) = (Vec::new(), format!("{LAB} {target} on Linux {kernel}"));
        if let Some(nic) = nic {
            nics = vec![*nic, *nic];
            arguments.extend(["--ignored".into(), nic.to_string()]);
            name = format!("{name}, {nic}");
        }
        println!("\n== {name}");
        let start = Instant::now();
        let code = boot((*kernel, &nics), setup, &in_machine(executable, &arguments), bin_dir, *soak)?;
        let result = if code == 0 { "ok. 1 passed".to_owned() } else { format!("exit code {code}") };
        Ok(Outcome { name, result, good: code == 0, took: start.elapsed() })
    }
}

/// Integration tests that mostly wait, and have room for a busy machine in all that they assert: they run side by side, and
/// beside the tests of the other packages. Those that take longest come first.
const PATIENT: [&str; 8] =
    ["silence", "packets", "probing", "refusals", "services", "events", "test_addresses", "snooping"];

/// So many executables run side by side, of two threads each: on two processors, most of which wait.
const SIDE_BY_SIDE: usize = 3;

/// Integration tests that look at every byte, and would print them all.
const WORDY: [&str; 2] = ["packets", "refusals"];

/// Integration tests in which a way of attaching makes a difference, because a group carries something in them: the default
/// lane runs these again by clsact, those of the name beside each.
const AGAIN: [(&str, &str); 2] = [("failover", "with_the_daemon_stopped"), ("smoke", "")];

/// The soak runs all of these again, and all that is in them.
const ALL_AGAIN: [&str; 12] = [
    "failover",
    "resolve",
    "smoke",
    "survival",
    "flooding",
    "inbound",
    "members",
    "answers",
    "delayed_news",
    "many_addresses",
    "services",
    "snooping",
];
/// A run of an executable: as the kernel attaches, or, where it makes a difference, by clsact.
struct Turn<'a> {
    executable: &'a Executable,
    attach: &'static str,
    /// Only tests of this name; empty: all.
    only: &'static str,
}

impl Turn<'_> {
    /// What is to be run, but for the tests' names.
    fn command(&self, bin_dir: &Path, left: Duration) -> Command {
        let target = self.executable.target.as_str();
        let threads = match target {
            // Its tests wait at the same time.
            "silence" => "8",
            _ if is_patient(self.executable) => "2",
            _ => "1",
        };
        let mut variables =
            vec![("IPMP_BIN_DIR", bin_dir.as_os_str()), ("RUST_TEST_THREADS", OsStr::new(threads))];
        if !self.attach.is_empty() {
            variables.push(("IPMP_ATTACH", OsStr::new(self.attach)));
        }
        let mut command = as_root(self.executable, &variables, left);
        if !WORDY.contains(&target) {
            command.arg(SHOW_FIGURES);
        }
        command
    }
}

/// Every executable as the kernel has it, then some or all of them by clsact.
fn turns(executables: &[Executable], soak: bool) -> impl Iterator<Item = Turn<'_>> {
    let first = executables.iter().map(|executable| Turn { executable, attach: "", only: "" });
    let again = executables.iter().filter_map(move |executable| {
        let target = executable.target.as_str();
        let only = if soak {
            ALL_AGAIN.contains(&target).then_some("")
        } else {
            AGAIN.iter().find(|(name, _)| *name == target).map(|(_, only)| *only)
        };
        only.map(|only| Turn { executable, attach: "clsact", only })
    });
    first.chain(again)
}

fn is_patient(executable: &Executable) -> bool {
    executable.package == LAB && PATIENT.contains(&executable.target.as_str())
}

/// What runs side by side, in the order in which it begins: what takes longest, then the other packages, whose tests keep
/// the processors busy meanwhile.
fn patient_first<'a>(lab: &'a [Executable], rest: &'a [Executable]) -> Vec<&'a Executable> {
    let named = |name: &&str| lab.iter().find(|executable| executable.target == **name);
    let mut patient = PATIENT.iter().filter_map(named);
    let longest = patient.next();
    longest.into_iter().chain(rest).chain(patient).collect()
}

/// Runs executables side by side. What each prints is shown when it has ended; how each went, in the order given.
fn side_by_side(
    executables: &[&Executable],
    arguments: &[String],
    bin_dir: &Path,
    left: &(impl Fn() -> Duration + Sync),
) -> Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let run = |executable: &Executable| -> Result<Outcome> {
        let command = if executable.package == LAB {
            Turn { executable, attach: "", only: "" }.command(bin_dir, left())
        } else if ROOT.contains(&executable.package.as_str()) {
            as_root(executable, &[], left())
        } else {
            Command::new(&executable.path)
        };
        let mut shown = Vec::new();
        let outcome = run_one(executable, command, arguments, &mut shown)?;
        std::io::stdout().lock().write_all(&shown)?;
        Ok(outcome)
    };
    let worker = || -> Result<Vec<(usize, Outcome)>> {
        let mut outcomes = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(executable) = executables.get(at) else { return Ok(outcomes) };
            outcomes.push((at, run(executable)?));
        }
    };
    let mut outcomes = std::thread::scope(|scope| -> Result<Vec<(usize, Outcome)>> {
        let workers: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(worker)).collect();
        let mut outcomes = Vec::new();
        for worker in workers {
            outcomes.extend(worker.join().map_err(|_| anyhow!("whoever runs tests has panicked"))??);
        }
        Ok(outcomes)
    })?;
    outcomes.sort_by_key(|(at, _)| *at);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// A line of shell that runs an executable where it expects to be run.
fn in_machine(executable: &Executable, arguments: &[String]) -> String {
    let path = executable.path.to_string_lossy();
    let words = [path.as_ref()].into_iter().chain(arguments.iter().map(String::as_str));
    let words: Vec<String> = words.map(quote).collect();
    format!("(cd {} && {})", quote(&executable.package_dir.to_string_lossy()), words.join(" "))
}

/// Packets per second that an emulated machine sends without being late itself.
const EMULATED_RATE: &str = "50";

/// Boots a kernel with these network cards, runs a script in it, and returns its exit code.
fn boot(
    (kernel, nics): (Kernel, &[Nic]),
    setup: &Setup,
    script: &str,
    bin_dir: &Path,
    soak: bool,
) -> Result<u8> {
    let machine = Machine::prepare(kernel, nics, setup)?;
    let variables = [
        ("IPMP_BIN_DIR", bin_dir.to_string_lossy().into_owned()),
        ("IPMP_LAB_RATE", EMULATED_RATE.into()),
        ("IPMP_SOAK", if soak { "1".into() } else { String::new() }),
        ("RUST_TEST_THREADS", "1".into()),
    ];
    machine.run(&["/bin/sh".into(), "-c".into(), script.into()], &variables)
}

/// An executable as root, under `timeout`, which then runs as root too, and can end what hangs.
fn as_root(executable: &Executable, variables: &[(&str, &OsStr)], left: Duration) -> Command {
    let mut variables = variables.to_vec();
    variables.push(("CARGO_MANIFEST_DIR", executable.package_dir.as_os_str()));
    if !root::is_root() {
        // proptest would write a failure down beside the source, as root.
        variables.push(("PROPTEST_DISABLE_FAILURE_PERSISTENCE", OsStr::new("1")));
    }
    let mut command = root::command("timeout", &variables);
    command.arg("--kill-after=10").arg(left.as_secs().max(1).to_string()).arg(&executable.path);
    command
}

/// Runs an executable, shows what it prints, and keeps its last word.
fn run_one(
    executable: &Executable,
    mut command: Command,
    arguments: &[String],
    shown: &mut impl Write,
) -> Result<Outcome> {
    let name = format!("{} {}", executable.package, executable.target);
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
    let mut verdict = None;
    for line in BufReader::new(output).lines() {
        let line = line.with_context(|| format!("the output of {name}"))?;
        writeln!(shown, "{line}")?;
        verdict = line.strip_prefix("test result: ").map(str::to_owned).or(verdict);
    }
    let status = child.wait().with_context(|| format!("{name} cannot be waited for"))?;
    let result = match status.code() {
        // What `timeout` says.
        Some(124 | 137) => "ended: the time of the lane was used up".into(),
        _ => verdict.unwrap_or_else(|| format!("ended without a verdict ({status})")),
    };
    Ok(Outcome { name, result, good: status.success(), took: start.elapsed() })
}

/// When a lane that should have ended by now is ended.
fn end_of(limit: Duration) -> Duration {
    limit + limit / 2
}

fn summary(outcomes: &[Outcome], took: Duration, limit: Duration) -> ExitCode {
    println!("\n== summary");
    for Outcome { name, result, good, took } in outcomes.iter().filter(|outcome| outcome.worth_a_line()) {
        println!(
            "{} {name:32} {:6.1} s  {result}",
            if *good { "ok    " } else { "FAILED" },
            took.as_secs_f32()
        );
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.good).count();
    println!(
        "{} of {} executables failed; {:.0} s of {} s",
        failed,
        outcomes.len(),
        took.as_secs_f32(),
        limit.as_secs()
    );
    if took > limit {
        println!("that is longer than it may take on two processors: cut it, or run it on a quicker machine");
    }
    if failed == 0 && took <= end_of(limit) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Outcome {
    /// Executables in which no test ran only hide the others.
    fn worth_a_line(&self) -> bool {
        !self.good || !self.result.starts_with("ok. 0 passed; 0 failed; 0 ignored")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(result: &str, good: bool) -> Outcome {
        Outcome { name: "p t".into(), result: result.into(), good, took: Duration::ZERO }
    }

    #[test]
    fn a_failure_is_always_shown() {
        assert!(outcome("ok. 3 passed; 0 failed", true).worth_a_line());
        assert!(
            !outcome("ok. 0 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out", true).worth_a_line()
        );
        assert!(outcome("ended without a verdict (signal: 9)", false).worth_a_line());
    }

    #[test]
    fn a_soak_takes_the_long_runs_and_no_other_ignored_test() {
        let test = |soak, filter: &[&str]| {
            let filter = filter.iter().map(|s| (*s).to_owned()).collect();
            Test { soak, kernel: None, yes: false, filter }.rounds()
        };
        assert_eq!(test(false, &[]), [Vec::<String>::new()]);
        assert_eq!(test(false, &["pull"]), [["pull"]]);
        assert_eq!(test(true, &[]), [vec![], vec!["--ignored", "soak"]]);
        assert_eq!(test(true, &["pull"]), [["--include-ignored", "pull"]]);
    }

    #[test]
    fn network_cards_have_one_boot_by_default_and_all_in_a_soak() {
        let boots = |soak| {
            let boots = Test { soak, kernel: None, yes: false, filter: Vec::new() }.boots();
            let cards = boots.iter().filter_map(|boot| Some(format!("{} {}", boot.nic?, boot.kernel)));
            cards.collect::<Vec<_>>()
        };
        assert_eq!(boots(false), ["e1000 6.12"]);
        assert_eq!(boots(true), ["e1000 6.1", "e1000 6.12", "virtio 6.1", "virtio 6.12"]);
    }

    fn executable(package: &str, target: &str) -> Executable {
        Executable {
            package: package.into(),
            target: target.into(),
            path: target.into(),
            package_dir: ".".into(),
            test: true,
        }
    }

    #[test]
    fn what_takes_longest_begins_first_and_what_measures_is_left_for_later() {
        let lab = ["failover", "snooping", "packets", "silence"].map(|target| executable(LAB, target));
        let rest = [executable("ipmp-common", "ipmp_common")];
        let targets = patient_first(&lab, &rest).into_iter().map(|executable| executable.target.as_str());
        assert_eq!(targets.collect::<Vec<_>>(), ["silence", "ipmp_common", "packets", "snooping"]);
    }

    #[test]
    fn what_carries_runs_again_by_clsact() {
        let executables = ["failover", "packets", "survival"].map(|target| executable(LAB, target));
        let runs = |soak| {
            let turns = turns(&executables, soak).filter(|turn| !turn.attach.is_empty());
            turns.map(|turn| (turn.executable.target.clone(), turn.only)).collect::<Vec<_>>()
        };
        assert_eq!(runs(false), [("failover".to_owned(), "with_the_daemon_stopped")]);
        assert_eq!(runs(true), [("failover".to_owned(), ""), ("survival".to_owned(), "")]);
    }

    #[test]
    fn a_lane_that_takes_too_long_fails() {
        let good = [outcome("ok. 3 passed; 0 failed", true)];
        let code = |took| format!("{:?}", summary(&good, Duration::from_secs(took), LIMIT));
        assert_eq!(code(1), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(901), format!("{:?}", ExitCode::SUCCESS), "a slower machine");
        assert_eq!(code(1351), format!("{:?}", ExitCode::FAILURE));
    }
}
