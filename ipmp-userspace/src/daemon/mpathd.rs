//! `/etc/default/mpathd`: defaults of groups (docs/reference.md 5.2).
//!
//! Invalid lines are logged and ignored, as in the reference. Unlike there, a number must have no trailing text: `10s` would
//! be read as 10 milliseconds.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::core::{Event, probe::fdt};

/// The path in the reference.
const FILE: &str = "/etc/default/mpathd";
/// A longer file is rejected.
const LARGEST: u64 = 64 << 10;
/// The shortest failure detection time that it can set, as in the reference.
const SHORTEST: Duration = Duration::from_millis(100);

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An I/O error.
    #[error("cannot read {}: {source}; ipmpd reads the defaults of groups from there", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// It is too long.
    #[error("{} is longer than {LARGEST} bytes: it cannot be a file with defaults of groups", .0.display())]
    Long(PathBuf),
}

/// Settings of groups that have none of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Failure detection time.
    pub fdt: Duration,
    /// Whether repaired members become active again.
    pub failback: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { fdt: fdt::DEFAULT, failback: true }
    }
}

/// The file and its content.
#[derive(Debug)]
pub struct Mpathd {
    path: PathBuf,
    /// Given by `--config`: it must exist.
    named: bool,
    defaults: Defaults,
}

impl Mpathd {
    /// The given file, or the default one. It is not read yet.
    pub fn new(named: Option<PathBuf>) -> Self {
        let is_named = named.is_some();
        Self { path: named.unwrap_or_else(|| FILE.into()), named: is_named, defaults: Defaults::default() }
    }

    /// The content when it was read last.
    pub fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// Whether it was given by `--config`.
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// Reads it, and returns events to log. The default file may be missing. On an error nothing changes.
    pub fn read(&mut self) -> Result<Vec<Event>, Error> {
        let text = match self.text() {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound && !self.named => {
                String::new()
            }
            text => text?,
        };
        let (defaults, lines) = parse(&text, &self.path);
        self.defaults = defaults;
        Ok(lines)
    }

    fn text(&self) -> Result<String, Error> {
        let failed = |source| Error::File { path: self.path.clone(), source };
        let mut bytes = Vec::new();
        let file = File::open(&self.path).map_err(failed)?;
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::Long(self.path.clone()));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The content of a file, and events to log. The first of two lines with the same key counts.
pub fn parse(text: &str, path: &Path) -> (Defaults, Vec<Event>) {
    let (mut defaults, mut lines, mut seen) = (Defaults::default(), Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let file = path.display().to_string();
        let ignored = |why: String| Event::ConfigLine { file, line: at + 1, why };
        let Some((key, value)) = line.split_once('=') else {
            lines.push(ignored(format!("expected KEY=value, got {line:?}")));
            continue;
        };
        let (key, value) = (key.trim().to_ascii_uppercase(), value.trim());
        if seen.contains(&key) {
            lines.push(ignored(format!("{key} was set before, and that counts")));
            continue;
        }
        match key.as_str() {
            "FAILURE_DETECTION_TIME" => {
                let (fdt, line) = detection_time(value);
                defaults.fdt = fdt;
                lines.extend(line);
            }
            "FAILBACK" => match yes_no(value) {
                Some(yes) => defaults.failback = yes,
                None => lines.push(Event::ConfigFailback { value: value.to_owned() }),
            },
            "TRACK_INTERFACES_ONLY_WITH_GROUPS" => match yes_no(value) {
                Some(true) => {}
                Some(false) => lines.push(Event::ConfigTrackAll),
                None => lines.push(Event::ConfigTrack { value: value.to_owned() }),
            },
            _ => {
                lines.push(ignored(format!("there is no setting {key:?}")));
                continue;
            }
        }
        seen.push(key);
    }
    (defaults, lines)
}

fn yes_no(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("yes") {
        Some(true)
    } else if value.eq_ignore_ascii_case("no") {
        Some(false)
    } else {
        None
    }
}

fn detection_time(value: &str) -> (Duration, Option<Event>) {
    let milliseconds =
        integer(value).and_then(|number| u32::try_from(number).ok()).filter(|&number| number > 0);
    match milliseconds.map(|number| Duration::from_millis(number.into())) {
        None => {
            let line = Event::ConfigFdt { value: value.to_owned(), default: fdt::DEFAULT };
            (fdt::DEFAULT, Some(line))
        }
        Some(fdt) if fdt < SHORTEST => {
            let line = Event::ConfigSmallFdt { value: value.to_owned(), minimum: SHORTEST };
            (SHORTEST, Some(line))
        }
        Some(fdt) => (fdt, None),
    }
}

/// An integer as C writes them: `0x` is hexadecimal, `0` octal.
fn integer(text: &str) -> Option<i32> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    // A second sign is not part of the number.
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    i32::from_str_radix(&format!("{sign}{digits}"), radix).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::events::table;

