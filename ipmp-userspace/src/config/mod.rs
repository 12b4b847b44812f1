//! The configuration files: `/etc/ipmp/ipmp.toml` and `/etc/ipmp/ipmp.d/*.toml`.
//!
//! [`load`] reads files and reports every mistake in them: first in each file (`read`), then between groups and between files
//! ([`mod@check`]). [`host`] reports what this host contradicts. [`keys`] has every key; values of settings follow from the
//! table of settings.

pub mod check;
pub mod files;
pub mod finding;
pub mod host;
pub mod keys;
pub mod plan;
mod read;
pub mod save;
pub mod schema;
pub mod value;

use std::net::IpAddr;

pub use files::{DIRECTORY, directory, load, parse};
pub use finding::{Finding, Place, Severity};
pub(crate) use read::mac;

use crate::{
    control::{DataAddress, Setting, TestAddressSpec},
    link::{Mac, RouteEntry},
};

/// A value with its place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it is.
    pub place: Place,
}

/// What the files contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Settings of groups without a value of their own.
    pub defaults: Vec<Located<Setting>>,
    /// The groups, in the order of the files.
    pub groups: Vec<Group>,
}

impl Configuration {
    /// The settings of a group: its own, then the defaults that it does not have itself.
    pub fn settings(&self, group: &Group) -> Vec<Setting> {
        let own = group.settings.iter().map(|setting| setting.value.clone());
        let is_own = |default: &Setting| group.settings.iter().any(|own| own.value.is_of_key_of(default));
        let defaults = self.defaults.iter().map(|default| default.value.clone());
        own.chain(defaults.filter(|default| !is_own(default))).collect()
    }
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name of the group interface, at its table.
    pub name: Located<String>,
    /// Its second name.
    pub groupname: Option<Located<String>>,
    /// Data addresses.
    pub addresses: Addresses,
    /// Routers of default routes.
    pub gateways: Vec<Located<IpAddr>>,
    /// Further routes.
    pub routes: Vec<Located<RouteEntry>>,
    /// Name servers.
    pub dns: Dns,
    /// Its own settings.
    pub settings: Vec<Located<Setting>>,
    /// Targets that are not probed; `None`: as they are.
    pub disabled_targets: Option<Vec<Located<IpAddr>>>,
    /// Members, in the order of the file.
    pub members: Vec<Member>,
}

impl Group {
    /// All its routes: those by its gateways first.
    pub fn all_routes(&self) -> impl Iterator<Item = RouteEntry> {
        let gateways = self.gateways.iter().map(|gateway| RouteEntry::default_through(gateway.value));
        gateways.chain(self.routes.iter().map(|route| route.value.clone()))
    }
}

/// Data addresses of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Another program adds and removes them.
    External,
    /// These.
    Listed(Vec<Located<DataAddress>>),
}

impl Addresses {
    /// The addresses in the file.
    pub fn listed(&self) -> &[Located<DataAddress>] {
        match self {
            Self::External => &[],
            Self::Listed(addresses) => addresses,
        }
    }
}

/// Name servers of a group, for `systemd-resolved`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Their addresses.
    pub servers: Vec<Located<IpAddr>>,
    /// Domains in which names are searched.
    pub search: Vec<Located<String>>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its key in the file.
    pub label: Located<String>,
    /// By what its NIC is recognised.
    pub matching: Match,
    /// Test addresses, one a family.
    pub test_addresses: Vec<Located<TestAddressSpec>>,
    /// Data addresses for which it is the preferred inbound member.
    pub inbound: Vec<Located<IpAddr>>,
    /// Whether it is out of service; `None`: as it is.
    pub offline: Option<bool>,
    /// Its settings.
    pub settings: Vec<Located<Setting>>,
}

/// By what a NIC is recognised: all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Name of the interface.
    pub name: Option<String>,
    /// The MAC that the NIC stores.
    pub permanent_mac: Option<Mac>,
    /// The MAC that it has.
    pub mac: Option<Mac>,
}

#[cfg(test)]
mod tests;
