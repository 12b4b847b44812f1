//! `bpf-linker`: which version, and where it is kept.

use crate::{Compiler, LlvmVersion, Missing, cache};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that `cargo xtask setup` installs.
pub const VERSION: &str = "0.13.0";

/// The major versions of LLVM that it can be built against, each by the feature `llvm-MAJOR`.
pub const LLVM: &[u32] = &[21, 22, 23];

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
/// [`Missing::Linker`] and [`Missing::LinkerFails`].
pub fn find(compiler: &Compiler) -> Result<PathBuf, Missing> {
    let linker = match env::var_os("IPMP_BPF_LINKER").filter(|v| !v.is_empty()) {
        Some(path) => path.into(),
        None => root(compiler.llvm)?.join("bin/bpf-linker"),
    };
    works(&linker)?;
    Ok(linker)
}

/// Runs `linker --version`.
fn works(linker: &Path) -> Result<(), Missing> {
    if !linker.is_file() {
        return Err(Missing::Linker(linker.into()));
    }
    let fails = |why| Missing::LinkerFails { linker: linker.into(), why };
    let output = Command::new(linker).arg("--version").output().map_err(|e| fails(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(fails(said.lines().next().unwrap_or("it says nothing").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_linker_and_a_broken_one_are_told_apart() {
        assert!(matches!(works(Path::new("/nonexistent/bpf-linker")), Err(Missing::Linker(_))));
        assert!(matches!(works(Path::new("/bin/false")), Err(Missing::LinkerFails { .. })));
    }
}
