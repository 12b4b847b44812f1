//! Settings of groups and members: `KEY=VALUE`, one table for every key that there is.

use std::{fmt, str::FromStr};

use ipmp_common::{hash::Policy, maps::Capture};
use serde::{Deserialize, Serialize};

/// A setting with its value. In the state file and on the socket it is its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Setting {
    /// Whether those who capture on the group interface are shown what leaves by it.
    Capture(Capture),
    /// How flows find their members.
    Hash(Policy),
    /// Share of the flows that a member should get, against the other members' weights.
    Weight(u32),
}

/// What a setting is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A group.
    Group,
    /// A member.
    Member,
}

/// A key.
struct Key {
    name: &'static str,
    owner: Owner,
    values: &'static str,
    about: &'static str,
    read: fn(&str) -> Option<Setting>,
}

/// Every key.
const KEYS: [Key; 3] = [
    Key {
        name: "capture",
        owner: Owner::Group,
        values: "auto|on|off",
        about: "show outbound packets to captures on the group interface: while there are any, always, never",
        read: |value| Capture::ALL.into_iter().find(|mode| mode.name() == value).map(Setting::Capture),
    },
    Key {
        name: "hash",
        owner: Owner::Group,
        values: "connection|flow|destination",
        about: "spread by connection (a TCP connection in trouble may change its member), by addresses and ports, or by \
                destination address",
        read: |value| Policy::ALL.into_iter().find(|policy| policy.name() == value).map(Setting::Hash),
    },
    Key {
        name: "weight",
        owner: Owner::Member,
        values: "1..1000000",
        about: "share of the flows, against the other members' weights; by default the speed in Mbit/s",
        read: |value| {
            let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
            let weight = value.parse().ok().filter(|weight| is_number && WEIGHTS.contains(weight));
            weight.map(Setting::Weight)
        },
    },
];

/// Weights that a member can have.
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=1_000_000;

/// Why something is no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has no equals sign.
    #[error("{0:?} sets nothing: write KEY=VALUE; {all}", all = all())]
    NoValue(String),
    /// There is no such key.
    #[error("there is no setting {0:?}: {all}", all = all())]
    NoSuchKey(String),
    /// It cannot have this value.
    #[error("{key} cannot be {value:?}: write {key}={values}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What there is.
        values: &'static str,
    },
    /// A key came twice.
    #[error("{0} is set twice: set it once")]
    Twice(&'static str),
    /// A group's setting was to be a member's, or the other way round.
    #[error("{name} is {is} and has no {key}: {has}", is = noun(*owner), has = of(*owner))]
    OtherOwner {
        /// What it was to be set of.
        name: String,
        /// What that is.
        owner: Owner,
        /// The key.
        key: &'static str,
    },
}

fn noun(owner: Owner) -> &'static str {
    match owner {
        Owner::Group => "a group",
        Owner::Member => "a member",
    }
}

/// The settings that a group or a member has.
fn of(owner: Owner) -> String {
    let keys = KEYS.iter().filter(|key| key.owner == owner);
    let keys: Vec<_> = keys.map(|key| format!("{}={}", key.name, key.values)).collect();
    format!("{} has {}", noun(owner), keys.join(", "))
}

/// All settings in one line.
fn all() -> String {
    format!("{}; {}", of(Owner::Group), of(Owner::Member))
}

/// All settings, a line each, for the help of a command.
pub fn help() -> String {
    let mut text = String::from("Settings:");
    for Key { name, owner, values, about, .. } in &KEYS {
        let owner = noun(*owner).trim_start_matches("a ");
        text += &format!("\n  {name}={values}, of a {owner}\n      {about}");
    }
    text
}

