//! `cargo xtask ebpf`: the eBPF programs alone, with all that their compiler says.

use crate::project;
use anyhow::{Context, Result, ensure};
use clap::Args;
use ipmp_ebpf_recipe::{DATAPATH_LOG, OBJECTS, Objects, Toolchain};
use std::env::consts::ARCH;

/// Compile the eBPF programs alone, into target/ebpf
#[derive(Args)]
pub struct Ebpf {
    /// Run clippy on them instead, warnings denied.
    #[arg(long)]
    pub clippy: bool,
}

impl Ebpf {
    pub fn run(self) -> Result<()> {
        let root = project::root();
        let crate_dir = root.join("ipmp-ebpf");
        let out_dir = root.join("target/ebpf");
        std::fs::create_dir_all(&out_dir).with_context(|| format!("{} cannot be made", out_dir.display()))?;
        let objects = Objects { crate_dir: &crate_dir, out_dir: &out_dir, arch: ARCH, features: &[] };
        let toolchain = Toolchain::find()?;
        if self.clippy {
            return clippy(&toolchain, &objects);
        }
        println!(
            "Rust {} with LLVM {}, {}",
            toolchain.compiler.release,
            toolchain.compiler.llvm,
            toolchain.compiler.rustc.display()
        );
        toolchain.build(&objects)?;
        for name in OBJECTS.into_iter().chain([DATAPATH_LOG]) {
            println!("{}", out_dir.join(name).display());
        }
        Ok(())
    }
}

/// Clippy is the driver beside the compiler, run by cargo in its place; `cargo clippy` would take rustup's, of another version.
fn clippy(toolchain: &Toolchain, objects: &Objects<'_>) -> Result<()> {
    let driver = toolchain.compiler.rustc.with_file_name("clippy-driver");
    ensure!(
        driver.is_file(),
        "{} is missing: install Debian's rust-web-clippy, or run `rustup component add clippy`",
        driver.display()
    );
    for features in [&[][..], &["--features", "log"]] {
        let status = toolchain
            .cargo(objects, &["check"])?
            .args(features)
            .env("RUSTC_WORKSPACE_WRAPPER", &driver)
            .env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__")
            .status()
            .context("cargo cannot be run")?;
        ensure!(status.success(), "clippy found something in ipmp-ebpf");
    }
    Ok(())
}
