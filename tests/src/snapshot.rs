//! How a host is: its network, the settings of its interfaces, and what `ipmpd` keeps of it. Compared before and after,
//! it shows whether anything was changed, or everything given back.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::network::Lab;
use crate::{clock, command};

/// Questions to the kernel, whose answers are lists of objects without counters.
const QUESTIONS: [&str; 6] = [
    "ip -j -d link show",
    "ip -j address show",
    "ip -j -4 route show table all",
    "ip -j -6 route show table all",
    "ip -j maddress show",
    "tc -j qdisc show",
];

/// The host of a lab at one moment, as lines.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(Vec<String>);

impl Snapshot {
    /// How it is now.
    pub fn take(lab: &Lab) -> Result<Self> {
        let mut lines = Vec::new();
        for question in QUESTIONS {
            let words: Vec<&str> = question.split(' ').collect();
            let answer = command::run(lab.host().command(words[0]).args(&words[1..]))?;
            let answer: Vec<Value> =
                serde_json::from_str(&answer).with_context(|| format!("`{question}` gives no JSON list"))?;
            lines.extend(answer.iter().map(|object| format!("{question}: {object}")));
        }
        lab.host().run(|| {
            for family in ["ipv4", "ipv6"] {
                for path in files_in(&Path::new("/proc/sys/net").join(family).join("conf")) {
                    // Some can only be written.
                    if let Ok(value) = fs::read_to_string(&path) {
                        lines.push(format!("{} = {}", path.display(), value.trim()));
                    }
                }
            }
        });
        let cookie = lab.host().cookie()?.to_string();
        for layout in fs::read_dir("/sys/fs/bpf/ipmp").into_iter().flatten().flatten() {
            for path in files_in(&layout.path().join(&cookie)) {
                // A pin that is made anew has another number.
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

    /// How it is when nothing changes any more: links are up, and IPv6 addresses have been found to be unique.
    pub fn at_rest(lab: &Lab) -> Result<Self> {
        let mut last = Self::take(lab)?;
        let rest = clock::wait_until(PATIENCE, || {
            std::thread::sleep(PAUSE);
            let Ok(now) = Self::take(lab) else { return false };
            let rests = now.differences(&last).is_empty() && !now.is_tentative();
            last = now;
            rests
        });
        ensure!(rest, "{} does not come to rest within {PATIENCE:?}", lab.host().name());
        Ok(last)
    }

    /// With something else that is to be compared.
    pub fn with(mut self, line: String) -> Self {
        self.0.push(line);
        self
    }

    /// What was otherwise before, and what is otherwise now, a line each; nothing when all is the same. Order does not
    /// count: the kernel lists what was set up last, first or last.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let only = |these: &Self, those: &Self, sign: char| -> Vec<String> {
            let lines = these.0.iter().filter(|line| !those.0.contains(line));
            lines.map(|line| format!("{sign} {line}")).collect()
        };
        [only(before, self, '-'), only(self, before, '+')].concat()
    }

    /// Things that were looked at.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was looked at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_tentative(&self) -> bool {
        self.0.iter().any(|line| line.contains("\"tentative\":true"))
    }
}

/// How long a host may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
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
