//! Writes man pages and shell completions into a directory: `cargo xtask man DIRECTORY`. An example, so that the binaries do
//! not contain the generators.

use anyhow::{Context, Result};
use clap_complete::Shell;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let directory = PathBuf::from(env::args_os().nth(1).context("expected a directory")?);
    let (pages, completions) = (directory.join("man1"), directory.join("completions"));
    create(&pages)?;
    create(&completions)?;
    let mut command = ipmp::cli::command();
    // `ipmpctl help VERB` needs no page of its own.
    clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &pages)
        .with_context(|| format!("cannot write {}", pages.display()))?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "ipmpctl", &completions)
            .with_context(|| format!("cannot write {}", completions.display()))?;
    }
    Ok(())
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}
