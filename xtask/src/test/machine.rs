//! The lab's tests in virtual machines.

use super::LAB;
use super::lane::LabTest;
use super::run::{Context, SHOW_FIGURES, is_lab_test};
use super::summary::Outcome;
use crate::project::Executable;
use crate::setup::Setup;
use crate::vm::{self, Kernel, Lockdown, Machine, Nic, System, quote};
use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::time::Instant;

/// The tests on emulated network cards.
const HARDWARE: &str = "hardware";

/// The tests of the installed service.
const SYSTEM: &str = "system";

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
    boot((kernel, &nics, None, None), setup, &script, context).map(ExitCode::from)
}

/// What runs in virtual machines of its own: the smoke test on every kernel and its tests of lockdown, the tests on network
/// cards, of which the default lane has time for one model on one kernel, and in a soak those of stacked devices and of the installed service.
pub fn lanes(soak: bool) -> Vec<Boot> {
    let boot = |target, kernel| Boot { target, kernel, nic: None, lockdown: None, system: None };
    let smoke = Kernel::ALL.map(|kernel| boot(SMOKE, kernel));
    let locked = Boot { lockdown: Some(Lockdown::Confidentiality), ..boot(SMOKE, Kernel::V6_12) };
    let cards = [Nic::E1000, Nic::Virtio].into_iter().flat_map(|nic| Kernel::ALL.map(|kernel| (nic, kernel)));
    let cards = cards.filter(|(nic, kernel)| soak || (*nic == Nic::E1000 && *kernel == Kernel::V6_12));
    let cards = cards.map(|(nic, kernel)| Boot { nic: Some(nic), ..boot(HARDWARE, kernel) });
    let stacking = boot(STACKING, Kernel::V6_12);
    let system = Boot { system: Some(System::Debian12), ..boot(SYSTEM, Kernel::V6_12) };
    let long = [stacking, system].into_iter().filter(|_| soak);
    smoke.into_iter().chain([locked]).chain(long).chain(cards).collect()
}

/// One executable in a virtual machine.
pub struct Boot {
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
    /// Boots and runs. What keeps the machine from starting is part of the outcome, so that the other lanes still run.
    pub fn run(&self, setup: &Setup, tests: &[LabTest], context: &Context) -> Outcome {
        let Self { target, kernel, nic, lockdown, system } = self;
        let mut arguments = vec![SHOW_FIGURES.to_owned()];
        let (mut nics, mut name) = (Vec::new(), format!("{LAB} {target} on Linux {kernel}"));
        if let Some(nic) = nic {
            nics = vec![*nic, *nic];
            arguments.extend(["--ignored".into(), nic.to_string()]);
            name = format!("{name}, {nic}");
        }
        if *target == STACKING {
            arguments.push("--ignored".into());
        }
        if let Some(lockdown) = lockdown {
            arguments.extend(["--ignored".into(), format!("lockdown_{lockdown}")]);
            name = format!("{name}, lockdown={lockdown}");
        }
        if let Some(system) = system {
            arguments.extend(["--ignored".into(), format!("system_{system}")]);
            name = format!("{LAB} {target} on {system}");
        }
        println!("\n== {name}");
        let start = Instant::now();
        if let Err(reason) = Machine::is_supported() {
            println!("not run: {reason}");
            return Outcome::not_run(name, reason.into(), false);
        }
        let test = tests.iter().find(|test| is_lab_test(&test.executable, target));
        let code = test.with_context(|| format!("{LAB} has no test {target}")).and_then(|test| {
            boot(
                (*kernel, &nics, *lockdown, *system),
                setup,
                &in_machine(*system, &test.executable, &arguments),
                context,
            )
        });
        match code {
            Ok(code) => {
                let result = if code == 0 { "ok. 1 passed".to_owned() } else { format!("exit code {code}") };
                Outcome { result, took: start.elapsed(), ..Outcome::new(name, code == 0) }
            }
            Err(error) => {
                println!("not run: {error:#}");
                Outcome { took: start.elapsed(), ..Outcome::not_run(name, format!("{error:#}"), true) }
            }
        }
    }
}

/// A line of shell that runs an executable in the directory that it expects.
fn in_machine(system: Option<System>, executable: &Executable, arguments: &[String]) -> String {
    let path = vm::host_path(system, &executable.path);
    let words = [path.as_str()].into_iter().chain(arguments.iter().map(String::as_str));
    let words: Vec<String> = words.map(quote).collect();
    format!("(cd {} && {})", quote(&vm::host_path(system, &executable.package_dir)), words.join(" "))
}

/// Boots a kernel with these network cards, this lockdown and this system, runs a script in it, and returns its exit code.
fn boot(
    (kernel, nics, lockdown, system): (Kernel, &[Nic], Option<Lockdown>, Option<System>),
    setup: &Setup,
    script: &str,
    context: &Context,
) -> Result<u8> {
    let mut machine = Machine::prepare(kernel, nics, setup)?.with_lockdown(lockdown);
    // The programs that are unpacked on the host are for its root directory.
    let mut path = context.path.as_ref().map(|path| path.to_string_lossy().into_owned());
    if let Some(system) = system {
        machine = machine.with_system(system, None, setup)?;
        path = None;
    }
    let variables = [
        ("IPMP_BIN_DIR", vm::host_path(system, &context.bin_dir)),
        ("IPMP_LAB_REQUIRED", "1".into()),
        ("IPMP_LAB_RATE", EMULATED_RATE.into()),
        ("IPMP_SOAK", if context.soak { "1".into() } else { String::new() }),
        ("PATH", path.unwrap_or_default()),
        ("RUST_TEST_THREADS", "1".into()),
    ];
    machine.run(&["/bin/sh".into(), "-c".into(), script.into()], &variables)
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
