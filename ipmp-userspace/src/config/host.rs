//! What this host contradicts: which NIC each entry matches, and which share a PCI device.

use std::{fs, path::PathBuf};

use super::{Configuration, Finding, Group, Match, Member};
use crate::link::{Device, Links, show_mac};

/// The interfaces of this host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Interfaces, with the PCI device of each that has one.
    pub interfaces: Vec<(Device, Option<String>)>,
}

impl Host {
    /// Reads them.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn read() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the runtime: {error}"))?;
        let devices =
            runtime.block_on(async { Links::open()?.devices() }).map_err(|error| error.to_string())?;
        let interfaces = devices.into_iter().map(|device| {
            let pci = pci(&device.name);
            (device, pci)
        });
        Ok(Self { interfaces: interfaces.collect() })
    }

    fn matching(&self, wanted: &Match) -> Vec<&(Device, Option<String>)> {
        self.interfaces.iter().filter(|(device, _)| matches(wanted, device)).collect()
    }
}

/// Whether an interface is the one that an entry describes.
pub fn matches(wanted: &Match, device: &Device) -> bool {
    let name = |name: &String| device.name == *name || device.altnames.contains(name);
    wanted.name.as_ref().is_none_or(name)
        && wanted.mac.is_none_or(|mac| device.mac == mac)
        && wanted.permanent_mac.is_none_or(|mac| device.permanent_mac == Some(mac))
        && *wanted != Match::default()
}

/// Address of the PCI device, without the function: the ports of one card share it.
fn pci(name: &str) -> Option<String> {
    let device: PathBuf = fs::canonicalize(format!("/sys/class/net/{name}/device")).ok()?;
    let bus = fs::canonicalize(device.join("subsystem")).ok()?;
    if bus.file_name()? != "pci" {
        return None;
    }
    let address = device.file_name()?.to_str()?;
    Some(address.rsplit_once('.')?.0.to_owned())
}

/// Appends findings on the interfaces of this host.
pub fn check(configuration: &Configuration, host: &Host, findings: &mut Vec<Finding>) {
    let mut taken: Vec<(u32, &Member)> = Vec::new();
    for group in &configuration.groups {
        let mut cards: Vec<Option<&String>> = Vec::new();
        for member in &group.members {
            let place = &member.label.place;
            match host.matching(&member.matching).as_slice() {
                [] => findings.push(Finding::warning(place, missing(member, group))),
                [(device, card)] => {
                    if let Some((_, other)) = taken.iter().find(|(ifindex, _)| *ifindex == device.ifindex) {
                        // Entries that can be compared without the host are reported already.
                        let message = format!(
                            "{} matches {}, as {} at {} does: write one entry for each interface",
                            member.label.value, device.name, other.label.value, other.label.place
                        );
                        if !findings.iter().any(|finding| finding.place == *place) {
                            findings.push(Finding::error(place, message));
                        }
                    }
                    taken.push((device.ifindex, member));
                    cards.push(card.as_ref());
                }
                several => {
                    let names: Vec<&str> = several.iter().map(|(device, _)| device.name.as_str()).collect();
                    let message = format!(
                        "{} matches {}: add a key to match that only one of them has",
                        member.label.value,
                        names.join(" and ")
                    );
                    findings.push(Finding::error(place, message));
                }
            }
        }
        if let [Some(card), others @ ..] = cards.as_slice()
            && !others.is_empty()
            && cards.len() == group.members.len()
            && others.iter().all(|other| *other == Some(card))
        {
            let message = format!(
                "all members of {} are ports of one PCI device, {card}: it fails as a whole; add a member on another one",
                group.name.value
            );
            findings.push(Finding::warning(&group.name.place, message));
        }
    }
}

fn missing(member: &Member, group: &Group) -> String {
    let Match { name, permanent_mac, mac } = &member.matching;
    let mut keys: Vec<String> = name.iter().map(|name| format!("the name {name}")).collect();
    keys.extend(permanent_mac.map(|mac| format!("the permanent MAC {}", show_mac(mac))));
    keys.extend(mac.map(|mac| format!("the MAC {}", show_mac(mac))));
    format!(
        "no interface of this host has {}: {} of {} is absent until one appears",
        keys.join(" and "),
        member.label.value,
        group.name.value
    )
}
