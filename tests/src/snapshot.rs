//! The configuration of a host: its network, the sysctls of its interfaces, and the files of `ipmpd`. Two snapshots are
//! compared to find what was changed or not restored.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::network::Lab;
use crate::{TIMEOUT, command, wait_until};

/// Commands that print JSON lists of objects without counters, one process each, with the lines that they read.
const COMMANDS: [(&str, &str); 3] = [
    ("ip -j -d -batch -", "link show\naddress show\nmaddress show\nroute show table all\nrule show\n"),
    ("ip -j -6 -batch -", "route show table all\nrule show\n"),
    ("tc -j qdisc show", ""),
];

/// The configuration of a lab's host at one moment, as lines.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(Vec<String>);

impl Snapshot {
    /// The current configuration.
    pub fn take(lab: &Lab) -> Result<Self> {
        let mut lines = Vec::new();
        for (line, input) in COMMANDS {
            let words: Vec<&str> = line.split(' ').collect();
            let output = command::run_with(lab.host().command(words[0]).args(&words[1..]), input)?;
            let lists = serde_json::Deserializer::from_str(&output).into_iter::<Vec<Value>>();
            for (at, list) in lists.enumerate() {
                let mut list = list.with_context(|| format!("`{line}` prints no JSON list"))?;
                list.iter_mut().for_each(sort_multicast_addresses);
                let shown = match input.lines().nth(at) {
                    Some(read) => line.replace("-batch -", read),
                    None => line.to_owned(),
                };
                lines.extend(list.iter().map(|object| format!("{shown}: {object}")));
            }
        }
        lab.host().run(|| {
            for family in ["ipv4", "ipv6"] {
                for path in files_in(&Path::new("/proc/sys/net").join(family).join("conf")) {
                    // Some are write-only.
                    if let Ok(value) = fs::read_to_string(&path) {
                        lines.push(format!("{} = {}", path.display(), value.trim()));
                    }
                }
            }
        });
        let cookie = lab.host().cookie()?.to_string();
        for layout in fs::read_dir("/sys/fs/bpf/ipmp").into_iter().flatten().flatten() {
            for path in files_in(&layout.path().join(&cookie)) {
                // A recreated pin has another inode number.
                lines.push(format!(
                    "{} {:?}",
                    path.display(),
                    fs::symlink_metadata(&path).map(|pin| pin.ino())
                ));
            }
        }
        for path in files_in(&Path::new("/run/ipmp").join(&cookie)) {
            lines.push(format!("{}: {}", path.display(), fs::read_to_string(&path).unwrap_or_default()));
        }
        Ok(Self(lines))
    }

    /// The configuration when nothing changes any more: links are up, and IPv6 duplicate address detection has ended.
    pub fn settled(lab: &Lab) -> Result<Self> {
        let mut last = Self::take(lab)?;
        let settled = wait_until(TIMEOUT, || {
            std::thread::sleep(PAUSE);
            let Ok(now) = Self::take(lab) else { return false };
            let is_settled = now.differences(&last).is_empty() && !now.is_tentative();
            last = now;
            is_settled
        });
        ensure!(settled, "the configuration of {} still changes after {TIMEOUT:?}", lab.host().name());
        Ok(last)
    }

    /// Adds a line.
    pub fn with(mut self, line: String) -> Self {
        self.0.push(line);
        self
    }

    /// Its lines.
    pub fn lines(&self) -> &[String] {
        &self.0
    }

    /// The lines that were removed and added since `before`. The order of lines is ignored: it depends on the order of
    /// configuration.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let only = |these: &Self, those: &Self, sign: char| -> Vec<String> {
            let lines = these.0.iter().filter(|line| !those.0.contains(line));
            lines.map(|line| format!("{sign} {line}")).collect()
        };
        [only(before, self, '-'), only(self, before, '+')].concat()
    }

    /// The number of lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_tentative(&self) -> bool {
        self.0.iter().any(|line| line.contains("\"tentative\":true"))
    }
}

/// The kernel lists them in the order in which they were added.
fn sort_multicast_addresses(interface: &mut Value) {
    if let Some(addresses) = interface.get_mut("maddr").and_then(Value::as_array_mut) {
        addresses.sort_by_key(Value::to_string);
    }
}

/// Between two snapshots.
const PAUSE: Duration = Duration::from_millis(50);

/// Every file and directory below a directory, in a stable order.
fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let below = |path: PathBuf| {
        let inside = if path.is_dir() { files_in(&path) } else { Vec::new() };
        std::iter::once(path).chain(inside)
    };
    paths.into_iter().flat_map(below).collect()
}
