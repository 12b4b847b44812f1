//! `cargo xtask fuzz`: libFuzzer on every decoder, for as long as one likes.
//!
//! cargo-fuzz wants a nightly compiler, for the address sanitiser. What guides libFuzzer is an LLVM pass that the stable
//! compiler has too, and what a sanitiser would see, safe code shows by a panic; the one decoder that works on addresses gets
//! its bytes with a wall behind them.

use crate::setup::Setup;
use crate::{debian, project};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package of the targets.
const PACKAGE: &str = "ipmp-fuzz";
/// How long each target runs by default.
pub const SECONDS: u32 = 60;
/// A decoder that takes longer than so many seconds hangs.
const PATIENCE: u32 = 10;

/// Counters for every edge, where each is, and what was compared: what libFuzzer wants to see.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Else the linker drops some of the counters, and the tables no longer agree.
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Look for inputs that make a decoder panic, hang or disagree with itself
#[derive(Args)]
pub struct Fuzz {
    /// The decoders, by the names of the directories in fuzz/corpus; all of them, if none is named.
    targets: Vec<String>,
    /// How long for each.
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
}

impl Fuzz {
    /// All targets, for so long each.
    pub fn all(seconds: u32, yes: bool) -> Self {
        Self { targets: Vec::new(), seconds, yes }
    }

    pub fn run(self) -> Result<()> {
        let corpus = project::root().join("fuzz/corpus");
        let known = names(&corpus)?;
        if let Some(unknown) = self.targets.iter().find(|name| !known.contains(name)) {
            bail!("there is no target {unknown}: there are {}", known.join(", "));
        }
        Setup { yes: self.yes }.ensure(debian::FUZZ)?;
        let binary = build()?;
        let targets = if self.targets.is_empty() { known } else { self.targets };
        let mut faults = Vec::new();
        for name in targets {
            println!("\n== {name}, {} s", self.seconds);
            if !hunt(&binary, &name, &corpus.join(&name), self.seconds)? {
                faults.push(name);
            }
        }
        ensure!(
            faults.is_empty(),
            "found faults in {}: put each input above into its directory in {}, and mend the decoder",
            faults.join(", "),
            corpus.display()
        );
        Ok(())
    }
}

/// The targets: each has a corpus.
fn names(corpus: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(corpus).with_context(|| corpus.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Builds the fuzzer beside everything else, since everything is compiled otherwise. With a target named, as what runs on
/// the way to it (build scripts, macros) must not be.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let directory = project::root().join("target/fuzz");
    let mut cargo =
        project::cargo(&["build", "--locked", "--profile", "fuzz", "--package", PACKAGE, "--bins"]);
    cargo.args(["--target", &host, "--target-dir"]).arg(&directory);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    project::run(cargo)?;
    Ok(directory.join(host).join("fuzz").join(PACKAGE))
}

/// The name of this machine, as the compiler calls it.
fn host() -> Result<String> {
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("-vV")
        .output()
        .context("rustc cannot be run")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned);
    host.context("`rustc -vV` does not name its host")
}

/// Runs one target; whether it found nothing. What it learns is kept under `target`, and the corpus is only read.
fn hunt(binary: &Path, name: &str, corpus: &Path, seconds: u32) -> Result<bool> {
    let work = project::root().join("target/fuzz");
    let (learnt, faults) = (work.join("learnt").join(name), work.join("faults"));
    for directory in [&learnt, &faults] {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let status = Command::new(binary)
        .env("IPMP_FUZZ_TARGET", name)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={PATIENCE}"))
        .arg(format!("-artifact_prefix={}/{name}-", faults.display()))
        .args(["-max_len=8192", "-verbosity=0", "-print_final_stats=1"])
        .args([&learnt, corpus])
        .stdin(Stdio::null())
        .status()
        .with_context(|| binary.display().to_string())?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_corpus_and_every_corpus_a_target() {
        let root = project::root();
        let names = names(&root.join("fuzz/corpus")).unwrap();
        let source = std::fs::read_to_string(root.join("fuzz/src/targets/mod.rs")).unwrap();
        let mut targets: Vec<_> = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Target { name: \"")?.split('"').next())
            .collect();
        targets.sort();
        assert_eq!(names, targets);
    }
}
