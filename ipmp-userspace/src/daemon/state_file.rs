//! What the daemon must not forget: how things were before it touched them.
//!
//! The maps hold what the datapath needs, the kernel holds addresses and routes; this file holds what neither does.
//! It is written *before* the change that it describes, and replaced whole, so that whatever moment a daemon is killed
//! at, the next one, or `ipmpd --teardown`, can put everything back.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::daemon::{
    group::hardware_filters::Filters, group::test_addresses::Kept, migration::Configuration,
};
use crate::{control::Setting, link::Saved};

/// Where the files of all network namespaces are.
const DIRECTORY: &str = "/run/ipmp";
/// Version of the file: one of another version is not read.
const VERSION: u32 = 1;

/// Why the file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system says no.
    #[error("cannot {what} {}: {source}; ipmpd keeps there how things were before it", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is damaged, or of another version.
    #[error("{} is not a state file of this ipmpd ({reason}); move it away and start again", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// Everything there is to remember in one network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The groups, by name.
    pub groups: BTreeMap<String, SavedGroup>,
}

impl State {
    /// What a file says.
    ///
    /// # Errors
    /// Why it is none of ours.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice::<Self>(text) {
            Ok(state) if state.version == VERSION => Ok(state),
            Ok(state) => Err(format!("version {}", state.version)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedGroup {
    /// Second name of the group interface.
    pub groupname: String,
    /// Members, by interface name.
    pub members: BTreeMap<String, SavedMember>,
    /// What was moved to the group interface, by the interface that it came from; it need not be a member any more.
    pub moved: BTreeMap<String, Configuration>,
    /// What the operator has set.
    #[serde(default)]
    pub chosen: Vec<Setting>,
    /// The targets that the operator has named.
    #[serde(default)]
    pub targets: Vec<TargetState>,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// Its address.
    pub address: IpAddr,
    /// It is not to be probed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMember {
    /// Its number.
    pub number: u8,
    /// Its interface index.
    pub ifindex: u32,
    /// Its weight.
    pub weight: u32,
    /// Its speed in Mbit/s when it joined.
    pub speed: Option<u32>,
    /// Its settings before.
    pub settings: Vec<Saved>,
    /// Whether it was administratively down before.
    pub was_down: bool,
    /// What the operator has set.
    #[serde(default)]
    pub chosen: Vec<Setting>,
    /// What must be known of its test addresses.
    #[serde(default)]
    pub test_addresses: Kept,
    /// What we have put into its hardware filters.
    #[serde(default)]
    pub filters: Filters,
}

/// The file.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// What is in it.
    pub state: State,
}

impl File {
    /// Reads the file of the network namespace with this cookie; a missing one is an empty one.
    pub fn open(cookie: u64) -> Result<Self, Error> {
        Self::open_at(Path::new(DIRECTORY).join(cookie.to_string()).join("state.json"))
    }

    fn open_at(path: PathBuf) -> Result<Self, Error> {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, state: State { version: VERSION, groups: BTreeMap::new() } });
            }
            Err(source) => return Err(Error::File { what: "read", path, source }),
        };
        match State::read(&text) {
            Ok(state) => Ok(Self { path, state }),
            Err(reason) => Err(Error::Unreadable { path, reason }),
        }
    }

    /// Writes the file; with no group left it goes.
    pub fn save(&self) -> Result<(), Error> {
        let result = if self.state.groups.is_empty() { self.remove() } else { self.write() };
        result.map_err(|source| Error::File { what: "write", path: self.path.clone(), source })
    }

    fn write(&self) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        }
        let new = self.path.with_extension("json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        serde_json::to_writer(&mut file, &self.state)?;
        file.flush()?;
        fs::rename(new, &self.path)
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if let Some(directory) = self.path.parent() {
            // It may hold what is not ours.
            let _ = fs::remove_dir(directory);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("ipmp-state-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory.join("state.json")
    }

    fn filled(path: &Path) -> File {
        let mut file = File::open_at(path.into()).unwrap();
        let mut group = SavedGroup { groupname: "prod".into(), ..Default::default() };
        let settings = vec![Saved {
            family: "ipv4".into(),
            setting: "arp_ignore".into(),
            before: "0".into(),
            ours: "1".into(),
        }];
        let member = SavedMember {
            number: 3,
            ifindex: 9,
            weight: 1000,
            speed: None,
            settings,
            was_down: true,
            chosen: vec!["weight=10".parse().unwrap()],
            test_addresses: Kept {
                named: vec!["dhcp".parse().unwrap(), "fd00::1/64".parse().unwrap()],
                put: vec!["fd00::1".parse().unwrap()],
                changed: vec![crate::link::Address::new("10.0.0.1".parse().unwrap(), 24)],
                routed: vec!["10.0.0.1".parse().unwrap()],
            },
            filters: Filters::default(),
        };
        group.chosen.push("capture=on".parse().unwrap());
        group.chosen.push("fdt=100ms".parse().unwrap());
        group.targets.push(TargetState { address: "192.168.178.1".parse().unwrap(), disabled: true });
        group.members.insert("eth0".into(), member);
        group.moved.insert("eth0".into(), Configuration::default());
        file.state.groups.insert("production0".into(), group);
        file
    }

    #[test]
    fn what_is_saved_is_read() {
        let path = scratch("read");
        let file = filled(&path);
        file.save().unwrap();
        assert_eq!(File::open_at(path.clone()).unwrap().state, file.state);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_file_from_before_there_were_settings_is_read() {
        let path = scratch("before");
        filled(&path).save().unwrap();
        let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let group = &mut text["groups"]["production0"];
        group.as_object_mut().unwrap().remove("chosen").unwrap();
        group.as_object_mut().unwrap().remove("targets").unwrap();
        for name in ["chosen", "test_addresses"] {
            group["members"]["eth0"].as_object_mut().unwrap().remove(name).unwrap();
        }
        fs::write(&path, text.to_string()).unwrap();
        let state = File::open_at(path.clone()).unwrap().state;
        let member = &state.groups["production0"].members["eth0"];
        assert!(state.groups["production0"].targets.is_empty());
        assert!(member.chosen.is_empty() && member.test_addresses == Kept::default());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn with_the_last_group_the_file_goes() {
        let path = scratch("goes");
        let mut file = filled(&path);
        file.save().unwrap();
        file.state.groups.clear();
        file.save().unwrap();
        assert!(!path.parent().unwrap().exists());
        file.save().unwrap();
    }

    #[test]
    fn a_damaged_file_is_refused_by_name() {
        let path = scratch("damaged");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for text in ["", "{", r#"{"version":99,"groups":{}}"#] {
            fs::write(&path, text).unwrap();
            let error = File::open_at(path.clone()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{} is not a state file", path.display())), "{error}");
            assert!(!error.contains('\n'));
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
