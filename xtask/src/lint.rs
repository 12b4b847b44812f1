//! `cargo xtask lint`: all checks that run no code of ours. `.ci/run` runs it before the tests.

mod circles;
mod sources;
mod words;

use crate::card::Card;
use crate::ebpf::Ebpf;
use crate::setup::Setup;
use crate::{debian, project};
use anyhow::{Context, Result};
use clap::Args;
use ipmp_ebpf_recipe::{Compiler, cache};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The version of cargo-deny that reads our `deny.toml`.
const DENY: &str = "0.20.2";

/// Check format, clippy, documentation, licences and sources of dependencies, and the card
#[derive(Args)]
pub struct Lint {
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// Only count the words that xtask/src/lint/words.txt excludes, and list those in files whose path starts with PATH.
    #[arg(long, value_name = "PATH", num_args = 0.., conflicts_with = "circles")]
    words: Option<Vec<String>>,
    /// Only look for import circles between modules.
    #[arg(long)]
    circles: bool,
}

impl Lint {
    pub fn run(self) -> Result<()> {
        if let Some(shown) = self.words {
            return words::check(&project::root(), &shown);
        }
        if self.circles {
            return circles::check(&project::root());
        }
        let setup = Setup { yes: self.yes };
        setup.ensure(&[])?;
        if Compiler::find()?.rustc == Path::new("/usr/bin/rustc") {
            setup.ensure(debian::CLIPPY)?;
        }
        let deny = cargo_deny(&setup)?;
        step("format", || {
            project::run(project::cargo(&["fmt", "--all", "--check"]))?;
            project::run(project::cargo(&["fmt", "--check", "--manifest-path", "ipmp-ebpf/Cargo.toml"]))
        })?;
        step("clippy", || {
            let all = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-Dwarnings"];
            project::run(project::cargo(&all))
        })?;
        step("clippy of the eBPF programs", || Ebpf { clippy: true }.run())?;
        step("documentation", || {
            let doc = ["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"];
            let mut doc = project::cargo(&doc);
            // With private items documented, links to them lead somewhere.
            doc.env("RUSTDOCFLAGS", "-Dwarnings -Arustdoc::private_intra_doc_links");
            project::run(doc)
        })?;
        step("licences, bans and sources of dependencies", || {
            check_dependencies(&deny, "Cargo.toml")?;
            check_dependencies(&deny, "ipmp-ebpf/Cargo.toml")
        })?;
        step("card", || Card.run())
    }
}

/// Runs one check under a headline, and prints its time.
fn step(name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    let start = Instant::now();
    check().with_context(|| format!("check failed: {name}"))?;
    println!("== {name}: ok, {:.0} s", start.elapsed().as_secs_f32());
    Ok(())
}

fn check_dependencies(deny: &Path, manifest: &str) -> Result<()> {
    let mut deny = std::process::Command::new(deny);
    deny.current_dir(project::root())
        .args(["--config", "deny.toml", "--manifest-path", manifest, "--locked"])
        .args(["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
    project::run(deny)
}

/// The path of cargo-deny, which is built into the cache the first time.
fn cargo_deny(setup: &Setup) -> Result<PathBuf> {
    let root = cache::directory()?.join(format!("cargo-deny-{DENY}"));
    let binary = root.join("bin/cargo-deny");
    if !binary.is_file() {
        println!("lint: cargo-deny {DENY} will be built into {} (about two minutes)", root.display());
        setup.agree()?;
        let mut cargo =
            project::cargo(&["install", "--quiet", "cargo-deny", "--locked", "--version", DENY, "--root"]);
        cargo.arg(&root).env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
        project::run(cargo).context("cargo-deny could not be built: its sources come from crates.io")?;
    }
    Ok(binary)
}
