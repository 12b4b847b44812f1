//! What the programs cost: instructions that the kernel's verifier walked through, and their size in bytes, before and after the JIT compiler.
//! `programs.txt` has the known figures of some kernels, since each kernel walks another way. `start` is the sentinel. After an intended
//! change: `IPMP_UPDATE=1 cargo xtask test verifier`.

use std::fmt::Write as _;

use aya::programs::ProgramInfo;
use ipmp::datapath::{SourceSpread, TcpConnections, TcpTimeouts};

use crate::harness::{Bench, run};

/// The verifier gives up at a million instructions.
const MOST: u32 = 200_000;
/// Compilers differ from machine to machine.
const TOLERANCE: f64 = 0.1;
/// The same for small programs, in bytes, or in instructions walked through.
const TOLERANCE_BYTES: f64 = 64.0;
/// Columns of the file.
const KERNEL: usize = 0;
const PROGRAM: usize = 1;
const VERIFIED: usize = 2;
/// Whether a kernel allows this program depends on how it was built, not on its version.
const OPTIONAL: &str = "carrier_changed";
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

/// Names and properties of all programs of the daemon that run more than once.
fn programs(bench: &Bench) -> Vec<(String, ProgramInfo)> {
    // The group has loaded what it needs; these are loaded by the threads of the daemon that use them.
    let timeouts = TcpTimeouts::open().unwrap();
    let connections = TcpConnections::open().unwrap();
    let sources = SourceSpread::open().unwrap();
    let programs = bench.programs();
    drop((timeouts, connections, sources));
    programs
}

#[test]
fn verifier_is_far_from_giving_up() {
    lab::needs_root!();
    run(|bench| {
        for (name, info) in programs(bench) {
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
        for (name, info) in programs(bench) {
            let translated = info.size_translated().expect("Linux 4.15 reports it");
            let (verified, jited) = (verified(&info), info.size_jitted());
            writeln!(now, "{kernel:<14} {name:<15} {verified:>8} {translated:>10} {jited:>6}").unwrap();
        }
    });
    print!("{now}");
    let file = std::fs::read_to_string(FILE).unwrap();
    let kernel_of = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let is_of_this_kernel = |line: &&str| kernel_of(line).as_ref() == Some(&kernel);
    if std::env::var_os("IPMP_UPDATE").is_some() {
        let others = file.lines().filter(|line| !is_of_this_kernel(line));
        let text: String = others.chain(now.lines()).map(|line| format!("{line}\n")).collect();
        return std::fs::write(FILE, text).unwrap();
    }
    let mut known: Vec<&str> = file.lines().filter(is_of_this_kernel).collect();
    // The sizes of the programs are similar on all kernels.
    let is_known = !known.is_empty();
    if !is_known {
        let architecture = kernel.split_once('-').unwrap().0;
        let newest = file.lines().rfind(|line| line.starts_with(architecture)).and_then(kernel_of);
        known = file.lines().filter(|line| kernel_of(line) == newest).collect();
        println!("programs.txt has no figures of {kernel}; the sizes are compared with those of {newest:?}");
    }
    if known.is_empty() {
        return;
    }
    let is_optional = |line: &str| line.split_whitespace().nth(PROGRAM) == Some(OPTIONAL);
    let mut now: Vec<&str> = now.lines().collect();
    if known.iter().any(|line| is_optional(line)) != now.iter().any(|line| is_optional(line)) {
        known.retain(|line| !is_optional(line));
        now.retain(|line| !is_optional(line));
    }
    assert_eq!(known.len(), now.len(), "programs.txt: {known:?}");
    for (known, now) in known.into_iter().zip(now) {
        let figures = |line: &str| -> Vec<String> {
            let words = line.split_whitespace().enumerate();
            let is_compared = |column: usize| column != KERNEL && (is_known || column != VERIFIED);
            words.filter(|(column, _)| is_compared(*column)).map(|(_, word)| word.to_owned()).collect()
        };
        for (before, after) in figures(known).iter().zip(figures(now)) {
            let is_close = match (before.parse::<f64>(), after.parse::<f64>()) {
                (Ok(before), Ok(after)) => {
                    (after - before).abs() <= (TOLERANCE * before).max(TOLERANCE_BYTES)
                }
                _ => *before == after,
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
