//! A step of a plan.

use std::{fmt, net::IpAddr};

use crate::{
    control::{DataAddress, Setting, TestAddressSpec},
    link::{Mac, RouteEntry},
};

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the text of a step names its fields")]
pub enum Step {
    /// Create a group without addresses and members.
    CreateGroup { group: String, groupname: String },
    /// Give a group these settings, and no others.
    SetGroup { group: String, settings: Vec<Setting>, changes: Vec<String> },
    /// Give a group these targets, and no others.
    SetTargets { group: String, targets: Vec<IpAddr> },
    /// Do not probe these targets of a group, and probe all others.
    SetDisabledTargets { group: String, targets: Vec<IpAddr> },
    /// Add data addresses.
    AddAddresses { group: String, addresses: Vec<DataAddress> },
    /// Attach an interface.
    Attach { group: String, member: NewMember },
    /// Add a member whose interface does not exist yet.
    Expect { group: String, member: NewMember },
    /// Give a member these settings, and no others.
    SetMember { group: String, member: String, settings: Vec<Setting>, changes: Vec<String> },
    /// Take a member out of service, or back into it.
    SetOffline { group: String, member: String, offline: bool },
    /// Give the addresses of a group these preferred inbound members, and no others.
    SetInbound { group: String, inbound: Vec<(IpAddr, String)>, changes: Vec<String> },
    /// Add a test address.
    AddTestAddress { member: String, address: TestAddressSpec },
    /// Remove a test address.
    RemoveTestAddress { member: String, address: TestAddressSpec },
    /// Add a route through the group interface.
    AddRoute { group: String, route: RouteEntry },
    /// Remove a route through the group interface.
    RemoveRoute { group: String, route: RouteEntry },
    /// Remove data addresses.
    RemoveAddresses { group: String, addresses: Vec<DataAddress> },
    /// Detach a member. The group stays.
    Detach { group: String, member: String },
    /// Detach a member. The group stays; what came from the interface returns to it.
    Return { group: String, member: String },
    /// Remove a group with what files added to it; all else moves to its last member.
    RemoveGroup { group: String },
    /// The same; what came from each member returns to it.
    Dissolve { group: String },
}

/// A member that joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// Name of the interface; of one that does not exist, by which the member is shown.
    pub name: String,
    /// The name that an interface must have besides its MAC.
    pub required_name: Option<String>,
    /// The MAC that its NIC stores, where the file has it.
    pub permanent_mac: Option<Mac>,
    /// Its MAC, where the file has it.
    pub mac: Option<Mac>,
    /// Its settings.
    pub settings: Vec<Setting>,
    /// Its test addresses.
    pub test_addresses: Vec<TestAddressSpec>,
}

impl NewMember {
    /// Whether it is a standby.
    pub fn is_standby(&self) -> bool {
        self.settings.contains(&Setting::Standby(true))
    }
}

/// The differences of settings as they are printed; `None`: there is none.
pub(super) fn changes(before: &[Setting], wanted: &[Setting]) -> Option<Vec<String>> {
    let set = wanted.iter().filter(|setting| !before.contains(setting)).map(Setting::to_string);
    let is_reset = |setting: &&Setting| !wanted.iter().any(|other| other.is_of_key_of(setting));
    let reset = before.iter().filter(is_reset).map(|setting| format!("{}=default", setting.name()));
    let changes: Vec<String> = set.chain(reset).collect();
    (!changes.is_empty()).then_some(changes)
}

/// The differences of preferred inbound members as they are printed; `None`: there is none.
pub(super) fn inbound_changes(
    before: &[(IpAddr, String)],
    wanted: &[(IpAddr, String)],
) -> Option<Vec<String>> {
    let set = wanted.iter().filter(|known| !before.contains(known));
    let set = set.map(|(ip, member)| inbound_change(*ip, Some(member)));
    let is_reset = |ip: IpAddr| !wanted.iter().any(|(other, _)| *other == ip);
    let reset = before.iter().filter(|(ip, _)| is_reset(*ip)).map(|(ip, _)| inbound_change(*ip, None));
    let changes: Vec<String> = set.chain(reset).collect();
    (!changes.is_empty()).then_some(changes)
}

/// A change of a preferred inbound member.
pub fn inbound_change(ip: IpAddr, member: Option<&str>) -> String {
    format!("inbound of {ip} to {}", member.unwrap_or("none"))
}

fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateGroup { group, groupname } if group == groupname => write!(f, "create group {group}"),
            Self::CreateGroup { group, groupname } => {
                write!(f, "create group {group} with the group name {groupname}")
            }
            Self::SetGroup { group, changes, .. } => write!(f, "{group}: set {}", list(changes)),
            Self::SetTargets { group, targets } if targets.is_empty() => {
                write!(f, "{group}: set targets=auto")
            }
            Self::SetTargets { group, targets } => write!(f, "{group}: set targets={}", list(targets)),
            Self::SetDisabledTargets { group, targets } if targets.is_empty() => {
                write!(f, "{group}: enable all targets")
            }
            Self::SetDisabledTargets { group, targets } => {
                write!(f, "{group}: disable the targets {}, and no others", list(targets))
            }
            Self::AddAddresses { group, addresses } => write!(f, "{group}: add {}", list(addresses)),
            Self::Attach { group, member } => {
                write!(f, "{group}: attach {}{}", member.name, Additions(member))
            }
            Self::Expect { group, member } => {
                write!(f, "{group}: add the absent member {}{}", member.name, Additions(member))
            }
            Self::SetMember { group, member, changes, .. } => {
                write!(f, "{group}: set {} of {member}", list(changes))?;
                if changes.iter().any(|change| change.starts_with("xdp=")) {
                    f.write_str(" (many drivers reset their queues, which interrupts the link)")?;
                }
                Ok(())
            }
            Self::SetOffline { group, member, offline } => {
                write!(f, "{group}: take {member} {}", if *offline { "offline" } else { "online" })
            }
            Self::SetInbound { group, changes, .. } => write!(f, "{group}: set {}", list(changes)),
            Self::AddTestAddress { member, address } => write!(f, "{member}: add test address {address}"),
            Self::RemoveTestAddress { member, address } => {
                write!(f, "{member}: remove test address {address}")
            }
            Self::AddRoute { group, route } => write!(f, "{group}: add route {route}"),
            Self::RemoveRoute { group, route } => write!(f, "{group}: remove route {route}"),
            Self::RemoveAddresses { group, addresses } => write!(f, "{group}: remove {}", list(addresses)),
            Self::Detach { group, member } => write!(f, "{group}: detach {member}"),
            Self::Return { group, member } => {
                write!(f, "{group}: detach {member} and return its addresses to it")
            }
            Self::RemoveGroup { group } | Self::Dissolve { group } => write!(f, "remove group {group}"),
        }
    }
}

/// Settings and test addresses of a new member.
struct Additions<'a>(&'a NewMember);

impl fmt::Display for Additions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.0.settings.iter().filter(|setting| !matches!(setting, Setting::Match(_)));
        let tests = self.0.test_addresses.iter().map(|test| format!("test address {test}"));
        let all: Vec<String> = settings.map(Setting::to_string).chain(tests).collect();
        if all.is_empty() { Ok(()) } else { write!(f, " with {}", all.join(", ")) }
    }
}
