//! `cargo xtask lint`: all checks that run no code of ours. `.ci/run` runs it before the tests.

mod circles;
mod sources;
mod words;

use crate::architecture::Architecture;
use crate::card::Card;
use crate::dist::Dist;
use crate::ebpf::Ebpf;
use crate::setup::Setup;
use crate::tool::Tool;
use crate::{debian, project};
use anyhow::{Context, Result};
use clap::Args;
use ipmp_ebpf_recipe::Compiler;
use std::path::Path;
use std::time::Instant;

/// Programs that are built into the cache the first time.
const DENY: Tool = Tool { package: "cargo-deny", binary: "cargo-deny", version: "0.20.2", arguments: &[] };
const TYPOS: Tool = Tool { package: "typos-cli", binary: "typos", version: "1.52.0", arguments: &[] };

/// Check format, clippy, import circles, spelling, documentation, dependencies, and the card
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
    /// Only compare the files of the packages with packaging/files.txt.
    #[arg(long, conflicts_with_all = ["words", "circles"])]
    files: bool,
}

impl Lint {
    pub fn run(self) -> Result<()> {
        if let Some(shown) = self.words {
            return words::check(&project::root(), &shown);
        }
        if self.circles {
            return circles::check(&project::root());
        }
        if self.files {
            return Dist::check_list();
        }
        let setup = Setup { yes: self.yes };
        setup.ensure(&[])?;
        if Compiler::find()?.rustc == Path::new("/usr/bin/rustc") {
            setup.ensure(debian::CLIPPY)?;
        }
        let deny = DENY.path(&setup)?;
        let typos = TYPOS.path(&setup)?;
        step("format", || {
            project::run(project::cargo(&["fmt", "--all", "--check"]))?;
            project::run(project::cargo(&["fmt", "--check", "--manifest-path", "ipmp-ebpf/Cargo.toml"]))
        })?;
        step("clippy", || {
            let all = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-Dwarnings"];
            project::run(project::cargo(&all))
        })?;
        for other in Architecture::others() {
            step(&format!("compilation for {}", other.name()), || check_architecture(other, &setup))?;
        }
        step("clippy of the eBPF programs", || Ebpf { clippy: true }.run())?;
        step("words", || words::check(&project::root(), &[]))?;
        step("import circles", || circles::check(&project::root()))?;
        step("spelling", || check_spelling(&typos))?;
        step("documentation", || {
            let doc = ["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"];
            let mut doc = project::cargo(&doc);
            // With private items documented, links to them lead somewhere.
            doc.env("RUSTDOCFLAGS", "-Dwarnings -Arustdoc::private_intra_doc_links");
            project::run(doc)
        })?;
        step("files of the packages", Dist::check_list)?;
        step("licences, bans and sources of dependencies", || {
            check_dependencies(&deny, "Cargo.toml")?;
            check_dependencies(&deny, "ipmp-ebpf/Cargo.toml")
        })?;
        step("card", || Card.run())
    }
}

/// Compiles the programs for another architecture, without a linker, if its standard library can be had.
fn check_architecture(architecture: Architecture, setup: &Setup) -> Result<()> {
    if let Err(error) = architecture.add_library(setup) {
        // The servers of rustup are not reached from everywhere.
        println!("skipped: {error:#}");
        return Ok(());
    }
    let target = architecture.target();
    let check = ["check", "--locked", "--package", "ipmp-userspace", "--bins", "--target", &target];
    project::run(project::cargo(&check))
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

/// Checks the spelling of all tracked files, and of their names.
fn check_spelling(typos: &Path) -> Result<()> {
    let root = project::root();
    let mut command = std::process::Command::new(typos);
    command.current_dir(&root).args([
        "--format",
        "brief",
        "--force-exclude",
        "--config",
        "xtask/src/lint/typos.toml",
    ]);
    project::run({
        command.args(sources::tracked(&root)?);
        command
    })
}
