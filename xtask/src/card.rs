//! `cargo xtask card`: every package that the project promises to be built on is a direct dependency, and is used.

use crate::project;
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The packages of the project's card.
const PACKAGES: [&str; 8] =
    ["aya", "aya-log", "tokio", "rtnetlink", "clap", "anyhow", "env_logger", "network-types"];

/// Check that every package of the card is a direct dependency with a use
#[derive(Args)]
pub struct Card;

impl Card {
    pub fn run(self) -> Result<()> {
        let mut dependents = dependents(&["metadata"])?;
        dependents.extend(dependents_of_ebpf()?);
        let mut unused = Vec::new();
        for package in PACKAGES {
            let mut users = Vec::new();
            for (name, directory, dependencies) in &dependents {
                if dependencies.iter().any(|d| d == package) && uses(directory, &package.replace('-', "_"))? {
                    users.push(name.as_str());
                }
            }
            if users.is_empty() {
                unused.push(package);
            } else {
                println!("card: {package} is used by {}", users.join(", "));
            }
        }
        ensure!(
            unused.is_empty(),
            "no package of the project depends directly on {}, and uses it",
            unused.join(", ")
        );
        Ok(())
    }
}

/// A package's name, directory, and the names of its direct dependencies (not those for tests alone).
type Dependent = (String, PathBuf, Vec<String>);

fn dependents_of_ebpf() -> Result<Vec<Dependent>> {
    dependents(&["metadata", "--manifest-path", "ipmp-ebpf/Cargo.toml"])
}

fn dependents(args: &[&str]) -> Result<Vec<Dependent>> {
    let output = project::cargo(args)
        .args(["--no-deps", "--locked", "--format-version", "1"])
        .output()
        .context("cargo cannot be run")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo's metadata")?;
    let packages = metadata["packages"].as_array().context("cargo's metadata name no packages")?;
    Ok(packages.iter().filter_map(dependent).collect())
}

fn dependent(package: &Value) -> Option<Dependent> {
    let manifest = Path::new(package["manifest_path"].as_str()?);
    let dependencies = package["dependencies"].as_array()?.iter();
    let names =
        dependencies.filter(|d| d["kind"] != "dev").filter_map(|d| d["name"].as_str()).map(str::to_owned);
    Some((package["name"].as_str()?.to_owned(), manifest.parent()?.into(), names.collect()))
}

/// Whether a source file below `directory` names the crate outside a comment.
fn uses(directory: &Path, krate: &str) -> Result<bool> {
    for entry in fs::read_dir(directory).with_context(|| format!("{}", directory.display()))? {
        let path = entry.with_context(|| format!("{}", directory.display()))?.path();
        // A directory with a manifest is another package; `target` has none and holds no source of ours.
        if path.is_dir() && !path.join("Cargo.toml").exists() && !path.ends_with("target") {
            if uses(&path, krate)? {
                return Ok(true);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
            if text.lines().any(|line| names(line, krate)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a line of code has `krate::`, or `use krate`.
fn names(line: &str, krate: &str) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(krate).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + krate.len()..]);
        let starts = !before.ends_with(|c| is_word(c) || c == '.');
        let is_use = before.trim_end().ends_with("use") && !after.starts_with(is_word);
        starts && (after.starts_with("::") || is_use)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_differs_from_mention() {
        assert!(names("use aya::maps::Array;", "aya"));
        assert!(names("    let x = anyhow::bail!(\"no\");", "anyhow"));
        assert!(names("pub use tokio;", "tokio"));
        assert!(names("#[tokio::main(flavor = \"current_thread\")]", "tokio"));
        assert!(!names("// use aya::maps::Array;", "aya"));
        assert!(!names("/// See [`aya::Ebpf`].", "aya"));
        assert!(!names("use aya_log::EbpfLogger;", "aya"));
        assert!(!names("use crate::naya::x;", "aya"));
        assert!(!names("self.clap.run()", "clap"));
    }

    #[test]
    fn a_dependency_for_tests_alone_does_not_count() {
        let package = serde_json::json!({
            "name": "p", "manifest_path": "/src/p/Cargo.toml",
            "dependencies": [{ "name": "aya", "kind": null }, { "name": "clap", "kind": "dev" }],
        });
        let (name, directory, dependencies) = dependent(&package).unwrap();
        assert_eq!((name.as_str(), directory.as_path()), ("p", Path::new("/src/p")));
        assert_eq!(dependencies, ["aya"]);
    }
}
