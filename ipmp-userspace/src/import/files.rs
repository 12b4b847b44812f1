//! Which files there are to import.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{Error, Format, Found, Source};

/// A longer file is rejected, in bytes.
const LARGEST: u64 = 1 << 20;
/// More files are rejected.
const MOST: usize = 1024;
/// How deep directories are read: drop-ins are one below.
const DEEPEST: usize = 2;

/// Reads files, and those in directories whose format is known; with the bonds of all of them.
///
/// # Errors
/// A file that cannot be read, or a named one of unknown format.
pub fn read(paths: &[PathBuf]) -> Result<Found, Error> {
    let mut sources: Vec<(Format, Source)> = Vec::new();
    for path in paths {
        if path.is_dir() {
            directory(path, 0, &mut sources)?;
        } else {
            let source = file(path)?;
            let format = Format::of(&source).ok_or_else(|| unknown(&source))?;
            sources.push((format, source));
        }
        if sources.len() > MOST {
            return Err(failed(path, format!("more than {MOST} files: name those that have the bond")));
        }
    }
    let mut found = Found::default();
    for format in Format::ALL {
        let of_format =
            sources.iter().filter(|(other, _)| *other == format).map(|(_, source)| source.clone());
        let of_format: Vec<Source> = of_format.collect();
        if !of_format.is_empty() {
            let Found { bonds, notes } = format.read(&of_format)?;
            found.bonds.extend(bonds);
            found.notes.extend(notes);
        }
    }
    Ok(found)
}

fn directory(path: &Path, depth: usize, sources: &mut Vec<(Format, Source)>) -> Result<(), Error> {
    let error = |error: io::Error| failed(path, error.to_string());
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(error)? {
        entries.push(entry.map_err(error)?.path());
        if entries.len() > MOST {
            return Err(failed(path, format!("more than {MOST} files: name those that have the bond")));
        }
    }
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            if depth < DEEPEST {
                directory(&entry, depth + 1, sources)?;
            }
        } else if entry.is_file() {
            let source = file(&entry)?;
            sources.extend(Format::of(&source).map(|format| (format, source)));
        }
    }
    Ok(())
}

fn unknown(source: &Source) -> Error {
    if source.name().starts_with("ifcfg-") {
        let text =
            "ifcfg files are not read: nmcli connection migrate converts them into .nmconnection files";
        return failed(&source.path, text.into());
    }
    failed(
        &source.path,
        "it is of no known format: name .netdev and .network files, netplan's .yaml, /etc/network/interfaces, .nmconnection \
         files or the JSON of teamd"
            .into(),
    )
}

fn failed(path: &Path, text: String) -> Error {
    Error::File { path: path.into(), text }
}

fn file(path: &Path) -> Result<Source, Error> {
    let error = |error: io::Error| failed(path, error.to_string());
    let mut bytes = Vec::new();
    File::open(path).map_err(error)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > LARGEST {
        return Err(failed(path, format!("it is longer than {LARGEST} bytes")));
    }
    Ok(Source { path: path.into(), text: String::from_utf8_lossy(&bytes).into_owned() })
}
