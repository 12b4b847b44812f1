//! Writes man pages and shell completions into a directory: `cargo xtask man DIRECTORY`. An example, so that the binaries do
//! not contain the generators.

mod file_formats;
mod page;
mod solaris;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use ipmp::daemon;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let directory = PathBuf::from(env::args_os().nth(1).context("expected a directory")?);
    let commands = create(&directory.join("man1"))?;
    // `ipmpctl help VERB` needs no page of its own.
    let command = ipmp::cli::command().disable_help_subcommand(true);
    let command = command.mut_subcommands(|verb| verb.disable_help_subcommand(true));
    clap_mangen::generate_to(command, &commands)
        .with_context(|| format!("cannot write {}", commands.display()))?;
    let completions = create(&directory.join("completions"))?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut ipmp::cli::command(), "ipmpctl", &completions)
            .with_context(|| format!("cannot write {}", completions.display()))?;
    }
    for page in [solaris::ipmpstat(), solaris::if_mpadm(), solaris::ipmp_ifconfig()] {
        page.write(&directory)?;
    }
    for page in [file_formats::configuration(), file_formats::mpathd()] {
        page.write(&directory)?;
    }
    daemon_page(daemon::Arguments::command(), &directory)
}

/// `ipmpd(8)`: clap's generator gives every page of a command section 1.
fn daemon_page(command: Command, directory: &Path) -> Result<()> {
    let path = create(&directory.join("man8"))?.join("ipmpd.8");
    let mut page = Vec::new();
    clap_mangen::Man::new(command).section("8").render(&mut page).context("ipmpd.8")?;
    fs::write(&path, page).with_context(|| path.display().to_string())
}

fn create(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory.into())
}
