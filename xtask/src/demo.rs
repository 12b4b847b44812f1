//! `cargo xtask demo` and `cargo xtask bench`: set-up, build, and a binary of the lab run as root.

use crate::setup::Setup;
use crate::vm::{Kernel, Machine};
use crate::{debian, project, root};
use anyhow::{Context, Result};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

/// Exit status of `ipmp-demo` if the chapter needs a kernel with bonds.
const NO_BONDS: i32 = 77;

/// Play chapters of the IPMP tutorial in the lab: pull its cables under load, compare what is printed, show what was lost
#[derive(Args)]
pub struct Demo {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Only this chapter: `link`, `probe`, `persist`, `aggregate`, `logs`, `classic`, `targets` or `fdt`; all of them without it.
    ///
    /// `aggregate` needs bonds: without them in this kernel, it is played in a virtual machine.
    #[arg(long, value_name = "NAME")]
    chapter: Option<String>,
    /// Let probes find failures in half a second instead of ten.
    #[arg(long)]
    quick: bool,
}

/// Measure cost a packet, failover, throughput, idle groups and probing in the lab
#[derive(Args)]
pub struct Bench {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Arguments for the benchmarks.
    #[arg(last = true)]
    args: Vec<String>,
}

impl Demo {
    pub fn run(self) -> Result<ExitCode> {
        let setup = Setup { yes: self.yes };
        let chapter = self.chapter.into_iter().flat_map(|name| ["--chapter".to_owned(), name]);
        let quick = self.quick.then(|| "--quick".to_owned());
        let args: Vec<String> = chapter.chain(quick).collect();
        let (binaries, binary) = prepare("ipmp-demo", &setup)?;
        match run(&binaries, &binary, &args)?.code() {
            Some(NO_BONDS) => in_machine(&setup, &binaries, &binary, args),
            code => Ok(ExitCode::from(code.and_then(|code| code.try_into().ok()).unwrap_or(1))),
        }
    }
}

impl Bench {
    pub fn run(self) -> Result<ExitCode> {
        let (binaries, binary) = prepare("ipmp-bench", &Setup { yes: self.yes })?;
        Ok(project::exit_code(run(&binaries, &binary, &self.args)?))
    }
}

/// The built programs: their directory, and this binary of the lab.
fn prepare(name: &str, setup: &Setup) -> Result<(PathBuf, PathBuf)> {
    setup.ensure(debian::LAB)?;
    project::release_binaries_and(name)
}

fn run(binaries: &Path, binary: &Path, args: &[String]) -> Result<ExitStatus> {
    let mut command = root::command(binary, &[("IPMP_BIN_DIR", binaries.as_os_str())]);
    command.args(args).status().with_context(|| format!("{} cannot be run", binary.display()))
}

/// Plays a chapter on another kernel.
fn in_machine(setup: &Setup, binaries: &Path, binary: &Path, args: Vec<String>) -> Result<ExitCode> {
    println!("\nBooting Linux {}, which has bonds …", Kernel::V6_12);
    let path = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
    let command: Vec<String> = [path(binary)?].into_iter().chain(args).collect();
    let code =
        Machine::prepare(Kernel::V6_12, &[], setup)?.run(&command, &[("IPMP_BIN_DIR", path(binaries)?)])?;
    Ok(ExitCode::from(code))
}
