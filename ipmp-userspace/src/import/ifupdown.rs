//! ifupdown and ifupdown2: `/etc/network/interfaces` (interfaces(5)), with the keywords of ifenslave.

use std::path::Path;

use super::{
    Bond, Error, Found, Member, Place, Source,
    bond::{RouteText, prefix_of, words},
};

/// A stanza `iface`.
#[derive(Debug)]
struct Stanza {
    place: Place,
    name: String,
    method: String,
    options: Vec<(Place, String, String)>,
}

impl Stanza {
    /// The value of an option; `-` and `_` are the same.
    fn get(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(_, key, _)| key == name).map(|(_, _, value)| value.as_str())
    }

    fn is_bond(&self) -> bool {
        ["bond-slaves", "slaves", "bond-mode"].iter().any(|key| self.get(key).is_some())
    }
}

/// Whether a text has a stanza of ifupdown.
pub(super) fn has_stanza(text: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("iface") && words.nth(1).is_some_and(|family| family.starts_with("inet"))
    })
}

/// Reads the files, in the order of their names. Files that they include are not read.
///
/// # Errors
/// A line that cannot be read, or a bond that is a port of a bridge.
pub fn read(sources: &[Source]) -> Result<Found, Error> {
    let mut found = Found::default();
    let mut stanzas = Vec::new();
    for source in sources {
        stanzas.extend(self::stanzas(source, sources, &mut found.notes)?);
    }
    for stanza in stanzas.iter().filter(|stanza| stanza.is_bond()) {
        if !found.bonds.iter().any(|bond| bond.name == stanza.name) {
            found.bonds.push(Bond::named(&stanza.name, stanza.place.clone()));
        }
    }
    let mut others: Vec<String> = Vec::new();
    for stanza in &stanzas {
        if let Some(bond) = found.bonds.iter_mut().find(|bond| bond.name == stanza.name) {
            configure(stanza, bond)?;
            continue;
        }
        if let Some(master) = stanza.get("bond-master").filter(|master| *master != "none") {
            let bond = found.bonds.iter_mut().find(|bond| bond.name == master).ok_or_else(|| {
                stanza.place.error(format!(
                    "{master} has no stanza with bond-mode or bond-slaves: name its file, too"
                ))
            })?;
            bond.add_member(Member::named(&stanza.name));
            if let Some(primary) = stanza.get("bond-primary").filter(|_| bond.primary.is_none()) {
                bond.primary = words(primary).next().map(Into::into);
            }
            continue;
        }
        let ports = stanza.get("bridge-ports").unwrap_or_default();
        if let Some(bond) = found.bonds.iter().find(|bond| words(ports).any(|port| port == bond.name)) {
            return Err(bond.error(format!(
                "it is a port of bridge {}, and a group interface cannot be one: give the addresses to the group, or keep the \
                 bond",
                stanza.name
            )));
        }
        let below =
            stanza.get("vlan-raw-device").or_else(|| stanza.name.split_once('.').map(|(below, _)| below));
        if let Some(bond) = found.bonds.iter_mut().find(|bond| Some(bond.name.as_str()) == below) {
            let text =
                format!("{} is stacked on {}: create it on the group interface", stanza.name, bond.name);
            bond.note(&stanza.place, text);
            continue;
        }
        others.push(stanza.name.clone());
    }
    let is_port = |name: &String| {
        found.bonds.iter().flat_map(|bond| &bond.members).any(|member| member.name.as_ref() == Some(name))
    };
    others.retain(|name| name != "lo" && !is_port(name));
    others.dedup();
    found.left_out(&others);
    Ok(found)
}

