//! Many groups of one daemon, without traffic, beside those that a test creates.

use std::net::Ipv4Addr;
use std::ops::Range;

use anyhow::{Result, ensure};
use ipmp::control::report::GroupReport;
use serde_json::Value;

use crate::command::ip_batch;
use crate::daemon::Daemon;
use crate::network::Lab;
use crate::{Namespace, TIMEOUT, wait_until};

/// Addresses that one request adds.
const PER_REQUEST: usize = 64;

/// The groups.
#[derive(Debug)]
pub struct ManyGroups<'lab> {
    lab: &'lab Lab,
    /// The namespace of the members' peer devices.
    far: Namespace,
    members: usize,
    groups: usize,
    /// Data addresses of each group.
    addresses: usize,
}

impl<'lab> ManyGroups<'lab> {
    /// None yet; each will have so many members and one data address.
    pub fn new(lab: &'lab Lab, members: usize) -> Result<Self> {
        let far = lab.namespace("many")?;
        far.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        Ok(Self { lab, far, members, groups: 0, addresses: 1 })
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Data addresses of all groups.
    pub fn addresses(&self) -> usize {
        self.addresses * self.groups
    }

    /// Veth pairs that are up, for other uses.
    pub fn pairs(&self, names: &[String]) -> Result<()> {
        veth_pairs(self.lab.host(), &self.far, names)
    }

    /// Creates groups until there are so many, and waits until all their members are usable.
    pub fn grow(&mut self, daemon: &Daemon<'_>, groups: usize) -> Result<()> {
        ensure!(self.addresses == 1, "new groups have one address");
        let members = |group: usize| (0..self.members).map(move |member| format!("i{group}m{member}"));
        self.pairs(&(self.groups..groups).flat_map(members).collect::<Vec<_>>())?;
        for group in self.groups..groups {
            daemon.ctl(&format!("create idle{group} --address {}/16", address_of(group, 0)))?;
            daemon.ctl(&format!(
                "attach {} --group idle{group}",
                members(group).collect::<Vec<_>>().join(" ")
            ))?;
        }
        self.groups = self.groups.max(groups);
        self.wait_usable(daemon)
    }

    /// Adds data addresses until each group has so many.
    pub fn add_addresses(&mut self, daemon: &Daemon<'_>, addresses: usize) -> Result<()> {
        for group in 0..self.groups {
            add_addresses(daemon, &format!("idle{group}"), group as u8, self.addresses..addresses)?;
        }
        self.addresses = self.addresses.max(addresses);
        Ok(())
    }

    /// Waits until all members are usable and live.
    pub fn wait_usable(&self, daemon: &Daemon<'_>) -> Result<()> {
        let wanted = self.members * self.groups;
        let usable = || -> Result<usize> {
            let mut shown: Value = serde_json::from_str(&daemon.ctl("show --json")?)?;
            let groups: Vec<GroupReport> = serde_json::from_value(shown["groups"].take())?;
            let groups = groups.iter().filter(|group| group.name.starts_with("idle"));
            let members = groups.flat_map(|group| &group.members);
            Ok(members.filter(|member| member.usable && member.live).count())
        };
        let ready = wait_until(TIMEOUT, || usable().is_ok_and(|members| members == wanted));
        ensure!(ready, "{} of {wanted} members are usable after {TIMEOUT:?}", usable()?);
        Ok(())
    }
}

/// Adds data addresses to a group, by their numbers. `network`: another for each group.
pub fn add_addresses(daemon: &Daemon<'_>, group: &str, network: u8, numbers: Range<usize>) -> Result<()> {
    let new: Vec<_> = numbers.map(|number| format!("{}/16", address_of(network.into(), number))).collect();
    for some in new.chunks(PER_REQUEST) {
        daemon.ctl(&format!("address add {} --group {group}", some.join(" ")))?;
    }
    Ok(())
}

/// Makes veth pairs with an end of the same name in another namespace, both of them up.
pub(crate) fn veth_pairs(host: &Namespace, far: &Namespace, names: &[String]) -> Result<()> {
    let pairs: Vec<String> = names
        .iter()
        .flat_map(|name| {
            let pair = format!("link add {name} type veth peer name {name} netns {}", far.name());
            [pair, format!("link set {name} up")]
        })
        .collect();
    ip_batch(Some(host), &pairs)?;
    ip_batch(Some(far), &names.iter().map(|name| format!("link set {name} up")).collect::<Vec<_>>())
}

/// 11.GROUP.NUMBER / 250.NUMBER % 250 + 1
fn address_of(group: usize, number: usize) -> Ipv4Addr {
    Ipv4Addr::new(11, group as u8, (number / 250) as u8, (number % 250) as u8 + 1)
}
