//! The processor architectures that ipmp is built for, on this machine or by a cross compiler.

use crate::setup::Setup;
use crate::{debian, project, unpacked};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An architecture, by its name in Rust, in RPM and in ELF files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Architecture {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

impl Architecture {
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The name in Debian.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The name of Rust's target.
    pub fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }

    fn is_of_machine(self) -> bool {
        self.name() == env::consts::ARCH
    }

    /// Those of other machines than this one.
    pub fn others() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|one| !one.is_of_machine())
    }

    /// A program of the GNU toolchain that processes files of this architecture.
    pub fn gnu(self, program: &str) -> String {
        if self.is_of_machine() { program.into() } else { format!("{}-linux-gnu-{program}", self.name()) }
    }

    /// The directory of the C library of the cross compiler.
    fn libraries(self) -> PathBuf {
        format!("/usr/{}-linux-gnu", self.name()).into()
    }

    /// The programs of this architecture, built with optimisation: their directory.
    pub fn release_binaries(self, setup: &Setup) -> Result<PathBuf> {
        if self.is_of_machine() {
            return project::release_binaries();
        }
        self.add_library(setup)?;
        if debian::is_debian() {
            setup.ensure(match self {
                Self::X86_64 => debian::CROSS_X86_64,
                Self::Aarch64 => debian::CROSS_AARCH64,
            })?;
        }
        let linker = self.gnu("gcc");
        ensure!(
            has_program(&linker),
            "there is no {linker}: install the GNU cross compiler for {}, or make the packages of this machine's architecture \
             alone: cargo xtask dist --architecture {}",
            self.name(),
            env::consts::ARCH
        );
        project::release_binaries_for(&self.target(), &linker)
    }

    /// Gets Rust's standard library for this architecture, from rustup.
    pub fn add_library(self, setup: &Setup) -> Result<()> {
        let target = self.target();
        let mut print = Command::new("rustc");
        print.current_dir(project::root()).args(["--print", "target-libdir", "--target", &target]);
        let output = print.output().context("rustc cannot be run")?;
        if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
            return Ok(());
        }
        println!("setup: rustup target add {target}");
        setup.agree()?;
        let mut rustup = Command::new("rustup");
        rustup.current_dir(project::root()).args(["target", "add", &target]);
        project::run(rustup).with_context(|| {
            format!(
                "Rust's standard library for {target} is missing: install it, or use a toolchain of rustup, which has it"
            )
        })
    }

    /// Runs a program with one argument, by QEMU if it is of another architecture, and returns what it prints; none where
    /// there is no QEMU.
    pub fn run(self, program: &Path, argument: &str, setup: &Setup) -> Result<Option<String>> {
        let mut command = if self.is_of_machine() {
            Command::new(program)
        } else if self == Self::Aarch64 && debian::is_debian() {
            let mut qemu = Command::new(setup.unpack(&unpacked::QEMU_USER)?.bin().join("qemu-aarch64"));
            qemu.arg("-L").arg(self.libraries()).arg(program);
            qemu
        } else {
            return Ok(None);
        };
        let output = command.arg(argument).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("{} cannot be run", program.display()))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("{} {argument} failed ({}): {errors}", program.display(), output.status);
        }
        Ok(Some(String::from_utf8_lossy(&output.stdout).trim().into()))
    }
}

fn has_program(name: &str) -> bool {
    let mut command = Command::new(name);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
