//! systemd-networkd: `.netdev` and `.network` files (systemd.netdev(5), systemd.network(5)).

use std::path::Path;

use super::{
    Bond, Error, Found, Member, Place, Source,
    bond::{RouteText, milliseconds, words},
    ini::{self, Section},
};
use crate::{config::mac, owners::ifupdown::matches};

/// Keys of `[Bond]` with the options of the driver that they set.
const OPTIONS: [(&str, &str); 21] = [
    ("Mode", "mode"),
    ("TransmitHashPolicy", "xmit_hash_policy"),
    ("LACPTransmitRate", "lacp_rate"),
    ("MIIMonitorSec", "miimon"),
    ("PeerNotifyDelaySec", "peer_notif_delay"),
    ("UpDelaySec", "updelay"),
    ("DownDelaySec", "downdelay"),
    ("LearnPacketIntervalSec", "lp_interval"),
    ("AdSelect", "ad_select"),
    ("AdActorSystemPriority", "ad_actor_sys_prio"),
    ("AdUserPortKey", "ad_user_port_key"),
    ("AdActorSystem", "ad_actor_system"),
    ("FailOverMACPolicy", "fail_over_mac"),
    ("ARPValidate", "arp_validate"),
    ("ARPIntervalSec", "arp_interval"),
    ("ARPMissedMax", "arp_missed_max"),
    ("ARPIPTargets", "arp_ip_target"),
    ("ARPAllTargets", "arp_all_targets"),
    ("PrimaryReselectPolicy", "primary_reselect"),
    ("ResendIGMP", "resend_igmp"),
    ("MinLinks", "min_links"),
];

/// A file with its drop-ins.
#[derive(Debug)]
struct Unit<'a> {
    name: &'a str,
    place: Place,
    sections: Vec<Section>,
}

impl Unit<'_> {
    /// The keys of the sections of a name.
    fn entries(&self, section: &str) -> impl Iterator<Item = &ini::Entry> {
        let sections = self.sections.iter().filter(move |other| other.name == section);
        sections.flat_map(|section| &section.entries)
    }

    /// The last value of a key.
    fn value(&self, section: &str, key: &str) -> Option<&ini::Entry> {
        let entries = self.entries(section).filter(|entry| entry.key == key && !entry.value.is_empty());
        entries.last()
    }

    /// What it configures: names, patterns and MACs.
    fn matched(&self) -> Vec<Member> {
        let mut found = Vec::new();
        for entry in self.entries("Match") {
            for word in words(&entry.value) {
                found.extend(match entry.key.as_str() {
                    "Name" if word.contains(['*', '?', '[']) => {
                        Some(Member { pattern: Some(word.into()), ..Member::default() })
                    }
                    "Name" | "OriginalName" => Some(Member::named(word)),
                    "MACAddress" => mac(word).map(|mac| Member { mac: Some(mac), ..Member::default() }),
                    "PermanentMACAddress" => {
                        mac(word).map(|mac| Member { permanent_mac: Some(mac), ..Member::default() })
                    }
                    _ => None,
                });
            }
        }
        found
    }

    fn is_of(&self, name: &str) -> bool {
        self.matched().iter().any(|member| {
            member.name.as_deref() == Some(name)
                || member.pattern.as_ref().is_some_and(|pattern| matches(pattern, name))
        })
    }
}

/// The name of the file that a drop-in belongs to: `10-bond0.network` of `10-bond0.network.d/local.conf`.
pub(super) fn drop_in(path: &Path) -> Option<&str> {
    let directory = path.parent()?.file_name()?.to_str()?;
    let base = directory.strip_suffix(".d")?;
    (base.ends_with(".network") || base.ends_with(".netdev")).then_some(base)
}

