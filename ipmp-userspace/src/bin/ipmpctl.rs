//! `ipmpctl`, and the commands of Solaris that links to it provide: `if_mpadm` ([`ipmp::cli::if_mpadm`]) and
//! `ipmp-ifconfig` or `ifconfig` ([`ipmp::ifconfig`]). Otherwise it is `ipmpctl`, whatever its name is: see [`ipmp::cli`].

use std::{env, ffi::OsString, io, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name()).unwrap_or_default();
    let (out, err) = (&mut io::stdout(), &mut io::stderr());
    let code = match name.to_str() {
        Some("if_mpadm") => ipmp::cli::if_mpadm::run(arguments, out, err),
        Some("ipmp-ifconfig" | "ifconfig") => ipmp::ifconfig::run(arguments, out, err),
        _ => ipmp::cli::run(arguments, out, err).code(),
    };
    ExitCode::from(code)
}
