//! `bpf-linker`: which version, and where it is kept.

use crate::{Compiler, LlvmVersion, Missing, cache};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that `cargo xtask setup` installs.
pub const VERSION: &str = "0.13.0";

/// The root directory of the linker for compilers of this LLVM: `bin/bpf-linker` is below it.
///
/// # Errors
///
/// [`Missing::Home`].
pub fn root(llvm: LlvmVersion) -> Result<PathBuf, Missing> {
    Ok(cache::directory()?.join(format!("bpf-linker-{VERSION}-llvm-{llvm}")))
}

/// Finds the linker for this compiler, and runs it once to see that it works.
///
/// # Errors
///
/// [`Missing::Linker`].
pub fn find(compiler: &Compiler) -> Result<PathBuf, Missing> {
    const LINKER: &str = "IPMP_BPF_LINKER";
    let (linker, named_by) = match env::var_os(LINKER).filter(|v| !v.is_empty()) {
        Some(path) => (path.into(), Some(LINKER)),
        None => (root(compiler.llvm)?.join("bin/bpf-linker"), None),
    };
    match works(&linker) {
        Ok(()) => Ok(linker),
        Err(why) => Err(Missing::Linker { linker, why, named_by }),
    }
}

/// Runs `linker --version`; the error is the reason why it cannot.
fn works(linker: &Path) -> Result<(), String> {
    if !linker.is_file() {
        return Err("it is not there".into());
    }
    let output = Command::new(linker).arg("--version").output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("it fails").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_broken_linkers_are_distinguished() {
        assert_eq!(works(Path::new("/nonexistent/bpf-linker")), Err("it is not there".into()));
        assert_eq!(works(Path::new("/bin/false")), Err("it fails".into()));
        assert_eq!(works(Path::new("/bin/true")), Ok(()));
    }
}
