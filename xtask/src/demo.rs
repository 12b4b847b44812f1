//! `cargo xtask demo` and `cargo xtask bench`: set-up, build, and a binary of the lab run as root.

use crate::setup::Setup;
use crate::{debian, project, root};
use anyhow::{Context, Result};
use clap::Args;
use std::process::ExitCode;

/// Play chapters of the IPMP tutorial in the lab: pull its cables under load, compare what is printed, show what was lost
#[derive(Args)]
pub struct Demo {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Only this chapter, `link`, `probe`, `persist` or `classic`; all of them without it.
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
        let chapter = self.chapter.into_iter().flat_map(|name| ["--chapter".to_owned(), name]);
        let quick = self.quick.then(|| "--quick".to_owned());
        run("ipmp-demo", self.yes, &chapter.chain(quick).collect::<Vec<_>>())
    }
}

impl Bench {
    pub fn run(self) -> Result<ExitCode> {
        run("ipmp-bench", self.yes, &self.args)
    }
}

fn run(name: &str, yes: bool, args: &[String]) -> Result<ExitCode> {
    Setup { yes }.ensure(debian::LAB)?;
    let (binaries, binary) = project::release_binaries_and(name)?;
    let mut command = root::command(&binary, &[("IPMP_BIN_DIR", binaries.as_os_str())]);
    let status = command.args(args).status().with_context(|| format!("{name} cannot be run"))?;
    Ok(project::exit_code(status))
}
