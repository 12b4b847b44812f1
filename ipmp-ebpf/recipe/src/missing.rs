//! What can stand between a checkout and its eBPF objects, each with its remedy.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

const SETUP: &str = "run `cargo xtask setup`";

/// Why the eBPF objects cannot be built. The text is one line, or two, and says what to do.
#[derive(Debug)]
pub enum Missing {
    /// No compiler with its library source; holds each that was tried and why it cannot be used.
    Compiler(Vec<String>),
    /// A compiler that cannot be used: too old, without its library source, or with an LLVM that `bpf-linker` does not know.
    Unfit {
        /// The compiler.
        rustc: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The environment variable that names it, if one does.
        named_by: Option<&'static str>,
    },
    /// `bpf-linker` is not there, or does not run, as after an update of the LLVM library that it was built against.
    Linker {
        /// The linker.
        linker: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The environment variable that names it, if one does.
        named_by: Option<&'static str>,
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

/// What setup found is its to repair; what a variable names is the user's.
fn remedy(named_by: Option<&'static str>) -> String {
    named_by.map_or_else(|| SETUP.into(), |name| format!("correct or unset {name}"))
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler(tried) => {
                let tried = tried.join("; ");
                write!(
                    f,
                    "no Rust compiler with its library source for the eBPF programs: {SETUP} (tried: {tried})"
                )
            }
            Self::Unfit { rustc, why, named_by } => {
                let (rustc, remedy) = (rustc.display(), remedy(*named_by));
                write!(f, "{rustc} cannot compile the eBPF programs: {why}: {remedy}")
            }
            Self::Linker { linker, why, named_by } => {
                let (linker, remedy) = (linker.display(), remedy(*named_by));
                write!(f, "{linker} cannot link the eBPF programs: {why}: {remedy}")
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
