//! The crates that are linked into the programs and their eBPF objects, from cargo.

use crate::architecture::Architecture;
use crate::project;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

/// A crate.
pub struct Crate {
    pub name: String,
    pub version: String,
    /// SPDX expression.
    pub licence: String,
    /// Its source.
    pub directory: PathBuf,
    /// SHA-256 of its archive in the registry; none of our own crates.
    pub checksum: Option<String>,
    /// The crates that it uses, as [`Crate::id`].
    pub uses: Vec<String>,
}

impl Crate {
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// The crates of both lock files, by id.
pub fn linked(architecture: Architecture) -> Result<BTreeMap<String, Crate>> {
    let target = architecture.target();
    let mut crates = BTreeMap::new();
    for (directory, root, target) in [("", "ipmp-userspace", target.as_str()), ("ipmp-ebpf", "ipmp-ebpf", "")]
    {
        add(directory, root, target, &mut crates).with_context(|| format!("the crates of {root}"))?;
    }
    Ok(crates)
}

fn add(directory: &str, root: &str, target: &str, crates: &mut BTreeMap<String, Crate>) -> Result<()> {
    let directory = project::root().join(directory);
    let mut cargo = project::cargo(&["metadata", "--format-version", "1", "--locked", "--manifest-path"]);
    cargo.arg(directory.join("Cargo.toml"));
    if !target.is_empty() {
        cargo.args(["--filter-platform", target]);
    }
    let metadata: Value = serde_json::from_str(&super::output(&mut cargo)?)?;
    let lock = fs::read_to_string(directory.join("Cargo.lock"))?;
    let packages: HashMap<&str, &Value> = list(&metadata["packages"]).map(|p| (text(&p["id"]), p)).collect();
    let nodes: HashMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).map(|n| (text(&n["id"]), n)).collect();
    let root = packages.iter().find(|(_, package)| package["name"] == root).context("no such package")?;
    let mut open = vec![*root.0];
    while let Some(id) = open.pop() {
        let package = packages[id];
        let uses: Vec<&str> =
            list(&nodes[id]["deps"]).filter(|d| is_linked(d)).map(|d| text(&d["pkg"])).collect();
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let id_of = |id: &&str| format!("{}@{}", text(&packages[id]["name"]), text(&packages[id]["version"]));
        let new = Crate {
            name: name.into(),
            version: version.into(),
            licence: text(&package["license"]).into(),
            directory: PathBuf::from(text(&package["manifest_path"])).parent().unwrap().into(),
            checksum: checksum(&lock, name, version),
            uses: uses.iter().map(id_of).collect(),
        };
        if crates.insert(new.id(), new).is_none() {
            open.extend(uses);
        }
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether a dependency is in the program: not if only build scripts or tests use it.
fn is_linked(dependency: &Value) -> bool {
    list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null())
}

/// The checksum of a package in a lock file.
fn checksum(lock: &str, name: &str, version: &str) -> Option<String> {
    let is = |entry: &&str| {
        entry.contains(&format!("\nname = \"{name}\"\n"))
            && entry.contains(&format!("\nversion = \"{version}\"\n"))
    };
    let entry = lock.split("[[package]]").find(is)?;
    let line = entry.lines().find_map(|line| line.strip_prefix("checksum = \""))?;
    Some(line.trim_end_matches('"').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_version_is_found() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"11\"\n\n\
                    [[package]]\nname = \"a\"\nversion = \"2.0.0\"\nchecksum = \"22\"\n\n\
                    [[package]]\nname = \"own\"\nversion = \"2.0.0\"\n";
        assert_eq!(checksum(lock, "a", "2.0.0").as_deref(), Some("22"));
        assert_eq!(checksum(lock, "own", "2.0.0"), None);
    }

    #[test]
    fn crates_of_both_lock_files_are_linked_and_tools_of_the_build_are_not() {
        let crates = linked(Architecture::X86_64).unwrap();
        for (name, linked) in
            [("tokio", true), ("aya-ebpf", true), ("proptest", false), ("clap_mangen", false)]
        {
            assert_eq!(crates.values().any(|one| one.name == name), linked, "{name}");
        }
    }
}
