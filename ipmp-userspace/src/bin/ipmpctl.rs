//! `ipmpctl`: see [`ipmp::cli`].

use std::{io, process::ExitCode};

fn main() -> ExitCode {
    let exit = ipmp::cli::run(std::env::args_os(), &mut io::stdout(), &mut io::stderr());
    ExitCode::from(exit.code())
}
