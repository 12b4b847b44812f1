//! Set-up, demo, tests and benchmarks of ipmp: `cargo xtask help`.

mod ebpf;
mod project;

use clap::{Parser, Subcommand};

/// Set-up, demo, tests and benchmarks of ipmp.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ebpf(ebpf::Ebpf),
}

fn main() -> anyhow::Result<()> {
    match Xtask::parse().command {
        Command::Ebpf(command) => command.run(),
    }
}
