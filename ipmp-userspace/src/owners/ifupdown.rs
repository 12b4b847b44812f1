//! ifupdown: `/etc/network/interfaces` and the files that it includes.

use std::path::{Path, PathBuf};

use super::{Host, Kind, Nic, Owner, cloud_init};

/// The first file.
const FILE: &str = "/etc/network/interfaces";
/// Without the program the files configure nothing.
const PROGRAMS: [&str; 2] = ["/usr/sbin/ifup", "/sbin/ifup"];
/// What the program has configured, a line each: `eth0=eth0`.
const STATES: [&str; 2] = ["/run/network/ifstate", "/etc/network/run/ifstate"];
/// How many files are read at most: they may include each other.
const MOST_FILES: usize = 64;
/// How deep they may include each other.
const DEEPEST: usize = 8;

/// A line of the file that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `auto`, `allow-hotplug`: configured at boot, or when it appears.
    Auto(Vec<String>),
    /// `iface NAME FAMILY METHOD`.
    Interface {
        /// Its name.
        name: String,
        /// How it is configured.
        method: String,
    },
    /// `source`: files, by a pattern.
    Source(String),
    /// `source-directory`: a directory.
    Directory(String),
}

/// Reads a file: see interfaces(5).
pub fn lines(text: &str) -> Vec<Line> {
    let joined = text.replace("\\\n", " ");
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let keyword = words.next()?;
        Some(match keyword.as_str() {
            "auto" => Line::Auto(words.collect()),
            "iface" => {
                let (name, _family, method) = (words.next()?, words.next(), words.next());
                // A stanza without a method inherits that of a template, which is not followed.
                Line::Interface { name, method: method.unwrap_or_default() }
            }
            "source" => Line::Source(words.next()?),
            "source-directory" => Line::Directory(words.next()?),
            _ if keyword.starts_with("allow-") => Line::Auto(words.collect()),
            _ => return None,
        })
    };
    joined.lines().filter_map(line).collect()
}

/// Whether ifupdown configures addresses of an interface by this method.
pub fn configures(method: &str) -> bool {
    !matches!(method, "manual" | "loopback")
}

/// What the files say of a NIC.
#[derive(Debug, Default)]
struct Found {
    automatic: bool,
    stanza: Option<PathBuf>,
    files: usize,
}

pub(super) fn owner(host: &Host, nic: &Nic<'_>) -> Option<Owner> {
    if !PROGRAMS.iter().any(|program| host.exists(program)) {
        return None;
    }
    let mut found = Found::default();
    read(host, nic.name, Path::new(FILE), &mut found, 0);
    let file = found.stanza?;
    let name = nic.name;
    let is_up = || {
        let state = STATES.iter().find_map(|file| host.read(file)).unwrap_or_default();
        state.lines().any(|line| line.split(['=', ' ']).next() == Some(name))
    };
    if !found.automatic && !is_up() {
        return None;
    }
    let source = file.display().to_string();
    let mut remedy = format!(
        "replace the lines of {name} there by 'iface {name} inet manual', and do not run ifdown, which would remove the addresses"
    );
    let mut program = "ifupdown".to_owned();
    if cloud_init::has_written(host, &source) {
        program = "cloud-init through ifupdown".into();
        if !cloud_init::is_disabled(host) {
            remedy += &format!("; {}", cloud_init::REMEDY);
        }
    }
    Some(Owner { kind: Kind::Other, program, source, remedy })
}

fn read(host: &Host, name: &str, file: &Path, found: &mut Found, depth: usize) {
    if found.files == MOST_FILES || depth == DEEPEST {
        return;
    }
    found.files += 1;
    let Some(text) = host.read(file) else { return };
    let directory = file.parent().unwrap_or(Path::new("/"));
    for line in lines(&text) {
        match line {
            Line::Auto(names) => found.automatic |= names.iter().any(|other| other == name),
            Line::Interface { name: other, method } => {
                if other == name && configures(&method) {
                    found.stanza.get_or_insert_with(|| file.to_owned());
                }
            }
            Line::Source(pattern) => {
                let pattern = directory.join(pattern);
                let (Some(directory), Some(last)) = (pattern.parent(), pattern.file_name()) else { continue };
                let (directory, last) = (directory.to_string_lossy(), last.to_string_lossy());
                for file in host.files(&directory, "") {
                    let other = file.file_name().unwrap_or_default().to_string_lossy();
                    if !other.starts_with('.') && matches(&last, &other) {
                        read(host, name, &file, found, depth + 1);
                    }
                }
            }
            Line::Directory(place) => {
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                for file in host.files(&directory.join(place).to_string_lossy(), "") {
                    let other = file.file_name().unwrap_or_default().to_string_lossy();
                    if other.bytes().all(is_name) {
                        read(host, name, &file, found, depth + 1);
                    }
                }
            }
        }
    }
}

/// Whether a name matches a pattern with `*` and `?`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut of, mut star) = (0, 0, None);
    while of < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(&letter) if letter == '?' || letter == name[of] => {
                at += 1;
                of += 1;
            }
            // The last star takes one letter more.
            _ => {
                let Some((before, taken)) = star else { return false };
                star = Some((before, taken + 1));
                at = before + 1;
                of = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|&letter| letter == '*')
}
