//! `docs/benchmarks.md` and its plots, from the results in `docs/benchmarks`.
//!
//! | module | contents |
//! |---|---|
//! | [`peers`] | faults of a group beside bonds, teams and ECMP |
//! | [`failover`] | outages by lost carriers and by path failures |
//! | [`cost`] | what a packet costs |
//! | [`load`] | what the daemon and the programs cost without traffic, with probes and with many frames |
//! | [`throughput`] | bulk transfers and small packets |
//! | [`scale`] | what many groups, members, addresses and routes cost |
//! | [`section`] | how a section is written |
//! | [`table`] | tables in which figures of peers that are better are bold |
//! | [`plot`] | bars as SVG |

mod cost;
mod failover;
mod load;
mod peers;
mod plot;
mod scale;
mod section;
mod table;
mod throughput;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::report::Report;
use section::Section;

/// The text before the figures.
const INTRODUCTION: &str = include_str!("page/introduction.md");
/// The text before the sections about peers.
const PEERS: &str = include_str!("page/peers.md");
/// The text before the table of all targets.
const TARGETS: &str = "
## Targets

Every target of the sections below, with the figure of the landed results.

| Section | Target | Measured | |
|---|---|---|---|
";
/// The directory of results and plots, beside the page.
const RESULTS: &str = "benchmarks";

/// Texts by their paths below the documentation.
type Files = BTreeMap<String, String>;

/// The sections of the page in their order; each is `None` where a report has no such results.
const SECTIONS: [fn(&Report) -> Option<Section>; 14] = [
    |report| report.peers.as_ref().map(peers::section),
    |report| report.outbound.as_ref().map(failover::outbound),
    |report| report.inbound.as_ref().map(failover::inbound),
    |report| report.carrier.as_ref().map(failover::carrier),
    |report| report.detection.as_ref().map(failover::detection),
    |report| report.throughput.as_ref().map(throughput::section),
    |report| report.steering.as_ref().map(cost::section),
    |report| report.idle.as_ref().map(load::idle),
    |report| report.probing.as_ref().map(load::probing),
    |report| report.evidence.as_ref().map(load::evidence),
    |report| report.early_drop.as_ref().map(load::early_drop),
    |report| report.storm.as_ref().map(load::storm),
    |report| report.echo.as_ref().map(load::echo),
    |report| report.scale.as_ref().map(scale::section),
];

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

/// The page and its plots.
fn files(docs: &Path) -> Result<Files> {
    let directory = docs.join(RESULTS);
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>().context("cannot list the results")?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let all = paths.iter().map(|path| Ok((stem(path), Report::read(path)?)));
    let all = all.collect::<Result<Vec<(String, Report)>>>()?;
    let (mut targets, mut sections, mut files) = (String::new(), String::new(), Files::new());
    for section_of in SECTIONS {
        for (stem, report) in &all {
            if let Some(section) = section_of(report) {
                targets.push_str(&section.summary(report));
                section.write(stem, report, &mut sections, &mut files)?;
            }
        }
    }
    files.insert("benchmarks.md".into(), [INTRODUCTION, TARGETS, &targets, PEERS, &sections].concat());
    Ok(files)
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
