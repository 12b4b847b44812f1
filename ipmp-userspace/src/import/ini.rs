//! Sections and keys of systemd and of GLib's key files.
//!
//! No INI library keeps all that matters here: lines, repeated sections (`[Address]` twice is two addresses) and repeated keys
//! in order, and continued lines with comments between them (systemd.syntax(7)).

use super::{Error, Place, Source};

/// A section.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Its keys, in order.
    pub entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub place: Place,
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Reads a file. `continues`: a line goes on after a backslash.
pub fn sections(source: &Source, continues: bool) -> Result<Vec<Section>, Error> {
    let mut sections: Vec<Section> = Vec::new();
    let mut joined = String::new();
    let mut first = 1;
    for (number, line) in (1..).zip(source.text.lines()) {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if joined.is_empty() {
            first = number;
        }
        joined += line.strip_suffix('\\').filter(|_| continues).unwrap_or(line);
        if continues && line.ends_with('\\') {
            joined.push(' ');
            continue;
        }
        let line = std::mem::take(&mut joined);
        let line = line.trim();
        let place = source.at(first);
        if line.is_empty() {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').ok_or_else(|| place.error("a section ends with ]"))?;
            sections.push(Section { name: name.trim().into(), entries: Vec::new() });
            continue;
        }
        let (key, value) =
            line.split_once('=').ok_or_else(|| place.error(format!("{line:?} is not KEY=VALUE")))?;
        let section = sections.last_mut().ok_or_else(|| place.error(format!("{line:?} is in no section")))?;
        section.entries.push(Entry { place, key: key.trim().into(), value: value.trim().into() });
    }
    Ok(sections)
}
