//! How a group is configured: what commands, files and other programs have set, for `apply`, `diff` and `save`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::Origin;

/// The configuration of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupConfiguration {
    /// `file`: the configuration files describe the group; `command`: they do not.
    pub origin: Origin,
    /// Settings with a value of their own, as `KEY=VALUE`; all others have their defaults.
    pub settings: Vec<String>,
    /// Those of the targets that are not probed.
    pub disabled_targets: Vec<IpAddr>,
    /// Data addresses.
    pub addresses: Vec<ConfiguredAddress>,
    /// Routes that files added, or that came from a NIC when it was attached.
    pub routes: Vec<ConfiguredRoute>,
    /// Members, in the order in which they joined.
    pub members: Vec<MemberConfiguration>,
}

/// A data address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredAddress {
    /// Address with prefix length.
    pub address: String,
    /// Which program added it.
    pub origin: Origin,
}

/// A route through the group interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredRoute {
    /// Network with prefix length; 0: a default route.
    pub to: String,
    /// The router; `None`: the network is on the link.
    pub via: Option<IpAddr>,
    /// Metric; `None`: the kernel's default.
    pub metric: Option<u32>,
    /// Routing table; `None`: the main table.
    pub table: Option<u32>,
    /// Preferred source address.
    pub src: Option<IpAddr>,
    /// The router is in no network of the group.
    pub onlink: bool,
    /// `file` or `moved`.
    pub origin: Origin,
}

/// The configuration of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberConfiguration {
    /// Name of the interface.
    pub name: String,
    /// The MAC that its NIC stores, if it has one.
    pub permanent_mac: Option<String>,
    /// Settings with a value of their own, as `KEY=VALUE`.
    pub settings: Vec<String>,
    /// Configured test addresses: with prefix length, or `dhcp`.
    pub test_addresses: Vec<String>,
    /// Data addresses for which it is the preferred inbound member.
    pub inbound: Vec<String>,
    /// The operator has taken it out of service.
    pub offline: bool,
}

/// A configuration with every field filled.
#[cfg(test)]
pub(super) fn sample() -> GroupConfiguration {
    GroupConfiguration {
        origin: Origin::File,
        settings: vec!["fdt=1s".into()],
        disabled_targets: vec!["192.168.178.22".parse().unwrap()],
        addresses: vec![ConfiguredAddress { address: "192.168.178.200/24".into(), origin: Origin::Moved }],
        routes: vec![ConfiguredRoute {
            to: "0.0.0.0/0".into(),
            via: "192.168.178.1".parse().ok(),
            metric: Some(100),
            table: Some(7),
            src: "192.168.178.200".parse().ok(),
            onlink: true,
            origin: Origin::File,
        }],
        members: vec![MemberConfiguration {
            name: "e1000g0".into(),
            permanent_mac: Some("52:54:00:00:00:02".into()),
            settings: vec!["standby=on".into()],
            test_addresses: vec!["dhcp".into()],
            inbound: vec!["192.168.178.200".into()],
            offline: true,
        }],
    }
}
