//! Settings of groups and members: `KEY=VALUE`, one table for every key that there is.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{detection::DetectionTime, link_delay::LinkDelay, target};
use crate::types::{
    CaptureMode, Confirm, Failback, HashPolicy, MatchBy, Percent, ProbePolicy, SplitPolicy, SysctlPolicy,
    XdpMode,
};

/// A setting with its value. In the state file and on the socket it is its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Setting {
    /// Whether new IPv4 addresses are probed for before they are announced.
    AddressDetection(bool),
    /// How often an address that is new or has moved is announced; `None`: as many times as its family usually is.
    AnnounceCount(Option<u8>),
    /// After this many seconds without announcement a member announces one of its addresses again.
    AnnounceInterval(u16),
    /// Maximum announcements of a family through a member in a second; `None`: few for few addresses.
    AnnounceRate(Option<u16>),
    /// When outbound packets are copied for captures on the group interface.
    Capture(CaptureMode),
    /// Whether `ipmp-ifconfig` shows the group as classic IPMP does.
    Classic(bool),
    /// When the probes that confirm a failure are sent.
    Confirm(Confirm),
    /// Whether the traffic of the host starts probes that confirm a failure.
    Evidence(bool),
    /// Whether TCP connections of this host have the data addresses as sources in turn.
    SourceSpread(bool),
    /// Whether members with a link stay in use if all probes fail.
    FailOpen(bool),
    /// Whether, and how, flows return to a repaired member.
    Failback(Failback),
    /// With `failback=idle`: after this many seconds active flows return, too.
    FailbackLimit(u16),
    /// Maximum time to detect a failure while the link stays up.
    Fdt(DetectionTime),
    /// How flows are assigned to members.
    Hash(HashPolicy),
    /// The share of packets that a member may lose until it is degraded; `None`: it never is.
    LossWarn(Option<Percent>),
    /// The share above which a degraded member does not transmit; `None`: it always does.
    LossFail(Option<Percent>),
    /// Whether kernel settings that another program changes are restored.
    ManageSysctls(SysctlPolicy),
    /// Whether members without a test address are probed.
    Probe(ProbePolicy),
    /// Which members transmit while the network is split behind them.
    Split(SplitPolicy),
    /// Targets to probe; empty: discovered.
    Targets(Vec<IpAddr>),
    /// How long a link must be up before its member is used.
    Updelay(LinkDelay),
    /// Whether a member is used only when an active member fails.
    Standby(bool),
    /// By what a member is recognised when its device returns.
    Match(MatchBy),
    /// Share of the flows that a member should get, against the other members' weights.
    Weight(u32),
    /// Whether a member drops frames before the kernel handles them.
    Xdp(XdpMode),
}

/// The kind of object that has a setting.
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
    owners: &'static [Owner],
    values: &'static str,
    about: &'static str,
    read: fn(&str) -> Result<Option<Setting>, target::Error>,
}

