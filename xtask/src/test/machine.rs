//! The lab's tests in virtual machines.

use super::LAB;
use super::failures::Failures;
use super::lane::LabTest;
use super::run::{Context, SHOW_FIGURES, is_lab_test};
use super::summary::Outcome;
use crate::project::Executable;
use crate::setup::Setup;
use crate::vm::{self, Card, Kernel, Lockdown, Machine, Nic, System, quote};
use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::time::Instant;

/// The tests on emulated network cards.
const HARDWARE: &str = "hardware";

/// The tests of the installed service.
pub const SYSTEM: &str = "system";

/// The kernel of installed systems.
pub const KERNEL: Kernel = Kernel::V6_12;

/// The tests of stacked devices, of kinds that many kernels lack.
const STACKING: &str = "stacking";

/// The test that every kernel must pass.
const SMOKE: &str = "smoke";

/// Packets per second that an emulated machine sends without being late itself.
const EMULATED_RATE: &str = "50";

/// Runs all tests in one boot. Each prints its own result; the exit code is that of the last that failed.
pub fn run_all(
    kernel: Kernel,
    setup: &Setup,
    tests: &[LabTest],
    rounds: &[Vec<String>],
    context: &Context,
) -> Result<ExitCode> {
    ensure!(!tests.is_empty(), "{LAB} has no tests");
    let mut script = String::from("failed=0\n");
    for arguments in rounds {
        for LabTest { executable, .. } in tests {
            let mut arguments = arguments.clone();
            let has_option = arguments.iter().any(|argument| argument.starts_with("--"));
            let in_machine_only = [HARDWARE, STACKING].iter().any(|target| is_lab_test(executable, target));
            if in_machine_only && !has_option {
                // Ignored only where there are no network cards, or not all kinds of devices.
                arguments.insert(0, "--include-ignored".into());
            }
            script += &format!("echo '== {} {}'\n", executable.package, executable.target);
            script += &format!("{} || failed=1\n", in_machine(None, executable, &arguments));
        }
    }
    script += "exit $failed\n";
    let nics = [Nic::E1000, Nic::E1000, Nic::Virtio, Nic::Virtio];
    let machine = Machine::prepare(kernel, &Card::numbered(&nics), setup)?;
    Ok(ExitCode::from(exit_code(boot(&machine, None, &script, context)?)?))
}

/// Boots all lanes, one after another: QEMU emulates with several threads, so that two at a time take as long.
pub fn run_lanes(soak: bool, setup: &Setup, tests: &[LabTest], context: &Context) -> Vec<Outcome> {
    lanes(soak).iter().map(|boot| boot.run(setup, tests, context)).collect()
}

/// What runs in virtual machines of its own: the smoke test on every kernel and its tests of lockdown, the tests on network
/// cards, of which the default lane has time for one model on one kernel, and in a soak those of stacked devices and of the installed service.
fn lanes(soak: bool) -> Vec<Boot> {
    let boot = |target, kernel| Boot { target, kernel, nic: None, lockdown: None, system: None };
    let smoke = Kernel::ALL.map(|kernel| boot(SMOKE, kernel));
    let locked = Boot { lockdown: Some(Lockdown::Confidentiality), ..boot(SMOKE, Kernel::V6_12) };
    let cards = [Nic::E1000, Nic::Virtio].into_iter().flat_map(|nic| Kernel::ALL.map(|kernel| (nic, kernel)));
    let cards = cards.filter(|(nic, kernel)| soak || (*nic == Nic::E1000 && *kernel == Kernel::V6_12));
    let cards = cards.map(|(nic, kernel)| Boot { nic: Some(nic), ..boot(HARDWARE, kernel) });
    let stacking = boot(STACKING, Kernel::V6_12);
    let system = Boot { system: Some(System::Debian12), ..boot(SYSTEM, KERNEL) };
    let long = [stacking, system].into_iter().filter(|_| soak);
    smoke.into_iter().chain([locked]).chain(long).chain(cards).collect()
}

/// One executable in a virtual machine.
struct Boot {
    target: &'static str,
    kernel: Kernel,
    /// Two network cards of this model, and the tests that need them.
    nic: Option<Nic>,
    /// The lockdown of the kernel, and the tests of it.
    lockdown: Option<Lockdown>,
    /// A system of its own, and the tests in it.
    system: Option<System>,
}

impl Boot {
    fn prepare(&self, setup: &Setup) -> Result<Machine> {
        let nics: Vec<Nic> = self.nic.into_iter().flat_map(|nic| [nic, nic]).collect();
        let machine =
            Machine::prepare(self.kernel, &Card::numbered(&nics), setup)?.with_lockdown(self.lockdown);
        match self.system {
            Some(system) => machine.with_system(system, None, setup),
            None => Ok(machine),
        }
    }

