//! `core` for the eBPF target, compiled once per compiler.

use crate::command::run;
use crate::flags::{CODEGEN, MISALIGNED};
use crate::{Missing, TARGET, Toolchain, cache};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Grows whenever the way the sysroot is made changes, so that an old one is not taken for a new one.
const VERSION: u32 = 1;

/// aya-ebpf brings `memcpy` and its kin; rustc wants a crate of this name nevertheless.
const COMPILER_BUILTINS: &str = "#![no_std]\n#![feature(compiler_builtins)]\n#![compiler_builtins]\n";

impl Toolchain {
    /// The sysroot with `core` for the target; made the first time, which takes about 20 seconds.
    ///
    /// Compiling `core` here and not by `-Z build-std` keeps it out of the build directory: an edit in the eBPF crate, a
    /// `cargo clean` and a second checkout all find it ready.
    ///
    /// # Errors
    ///
    /// [`Missing`], when the source does not compile or the cache cannot be written.
    pub fn sysroot(&self) -> Result<PathBuf, Missing> {
        cache::entry(&self.sysroot_name(), |dir| self.make_sysroot(dir))
    }

    /// Whether [`Toolchain::sysroot`] is made already.
    ///
    /// # Errors
    ///
    /// [`Missing::Home`].
    pub fn has_sysroot(&self) -> Result<bool, Missing> {
        Ok(cache::directory()?.join(self.sysroot_name()).is_dir())
    }

    fn sysroot_name(&self) -> String {
        format!("sysroot-{VERSION}-{}-{}", self.compiler.release, self.compiler.commit)
    }

    fn make_sysroot(&self, dir: &Path) -> Result<(), Missing> {
        self.check_features()?;
        let libraries = dir.join("lib/rustlib").join(TARGET).join("lib");
        fs::create_dir_all(&libraries).map_err(Missing::file(&libraries))?;
        let builtins = dir.join("compiler_builtins.rs");
        fs::write(&builtins, COMPILER_BUILTINS).map_err(Missing::file(&builtins))?;
        self.compile_library("core", &self.compiler.core(), dir, &libraries)?;
        self.compile_library("compiler_builtins", &builtins, dir, &libraries)
    }

    fn compile_library(&self, name: &str, root: &Path, sysroot: &Path, out: &Path) -> Result<(), Missing> {
        let mut rustc = Command::new(&self.compiler.rustc);
        rustc
            .env("RUSTC_BOOTSTRAP", "1")
            .arg("--sysroot")
            .arg(sysroot)
            .args(["--edition", "2024", "--crate-type", "rlib", "--crate-name", name, "--target", TARGET])
            .args(["-Copt-level=3", "-Cpanic=abort", "-Zforce-unstable-if-unmarked", "--cap-lints", "allow"])
            .args(CODEGEN)
            .arg("--out-dir")
            .arg(out)
            .arg(root);
        run(rustc, "compiling the core library for eBPF")
    }

    /// An unknown feature is only a warning to rustc, and the programs would come out slower or not at all.
    fn check_features(&self) -> Result<(), Missing> {
        let rustc = &self.compiler.rustc;
        let output = Command::new(rustc)
            .args(["--print", "target-features", "--target", TARGET])
            .output()
            .map_err(Missing::file(rustc))?;
        if String::from_utf8_lossy(&output.stdout).contains(MISALIGNED) {
            return Ok(());
        }
        let why = format!("its LLVM {} has no target feature {MISALIGNED}", self.compiler.llvm);
        Err(Missing::Unfit { rustc: rustc.clone(), why, named_by: None })
    }
}
