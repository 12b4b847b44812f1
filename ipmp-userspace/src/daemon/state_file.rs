//! The state file: the configuration before the daemon changed it, and what the operator has set.
//!
//! The maps hold what the datapath needs, the kernel holds addresses and routes; this file holds the rest. It is written
//! *before* the change that it describes, and replaced whole: whenever a daemon is killed, the next one, or
//! `ipmpd --teardown`, can restore everything.

mod identity;
mod restored;
mod settings;
mod unfinished;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

pub use identity::{SavedAbsence, SavedIdentity, recognise};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
pub use settings::{DEFAULT_WEIGHT, Updelays};
pub use unfinished::Unfinished;

use super::migration::Configuration;
use crate::{
    control::{DataAddress, Setting, TestAddressSpec},
    link::{Address, Ioctl, Mac, RouteEntry, Saved},
    types::{Family, Origin},
};

/// Where the files of all network namespaces are.
const DIRECTORY: &str = "/run/ipmp";
/// Version of the file.
const VERSION: u32 = 2;
/// Oldest version that is read: it has the members by interface name.
const OLDEST: u32 = 1;

/// Cause the file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An I/O error.
    #[error("cannot {what} {}: {source}; ipmpd saves there the configuration that it restores later", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// It is damaged, or of another version.
    #[error("{} is not a state file of this ipmpd ({reason}); move it away and start again", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// The records of one network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedState {
    version: u32,
    /// The groups, by name.
    pub groups: BTreeMap<String, SavedGroup>,
    /// Changes that have begun, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<Unfinished>,
}

impl SavedState {
    /// Parses a state file.
    ///
    /// # Errors
    /// The reason why it is not a state file of this version.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice::<Self>(text) {
            Ok(state) if (OLDEST..=VERSION).contains(&state.version) => {
                Ok(Self { version: VERSION, ..state })
            }
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
    /// Index of the group interface; 0: unknown. Its name may change.
    #[serde(default)]
    pub ifindex: u32,
    /// Members, by number: a member keeps it when its interface is renamed.
    #[serde(deserialize_with = "members_by_number")]
    pub members: BTreeMap<u8, SavedMember>,
    /// Addresses and routes moved to the group interface, by the interface they came from, which need not be a member
    /// any more.
    pub moved: BTreeMap<String, Configuration>,
    /// Settings of the operator.
    #[serde(default)]
    pub chosen: Vec<Setting>,
    /// Explicit targets.
    #[serde(default)]
    pub targets: Vec<SavedTarget>,
    /// Whether the configuration files describe it.
    #[serde(default)]
    pub origin: Origin,
    /// The files are being applied to it for the first time: if the daemon is killed, the next one continues.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// Data addresses that commands or files added.
    #[serde(default)]
    pub added: Vec<SavedAddress>,
    /// Routes that files added.
    #[serde(default)]
    pub routes: Vec<RouteEntry>,
    /// Preferred inbound members of addresses, which need not be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inbound: BTreeMap<IpAddr, SavedInbound>,
}

/// The preferred inbound member of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedInbound {
    /// Number of the member.
    pub member: u8,
    /// Number of the logical interface of that member in the classic display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical: Option<u16>,
}

/// A data address that a command or a file added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedAddress {
    /// The address.
    pub address: DataAddress,
    /// Which of them.
    pub origin: Origin,
}

/// Reads the members, whatever key an older version gave them; its keys were their names.
fn members_by_number<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<u8, SavedMember>, D::Error> {
    let members = BTreeMap::<String, serde_json::Map<String, serde_json::Value>>::deserialize(input)?;
    let by_number = members.into_iter().map(|(key, mut member)| {
        member.entry("name").or_insert_with(|| key.into());
        let member = SavedMember::deserialize(serde_json::Value::from(member)).map_err(D::Error::custom)?;
        Ok((member.number, member))
    });
    by_number.collect()
}