/// Every key.
const KEYS: &[Key] = &[
    Key {
        name: "address-detection",
        owners: &[Owner::Group],
        values: "yes|no",
        about: "announce a new IPv4 address only after probes for 4 s have found no other host with it (yes), or at once \
                (no, the default)",
        read: |value| Ok(yes_no(value).map(Setting::AddressDetection)),
    },
    Key {
        name: "announce-count",
        owners: &[Owner::Group],
        values: "auto|1..20",
        about: "how often an address that is new or has moved is announced, every 2 s; auto: 5 times by ARP, 3 times by \
                Neighbour Discovery",
        read: |value| {
            Ok(auto_or(value, &COUNTS).map(|count| Setting::AnnounceCount(count.map(|count| count as u8))))
        },
    },
    Key {
        name: "announce-interval",
        owners: &[Owner::Group],
        values: "1s..3600s",
        about: "announce an address of each member at least this often, its addresses in turn and each once a minute; \
                default 5s: safe for bridges that forget a MAC after 15 s",
        read: |value| Ok(seconds(value, &INTERVALS).map(Setting::AnnounceInterval)),
    },
    Key {
        name: "announce-rate",
        owners: &[Owner::Group],
        values: "auto|1..1000",
        about: "maximum announcements of a family through a member in a second; auto: 10 while the member has at most 10 \
                addresses of the family, within the usual 15 of ARP inspection, else unlimited",
        read: |value| Ok(auto_or(value, &RATES).map(Setting::AnnounceRate)),
    },
    Key {
        name: "capture",
        owners: &[Owner::Group],
        values: "auto|on|off",
        about: "copy outbound packets to captures on the group interface: while a capture runs, always, never",
        read: |value| Ok(value.parse().ok().map(Setting::Capture)),
    },
    Key {
        name: "classic",
        owners: &[Owner::Group],
        values: "yes|no",
        about: "show data addresses on members in `ipmp-ifconfig`, as classic IPMP of Solaris does (yes), or on the group \
                interface (no, the default)",
        read: |value| Ok(yes_no(value).map(Setting::Classic)),
    },
    Key {
        name: "confirm",
        owners: &[Owner::Group],
        values: "fast|even",
        about: "the probes that follow a lost one: at once, within 400 ms, with control probes through another member (fast, \
                the default), or every fdt/5 (even). fdt stays the maximum time; with fdt below 500ms both are the same",
        read: |value| Ok(value.parse().ok().map(Setting::Confirm)),
    },
    Key {
        name: "evidence",
        owners: &[Owner::Group],
        values: "on|off",
        about: "timeouts of TCP connections of this host, and silence of a busy member, start the probes of confirm=fast at once (on, \
                the default), or only lost probes do (off). They never fail a member themselves. With on, lost segments of TCP count for \
                loss-warn and loss-fail, too",
        read: |value| Ok(on_off(value).map(Setting::Evidence)),
    },
    Key {
        name: "fail-open",
        owners: &[Owner::Group],
        values: "yes|no",
        about: "if no target replies on any member: members with a link stay in use (yes, the default), or the group \
                fails (no)",
        read: |value| Ok(yes_no(value).map(Setting::FailOpen)),
    },
    Key {
        name: "failback",
        owners: &[Owner::Group],
        values: "yes|no|idle",
        about: "use a repaired member again at once (yes), only when another one fails (no), or at once for new flows and for \
                others when they are idle (idle); default: /etc/default/mpathd, else yes",
        read: |value| Ok(value.parse().ok().map(Setting::Failback)),
    },
    Key {
        name: "failback-limit",
        owners: &[Owner::Group],
        values: "1s..36000s",
        about: "with failback=idle: flows that have not been idle return to a repaired member after this time; default 300s",
        read: |value| Ok(seconds(value, &LIMITS).map(Setting::FailbackLimit)),
    },
    Key {
        name: "fdt",
        owners: &[Owner::Group],
        values: DetectionTime::VALUES,
        about: "maximum time to detect a failure while the link stays up; probes are sent every fdt/5; default: \
                /etc/default/mpathd, else 10s",
        read: |value| Ok(value.parse().ok().map(Setting::Fdt)),
    },
    Key {
        name: "hash",
        owners: &[Owner::Group],
        values: "connection|flow|destination",
        about: "distribute by connection (a TCP connection that retransmits may change its member), by addresses and \
                ports, or by destination address",
        read: |value| Ok(value.parse().ok().map(Setting::Hash)),
    },
    Key {
        name: "loss-fail",
        owners: &[Owner::Group],
        values: SHARES,
        about: "use a degraded member (loss-warn) that loses a larger share of its packets than this only while no better one \
                functions; off, the default: it is displayed and stays in use",
        read: |value| Ok(share(value).map(Setting::LossFail)),
    },
    Key {
        name: "loss-warn",
        owners: &[Owner::Group],
        values: SHARES,
        about: "a member that loses a larger share of its packets than this, and far more than the other members, is degraded: displayed \
                and logged; default 1%",
        read: |value| Ok(share(value).map(Setting::LossWarn)),
    },
    Key {
        name: "manage-sysctls",
        owners: &[Owner::Group],
        values: "yes|warn",
        about: "kernel settings of the group interface and its members that another program changes: restore them (yes, \
                the default), or only report them (warn)",
        read: |value| Ok(value.parse().ok().map(Setting::ManageSysctls)),
    },
    Key {
        name: "probe",
        owners: &[Owner::Group],
        values: "off|auto|arp|nd",
        about: "probe members without a test address: never (off), by ARP and Neighbour Discovery (auto), or by one of \
                them",
        read: |value| Ok(value.parse().ok().map(Setting::Probe)),
    },
    Key {
        name: "source-spread",
        owners: &[Owner::Group],
        values: "on|off",
        about: "TCP connections that this host opens through the group have its data addresses of the network in turn as source, so that \
                their replies arrive by all members (on), or the one that the kernel selects (off, the default)",
        read: |value| Ok(on_off(value).map(Setting::SourceSpread)),
    },
    Key {
        name: "split",
        owners: &[Owner::Group],
        values: "prefer-router|keep",
        about: "while the network is split, so that members reach different targets: use only the members that reach the default \
                router (prefer-router, the default), or all (keep)",
        read: |value| Ok(value.parse().ok().map(Setting::Split)),
    },
    Key {
        name: "targets",
        owners: &[Owner::Group],
        values: "auto|ADDRESS[,ADDRESS...]",
        about: "probe only these hosts (`ipmpctl target` adds and removes single ones), or those found by routes and \
                multicast (auto)",
        read: targets,
    },
    Key {
        name: "updelay",
        owners: &[Owner::Group, Owner::Member],
        values: LinkDelay::VALUES,
        about: "how long a link must be up before the member is used (default 200ms): as long as the switch port blocks after \
                a link-up. A member without its own has that of its group. While no member is live, 200 ms at most",
        read: |value| Ok(value.parse().ok().map(Setting::Updelay)),
    },
    Key {
        name: "match",
        owners: &[Owner::Member],
        values: "auto|permanent-mac|mac|name",
        about: "by what the member is recognised when its device returns: permanent MAC, else MAC, else name (auto), or \
                one of them",
        read: |value| Ok(value.parse().ok().map(Setting::Match)),
    },
    Key {
        name: "standby",
        owners: &[Owner::Member],
        values: "on|off",
        about: "use only when an active member fails",
        read: |value| Ok(on_off(value).map(Setting::Standby)),
    },
    Key {
        name: "weight",
        owners: &[Owner::Member],
        values: "1..1000000",
        about: "share of the flows, against the other members' weights; default: the link speed in Mbit/s",
        read: |value| {
            let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
            let weight = value.parse().ok().filter(|weight| is_number && WEIGHTS.contains(weight));
            Ok(weight.map(Setting::Weight))
        },
    },
    Key {
        name: "xdp",
        owners: &[Owner::Member],
        values: "off|driver|auto",
        about: "drop frames that the group does not want in the driver, by XDP: never (the default), with an error if the driver \
                has no XDP, or where the member is a NIC whose driver has it. To attach or detach the program interrupts the link \
                of many NICs",
        read: |value| Ok(value.parse().ok().map(Setting::Xdp)),
    },
];

