//! `cargo xtask dist`: packages of Debian and RPM, a tarball, debug symbols, a bill of materials and checksums.
//!
//! [`tree`] makes the directory tree that all of them contain, [`package`] packs it, [`check`] reads the packages again.
//! [`crates`] finds what is linked into the programs, for [`licences`] and [`sbom`]; [`glibc`] reads which C library they need.

mod check;
mod crates;
mod glibc;
mod licences;
mod package;
mod sbom;
mod tree;

use crate::project;
use crate::setup::Setup;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Make packages for Debian and RPM, a tarball, debug symbols, a bill of materials and checksums in target/dist
#[derive(Args)]
pub struct Dist {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
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
    /// The directory of the results.
    directory: PathBuf,
    /// The directory with [`tree`] and what it is packed by.
    work: PathBuf,
    /// Time of the commit, in seconds: of all files.
    time: String,
}

impl Dist {
    /// The packages of these programs.
    pub fn of(programs: PathBuf, yes: bool) -> Self {
        Self { yes, programs: Some(programs), package_version: None, lintian: false }
    }

    /// Compares what the packages will contain with the list, without building the programs.
    pub fn check_list() -> Result<()> {
        let generated = project::target_directory()?.join("man");
        clear(&generated)?;
        check::same(&tree::planned(&generated)?, &check::expected()?)
    }

    pub fn run(self) -> Result<()> {
        let setup = Setup { yes: self.yes };
        let programs = match self.programs {
            Some(directory) => directory,
            None => project::release_binaries()?,
        };
        for program in project::PROGRAMS {
            glibc::check(&programs.join(program))?;
        }
        let directory = project::target_directory()?.join("dist");
        clear(&directory)?;
        let version = self.package_version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").into());
        let release = Release { version, work: directory.join("work"), time: commit_time()?, directory };
        let crates = crates::linked()?;
        let sbom = sbom::document(&release.version, &crates)?;
        let tree = tree::make(&release, &programs, &licences::text(&crates)?)?;
        check::same(&tree.files, &check::expected()?).context("the tree of all packages")?;
        let name = format!("ipmp-{}-{ARCH}", release.version);
        fs::write(release.directory.join(format!("{name}.cdx.json")), sbom)?;
        package::tarball(&release, &tree.root, &release.directory.join(format!("{name}.tar.xz")))?;
        package::tarball(&release, &tree.debug, &release.directory.join(format!("{name}-debug.tar.xz")))?;
        let manifest = package::manifest(&release, &tree)?;
        let deb = package::deb(&release, &manifest, &setup)?;
        let rpm = package::rpm(&release, &manifest, &setup)?;
        check::deb(&deb, &tree.files)?;
        check::rpm(&rpm, &tree.files, &setup)?;
        if self.lintian {
            check::lintian(&deb, &setup)?;
        }
        fs::remove_dir_all(&release.work).with_context(|| release.work.display().to_string())?;
        package::checksums(&release.directory)?;
        println!("dist: {}", release.directory.display());
        Ok(())
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
