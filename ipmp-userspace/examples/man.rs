//! Writes man pages and shell completions into a directory: `cargo xtask man DIRECTORY`. An example, and not a part of the
//! binaries, so that they need not carry what generates them.

use anyhow::{Context, Result};
use clap_complete::Shell;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let directory = PathBuf::from(env::args_os().nth(1).context("the directory to write to is missing")?);
    let (pages, completions) = (directory.join("man1"), directory.join("completions"));
    make(&pages)?;
    make(&completions)?;
    let mut command = ipmp::cli::command();
    clap_mangen::generate_to(command.clone(), &pages)
        .with_context(|| format!("{} cannot be written", pages.display()))?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "ipmpctl", &completions)
            .with_context(|| format!("{} cannot be written", completions.display()))?;
    }
    Ok(())
}

fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))
}
