//! Programs from crates.io, which are built into the cache.

use crate::project;
use crate::setup::Setup;
use anyhow::{Context, Result};
use ipmp_ebpf_recipe::cache;
use std::path::PathBuf;

/// A program from crates.io.
pub struct Tool {
    /// The name of its package.
    pub package: &'static str,
    /// The name of the program.
    pub binary: &'static str,
    /// The version of the package.
    pub version: &'static str,
    /// Further arguments of `cargo install`: features.
    pub arguments: &'static [&'static str],
}

impl Tool {
    /// The path of the program, which is built into the cache the first time: without optimisation, as it is built more often
    /// than it has much to do.
    pub fn path(&self, setup: &Setup) -> Result<PathBuf> {
        let Self { package, binary, version, arguments } = self;
        let root = cache::directory()?.join(format!("{package}-{version}"));
        let path = root.join("bin").join(binary);
        if !path.is_file() {
            println!("setup: {package} {version} will be built into {} (one or two minutes)", root.display());
            setup.agree()?;
            let mut cargo = project::cargo(&["install", "--quiet", package, "--locked", "--debug"]);
            cargo
                .args(["--version", version, "--root"])
                .arg(&root)
                .args(*arguments)
                .env("CARGO_PROFILE_DEV_DEBUG", "0")
                .env_remove("RUSTFLAGS")
                .env_remove("CARGO_TARGET_DIR");
            project::run(cargo)
                .with_context(|| format!("{package} could not be built: its sources come from crates.io"))?;
        }
        Ok(path)
    }
}
