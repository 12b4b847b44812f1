//! How a file of lab tests runs, as the file itself declares it:
//!
//! ```text
//! lab::lane!(side_by_side, seconds = 60, threads = 8, quiet, clsact = "always");
//! lab::lane!(alone, no_clsact = "no program is attached");
//! ```
//!
//! `alone` or `side_by_side` comes first. `seconds` orders the files that run side by side: the longest starts first. `threads` is
//! how many tests of the file run at a time (1 alone, 2 side by side), `quiet` shows no output of tests that pass. Every file runs
//! with the programs attached by clsact as well: in the soak, with `clsact = "always"` also in the default lane, there with
//! `clsact = "FILTER"` only the tests of that name; with `no_clsact` never, for the reason given.

use crate::project::Executable;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, Item, Lit, Meta, Token};

/// How a file of tests runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub side_by_side: bool,
    /// How long it takes, about; orders those that run side by side.
    pub seconds: u32,
    pub threads: u32,
    pub quiet: bool,
    pub clsact: Clsact,
}

/// When a file runs again with the programs attached by clsact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clsact {
    /// In the default lane the tests whose names contain this, in the soak all.
    Always(String),
    /// In the soak only.
    Soak,
    Never,
}

/// An executable of the lab and how it runs.
pub struct LabTest {
    pub executable: Executable,
    pub lane: Lane,
}

/// Reads the lane of each executable. Unit tests of the lab run alone.
pub fn with_lanes(executables: Vec<Executable>) -> Result<Vec<LabTest>> {
    let with_lane = |executable: Executable| {
        let lane = if executable.integration { lane_of(&executable)? } else { Lane::default() };
        Ok(LabTest { executable, lane })
    };
    executables.into_iter().map(with_lane).collect()
}

fn lane_of(executable: &Executable) -> Result<Lane> {
    let tests = executable.package_dir.join("tests");
    let file = tests.join(format!("{}.rs", executable.target));
    let file = if file.is_file() { file } else { tests.join(&executable.target).join("main.rs") };
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Lane::parse(&text).with_context(|| file.display().to_string())
}

impl Default for Lane {
    fn default() -> Self {
        Self { side_by_side: false, seconds: 0, threads: 1, quiet: false, clsact: Clsact::Never }
    }
}

impl Lane {
    /// Reads the declaration in the source of a test.
    fn parse(source: &str) -> Result<Self> {
        let file = syn::parse_file(source)?;
        let declaration = file.items.iter().find_map(|item| match item {
            Item::Macro(item) if item.mac.path.segments.last()?.ident == "lane" => Some(&item.mac),
            _ => None,
        });
        let declaration = declaration.context("no `lab::lane!(...)`: xtask/src/test/lane.rs describes it")?;
        let entries = declaration.parse_body_with(Punctuated::<Meta, Token![,]>::parse_terminated)?;
        let mut entries = entries.iter();
        let kind = entries.next().context("lane!: neither alone nor side_by_side")?;
        let side_by_side = kind.path().is_ident("side_by_side");
        ensure!(
            side_by_side || kind.path().is_ident("alone"),
            "lane!: the first word is alone or side_by_side"
        );
        let threads = if side_by_side { 2 } else { 1 };
        let mut lane = Self { side_by_side, threads, clsact: Clsact::Soak, ..Self::default() };
        for entry in entries {
            let name = entry.path().get_ident().context("lane!: a path")?.to_string();
            match (name.as_str(), value(entry)) {
                ("quiet", None) => lane.quiet = true,
                ("seconds", Some(Lit::Int(seconds))) => lane.seconds = seconds.base10_parse()?,
                ("threads", Some(Lit::Int(threads))) => lane.threads = threads.base10_parse()?,
                ("clsact", Some(Lit::Str(only))) if only.value() == "always" => {
                    lane.clsact = Clsact::Always(String::new());
                }
                ("clsact", Some(Lit::Str(only))) => lane.clsact = Clsact::Always(only.value()),
                ("no_clsact", Some(Lit::Str(reason))) => {
                    ensure!(!reason.value().is_empty(), "lane!: no_clsact needs a reason");
                    lane.clsact = Clsact::Never;
                }
                _ => bail!("lane!: {name} is unknown, or has no value of the right type"),
            }
        }
        Ok(lane)
    }
}

fn value(entry: &Meta) -> Option<&Lit> {
    match entry {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit, .. }) => Some(lit),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declaration_is_read() {
        let lane = Lane::parse(
            "//! Text.\nuse lab::Lab;\nlab::lane!(side_by_side, seconds = 60, threads = 8, quiet);\n",
        );
        let expected =
            Lane { side_by_side: true, seconds: 60, threads: 8, quiet: true, clsact: Clsact::Soak };
        assert_eq!(lane.unwrap(), expected);
        let lane = Lane::parse("lab::lane!(alone, clsact = \"stopped\");").unwrap();
        assert_eq!((lane.threads, lane.clsact), (1, Clsact::Always("stopped".into())));
        let lane = Lane::parse("lab::lane!(alone, no_clsact = \"no program is attached\");").unwrap();
        assert_eq!(lane.clsact, Clsact::Never);
    }

    #[test]
    fn missing_and_wrong_declarations_are_rejected() {
        let all = [
            "fn f() {}",
            "lab::lane!();",
            "lab::lane!(beside);",
            "lab::lane!(alone, threads = \"2\");",
            "lab::lane!(alone, no_clsact = \"\");",
            "lab::lane!(alone, fast);",
        ];
        for source in all {
            assert!(Lane::parse(source).is_err(), "{source}");
        }
    }

    #[test]
    fn every_lab_test_declares_its_lane() {
        let tests = crate::project::root().join("tests/tests");
        for entry in fs::read_dir(&tests).unwrap() {
            let path = entry.unwrap().path();
            let file = if path.is_dir() { path.join("main.rs") } else { path };
            let text = fs::read_to_string(&file).unwrap();
            let lane = Lane::parse(&text).unwrap_or_else(|error| panic!("{}: {error:#}", file.display()));
            if let Clsact::Always(only) = lane.clsact {
                let named = text.lines().any(|line| line.starts_with("fn ") && line.contains(&only));
                assert!(named, "{}: no test contains {only}", file.display());
            }
        }
    }
}
