//! `docs/benchmarks.md` and its plots, from the results in `docs/benchmarks`.
//!
//! | module | contents |
//! |---|---|
//! | [`peers`] | faults of a group beside bonds, teams and ECMP |
//! | [`cost`] | what a packet costs |
//! | [`scale`] | what many groups cost |
//! | [`table`] | tables in which figures of peers that are better are bold |
//! | [`plot`] | bars as SVG |

mod cost;
mod peers;
mod plot;
mod scale;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::peers::Peers;
use crate::scale::Scale;
use crate::steering::Steering;

/// The text before the figures.
const INTRODUCTION: &str = include_str!("page/introduction.md");
/// The directory of results and plots, beside the page.
const RESULTS: &str = "benchmarks";

/// What is read of the output of `--json`.
#[derive(Debug, Deserialize)]
struct Results {
    quick: bool,
    kernel: String,
    cpus: usize,
    load: f64,
    processor: Option<String>,
    commit: Option<String>,
    arguments: Vec<String>,
    steering: Option<Steering>,
    scale: Option<Scale>,
    peers: Option<Peers>,
}

/// The directory of the documentation, where the source of this program is.
pub fn documentation() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Writes the page and its plots.
pub fn write(docs: &Path) -> Result<()> {
    for (name, text) in files(docs)? {
        let path = docs.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The page and its plots, by their paths below the documentation.
fn files(docs: &Path) -> Result<BTreeMap<String, String>> {
    let directory = docs.join(RESULTS);
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>().context("cannot list the results")?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut files = BTreeMap::new();
    let mut all = Vec::new();
    for path in paths {
        let name = path.display();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        let results: Results =
            serde_json::from_str(&text).with_context(|| format!("{name} has unexpected content"))?;
        ensure!(!results.quick, "{name} has the results of a short run");
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        all.push((stem, results));
    }
    let mut page = INTRODUCTION.to_owned();
    for (stem, results) in &all {
        if let Some(peers) = &results.peers {
            peers::section(stem, results, peers, &mut page, &mut files)?;
        }
    }
    for (stem, results) in &all {
        if let Some(steering) = &results.steering {
            cost::section(stem, results, steering, &mut page, &mut files)?;
        }
    }
    for (stem, results) in &all {
        if let Some(scale) = &results.scale {
            scale::section(stem, results, scale, &mut page, &mut files)?;
        }
    }
    files.insert("benchmarks.md".into(), page);
    Ok(files)
}

/// Where results are.
fn source(stem: &str) -> String {
    format!("Results: [{RESULTS}/{stem}.json]({RESULTS}/{stem}.json).")
}

impl Results {
    /// The release, without what its distribution has added.
    fn version(&self) -> String {
        let release = self.kernel.split(['-', '+']).next().unwrap_or_default();
        format!("{release}{}", if self.is_emulated() { ", emulated" } else { "" })
    }

    /// What it was measured on.
    fn machine(&self) -> String {
        format!(
            "Linux {}, {} CPUs ({}), load {:.1} at the start, commit {}",
            self.kernel,
            self.cpus,
            self.processor.as_deref().unwrap_or("unknown processor"),
            self.load,
            self.commit.as_deref().unwrap_or("unknown")
        )
    }

    /// Whether it ran on processors that QEMU emulates.
    fn is_emulated(&self) -> bool {
        self.processor.as_deref().is_some_and(|processor| processor.contains("QEMU"))
    }

    /// What measures it again.
    fn command(&self) -> String {
        let version: Vec<&str> = self.kernel.split('.').take(2).collect();
        let kernel =
            if self.is_emulated() { format!(" --kernel {}", version.join(".")) } else { String::new() };
        format!("cargo xtask bench{kernel} -- {}", self.arguments.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_and_plots_are_what_the_results_give() {
        let docs = documentation();
        let files = files(&docs).unwrap();
        for (name, text) in &files {
            let found = fs::read_to_string(docs.join(name)).unwrap_or_default();
            assert!(
                found == *text,
                "docs/{name} is not what the results give: `cargo xtask bench -- page` writes it"
            );
        }
        let plots = fs::read_dir(docs.join(RESULTS)).unwrap().map(|entry| entry.unwrap().file_name());
        let plots = plots.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".svg"));
        let unused: Vec<_> = plots.filter(|name| !files.contains_key(&format!("{RESULTS}/{name}"))).collect();
        assert!(unused.is_empty(), "plots without results: {unused:?}");
        assert!(files.len() > 3, "no results in docs/{RESULTS}");
    }
}