    fn read(text: &str) -> (Defaults, Vec<String>) {
        let (defaults, lines) = parse(text, Path::new("/etc/default/mpathd"));
        (defaults, lines.iter().map(|event| table::row(event).text).collect())
    }

    fn with(fdt: u64, failback: bool) -> Defaults {
        Defaults { fdt: Duration::from_millis(fdt), failback }
    }

    #[test]
    fn file_of_the_reference_is_read() {
        let text = "#\n# Time taken by mpathd to detect a NIC failure in ms.\n\nFAILURE_DETECTION_TIME=1500\n#\n\
                    FAILBACK=no\nTRACK_INTERFACES_ONLY_WITH_GROUPS=yes\n";
        assert_eq!(read(text), (with(1500, false), vec![]));
        assert_eq!(read(""), (Defaults::default(), vec![]));
        assert_eq!(read(" failback = No   # for now\r\n"), (with(10_000, false), vec![]));
    }

    /// docs/reference.md 5.2: the values, and the texts word for word.
    #[test]
    fn detection_time_is_bounded_with_texts_of_the_reference() {
        for (value, fdt) in [("100", 100), ("0x3e8", 1000), ("010000", 4096), ("2147483647", 2_147_483_647)] {
            assert_eq!(
                read(&format!("FAILURE_DETECTION_TIME={value}")),
                (with(fdt, true), vec![]),
                "{value}"
            );
        }
        for value in
            ["", "0", "-1", "soon", "10s", "1e4", "08", "0x", "--5", "2147483648", "99999999999999999999"]
        {
            let line = format!("Invalid failure detection time {value}, assuming default of 10000 ms");
            assert_eq!(
                read(&format!("FAILURE_DETECTION_TIME={value}")),
                (with(10_000, true), vec![line]),
                "{value}"
            );
        }
        for value in ["99", "1", "0x10"] {
            let line = format!("Too small failure detection time of {value}, assuming minimum of 100 ms");
            assert_eq!(
                read(&format!("FAILURE_DETECTION_TIME={value}")),
                (with(100, true), vec![line]),
                "{value}"
            );
        }
    }

    #[test]
    fn value_other_than_yes_or_no_changes_nothing() {
        let text = "FAILBACK=perhaps\nTRACK_INTERFACES_ONLY_WITH_GROUPS=1";
        let lines =
            ["Invalid value for FAILBACK perhaps", "Invalid value for TRACK_INTERFACES_ONLY_WITH_GROUPS 1"];
        assert_eq!(read(text), (Defaults::default(), lines.map(Into::into).to_vec()));
        let (defaults, lines) = read("TRACK_INTERFACES_ONLY_WITH_GROUPS=no");
        assert_eq!(defaults, Defaults::default());
        assert!(lines[0].starts_with("TRACK_INTERFACES_ONLY_WITH_GROUPS=no: "), "{lines:?}");
    }

    #[test]
    fn invalid_lines_are_reported_and_others_count() {
        let (defaults, lines) = read("FAILBACK\n\nFALLBACK=no\nFAILBACK=no\nFAILBACK=yes\n=\n");
        assert_eq!(defaults, with(10_000, false));
        let name = "/etc/default/mpathd, line";
        assert_eq!(
            lines,
            [
                format!("{name} 1 ignored: expected KEY=value, got \"FAILBACK\""),
                format!("{name} 3 ignored: there is no setting \"FALLBACK\""),
                format!("{name} 5 ignored: FAILBACK was set before, and that counts"),
                format!("{name} 6 ignored: there is no setting \"\""),
            ]
        );
    }

    #[test]
    fn unreadable_file_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mpathd");
        let mut file = Mpathd::new(Some(path.clone()));
        let missing = file.read().unwrap_err().to_string();
        assert!(missing.starts_with(&format!("cannot read {}: No such file", path.display())), "{missing}");
        std::fs::write(&path, "FAILBACK=no").unwrap();
        assert_eq!(file.read().unwrap(), []);
        assert!(!file.defaults().failback);
        std::fs::write(&path, "#".repeat(LARGEST as usize + 1)).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("is longer than 65536 bytes"));
        assert!(!file.defaults().failback);
        // The default file may be missing.
        let mut default =
            Mpathd { path: directory.path().join("none"), named: false, defaults: with(5, false) };
        assert_eq!(default.read().unwrap(), []);
        assert_eq!(default.defaults(), Defaults::default());
    }
}