/// Reads the files. Of two files for one bond the first by name counts, as for networkd.
///
/// # Errors
/// A line that cannot be read.
pub fn read(sources: &[Source]) -> Result<Found, Error> {
    let mut found = Found::default();
    let units = units(sources)?;
    let mut bridges = Vec::new();
    for unit in units.iter().filter(|unit| unit.name.ends_with(".netdev")) {
        let Some(kind) = unit.value("NetDev", "Kind") else {
            return Err(unit.place.error("[NetDev] has no Kind="));
        };
        let Some(name) = unit.value("NetDev", "Name") else {
            return Err(unit.place.error("[NetDev] has no Name="));
        };
        match kind.value.as_str() {
            "bond" => found.bonds.push(netdev(unit, &name.value)?),
            "bridge" => bridges.push(name.value.clone()),
            _ => {}
        }
    }
    let mut others = Vec::new();
    let mut configured: Vec<String> = Vec::new();
    for unit in units.iter().filter(|unit| unit.name.ends_with(".network")) {
        if let Some(entry) = unit.value("Network", "Bond") {
            let bond = found.bonds.iter_mut().find(|bond| bond.name == entry.value).ok_or_else(|| {
                entry
                    .place
                    .error(format!("{} has no .netdev file of Kind=bond: name that file, too", entry.value))
            })?;
            port(unit, bond);
            continue;
        }
        let mut is_of_bond = false;
        for bond in found.bonds.iter_mut().filter(|bond| unit.is_of(&bond.name)) {
            is_of_bond = true;
            if configured.contains(&bond.name) {
                bond.notes
                    .push(format!("{}: not used: an earlier file configures {}", unit.place, bond.name));
            } else {
                configured.push(bond.name.clone());
                network(unit, bond)?;
            }
        }
        if !is_of_bond {
            others.extend(unit.matched().into_iter().filter_map(|member| member.name.or(member.pattern)));
        }
    }
    others.retain(|name| name != "lo");
    found.left_out(&others);
    Ok(found)
}

/// The files in the order of their names, with their drop-ins.
fn units(sources: &[Source]) -> Result<Vec<Unit<'_>>, Error> {
    let mut units: Vec<Unit<'_>> = Vec::new();
    let (additions, files): (Vec<&Source>, Vec<&Source>) =
        sources.iter().partition(|source| drop_in(&source.path).is_some());
    for source in files {
        units.push(Unit { name: source.name(), place: source.at(0), sections: ini::sections(source, true)? });
    }
    units.sort_by_key(|unit| unit.name);
    for source in additions {
        let sections = ini::sections(source, true)?;
        if let Some(unit) = units.iter_mut().find(|unit| Some(unit.name) == drop_in(&source.path)) {
            unit.sections.extend(sections);
        }
    }
    Ok(units)
}

fn netdev(unit: &Unit<'_>, name: &str) -> Result<Bond, Error> {
    let mut bond = Bond::named(name, unit.place.clone());
    for entry in unit.entries("NetDev") {
        match entry.key.as_str() {
            "MTUBytes" => bond.set(&entry.place, "mtu", &entry.value)?,
            "MACAddress" => bond.set(&entry.place, "mac", &entry.value)?,
            _ => {}
        }
    }
    for entry in unit.entries("Bond").filter(|entry| !entry.value.is_empty()) {
        let option = OPTIONS.iter().find(|(key, _)| *key == entry.key).map(|(_, option)| *option);
        let Some(option) = option else {
            bond.note(&entry.place, format_args!("{}={} has no equivalent", entry.key, entry.value));
            continue;
        };
        if matches!(option, "miimon" | "updelay" | "downdelay" | "arp_interval") {
            let time = milliseconds(&entry.value, 1000.0)
                .ok_or_else(|| entry.place.error(format!("{} is no time", entry.value)))?;
            bond.set(&entry.place, option, &time.to_string())?;
        } else {
            bond.set(&entry.place, option, &entry.value)?;
        }
    }
    Ok(bond)
}

fn port(unit: &Unit<'_>, bond: &mut Bond) {
    let members = unit.matched();
    if members.is_empty() {
        bond.notes.push(format!("{}: its [Match] names no interface: write that member", unit.place));
    }
    let is_primary = unit.value("Network", "PrimarySlave").is_some_and(|entry| is_true(&entry.value));
    for member in members {
        if is_primary && member.name.is_some() {
            bond.primary.clone_from(&member.name);
        }
        bond.add_member(member);
    }
    for entry in
        unit.entries("Network").filter(|entry| matches!(entry.key.as_str(), "Address" | "DHCP" | "Gateway"))
    {
        if !matches!(entry.value.as_str(), "" | "no" | "false" | "none") {
            bond.note(
                &entry.place,
                format_args!("{}={} of a port has no equivalent", entry.key, entry.value),
            );
        }
    }
}