    /// Boots and runs. What keeps the machine from starting is part of the outcome, so that the other lanes still run.
    fn run(&self, setup: &Setup, tests: &[LabTest], context: &Context) -> Outcome {
        let (name, arguments) = (self.name(), self.arguments());
        println!("\n== {name}");
        let start = Instant::now();
        if let Err(reason) = Machine::is_supported() {
            println!("not run: {reason}");
            return Outcome::not_run(name, reason.into(), false);
        }
        let test = tests.iter().find(|test| is_lab_test(&test.executable, self.target));
        let mut failures = Failures::default();
        let code = test.with_context(|| format!("{LAB} has no test {}", self.target)).and_then(|test| {
            let script = in_machine(self.system, &test.executable, &arguments);
            let machine = self.prepare(setup)?;
            match boot(&machine, self.system, &script, context)? {
                Some(code) => Ok(code),
                None => {
                    println!("once more, with processors that take turns: {}", vm::NO_EXIT_CODE);
                    failures = Failures::one("the first boot", vm::NO_EXIT_CODE);
                    exit_code(boot(&machine.patient(), self.system, &script, context)?)
                }
            }
        });
        let took = start.elapsed();
        let ended =
            |result: String, good| Outcome { result, took, failures, ..Outcome::new(name.clone(), good) };
        match code {
            Ok(0) => ended("ok. 1 passed".into(), true),
            Ok(code) => ended(format!("exit code {code}"), false),
            Err(error) => {
                println!("not run: {error:#}");
                Outcome { took, ..Outcome::not_run(name, format!("{error:#}"), true) }
            }
        }
    }

    fn name(&self) -> String {
        let Self { target, kernel, nic, lockdown, system } = self;
        match (nic, lockdown, system) {
            (_, _, Some(system)) => format!("{LAB} {target} on {system}"),
            (Some(nic), ..) => format!("{LAB} {target} on Linux {kernel}, {nic}"),
            (_, Some(lockdown), _) => format!("{LAB} {target} on Linux {kernel}, lockdown={lockdown}"),
            _ => format!("{LAB} {target} on Linux {kernel}"),
        }
    }

    /// The test harness's arguments.
    fn arguments(&self) -> Vec<String> {
        let nic = self.nic.map(|nic| nic.to_string());
        let lockdown = self.lockdown.map(|lockdown| format!("lockdown_{lockdown}"));
        let system = self.system.map(|system| format!("system_{system}"));
        let filter = nic.or(lockdown).or(system);
        let ignored = filter.is_some() || self.target == STACKING;
        let mut arguments = vec![SHOW_FIGURES.to_owned()];
        arguments.extend(ignored.then(|| "--ignored".to_owned()).into_iter().chain(filter));
        arguments
    }
}

/// A line of shell that runs an executable in the directory that it expects.
pub fn in_machine(system: Option<System>, executable: &Executable, arguments: &[String]) -> String {
    let path = vm::host_path(system, &executable.path);
    let words = [path.as_str()].into_iter().chain(arguments.iter().map(String::as_str));
    let words: Vec<String> = words.map(quote).collect();
    format!("(cd {} && {})", quote(&vm::host_path(system, &executable.package_dir)), words.join(" "))
}

/// Runs a script in a machine, and returns its exit code; none if the machine ended before it.
pub fn boot(
    machine: &Machine,
    system: Option<System>,
    script: &str,
    context: &Context,
) -> Result<Option<u8>> {
    // The programs that are unpacked on the host are for its root directory.
    let path = context.path.as_ref().filter(|_| system.is_none());
    let variables = [
        ("IPMP_BIN_DIR", vm::host_path(system, &context.bin_dir)),
        ("IPMP_LAB_REQUIRED", "1".into()),
        ("IPMP_LAB_RATE", EMULATED_RATE.into()),
        ("IPMP_SOAK", if context.soak { "1".into() } else { String::new() }),
        ("PATH", path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()),
        ("RUST_TEST_THREADS", "1".into()),
    ];
    machine.boot(&["/bin/sh".into(), "-c".into(), script.into()], &variables)
}

fn exit_code(code: Option<u8>) -> Result<u8> {
    code.context(vm::NO_EXIT_CODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_cards_have_one_boot_by_default_and_all_in_a_soak() {
        let boots = |soak| {
            let boots = lanes(soak);
            let cards = boots.iter().filter_map(|boot| Some(format!("{} {}", boot.nic?, boot.kernel)));
            cards.collect::<Vec<_>>()
        };
        assert_eq!(boots(false), ["e1000 6.12"]);
        assert_eq!(boots(true), ["e1000 6.1", "e1000 6.12", "virtio 6.1", "virtio 6.12"]);
    }
}
