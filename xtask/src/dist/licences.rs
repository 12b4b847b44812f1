//! The licences of what is linked into the programs, as one text.

use super::crates::Crate;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

/// The beginnings of the names of files with a licence or a notice that must be passed on.
const NAMES: [&str; 5] = ["license", "licence", "copying", "notice", "copyright"];

/// First every crate with its expression, then each text with the crates that have it.
pub fn text(crates: &BTreeMap<String, Crate>) -> Result<String> {
    let mut text = String::from(
        "The programs contain the Rust standard library (MIT OR Apache-2.0) and these crates, under the licences whose SPDX \
         expression is given. The texts that they contain follow.\n\n",
    );
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, one) in crates {
        ensure!(!one.licence.is_empty(), "{id} has no licence expression");
        writeln!(text, "{id}: {}", one.licence)?;
        for entry in fs::read_dir(&one.directory).with_context(|| one.directory.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            if path.is_file() && NAMES.iter().any(|beginning| name.starts_with(beginning)) {
                let content =
                    fs::read_to_string(&path).with_context(|| format!("{} is not text", path.display()))?;
                texts.entry(content.replace('\r', "")).or_default().push(id.clone());
            }
        }
    }
    for (content, mut of) in texts {
        of.dedup();
        write!(text, "\n{:=<80}\n{}\n\n{}\n", "", of.join(", "), content.trim())?;
    }
    Ok(text)
}