fn yes_no(value: &str) -> Option<bool> {
    match value {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn on_off(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// `off` (`Some(None)`), or a share.
fn share(value: &str) -> Option<Option<Percent>> {
    if value == "off" { Some(None) } else { value.parse().ok().map(Some) }
}

/// Decimal digits in a range.
fn number(value: &str, range: &RangeInclusive<u16>) -> Option<u16> {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|number| is_number && range.contains(number))
}

/// Seconds with their unit, in a range.
fn seconds(value: &str, range: &RangeInclusive<u16>) -> Option<u16> {
    number(value.strip_suffix('s')?, range)
}

/// `auto` (`Some(None)`), or a number.
fn auto_or(value: &str, range: &RangeInclusive<u16>) -> Option<Option<u16>> {
    if value == "auto" { Some(None) } else { number(value, range).map(Some) }
}

fn targets(value: &str) -> Result<Option<Setting>, target::Error> {
    if value == "auto" {
        return Ok(Some(Setting::Targets(Vec::new())));
    }
    if value.is_empty() {
        return Ok(None);
    }
    let addresses = value.split(',').map(target::read).collect::<Result<Vec<_>, _>>()?;
    target::check(&addresses)?;
    Ok(Some(Setting::Targets(addresses)))
}

/// Valid shares, as help texts show them.
const SHARES: &str = "off|0.01%..100%";
/// Valid weights.
const WEIGHTS: RangeInclusive<u32> = 1..=1_000_000;
/// Valid counts of announcements.
const COUNTS: RangeInclusive<u16> = 1..=20;
/// Valid intervals of announcements in seconds.
const INTERVALS: RangeInclusive<u16> = 1..=3600;
/// Valid times of `failback-limit` and of a drain, in seconds.
pub const LIMITS: RangeInclusive<u16> = 1..=36_000;
/// Valid rates of announcements in a second.
const RATES: RangeInclusive<u16> = 1..=1000;

/// Why a text is not a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has no equals sign.
    #[error("expected KEY=VALUE, got {0:?}; {all}", all = all())]
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
    /// One of its targets cannot be one.
    #[error(transparent)]
    Target(#[from] target::Error),
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
    let keys = KEYS.iter().filter(|key| key.owners.contains(&owner));
    let keys: Vec<_> = keys.map(|key| format!("{}={}", key.name, key.values)).collect();
    format!("{} has {}", noun(owner), keys.join(", "))
}

/// A setting, as files and documents describe it.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Name of the key.
    pub key: &'static str,
    /// Its values, as in `KEY=VALUE`: words and ranges, separated by `|`.
    pub values: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// The settings that a group or a member has, in the order of the table.
pub fn descriptions(owner: Owner) -> impl Iterator<Item = Description> {
    let keys = KEYS.iter().filter(move |key| key.owners.contains(&owner));
    keys.map(|key| Description { key: key.name, values: key.values, about: key.about })
}

/// All settings in one line.
fn all() -> String {
    format!("{}; {}", of(Owner::Group), of(Owner::Member))
}

/// All settings, a line each, for the help of a command.
pub fn help() -> String {
    let mut text = String::from("Settings:");
    for Key { name, owners, values, about, .. } in KEYS {
        let owners: Vec<_> = owners.iter().copied().map(noun).collect();
        text += &format!("\n  {name}={values}, of {}\n      {about}", owners.join(" or "));
    }
    text
}

impl Setting {
    fn key(&self) -> &'static Key {
        let name = match self {
            Self::AddressDetection(_) => "address-detection",
            Self::AnnounceCount(_) => "announce-count",
            Self::AnnounceInterval(_) => "announce-interval",
            Self::AnnounceRate(_) => "announce-rate",
            Self::Capture(_) => "capture",
            Self::Classic(_) => "classic",
            Self::Confirm(_) => "confirm",
            Self::Evidence(_) => "evidence",
            Self::SourceSpread(_) => "source-spread",
            Self::FailOpen(_) => "fail-open",
            Self::Failback(_) => "failback",
            Self::FailbackLimit(_) => "failback-limit",
            Self::Fdt(_) => "fdt",
            Self::Hash(_) => "hash",
            Self::LossFail(_) => "loss-fail",
            Self::LossWarn(_) => "loss-warn",
            Self::ManageSysctls(_) => "manage-sysctls",
            Self::Probe(_) => "probe",
            Self::Split(_) => "split",
            Self::Targets(_) => "targets",
            Self::Updelay(_) => "updelay",
            Self::Match(_) => "match",
            Self::Standby(_) => "standby",
            Self::Weight(_) => "weight",
            Self::Xdp(_) => "xdp",
        };
        KEYS.iter().find(|key| key.name == name).expect("a row for each variant; a test reads and writes all")
    }

    /// Reads several, of which no two may be of one key.
    ///
    /// # Errors
    /// The first that is none.
    pub fn all_of(texts: &[String]) -> Result<Vec<Self>, Error> {
        let mut settings: Vec<Self> = Vec::new();
        for text in texts {
            let setting: Self = text.parse()?;
            if settings.iter().any(|other| other.is_of_key_of(&setting)) {
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
    pub fn check(&self, name: &str, owner: Owner) -> Result<(), Error> {
        let key = self.key();
        if key.owners.contains(&owner) {
            Ok(())
        } else {
            Err(Error::OtherOwner { name: name.to_owned(), owner, key: key.name })
        }
    }

    /// Name of its key.
    pub fn name(&self) -> &'static str {
        self.key().name
    }

    /// Whether two set the same.
    pub fn is_of_key_of(&self, other: &Self) -> bool {
        self.key().name == other.key().name
    }

    /// Puts it into a list, in place of an older one.
    pub fn put_into(&self, settings: &mut Vec<Self>) {
        settings.retain(|other| !other.is_of_key_of(self));
        settings.push(self.clone());
    }
}

impl FromStr for Setting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, value) = text.split_once('=').ok_or_else(|| Error::NoValue(text.to_owned()))?;
        let key =
            KEYS.iter().find(|key| key.name == name).ok_or_else(|| Error::NoSuchKey(name.to_owned()))?;
        let bad = || Error::BadValue { key: key.name, value: value.to_owned(), values: key.values };
        (key.read)(value)?.ok_or_else(bad)
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
            Self::Capture(mode) => f.write_str(mode.as_str()),
            Self::AddressDetection(yes) | Self::Classic(yes) | Self::FailOpen(yes) => {
                f.write_str(if *yes { "yes" } else { "no" })
            }
            Self::Confirm(confirm) => f.write_str(confirm.as_str()),
            Self::Failback(failback) => f.write_str(failback.as_str()),
            Self::Fdt(time) => time.fmt(f),
            Self::Hash(policy) => f.write_str(policy.as_str()),
            Self::LossFail(Some(share)) | Self::LossWarn(Some(share)) => share.fmt(f),
            Self::LossFail(None) | Self::LossWarn(None) => f.write_str("off"),
            Self::ManageSysctls(policy) => f.write_str(policy.as_str()),
            Self::Probe(policy) => f.write_str(policy.as_str()),
            Self::Split(policy) => f.write_str(policy.as_str()),
            Self::Targets(targets) if targets.is_empty() => f.write_str("auto"),
            Self::Targets(targets) => {
                let texts: Vec<String> = targets.iter().map(IpAddr::to_string).collect();
                f.write_str(&texts.join(","))
            }
            Self::Updelay(delay) => delay.fmt(f),
            Self::Match(by) => f.write_str(by.as_str()),
            Self::Evidence(on) | Self::SourceSpread(on) | Self::Standby(on) => {
                f.write_str(if *on { "on" } else { "off" })
            }
            Self::Weight(weight) => write!(f, "{weight}"),
            Self::Xdp(mode) => f.write_str(mode.as_str()),
            Self::AnnounceInterval(seconds) | Self::FailbackLimit(seconds) => write!(f, "{seconds}s"),
            Self::AnnounceCount(Some(count)) => write!(f, "{count}"),
            Self::AnnounceRate(Some(rate)) => write!(f, "{rate}"),
            Self::AnnounceCount(None) | Self::AnnounceRate(None) => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests;
