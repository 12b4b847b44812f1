//! `cargo xtask man`: man pages and shell completions, generated from the definition of the command line.

use crate::project;
use anyhow::{Context, Result};
use clap::Args;
use std::path::{Path, PathBuf, absolute};

/// Write man pages and shell completions into a directory
#[derive(Args)]
pub struct Man {
    /// Directory in which man1/, man5/, man8/ and completions/ are created
    directory: PathBuf,
}

impl Man {
    pub fn run(self) -> Result<()> {
        let directory = absolute(&self.directory).with_context(|| format!("{}", self.directory.display()))?;
        generate(&directory)?;
        println!("man: {}", directory.display());
        Ok(())
    }
}

/// Writes the man pages and the completions into an absolute directory.
pub fn generate(directory: &Path) -> Result<()> {
    // By cargo, so that xtask does not depend on the eBPF programs.
    let mut cargo =
        project::cargo(&["run", "--quiet", "--locked", "--package", "ipmp-userspace", "--example", "man"]);
    cargo.arg("--").arg(directory);
    project::run(cargo)
}
