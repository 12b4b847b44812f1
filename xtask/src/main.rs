//! Set-up, demo, tests, benchmarks and packages of ipmp: `cargo xtask help`.
//!
//! One file a command; the rest is what they share: [`project`] (paths, cargo), [`root`] (how to become root), [`debian`]
//! (packages), [`tool`] (programs from crates.io), [`architecture`] (programs for other processors).

mod architecture;
mod card;
mod debian;
mod demo;
mod dist;
mod ebpf;
mod fuzz;
mod lint;
mod man;
mod project;
mod root;
mod setup;
mod test;
mod tool;
mod unpacked;
mod vm;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Set-up, demo, tests and benchmarks of ipmp
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Setup),
    Demo(demo::Demo),
    Test(test::Test),
    Bench(demo::Bench),
    Fuzz(fuzz::Fuzz),
    Vm(vm::Vm),
    Lint(lint::Lint),
    Ebpf(ebpf::Ebpf),
    Man(man::Man),
    Dist(dist::Dist),
    Card(card::Card),
}

fn main() -> ExitCode {
    let command = Xtask::parse().command;
    run(command).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    if matches!(command, Command::Demo(_) | Command::Test(_) | Command::Bench(_)) {
        root::ensure_mount()?;
    }
    match command {
        Command::Setup(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Demo(command) => command.run(),
        Command::Test(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Fuzz(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Vm(command) => command.run(),
        Command::Lint(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Ebpf(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Man(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Dist(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Card(command) => command.run().map(|()| ExitCode::SUCCESS),
    }
}