impl SavedGroup {
    /// The data addresses for which a member is the preferred inbound member.
    pub fn preferred_by(&self, member: u8) -> impl Iterator<Item = IpAddr> {
        self.inbound.iter().filter(move |(_, saved)| saved.member == member).map(|(ip, _)| *ip)
    }

    /// Which program configured an address of the group interface.
    pub fn origin_of(&self, ip: IpAddr, prefix: u8) -> Origin {
        let is_it = |added: &&SavedAddress| (added.address.address(), added.address.prefix()) == (ip, prefix);
        let moved = || self.moved.values().flat_map(|moved| &moved.addresses);
        match self.added.iter().find(is_it) {
            Some(added) => added.origin,
            None if moved().any(|address| (address.ip, address.prefix) == (ip, prefix)) => Origin::Moved,
            None => Origin::Other,
        }
    }

    /// Records new names of members, all at once: two may have swapped theirs. What was moved from them follows.
    pub fn rename_members(&mut self, names: &BTreeMap<u8, String>) {
        let mut moved = Vec::new();
        for (number, name) in names {
            let Some(member) = self.members.get_mut(number) else { continue };
            let before = std::mem::replace(&mut member.name, name.clone());
            moved.extend(self.moved.remove(&before).map(|configuration| (name.clone(), configuration)));
        }
        self.moved.extend(moved);
    }

    /// Updates the names of the members after the kernel's.
    fn follow_members(&mut self, ioctl: &Ioctl) {
        let present = self.members.iter().filter(|(_, member)| member.absent.is_none());
        let renamed = present.filter_map(|(&number, member)| {
            let name = ioctl.name(member.ifindex)?;
            (name != member.name).then_some((number, name))
        });
        let names = renamed.collect();
        self.rename_members(&names);
    }
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTarget {
    /// Its address.
    pub address: IpAddr,
    /// Not to be probed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMember {
    /// Its number.
    pub number: u8,
    /// Its interface name.
    pub name: String,
    /// Its interface index.
    pub ifindex: u32,
    /// Its weight.
    pub weight: u32,
    /// Its speed in Mbit/s when it joined.
    pub speed: Option<u32>,
    /// Its sysctl settings before.
    pub settings: Vec<Saved>,
    /// Whether it was administratively down before.
    pub was_down: bool,
    /// Settings of the operator.
    #[serde(default)]
    pub chosen: Vec<Setting>,
    /// Its test addresses.
    #[serde(default)]
    pub test_addresses: SavedTestAddresses,
    /// What the daemon added to its hardware filters.
    #[serde(default)]
    pub filters: SavedFilters,
    /// What it is recognised by when its device returns.
    #[serde(default)]
    pub identity: SavedIdentity,
    /// Until when the operator drains it, in milliseconds of `CLOCK_MONOTONIC`. Without effect once it is offline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained_until_ms: Option<u64>,
    /// Its device does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<SavedAbsence>,
}

/// The test addresses of a member: what is needed to remove them, or to restore what was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedTestAddresses {
    /// Those that the operator configured, one a family.
    pub named: Vec<TestAddressSpec>,
    /// Those that the daemon added to the member.
    #[serde(alias = "put")]
    pub added: Vec<IpAddr>,
    /// Those that another program added, as they were before the daemon changed them.
    pub changed: Vec<Address>,
    /// Those with a route of their own to their subnet.
    pub routed: Vec<Ipv4Addr>,
}

impl SavedTestAddresses {
    /// With these configured addresses, and nothing changed yet.
    pub fn new(named: Vec<TestAddressSpec>) -> Self {
        Self { named, ..Self::default() }
    }

    /// Drops a test address, configured or not.
    pub fn remove(&mut self, address: TestAddressSpec) {
        let ip = address.address().map(|address| address.address());
        self.named.retain(|other| *other != address);
        self.added.retain(|other| Some(*other) != ip);
        self.changed.retain(|other| Some(other.ip) != ip);
    }

    /// The configured test address of a family.
    pub fn named_in(&self, family: Family) -> Option<TestAddressSpec> {
        self.named.iter().copied().find(|named| named.family() == family)
    }

