//! `cargo xtask dist`: packages of Debian and RPM, a tarball, debug symbols, a bill of materials and checksums.
//!
//! [`tree`] makes the directory tree that all of them contain, [`package`] packs it, [`check`] reads the packages again.
//! [`crates`] finds what is linked into the programs, for [`licences`] and [`sbom`]; [`elf`] reads what they need of a system.

mod check;
mod crates;
mod elf;
mod licences;
mod package;
mod sbom;
mod tree;

use crate::architecture::Architecture;
use crate::project;
use crate::setup::Setup;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Make packages for Debian and RPM, a tarball, debug symbols, a bill of materials and checksums in target/dist
#[derive(Args)]
pub struct Dist {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Build for this architecture only; repeatable [default: all].
    #[arg(long, value_name = "NAME", conflicts_with = "programs")]
    architecture: Vec<Architecture>,
    /// Package the programs of this directory, instead of building them.
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
    /// Version of the packages, for a test of an upgrade [default: that of the workspace].
    #[arg(long, value_name = "VERSION")]
    package_version: Option<String>,
    /// Also check the .deb with lintian, which is unpacked into the cache.
    #[arg(long)]
    lintian: bool,
}

/// What is made, and where.
struct Release {
    version: String,
    architecture: Architecture,
    /// The directory of the results.
    directory: PathBuf,
    /// The directory with [`tree`] and what it is packed by.
    work: PathBuf,
    /// Time of the commit, in seconds: of all files.
    time: String,
}

/// The programs of one architecture.
struct Programs {
    directory: PathBuf,
    architecture: Architecture,
    /// Libraries that they need, as RPM names them.
    requires: BTreeSet<String>,
}

impl Programs {
    /// Reads them, and fails if one of them would not run on all supported systems.
    fn of(directory: PathBuf) -> Result<Self> {
        let mut architectures = Vec::new();
        let mut requires = BTreeSet::new();
        for name in project::PROGRAMS {
            let program = elf::read(&directory.join(name))?;
            requires.extend(program.requires);
            architectures.push(program.architecture);
        }
        architectures.dedup();
        let [architecture] = architectures[..] else {
            anyhow::bail!("the programs in {} are of different architectures", directory.display())
        };
        Ok(Self { directory, architecture, requires })
    }

    /// Runs them as far as they print their version.
    fn check_version(&self, setup: &Setup) -> Result<()> {
        for name in ["ipmpd", "ipmpctl"] {
            let program = self.directory.join(name);
            let expected = format!("{name} {}", env!("CARGO_PKG_VERSION"));
            match self.architecture.run(&program, "--version", setup)? {
                Some(text) => {
                    ensure!(text == expected, "{} printed {text:?} as its version", program.display());
                    println!("dist: {} ({}): {text}", program.display(), self.architecture.name());
                }
                None => println!("dist: {} was not run: this machine has no QEMU for it", program.display()),
            }
        }
        Ok(())
    }
}

impl Dist {
    /// The packages of these programs.
    pub fn of(programs: PathBuf, yes: bool) -> Self {
        let architecture = Vec::new();
        Self { yes, architecture, programs: Some(programs), package_version: None, lintian: false }
    }

    /// Compares what the packages will contain with the list, without building the programs.
    pub fn check_list() -> Result<()> {
        let generated = project::target_directory()?.join("man");
        clear(&generated)?;
        check::same(&tree::planned(&generated)?, &check::expected()?)
    }

    pub fn run(self) -> Result<()> {
        let setup = Setup { yes: self.yes };
        let built = self.programs(&setup)?;
        let directory = project::target_directory()?.join("dist");
        clear(&directory)?;
        let version = self.package_version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").into());
        for programs in built {
            let release = Release {
                version: version.clone(),
                architecture: programs.architecture,
                work: directory.join("work"),
                time: commit_time()?,
                directory: directory.clone(),
            };
            let deb = release.make(&programs, &setup)?;
            if self.lintian {
                check::lintian(&deb, &setup)?;
            }
        }
        package::checksums(&directory)?;
        println!("dist: {}", directory.display());
        Ok(())
    }

    /// The programs of all architectures: nothing is packaged before all of them are built and checked.
    fn programs(&self, setup: &Setup) -> Result<Vec<Programs>> {
        let all = if self.architecture.is_empty() { &Architecture::ALL[..] } else { &self.architecture };
        let built = match &self.programs {
            Some(directory) => vec![Programs::of(directory.clone())?],
            None => {
                let build = |one: &Architecture| Programs::of(one.release_binaries(setup)?);
                all.iter().map(build).collect::<Result<_>>()?
            }
        };
        for programs in &built {
            programs.check_version(setup)?;
        }
        Ok(built)
    }
}

impl Release {
    /// Makes all files of one architecture, and returns the package of Debian.
    fn make(&self, programs: &Programs, setup: &Setup) -> Result<PathBuf> {
        let crates = crates::linked(self.architecture)?;
        let sbom = sbom::document(&self.version, &crates)?;
        let tree = tree::make(self, &programs.directory, &licences::text(&crates)?)?;
        check::same(&tree.files, &check::expected()?).context("the tree of all packages")?;
        let name = format!("ipmp-{}-{}", self.version, self.architecture.name());
        fs::write(self.directory.join(format!("{name}.cdx.json")), sbom)?;
        package::tarball(self, &tree.root, &self.directory.join(format!("{name}.tar.xz")))?;
        package::tarball(self, &tree.debug, &self.directory.join(format!("{name}-debug.tar.xz")))?;
        let manifest = package::manifest(self, &tree, &programs.requires)?;
        let deb = package::deb(self, &manifest, setup)?;
        let rpm = package::rpm(self, &manifest, setup)?;
        check::deb(&deb, &tree.files)?;
        check::rpm(&rpm, &tree.files, setup)?;
        fs::remove_dir_all(&self.work).with_context(|| self.work.display().to_string())?;
        Ok(deb)
    }
}

fn clear(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

/// What a program prints.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{program} cannot be run"))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{program} failed ({}): {errors}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{program} wrote something that is not UTF-8"))
}

fn commit_time() -> Result<String> {
    let mut git = Command::new("git");
    git.current_dir(project::root()).args(["log", "-1", "--format=%ct"]);
    Ok(output(&mut git)?.trim().into())
}
