//! What can stand between a checkout and its eBPF objects, each with its remedy.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

const SETUP: &str = "run `cargo xtask setup`";

/// Why the eBPF objects cannot be built. The text is one line, or two, and says what to do.
#[derive(Debug)]
pub enum Missing {
    /// No compiler with its library source; holds what was looked at and why it would not do.
    Compiler(Vec<String>),
    /// A compiler that cannot be used: older than the programs need, or with an LLVM that `bpf-linker` does not know.
    Unfit {
        /// The compiler.
        rustc: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The compiler's library source is not where it should be.
    Source {
        /// The compiler.
        rustc: PathBuf,
        /// The directory that should hold `library/`.
        source: PathBuf,
    },
    /// `bpf-linker` is not there.
    Linker(PathBuf),
    /// `bpf-linker` is there but does not run, as after an update of the LLVM library that it was built against.
    LinkerFails {
        /// The linker.
        linker: PathBuf,
        /// What it said.
        why: String,
    },
    /// `IPMP_BPF_OBJECTS` lacks an object.
    Object(PathBuf),
    /// A command failed.
    Command {
        /// What was being done.
        task: &'static str,
        /// The last lines of its output.
        output: String,
    },
    /// A file or directory could not be read or written.
    File {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    Home,
}

impl Missing {
    pub(crate) fn file(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File { path: path.as_ref().into(), error }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler(tried) => {
                write!(
                    f,
                    "no Rust compiler with its library source was found for the eBPF programs: {SETUP}"
                )?;
                if !tried.is_empty() {
                    write!(f, " (looked at {})", tried.join("; "))?;
                }
                Ok(())
            }
            Self::Unfit { rustc, why } => {
                write!(f, "{} cannot compile the eBPF programs: {why}; {SETUP}", rustc.display())
            }
            Self::Source { rustc, source } => write!(
                f,
                "the library source of {} is not in {}: {SETUP}, or set IPMP_BPF_RUST_SRC",
                rustc.display(),
                source.display()
            ),
            Self::Linker(path) => {
                write!(f, "bpf-linker is not at {}: {SETUP}, or set IPMP_BPF_LINKER", path.display())
            }
            Self::LinkerFails { linker, why } => {
                write!(f, "{} does not run ({why}): {SETUP}, which builds it again", linker.display())
            }
            Self::Object(path) => write!(f, "IPMP_BPF_OBJECTS is set, but {} is not there", path.display()),
            Self::Command { task, output } => write!(f, "{task} failed:\n{output}"),
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Home => {
                write!(
                    f,
                    "neither XDG_CACHE_HOME nor HOME is set: set one, so that there is a place for the cache"
                )
            }
        }
    }
}

impl Error for Missing {}