fn stanzas(source: &Source, all: &[Source], notes: &mut Vec<String>) -> Result<Vec<Stanza>, Error> {
    let mut stanzas: Vec<Stanza> = Vec::new();
    let mut is_open = false;
    let mut joined = String::new();
    let mut first = 1;
    for (number, line) in (1..).zip(source.text.lines()) {
        let line = line.trim();
        if joined.is_empty() {
            first = number;
            if line.starts_with('#') {
                continue;
            }
        }
        if let Some(line) = line.strip_suffix('\\') {
            joined = joined + line + " ";
            continue;
        }
        let line = std::mem::take(&mut joined) + line;
        let place = source.at(first);
        let (key, value) = line.trim().split_once([' ', '\t']).unwrap_or((line.trim(), ""));
        let value = value.trim();
        match key {
            "" => {}
            "iface" => {
                let mut words = value.split_whitespace();
                let name = words.next().ok_or_else(|| place.error("iface without a name"))?.to_owned();
                // ifupdown2 has stanzas without family and method.
                let method = words.nth(1).unwrap_or("static").to_owned();
                stanzas.push(Stanza { place, name, method, options: Vec::new() });
                is_open = true;
            }
            "source" | "source-directory" => {
                let directory =
                    if key == "source" { Path::new(value).parent() } else { Some(Path::new(value)) };
                let name = directory.and_then(Path::file_name);
                if !all.iter().any(|other| other.path.parent().and_then(Path::file_name) == name) {
                    notes.push(format!("{place}: {value} is not read: name these files, too"));
                }
                is_open = false;
            }
            "auto" | "mapping" | "rename" | "no-auto-down" | "no-scripts" | "template" | "vrf" => {
                is_open = false
            }
            _ if key.starts_with("allow-") => is_open = false,
            _ => match stanzas.last_mut().filter(|_| is_open) {
                Some(stanza) => stanza.options.push((place, key.replace('_', "-"), value.into())),
                // Lines of a mapping, and what ifupdown2 has outside of stanzas.
                None => notes.push(format!("{place}: {key} {value} has no equivalent")),
            },
        }
    }
    Ok(stanzas)
}

fn configure(stanza: &Stanza, bond: &mut Bond) -> Result<(), Error> {
    match stanza.method.as_str() {
        "dhcp" => bond.dynamic.push("DHCP"),
        "auto" => bond.dynamic.push("router advertisements"),
        _ => {}
    }
    for (place, key, value) in &stanza.options {
        match key.as_str() {
            "address" => {
                let prefix = stanza.get("netmask").map(|netmask| {
                    prefix_of(netmask).ok_or_else(|| place.error(format!("netmask {netmask:?} is invalid")))
                });
                // ifupdown takes an address without netmask as that of a host.
                let own = if value.contains(':') { 128 } else { 32 };
                match (value.contains('/'), prefix.transpose()?) {
                    (true, _) => bond.add_address(place, value)?,
                    (false, Some(prefix)) => bond.add_address(place, &format!("{value}/{prefix}"))?,
                    (false, None) => bond.add_address(place, &format!("{value}/{own}"))?,
                }
            }
            "gateway" => bond.add_gateway(place, value)?,
            "dns-nameservers" | "dns-nameserver" => bond.add_dns(place, value),
            "dns-search" | "dns-domain" => bond.add_search(place, value),
            "mtu" => bond.set(place, "mtu", value)?,
            "hwaddress" => bond.set(place, "mac", value)?,
            "bond-slaves" | "slaves" => {
                for port in words(value).filter(|port| !matches!(*port, "none" | "all")) {
                    bond.add_member(Member::named(port));
                }
            }
            "bond-primary" => bond.primary = words(value).next().map(Into::into),
            "netmask" | "broadcast" | "network" | "metric" | "pre-down" | "down" | "post-down"
            | "comment" => {}
            "up" | "post-up" if add_route(place, value, bond)? => {}
            option if option.starts_with("bond-") => {
                let option = option.trim_start_matches("bond-").replace('-', "_");
                bond.set(place, &option, value)?;
            }
            _ => bond.note(place, format_args!("{key} {value} has no equivalent")),
        }
    }
    Ok(())
}

/// `ip route add NETWORK via ROUTER` of a command; whether it is one that has an equivalent.
fn add_route(place: &Place, command: &str, bond: &mut Bond) -> Result<bool, Error> {
    let mut words = command
        .split_whitespace()
        .skip_while(|word| matches!(*word, "ip" | "/sbin/ip" | "/bin/ip" | "-4" | "-6"));
    if !matches!((words.next(), words.next()), (Some("route" | "ro" | "r"), Some("add" | "replace"))) {
        return Ok(false);
    }
    let Some(to) = words.next() else { return Ok(false) };
    let mut route = RouteText { to: Some(to), ..RouteText::default() };
    while let Some(key) = words.next() {
        if key == "onlink" {
            route.onlink = true;
            continue;
        }
        let value = words.next();
        match key {
            "via" => route.via = value,
            "metric" => route.metric = value,
            "table" => route.table = value,
            "src" => route.src = value,
            "dev" if value.is_some_and(|device| device == bond.name || device == "$IFACE") => {}
            "||" if value == Some("true") => {}
            _ => return Ok(false),
        }
    }
    bond.add_route(place, &route)?;
    Ok(true)
}
