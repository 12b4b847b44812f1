//! Files of other programs with bonds: the first line is the name of the file, the rest its text. A line of dashes begins the
//! next file.

use std::path::PathBuf;

use ipmp::{
    config::{self, Severity, host::Host},
    import::{Format, Source, print},
};

pub fn run(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let source = |file: &str| {
        let (name, text) = file.split_once('\n').unwrap_or((file, ""));
        Source { path: name.into(), text: text.into() }
    };
    let sources: Vec<Source> = text.split("\n----\n").map(source).collect();
    let Some(format) = Format::of(&sources[0]) else { return false };
    let sources: Vec<Source> =
        sources.into_iter().filter(|source| Format::of(source) == Some(format)).collect();
    let host = Host::default();
    match format.read(&sources).and_then(|found| print(&found, "fuzz", &host, true)) {
        Ok(printed) => {
            let (configuration, findings) = config::parse(&[(PathBuf::new(), printed)]);
            assert!(findings.iter().all(|finding| finding.severity != Severity::Error), "{findings:?}");
            !configuration.groups.is_empty()
        }
        Err(error) => {
            let error = error.to_string();
            assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
            false
        }
    }
}
