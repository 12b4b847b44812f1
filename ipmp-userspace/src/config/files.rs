//! Which files there are, and what they contain together.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Configuration, Finding, Place, check, read};

/// The directory of the configuration.
pub const DIRECTORY: &str = "/etc/ipmp";
/// Directories of the network namespaces, as ip-netns(8) has them.
const NAMESPACES: &str = "/etc/netns";
/// Largest file in bytes.
const LARGEST: u64 = 1 << 20;

/// The directory of the configuration, of a network namespace if it has a name.
pub fn directory(netns: Option<&str>) -> PathBuf {
    netns.map_or_else(|| DIRECTORY.into(), |netns| Path::new(NAMESPACES).join(netns).join("ipmp"))
}

/// The files of a directory in the order in which they are read: `ipmp.toml`, then `ipmp.d/*.toml` by name.
///
/// # Errors
/// A directory that cannot be read, as a finding.
pub fn of_directory(directory: &Path) -> Result<Vec<PathBuf>, Finding> {
    let files = found_in(directory)?;
    if files.is_empty() {
        let further = directory.join("ipmp.d");
        return Err(Finding::error(
            &Place::whole(directory.join("ipmp.toml")),
            format!("there is no configuration: create this file, or a file in {}", further.display()),
        ));
    }
    Ok(files)
}

/// The same; it is no error if there are none.
///
/// # Errors
/// A directory that cannot be read, as a finding.
pub fn found_in(directory: &Path) -> Result<Vec<PathBuf>, Finding> {
    let failed = |path: &Path, error: &io::Error| {
        Finding::error(&Place::whole(path.to_owned()), format!("cannot read it: {error}"))
    };
    let mut files = Vec::new();
    let main = directory.join("ipmp.toml");
    match main.try_exists() {
        Ok(true) => files.push(main),
        Ok(false) => {}
        Err(error) => return Err(failed(&main, &error)),
    }
    let further = directory.join("ipmp.d");
    match fs::read_dir(&further) {
        Ok(entries) => {
            let mut found = Vec::new();
            for entry in entries {
                let path = entry.map_err(|error| failed(&further, &error))?.path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    found.push(path);
                }
            }
            found.sort();
            files.extend(found);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&further, &error)),
    }
    Ok(files)
}

/// Reads files and checks what they contain together. Findings are in the order of the files; the configuration can be used if
/// none is an error.
pub fn load(files: &[PathBuf]) -> (Configuration, Vec<Finding>) {
    let (texts, mut findings) = read_texts(files);
    let (configuration, more) = parse(&texts);
    findings.extend(more);
    (configuration, findings)
}

/// The texts of files, and those that cannot be read.
pub fn read_texts(files: &[PathBuf]) -> (Vec<(PathBuf, String)>, Vec<Finding>) {
    let mut texts = Vec::new();
    let mut findings = Vec::new();
    for file in files {
        match text(file) {
            Ok(text) => texts.push((file.clone(), text)),
            Err(why) => findings.push(Finding::error(&Place::whole(file.clone()), why)),
        }
    }
    (texts, findings)
}

/// The same of texts that have been read.
pub fn parse(texts: &[(PathBuf, String)]) -> (Configuration, Vec<Finding>) {
    let mut configuration = Configuration::default();
    let mut findings = Vec::new();
    for (file, text) in texts {
        read::read(file, text, &mut configuration, &mut findings);
    }
    check::check(&configuration, &mut findings);
    let position = |finding: &Finding| texts.iter().position(|(file, _)| *file == finding.place.file);
    findings.sort_by_key(|finding| (position(finding), finding.place.line, finding.place.column));
    (configuration, findings)
}

fn text(file: &Path) -> Result<String, String> {
    let size = fs::metadata(file).map_err(|error| format!("cannot read it: {error}"))?.len();
    if size > LARGEST {
        return Err(format!("it is longer than {LARGEST} bytes: divide it into files in ipmp.d"));
    }
    let bytes = fs::read(file).map_err(|error| format!("cannot read it: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        format!("byte {} is no UTF-8: save it as UTF-8", error.utf8_error().valid_up_to() + 1)
    })
}
