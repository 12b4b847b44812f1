//! `ipmpctl import`: bonds and teams of other programs as a configuration file of ipmp (docs/import.md).
//!
//! | module | reads |
//! |---|---|
//! | [`networkd`] | `.netdev` and `.network` files of systemd-networkd |
//! | [`netplan`] | netplan's YAML |
//! | [`ifupdown`] | `/etc/network/interfaces` |
//! | [`keyfile`] | connections of NetworkManager |
//! | [`teamd`] | the JSON of teamd |
//! | [`running`] | a bond or a team that runs, by netlink |
//!
//! Each fills [`Bond`]s; [`print()`] writes them. A reader of files has no side effects, and what it reads is bounded by their
//! length; [`files`] reads them.

pub mod bond;
pub mod files;
pub mod ifupdown;
mod ini;
pub mod keyfile;
pub mod netplan;
pub mod networkd;
mod print;
pub mod running;
pub mod teamd;
mod yaml;

use std::{fmt, path::PathBuf};

pub use bond::{Bond, Member, Mode};
pub use print::print;

/// A file with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl Source {
    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    fn at(&self, line: usize) -> Place {
        Place { file: self.path.clone(), line }
    }
}

/// A line of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1; 0: the whole file.
    pub line: usize,
}

impl Place {
    fn error(&self, text: impl Into<String>) -> Error {
        Error::Line { place: self.clone(), text: text.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display().to_string().escape_debug())?;
        if self.line > 0 { write!(f, ":{}", self.line) } else { Ok(()) }
    }
}

/// Why files cannot be imported.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    #[error("cannot read {}: {text}", path.display())]
    File { path: PathBuf, text: String },
    #[error("{place}: {}", text.escape_debug())]
    Line { place: Place, text: String },
    #[error("{}: {}", name.escape_debug(), text.escape_debug())]
    Bond { name: String, text: String },
    #[error("{0} has no bond and no team: there is nothing to import")]
    NoBond(String),
}

/// What the files of one program contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Bonds and teams, in the order of the files.
    pub bonds: Vec<Bond>,
    /// What has no equivalent and belongs to no bond, a line each.
    pub notes: Vec<String>,
}

impl Found {
    /// A note that names interfaces which are neither bonds nor their ports.
    fn left_out(&mut self, names: &[String]) {
        if !names.is_empty() {
            self.notes.push(format!("left out, neither a bond nor a port of one: {}", names.join(", ")));
        }
    }
}

/// A program whose files can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// systemd-networkd.
    Networkd,
    /// netplan.
    Netplan,
    /// ifupdown, also ifupdown2 of Proxmox.
    Ifupdown,
    /// NetworkManager.
    Keyfile,
    /// teamd.
    Teamd,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Networkd, Self::Netplan, Self::Ifupdown, Self::Keyfile, Self::Teamd];

    /// The format of a file, by its name, else by its text.
    pub fn of(source: &Source) -> Option<Self> {
        let name = source.name();
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let is_first = |first: &str| {
            let mut lines = source.text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.find(|line| !line.starts_with(['#', ';'])).is_some_and(|line| line.starts_with(first))
        };
        Some(match extension {
            "netdev" | "network" => Self::Networkd,
            "yaml" | "yml" => Self::Netplan,
            "nmconnection" => Self::Keyfile,
            "json" => Self::Teamd,
            "conf" if networkd::drop_in(&source.path).is_some() => Self::Networkd,
            _ if is_first("{") => Self::Teamd,
            _ if source.text.lines().any(|line| line.trim() == "[connection]") => Self::Keyfile,
            _ if ifupdown::has_stanza(&source.text) => Self::Ifupdown,
            _ => return None,
        })
    }

    /// Reads the files of one program.
    ///
    /// # Errors
    /// A line that cannot be read, or a bond that has no equivalent.
    pub fn read(self, sources: &[Source]) -> Result<Found, Error> {
        match self {
            Self::Networkd => networkd::read(sources),
            Self::Netplan => netplan::read(sources),
            Self::Ifupdown => ifupdown::read(sources),
            Self::Keyfile => keyfile::read(sources),
            Self::Teamd => teamd::read(sources),
        }
    }
}

#[cfg(test)]
mod tests;
