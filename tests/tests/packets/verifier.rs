//! What the programs cost: instructions that the kernel's verifier walked through, and their size in bytes, before and after the JIT compiler.
//! `programs.txt` has the known figures of some kernels, since each kernel walks another way. After an intended change:
//! `IPMP_UPDATE=1 cargo xtask test verifier`.

use std::fmt::Write as _;

use aya::programs::ProgramInfo;

use crate::harness::run;

/// The verifier gives up at a million instructions.
const MOST: u32 = 200_000;
/// Compilers differ from machine to machine.
const TOLERANCE: f64 = 0.1;
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packets/programs.txt");

fn verified(info: &ProgramInfo) -> u32 {
    info.verified_instruction_count().expect("Linux 5.16 reports it")
}

/// Architecture, and version without patch level, such as `x86_64-6.12`.
fn kernel() -> String {
    let system = nix::sys::utsname::uname().unwrap();
    let release = system.release().to_string_lossy().into_owned();
    let version: Vec<&str> = release.split(['.', '-']).take(2).collect();
    format!("{}-{}", system.machine().to_string_lossy(), version.join("."))
}

#[test]
fn verifier_is_far_from_giving_up() {
    lab::needs_root!();
    run(|bench| {
        for (name, info) in bench.programs() {
            let walked = verified(&info);
            println!("{name}: {walked} instructions");
            assert!(walked < MOST, "{name}: {walked} instructions");
        }
    });
}

#[test]
fn programs_cost_what_is_known() {
    lab::needs_root!();
    let kernel = kernel();
    let mut now = String::new();
    run(|bench| {
        for (name, info) in bench.programs() {
            let translated = info.size_translated().expect("Linux 4.15 reports it");
            let (verified, jited) = (verified(&info), info.size_jitted());
            writeln!(now, "{kernel:<14} {name:<10} {verified:>8} {translated:>10} {jited:>6}").unwrap();
        }
    });
    print!("{now}");
    let file = std::fs::read_to_string(FILE).unwrap();
    let is_of_this_kernel = |line: &&str| line.split_whitespace().next() == Some(kernel.as_str());
    if std::env::var_os("IPMP_UPDATE").is_some() {
        let others = file.lines().filter(|line| !is_of_this_kernel(line));
        let text: String = others.chain(now.lines()).map(|line| format!("{line}\n")).collect();
        return std::fs::write(FILE, text).unwrap();
    }
    let known: Vec<&str> = file.lines().filter(is_of_this_kernel).collect();
    if known.is_empty() {
        println!("programs.txt has no figures of {kernel}");
        return;
    }
    assert_eq!(known.len(), now.lines().count(), "programs.txt: {known:?}");
    for (known, now) in known.into_iter().zip(now.lines()) {
        let (before, after) = (known.split_whitespace().skip(1), now.split_whitespace().skip(1));
        for (before, after) in before.zip(after) {
            let is_close = match (before.parse::<f64>(), after.parse::<f64>()) {
                (Ok(before), Ok(after)) => (after - before).abs() <= TOLERANCE * before,
                _ => before == after,
            };
            assert!(
                is_close,
                "{before} is now {after}, which differs by more than {:.0} %:\n{known}\n{now}\n\
                 If this is intended: IPMP_UPDATE=1 cargo xtask test verifier",
                100.0 * TOLERANCE
            );
        }
    }
}
