//! `cargo xtask demo` and `cargo xtask bench`: set-up, build, and a binary of the lab run as root.

use crate::setup::Setup;
use crate::vm::{Kernel, Machine};
use crate::{debian, project, root, unpacked};
use anyhow::{Context, Result};
use clap::Args;
use std::ffi::OsStr;
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
    /// Measure in a virtual machine with this kernel, 6.1 or 6.12, which has bonds and teams. It emulates the processors, so that
    /// only ratios within a run are meaningful.
    #[arg(long)]
    kernel: Option<Kernel>,
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
        match run(&binaries, &binary, &args, None)?.code() {
            Some(NO_BONDS) => in_machine(&setup, &binaries, &binary, args),
            code => Ok(ExitCode::from(code.and_then(|code| code.try_into().ok()).unwrap_or(1))),
        }
    }
}

impl Bench {
    pub fn run(self) -> Result<ExitCode> {
        let setup = Setup { yes: self.yes };
        let (binaries, binary) = prepare("ipmp-bench", &setup)?;
        let programs = if debian::is_debian() { vec![setup.unpack(&unpacked::PEERS)?] } else { Vec::new() };
        let path = unpacked::path(&programs);
        let Some(kernel) = self.kernel else {
            return Ok(project::exit_code(run(&binaries, &binary, &self.args, Some(&path))?));
        };
        let machine = Machine::prepare(kernel, &[], &setup)?.patient();
        self.in_machine(&machine, &binaries, &binary, text(path.as_ref())?)
    }

    /// What the guest writes is discarded, so the JSON comes with its output.
    fn in_machine(
        &self,
        machine: &Machine,
        binaries: &Path,
        binary: &Path,
        path: String,
    ) -> Result<ExitCode> {
        let mut args = self.args.clone();
        let file = args.iter().position(|arg| arg == "--json").and_then(|option| args.get_mut(option + 1));
        let file = file.map(|file| std::mem::replace(file, "-".into())).filter(|file| file != "-");
        let command: Vec<String> = [text(binary)?].into_iter().chain(args).collect();
        let variables = [("IPMP_BIN_DIR", text(binaries)?), ("PATH", path)];
        let Some(file) = file else { return machine.run(&command, &variables).map(ExitCode::from) };
        let (output, code) = machine.output(&command, &variables)?;
        let json = object(&output).context("the benchmark printed no JSON")?;
        std::fs::write(&file, json).with_context(|| format!("{file} cannot be written"))?;
        Ok(ExitCode::from(code))
    }
}

/// The JSON object among other lines, with the end of its last one.
fn object(output: &str) -> Option<&str> {
    let start = output.find("\n{\n")? + 1;
    let end = start + output[start..].find("\n}\n")? + 3;
    Some(&output[start..end])
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("a path is not UTF-8")
}

/// The built programs: their directory, and this binary of the lab.
fn prepare(name: &str, setup: &Setup) -> Result<(PathBuf, PathBuf)> {
    setup.ensure(debian::LAB)?;
    project::release_binaries_and(name)
}

fn run(binaries: &Path, binary: &Path, args: &[String], path: Option<&OsStr>) -> Result<ExitStatus> {
    let mut variables = vec![("IPMP_BIN_DIR", binaries.as_os_str())];
    variables.extend(path.map(|path| ("PATH", path)));
    let mut command = root::command(binary, &variables);
    command.args(args).status().with_context(|| format!("{} cannot be run", binary.display()))
}

/// Plays a chapter on another kernel.
fn in_machine(setup: &Setup, binaries: &Path, binary: &Path, args: Vec<String>) -> Result<ExitCode> {
    println!("\nBooting Linux {}, which has bonds …", Kernel::V6_12);
    let command: Vec<String> = [text(binary)?].into_iter().chain(args).collect();
    let code =
        Machine::prepare(Kernel::V6_12, &[], setup)?.run(&command, &[("IPMP_BIN_DIR", text(binaries)?)])?;
    Ok(ExitCode::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_found_in_the_output_of_the_guest() {
        let output = "ipmp-bench: waiting\nLinux 6.12\n{\n  \"a\": {\n  }\n}\n";
        assert_eq!(object(output), Some("{\n  \"a\": {\n  }\n}\n"));
        assert_eq!(object("ipmp-bench: failed\n"), None);
    }
}
