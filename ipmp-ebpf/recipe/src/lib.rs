//! How `ipmp-ebpf` is compiled, and where its compiler is found.
//!
//! The eBPF programs need a `core` library for the target `bpfel-unknown-none`, which no Rust release ships compiled: the compiler
//! must come with its library source. A rustup toolchain with `rust-src` has both, and so have Debian's `rustc-web` and
//! `rust-web-src`. [`Compiler::find`] is the only place where the two differ; [`Toolchain::build`] is one recipe for all of them.
//!
//! What takes long is done once a machine and kept in [`cache::directory`]: `core` for the target ([`Toolchain::sysroot`]), and
//! `bpf-linker`, which `cargo xtask setup` installs there. Nothing here installs anything.
//!
//! Environment: `IPMP_BPF_RUSTC` names the compiler, `IPMP_BPF_RUST_SRC` the directory of its source that holds `library/`,
//! `IPMP_BPF_LINKER` the linker; `IPMP_BPF_OBJECTS` names a directory of objects built elsewhere, and nothing is compiled.

mod btf;
mod build;
pub mod cache;
mod command;
mod compiler;
mod flags;
pub mod linker;
mod missing;
mod sysroot;

pub use build::{DATAPATH_LOG, ENVIRONMENT, OBJECTS, Objects};
pub use compiler::{Compiler, LlvmVersion, rustup_toolchains};
pub use missing::Missing;

use std::path::PathBuf;

/// The target all programs are compiled for; every host that we know of is little-endian.
pub const TARGET: &str = "bpfel-unknown-none";

/// A compiler and the linker that understands its output.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// The compiler and its library source.
    pub compiler: Compiler,
    /// `bpf-linker`, built against the compiler's LLVM.
    pub linker: PathBuf,
}

impl Toolchain {
    /// Looks for a compiler and its linker, and says what to do when one is missing.
    ///
    /// # Errors
    ///
    /// [`Missing`], whose text names the remedy.
    pub fn find() -> Result<Self, Missing> {
        let compiler = Compiler::find()?;
        let linker = linker::find(&compiler)?;
        Ok(Self { compiler, linker })
    }
}