impl Setting {
    fn key(self) -> &'static Key {
        match self {
            Self::Capture(_) => &KEYS[0],
            Self::Hash(_) => &KEYS[1],
            Self::Weight(_) => &KEYS[2],
        }
    }

    /// Reads several, of which no two may be of one key.
    ///
    /// # Errors
    /// The first that is none.
    pub fn all_of(texts: &[String]) -> Result<Vec<Self>, Error> {
        let mut settings: Vec<Self> = Vec::new();
        for text in texts {
            let setting: Self = text.parse()?;
            if settings.iter().any(|other| other.is_of_key_of(setting)) {
                return Err(Error::Twice(setting.key().name));
            }
            settings.push(setting);
        }
        Ok(settings)
    }

    /// Refuses a setting that a group, or a member, does not have.
    ///
    /// # Errors
    /// [`Error::OtherOwner`].
    pub fn check(self, name: &str, owner: Owner) -> Result<(), Error> {
        let key = self.key();
        if key.owner == owner {
            Ok(())
        } else {
            Err(Error::OtherOwner { name: name.to_owned(), owner, key: key.name })
        }
    }

    /// Whether two set the same.
    fn is_of_key_of(self, other: Self) -> bool {
        self.key().name == other.key().name
    }

    /// Puts it into a list, in place of an older one.
    pub fn put_into(self, settings: &mut Vec<Self>) {
        settings.retain(|other| !other.is_of_key_of(self));
        settings.push(self);
    }
}

impl FromStr for Setting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, value) = text.split_once('=').ok_or_else(|| Error::NoValue(text.to_owned()))?;
        let key =
            KEYS.iter().find(|key| key.name == name).ok_or_else(|| Error::NoSuchKey(name.to_owned()))?;
        let bad = || Error::BadValue { key: key.name, value: value.to_owned(), values: key.values };
        (key.read)(value).ok_or_else(bad)
    }
}

impl TryFrom<String> for Setting {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Setting> for String {
    fn from(setting: Setting) -> Self {
        setting.to_string()
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.key().name)?;
        match self {
            Self::Capture(mode) => f.write_str(mode.name()),
            Self::Hash(policy) => f.write_str(policy.name()),
            Self::Weight(weight) => write!(f, "{weight}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str =
        "a group has capture=auto|on|off, hash=connection|flow|destination; a member has weight=1..1000000";

    fn read(text: &str) -> Result<Setting, String> {
        text.parse().map_err(|error: Error| error.to_string())
    }

    #[test]
    fn every_value_is_read_as_it_is_written() {
        for text in [
            "capture=auto",
            "capture=on",
            "capture=off",
            "hash=connection",
            "hash=flow",
            "hash=destination",
            "weight=1",
            "weight=1000000",
        ] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert_eq!(read("hash=flow"), Ok(Setting::Hash(Policy::Flow)));
        assert_eq!(read("weight=10"), Ok(Setting::Weight(10)));
    }

    #[test]
    fn what_is_none_is_refused_with_what_there_is() {
        assert_eq!(read("capture"), Err(format!("\"capture\" sets nothing: write KEY=VALUE; {ALL}")));
        assert_eq!(read("colour=red"), Err(format!("there is no setting \"colour\": {ALL}")));
        assert_eq!(read("=on"), Err(format!("there is no setting \"\": {ALL}")));
        assert_eq!(
            read("capture=maybe"),
            Err("capture cannot be \"maybe\": write capture=auto|on|off".to_owned())
        );
        for value in ["", "0", "-1", "+1", "1.5", "1000001", "99999999999"] {
            let refused = format!("weight cannot be {value:?}: write weight=1..1000000");
            assert_eq!(read(&format!("weight={value}")), Err(refused));
        }
        let twice = Setting::all_of(&["capture=on".into(), "capture=on".into()]).unwrap_err();
        assert_eq!(twice.to_string(), "capture is set twice: set it once");
    }

    #[test]
    fn a_group_is_no_member() {
        let refused =
            |text: &str, name, owner| read(text).unwrap().check(name, owner).unwrap_err().to_string();
        assert_eq!(
            refused("weight=1", "production0", Owner::Group),
            "production0 is a group and has no weight: a group has capture=auto|on|off, \
             hash=connection|flow|destination"
        );
        assert_eq!(
            refused("hash=flow", "eth0", Owner::Member),
            "eth0 is a member and has no hash: a member has weight=1..1000000"
        );
        assert_eq!(read("weight=1").unwrap().check("eth0", Owner::Member), Ok(()));
    }

    #[test]
    fn the_last_word_counts() {
        let mut settings = Setting::all_of(&["capture=on".into(), "hash=flow".into()]).unwrap();
        read("capture=off").unwrap().put_into(&mut settings);
        assert_eq!(settings, [Setting::Hash(Policy::Flow), Setting::Capture(Capture::Off)]);
    }
}