    /// Whether the operator configured this address.
    pub fn is_named(&self, ip: IpAddr) -> bool {
        self.named.iter().any(|named| named.address().is_some_and(|address| address.address() == ip))
    }

    /// Whether an address of the member is declared as its test address: by itself, or by `dhcp`.
    pub fn is_candidate(&self, ip: IpAddr) -> bool {
        let can_be_leased = matches!(ip, IpAddr::V4(v4) if !v4.is_link_local() && !v4.is_loopback());
        self.is_named(ip) || (can_be_leased && self.named.contains(&TestAddressSpec::Dhcp))
    }
}

/// What the daemon added to the hardware filters of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFilters {
    /// Multicast MACs.
    pub multicast: BTreeSet<Mac>,
    /// Whether the daemon set `IFF_ALLMULTI`.
    pub all_multicast: bool,
    /// The additional unicast MAC.
    pub unicast: Option<Mac>,
}

/// The file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// Its content.
    pub state: SavedState,
}

impl StateFile {
    /// Reads the file of the network namespace with this cookie. A missing file is an empty one.
    pub fn open(cookie: u64) -> Result<Self, Error> {
        Self::open_at(Path::new(DIRECTORY).join(cookie.to_string()).join("state.json"))
    }

    fn open_at(path: PathBuf) -> Result<Self, Error> {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    path,
                    state: SavedState { version: VERSION, groups: BTreeMap::new(), unfinished: Vec::new() },
                });
            }
            Err(source) => return Err(Error::File { what: "read", path, source }),
        };
        match SavedState::read(&text) {
            Ok(state) => Ok(Self { path, state }),
            Err(reason) => Err(Error::Unreadable { path, reason }),
        }
    }

    /// The record of a group.
    pub fn group(&self, group: &str) -> Option<&SavedGroup> {
        self.state.groups.get(group)
    }

    /// The record of a member.
    pub fn member(&self, group: &str, member: &str) -> Option<&SavedMember> {
        self.group(group)?.members.values().find(|saved| saved.name == member)
    }

    /// The record of a member, to be changed.
    pub fn member_mut(&mut self, group: &str, member: &str) -> Option<&mut SavedMember> {
        self.state.groups.get_mut(group)?.members.values_mut().find(|saved| saved.name == member)
    }

    /// Drops the record of a member that left.
    pub fn forget_member(&mut self, group: &str, member: &str) {
        if let Some(group) = self.state.groups.get_mut(group) {
            group.members.retain(|_, saved| saved.name != member);
            let members = &group.members;
            group.inbound.retain(|_, saved| members.contains_key(&saved.member));
        }
        self.save_or_log();
    }

    /// The directory of the timelines, which are removed with it.
    pub fn timelines(&self) -> PathBuf {
        self.path.with_file_name("timelines")
    }

    /// Updates the names of members and groups after the kernel's: they may have been renamed while no daemon ran. Returns
    /// the groups that have another name now: before and after.
    pub fn follow_names(&mut self) -> Vec<(String, String)> {
        let mut renamed = Vec::new();
        let ioctl = match Ioctl::open() {
            Ok(ioctl) => ioctl,
            Err(error) => {
                log::warn!("names of interfaces cannot be read: {error}");
                return renamed;
            }
        };
        for (name, group) in &mut self.state.groups {
            group.follow_members(&ioctl);
            if let Some(now) = ioctl.name(group.ifindex).filter(|now| now != name) {
                renamed.push((name.clone(), now));
            }
        }
        self.rename_groups(&renamed);
        renamed
    }

    /// Records new names of groups, all at once: two may have swapped theirs.
    pub fn rename_groups(&mut self, names: &[(String, String)]) {
        let removed: Vec<_> = names.iter().map(|(before, _)| self.state.groups.remove(before)).collect();
        for ((before, now), group) in names.iter().zip(removed) {
            let Some(mut group) = group else { continue };
            if group.groupname == *before {
                group.groupname.clone_from(now);
            }
            self.state.groups.insert(now.clone(), group);
        }
    }

    /// Writes the file where a failure must not stop the operation.
    pub fn save_or_log(&self) {
        // A file that is not up to date would mislead the next daemon.
        if let Err(error) = self.save().or_else(|_| self.save()) {
            log::error!("{error}");
        }
    }

    /// Writes the file, or removes it if nothing is left to record.
    pub fn save(&self) -> Result<(), Error> {
        let is_empty = self.state.groups.is_empty() && self.state.unfinished.is_empty();
        let result = if is_empty { self.remove() } else { self.write() };
        result.map_err(|source| Error::File { what: "write", path: self.path.clone(), source })
    }

    fn write(&self) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        }
        let new = self.path.with_extension("json.new");
        // Written at once: `to_writer` would make a system call for each token.
        let text = serde_json::to_vec(&self.state)?;
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    fn remove(&self) -> io::Result<()> {
        for removed in [fs::remove_file(&self.path), fs::remove_dir_all(self.timelines())] {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if let Some(directory) = self.path.parent() {
            // It may hold files of others.
            let _ = fs::remove_dir(directory);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::control::{LastMember, request::ConfigurationFile};

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("ipmp-state-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory.join("state.json")
    }

    fn filled(path: &Path) -> StateFile {
        let mut file = StateFile::open_at(path.into()).unwrap();
        let mut group = SavedGroup { groupname: "prod".into(), ..Default::default() };
        let settings = vec![Saved {
            family: "ipv4".into(),
            setting: "arp_ignore".into(),
            before: "0".into(),
            ours: "1".into(),
        }];
        let member = SavedMember {
            number: 3,
            name: "eth0".into(),
            ifindex: 9,
            weight: 1000,
            speed: None,
            settings,
            was_down: true,
            chosen: vec!["weight=10".parse().unwrap()],
            test_addresses: SavedTestAddresses {
                named: vec!["dhcp".parse().unwrap(), "fd00::1/64".parse().unwrap()],
                added: vec!["fd00::1".parse().unwrap()],
                changed: vec![crate::link::Address::new("10.0.0.1".parse().unwrap(), 24)],
                routed: vec!["10.0.0.1".parse().unwrap()],
            },
            filters: SavedFilters::default(),
            identity: SavedIdentity { mac: Some([2, 0, 0, 0, 0, 1]), ..SavedIdentity::default() },
            drained_until_ms: None,
            absent: Some(SavedAbsence { name: "eth0".into(), mtu: 1500, offline: true }),
        };
        group.chosen.push("capture=on".parse().unwrap());
        group.chosen.push("fdt=100ms".parse().unwrap());
        group.origin = Origin::File;
        let address = "192.168.178.200/24".parse().unwrap();
        group.added.push(SavedAddress { address, origin: Origin::File });
        group.routes.push(RouteEntry::default_through("192.168.178.1".parse().unwrap()));
        group.targets.push(SavedTarget { address: "192.168.178.1".parse().unwrap(), disabled: true });
        group.members.insert(3, member);
        group.moved.insert("eth0".into(), Configuration::default());
        group.inbound.insert("10.0.0.2".parse().unwrap(), SavedInbound { member: 3, logical: Some(1) });
        file.state.groups.insert("production0".into(), group);
        file
    }

    #[test]
    fn saved_state_is_read_back() {
        let path = scratch("read");
        let file = filled(&path);
        file.save().unwrap();
        assert_eq!(StateFile::open_at(path.clone()).unwrap().state, file.state);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn older_file_without_settings_is_read() {
        let path = scratch("before");
        filled(&path).save().unwrap();
        let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let group = &mut text["groups"]["production0"];
        group.as_object_mut().unwrap().remove("chosen").unwrap();
        group.as_object_mut().unwrap().remove("targets").unwrap();
        let mut member = group["members"].as_object_mut().unwrap().remove("3").unwrap();
        for name in ["chosen", "test_addresses", "name"] {
            member.as_object_mut().unwrap().remove(name).unwrap();
        }
        group["members"]["eth0"] = member;
        text["version"] = 1.into();
        fs::write(&path, text.to_string()).unwrap();
        let state = StateFile::open_at(path.clone()).unwrap().state;
        let member = &state.groups["production0"].members[&3];
        assert_eq!((state.version, member.name.as_str()), (VERSION, "eth0"));
        assert!(state.groups["production0"].targets.is_empty());
        assert!(member.chosen.is_empty() && member.test_addresses == SavedTestAddresses::default());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn members_that_swap_names_keep_their_records() {
        let path = scratch("swap");
        let mut file = filled(&path);
        let group = file.state.groups.get_mut("production0").unwrap();
        let other = SavedMember { number: 1, name: "eth1".into(), weight: 7, ..group.members[&3].clone() };
        group.members.insert(1, other);
        let routed = Configuration {
            addresses: vec![crate::link::Address::new("10.0.0.9".parse().unwrap(), 24)],
            ..Configuration::default()
        };
        group.moved.insert("eth1".into(), routed.clone());
        group.rename_members(&BTreeMap::from([(3, "eth1".into()), (1, "eth0".into())]));
        assert_eq!(
            group.moved,
            BTreeMap::from([("eth0".into(), routed), ("eth1".into(), Configuration::default())])
        );
        assert_eq!(file.member("production0", "eth0").unwrap().weight, 7);
        file.forget_member("production0", "eth0");
        let group = file.group("production0").unwrap();
        assert_eq!(group.members.keys().collect::<Vec<_>>(), [&3]);
        assert_eq!(group.inbound.len(), 1);
        file.forget_member("production0", "eth1");
        assert!(file.group("production0").unwrap().inbound.is_empty());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn file_is_removed_with_last_group() {
        let path = scratch("goes");
        let mut file = filled(&path);
        file.save().unwrap();
        file.state.groups.clear();
        file.save().unwrap();
        assert!(!path.parent().unwrap().exists());
        file.save().unwrap();
    }

    #[test]
    fn change_that_has_begun_is_read_back_until_it_ends() {
        let path = scratch("begun");
        let mut file = StateFile::open_at(path.clone()).unwrap();
        let files = vec![ConfigurationFile { path: "/etc/ipmp/ipmp.toml".into(), text: String::new() }];
        let all = [
            Unfinished::Apply { files, complete: true },
            Unfinished::Attach { group: "g0".into(), interfaces: vec!["eth0".into()], is_new: true },
            Unfinished::Detach {
                group: "g0".into(),
                interface: "eth0".into(),
                last: Some(LastMember::Restore),
            },
        ];
        // Also without any group.
        all.iter().for_each(|change| file.begin(change.clone()).unwrap());
        assert_eq!(StateFile::open_at(path.clone()).unwrap().state.unfinished, all);
        let shown: Vec<String> = all.iter().map(Unfinished::to_string).collect();
        assert_eq!(shown, ["apply /etc/ipmp/ipmp.toml", "attach eth0 to g0", "detach eth0 from g0"]);
        all.iter().for_each(|_| file.end());
        assert!(!path.exists());
    }

    #[test]
    fn damaged_file_is_rejected_with_its_path() {
        let path = scratch("damaged");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for text in ["", "{", r#"{"version":99,"groups":{}}"#] {
            fs::write(&path, text).unwrap();
            let error = StateFile::open_at(path.clone()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{} is not a state file", path.display())), "{error}");
            assert!(!error.contains('\n'));
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn older_file_without_filters_is_read() {
        let old = r#"{"number":3,"name":"eth0","ifindex":9,"weight":1000,"speed":null,"settings":[],"was_down":false}"#;
        let member: SavedMember = serde_json::from_str(old).unwrap();
        assert_eq!(member.filters, SavedFilters::default());
        let multicast = BTreeSet::from([[0x33, 0x33, 0, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 2]]);
        let filters = SavedFilters { multicast, all_multicast: true, unicast: Some([2; 6]) };
        let text = serde_json::to_string(&filters).unwrap();
        assert_eq!(serde_json::from_str::<SavedFilters>(&text).unwrap(), filters);
    }
}