fn network(unit: &Unit<'_>, bond: &mut Bond) -> Result<(), Error> {
    for section in &unit.sections {
        match section.name.as_str() {
            "Match" | "Link" | "Network" | "DHCP" | "DHCPv4" | "DHCPv6" | "IPv6AcceptRA" => {
                for entry in &section.entries {
                    key(&section.name, entry, bond)?;
                }
            }
            "Address" => {
                for entry in &section.entries {
                    match entry.key.as_str() {
                        "Address" => bond.add_address(&entry.place, &entry.value)?,
                        _ => bond.note(
                            &entry.place,
                            format_args!("{}={} has no equivalent", entry.key, entry.value),
                        ),
                    }
                }
            }
            "Route" => route(section, bond)?,
            name => {
                if let Some(entry) = section.entries.first() {
                    bond.note(&entry.place, format_args!("[{name}] has no equivalent"));
                }
            }
        }
    }
    Ok(())
}

fn key(section: &str, entry: &ini::Entry, bond: &mut Bond) -> Result<(), Error> {
    let (place, value) = (&entry.place, entry.value.as_str());
    match (section, entry.key.as_str()) {
        ("Match", _) | ("Link", "RequiredForOnline") => {}
        (
            "Network",
            "Description"
            | "LinkLocalAddressing"
            | "BindCarrier"
            | "ConfigureWithoutCarrier"
            | "IgnoreCarrierLoss"
            | "KeepConfiguration",
        ) => {}
        ("Link", "MTUBytes") => bond.set(place, "mtu", value)?,
        ("Link", "MACAddress") => bond.set(place, "mac", value)?,
        ("Network", "Address") if value.is_empty() => bond.addresses.clear(),
        ("Network", "Address") => bond.add_address(place, value)?,
        ("Network", "Gateway") if value.is_empty() => bond.routes.retain(|(_, route)| route.to.1 != 0),
        ("Network", "Gateway") => bond.add_gateway(place, value)?,
        ("Network", "DNS") if value.is_empty() => bond.dns.clear(),
        ("Network", "DNS") => bond.add_dns(place, value),
        ("Network", "Domains") if value.is_empty() => bond.search.clear(),
        ("Network", "Domains") => bond.add_search(place, value),
        ("Network", "DHCP") => match value {
            "yes" | "true" | "both" | "1" | "on" => bond.dynamic.extend(["DHCP", "DHCPv6"]),
            "ipv4" | "v4" => bond.dynamic.push("DHCP"),
            "ipv6" | "v6" => bond.dynamic.push("DHCPv6"),
            _ => {}
        },
        ("Network", "IPv6AcceptRA") if is_true(value) => bond.dynamic.push("router advertisements"),
        ("Network", "IPv6AcceptRA") => {}
        ("Network", "VLAN" | "MACVLAN" | "IPVLAN" | "VXLAN") => {
            bond.note(
                place,
                format_args!("{value} is stacked on {}: create it on the group interface", bond.name.clone()),
            );
        }
        ("Network", "Bridge") => {
            return Err(bond.error(format!(
                "it is a port of bridge {value}, and a group interface cannot be one: give the addresses to the group, or keep \
                 the bond"
            )));
        }
        (section, key) => bond.note(place, format_args!("{key}={value} of [{section}] has no equivalent")),
    }
    Ok(())
}

fn route(section: &Section, bond: &mut Bond) -> Result<(), Error> {
    let mut route = RouteText::default();
    let Some(place) = section.entries.first().map(|entry| &entry.place) else { return Ok(()) };
    let mut unknown = Vec::new();
    for entry in &section.entries {
        let value = Some(entry.value.as_str());
        match entry.key.as_str() {
            "Destination" => route.to = value,
            "Gateway" => route.via = value,
            "Metric" => route.metric = value,
            "Table" => route.table = value,
            "PreferredSource" => route.src = value,
            "GatewayOnLink" => route.onlink = value.is_some_and(is_true),
            _ => unknown.push(entry),
        }
    }
    if route.via.is_some_and(|via| via.starts_with('_')) {
        bond.note(place, "a route through the router of DHCP or of router advertisements is left out");
        return Ok(());
    }
    if route.to.is_none() && route.via.is_none() {
        bond.note(place, "[Route] without Destination= and Gateway= is left out");
        return Ok(());
    }
    for entry in unknown {
        bond.note(&entry.place, format_args!("{}={} of a route has no equivalent", entry.key, entry.value));
    }
    bond.add_route(place, &route)
}

fn is_true(value: &str) -> bool {
    matches!(value, "yes" | "true" | "1" | "on" | "y" | "t")
}
