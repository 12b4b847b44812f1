//! Discovery: which compiler has its library source at hand.

use crate::Missing;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The major versions of LLVM that `bpf-linker` can be built with, each by its feature `llvm-MAJOR`.
const LLVM: &[u32] = &[21, 22, 23];

/// A compiler, its library source, and its version.
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
        if let Some(rustc) = set(RUSTC) {
            let rustc = Path::new(&rustc);
            return Self::at(rustc).map_err(|why| Missing::Unfit {
                rustc: rustc.into(),
                why,
                named_by: Some(RUSTC),
            });
        }
        let mut candidates = rustup_toolchains().into_iter().map(|t| t.join("bin/rustc")).collect::<Vec<_>>();
        candidates.push("/usr/bin/rustc".into());
        let mut tried = Vec::new();
        for rustc in candidates {
            match Self::at(&rustc) {
                Ok(found) => return Ok(found),
                Err(why) => tried.push(format!("{}: {why}", rustc.display())),
            }
        }
        Err(Missing::Compiler(tried))
    }

    /// The oldest release that the programs are compiled with.
    pub const LEAST: &str = env!("CARGO_PKG_RUST_VERSION");

    /// Whether a release, or a Debian version of one such as `1.96.0+dfsg1-1`, is [`Compiler::LEAST`] or later.
    #[must_use]
    pub fn is_recent(release: &str) -> bool {
        numbers(release) >= numbers(Self::LEAST)
    }

    /// The compiler at `rustc` if it can be used; the error is the reason why not.
    fn at(rustc: &Path) -> Result<Self, String> {
        if !rustc.exists() {
            return Err("it is not there".into());
        }
        let (source, named) = match set(RUST_SRC) {
            Some(source) => (source.into(), format!(", which {RUST_SRC} names")),
            None => {
                let sysroot = output(rustc, &["--print", "sysroot"])?;
                (Path::new(sysroot.trim()).join("lib/rustlib/src/rust"), String::new())
            }
        };
        if !source.join(CORE).is_file() {
            return Err(format!("no library source in {}{named}", source.display()));
        }
        let version = output(rustc, &["-vV"])?;
        let field = |key: &str| {
            let line = version.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(": "));
            line.ok_or_else(|| format!("`rustc -vV` does not tell its {key}")).map(str::to_owned)
        };
        let release = field("release")?;
        let commit = field("commit-hash")?;
        let llvm = field("LLVM version")?;
        let llvm = parse_llvm(&llvm).ok_or_else(|| format!("it names its LLVM {llvm:?}"))?;
        if !Self::is_recent(&release) {
            return Err(format!("it is Rust {release}, and {} is needed", Self::LEAST));
        }
        if !LLVM.contains(&llvm.major) {
            return Err(format!("bpf-linker cannot be built with its LLVM {llvm}"));
        }
        // Debian's source says which version it is; library and compiler must be of the same one.
        if let Ok(version) = fs::read_to_string(source.join("src/version"))
            && version.trim() != release
        {
            return Err(format!("it is Rust {release}, but {} is of {}", source.display(), version.trim()));
        }
        Ok(Self { rustc: rustc.into(), source, release, commit, llvm })
    }

    /// The root file of the core library.
    #[must_use]
    pub fn core(&self) -> PathBuf {
        self.source.join(CORE)
    }
}

const RUSTC: &str = "IPMP_BPF_RUSTC";
const RUST_SRC: &str = "IPMP_BPF_RUST_SRC";
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
            .unwrap_or("it fails")
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
        assert!(Compiler::is_recent("1.96.0+dfsg1-1~deb12u2"));
        assert!(!Compiler::is_recent("1.85.0+dfsg3-1~deb12u3"));
        assert!(!Compiler::is_recent("(none)"));
    }

    #[test]
    fn llvm_is_read_from_what_rustc_says() {
        assert_eq!(parse_llvm("22.1.8"), Some(LlvmVersion { major: 22, minor: 1 }));
        assert_eq!(parse_llvm("unknown"), None);
    }

    #[test]
    fn what_is_no_compiler_is_refused() {
        assert_eq!(Compiler::at(Path::new("/nonexistent/rustc")).unwrap_err(), "it is not there");
        assert_eq!(Compiler::at(Path::new("/bin/false")).unwrap_err(), "it fails");
    }
}
