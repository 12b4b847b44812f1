//! Discovery: which compiler has its library source at hand.

use crate::{Missing, linker};
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A compiler, its library source, and what it says about itself.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// The path of `rustc`.
    pub rustc: PathBuf,
    /// The directory that holds `library/`.
    pub source: PathBuf,
    /// Its release, such as `1.96.0`.
    pub release: String,
    /// The commit it was made of; two compilers of one release can differ.
    pub commit: String,
    /// The LLVM it was built with, which `bpf-linker` must match.
    pub llvm: LlvmVersion,
}

/// A version of LLVM; bitcode is understood by the same major version, and by a later patch level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LlvmVersion {
    /// The 22 of 22.1.8.
    pub major: u32,
    /// The 1 of 22.1.8.
    pub minor: u32,
}

impl fmt::Display for LlvmVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Compiler {
    /// Finds the compiler: `IPMP_BPF_RUSTC`; else a rustup toolchain that has `rust-src`, the active one first, then stable; else
    /// Debian's, in `/usr/bin`.
    ///
    /// # Errors
    ///
    /// [`Missing`], whose text names the remedy.
    pub fn find() -> Result<Self, Missing> {
        if let Some(rustc) = set("IPMP_BPF_RUSTC") {
            return Self::at(Path::new(&rustc));
        }
        let mut tried = Vec::new();
        for toolchain in rustup_toolchains() {
            if !has_core(&toolchain.join(SOURCE)) {
                tried.push(format!("{} without rust-src", name(&toolchain)));
                continue;
            }
            match Self::at(&toolchain.join("bin/rustc")) {
                Ok(found) => return Ok(found),
                Err(error) => tried.push(error.to_string()),
            }
        }
        let debian = Path::new("/usr/bin/rustc");
        if debian.exists() {
            match Self::at(debian) {
                Ok(found) => return Ok(found),
                Err(error) => tried.push(error.to_string()),
            }
        } else {
            tried.push("no /usr/bin/rustc".into());
        }
        Err(Missing::Compiler(tried))
    }

    /// Takes the compiler at `rustc` if it can be used.
    fn at(rustc: &Path) -> Result<Self, Missing> {
        let unfit = |why: String| Missing::Unfit { rustc: rustc.into(), why };
        let version = output(rustc, &["-vV"]).map_err(unfit)?;
        let field = |key: &str| {
            let line = version.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(": "));
            line.ok_or_else(|| unfit(format!("`rustc -vV` does not tell its {key}"))).map(str::to_owned)
        };
        let release = field("release")?;
        let commit = field("commit-hash")?;
        let llvm = field("LLVM version")?;
        let llvm = parse_llvm(&llvm).ok_or_else(|| unfit(format!("it names its LLVM {llvm:?}")))?;
        let least = env!("CARGO_PKG_RUST_VERSION");
        if numbers(&release) < numbers(least) {
            return Err(unfit(format!("it is Rust {release}, and {least} is needed")));
        }
        if !linker::LLVM.contains(&llvm.major) {
            return Err(unfit(format!("bpf-linker {} does not know its LLVM {llvm}", linker::VERSION)));
        }
        let source = match set("IPMP_BPF_RUST_SRC") {
            Some(source) => source.into(),
            None => Path::new(output(rustc, &["--print", "sysroot"]).map_err(unfit)?.trim()).join(SOURCE),
        };
        if !has_core(&source) {
            return Err(Missing::Source { rustc: rustc.into(), source });
        }
        // Debian's source says which version it is; library and compiler must be of the same one.
        if let Ok(version) = fs::read_to_string(source.join("src/version"))
            && version.trim() != release
        {
            let why = format!("it is Rust {release}, but {} is of {}", source.display(), version.trim());
            return Err(unfit(why));
        }
        Ok(Self { rustc: rustc.into(), source, release, commit, llvm })
    }

    /// The root file of the core library.
    #[must_use]
    pub fn core(&self) -> PathBuf {
        self.source.join(CORE)
    }
}

const SOURCE: &str = "lib/rustlib/src/rust";
const CORE: &str = "library/core/src/lib.rs";

/// All toolchains of rustup, the active one first, then stable, then by name.
#[must_use]
pub fn rustup_toolchains() -> Vec<PathBuf> {
    let home =
        set("RUSTUP_HOME").map(PathBuf::from).or_else(|| Some(Path::new(&set("HOME")?).join(".rustup")));
    let Some(entries) = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok()) else {
        return Vec::new();
    };
    let active = set("RUSTUP_TOOLCHAIN").and_then(|t| t.into_string().ok()).unwrap_or_default();
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.join("bin/rustc").exists()).collect();
    found.sort_by_key(|path| {
        let name = name(path);
        let rank = if name == active { 0 } else { 1 + u8::from(!name.starts_with("stable")) };
        (rank, name)
    });
    found
}

fn has_core(source: &Path) -> bool {
    source.join(CORE).is_file()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn set(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|v| !v.is_empty())
}

fn output(program: &Path, args: &[impl AsRef<OsStr>]) -> Result<String, String> {
    let output = Command::new(program).args(args).output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr)
            .trim()
            .lines()
            .last()
            .unwrap_or("it failed")
            .into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_llvm(version: &str) -> Option<LlvmVersion> {
    let mut parts = version.split('.').map(str::parse);
    Some(LlvmVersion { major: parts.next()?.ok()?, minor: parts.next()?.ok()? })
}

/// The numbers of `1.97.0-nightly`: 1, 97, 0.
fn numbers(version: &str) -> Vec<u32> {
    version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.96.0") > numbers("1.95"));
        assert!(numbers("1.100.0") > numbers("1.97.0-nightly"));
        assert!(numbers("1.95.0-beta.3") >= numbers("1.95"));
        assert!(numbers("1.63.0") < numbers("1.95"));
    }

    #[test]
    fn llvm_is_read_from_what_rustc_says() {
        assert_eq!(parse_llvm("22.1.8"), Some(LlvmVersion { major: 22, minor: 1 }));
        assert_eq!(parse_llvm("unknown"), None);
    }

    #[test]
    fn a_path_that_is_no_compiler_is_named() {
        let error = Compiler::at(Path::new("/nonexistent/rustc")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/rustc cannot compile the eBPF programs: "), "{error}");
        assert!(error.contains("cargo xtask setup"), "{error}");
    }
}
