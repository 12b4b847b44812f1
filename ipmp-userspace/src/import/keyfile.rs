//! NetworkManager: connections as key files (nm-settings-keyfile(5)).

use super::{
    Bond, Error, Found, Member, Mode, Source,
    bond::{RouteText, words},
    ini::{self, Entry, Section},
    teamd,
};
use crate::config::mac;

/// A connection.
#[derive(Debug)]
struct Connection<'a> {
    source: &'a Source,
    sections: Vec<Section>,
}

impl Connection<'_> {
    fn entries(&self, section: &str) -> impl Iterator<Item = &Entry> {
        self.sections.iter().filter(move |other| other.name == section).flat_map(|section| &section.entries)
    }

    fn entry(&self, sections: &[&str], keys: &[&str]) -> Option<&Entry> {
        sections.iter().find_map(|section| {
            self.entries(section).find(|entry| keys.contains(&entry.key.as_str()) && !entry.value.is_empty())
        })
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.entry(&["connection"], &[key]).map(|entry| entry.value.as_str())
    }

    /// The connection that it is a port of.
    fn controller(&self) -> Option<&Entry> {
        self.entry(&["connection"], &["controller", "master"])
    }

    fn is_named(&self, name: &str) -> bool {
        ["uuid", "interface-name", "id"].iter().any(|key| self.value(key) == Some(name))
    }
}

/// Reads the files.
///
/// # Errors
/// A line that cannot be read, or a bond that is a port of a bridge.
pub fn read(sources: &[Source]) -> Result<Found, Error> {
    let mut found = Found::default();
    let mut connections = Vec::new();
    for source in sources {
        connections.push(Connection { source, sections: ini::sections(source, false)? });
    }
    let mut bonds: Vec<&Connection<'_>> = Vec::new();
    for connection in &connections {
        let Some(kind) = connection.value("type").filter(|kind| matches!(*kind, "bond" | "team")) else {
            continue;
        };
        let name = connection.value("interface-name").ok_or_else(|| {
            connection.source.at(0).error(
                "the connection has no interface-name: add it, NetworkManager chooses one at its start",
            )
        })?;
        let mut bond = Bond::named(name, connection.source.at(0));
        configure(connection, kind, &mut bond)?;
        found.bonds.push(bond);
        bonds.push(connection);
    }
    let mut others = Vec::new();
    for connection in connections.iter().filter(|other| !bonds.iter().any(|bond| std::ptr::eq(*bond, *other)))
    {
        let kind =
            connection.entry(&["connection"], &["port-type", "slave-type"]).map(|entry| entry.value.as_str());
        match connection.controller() {
            Some(entry) if matches!(kind, None | Some("bond" | "team")) => {
                let at = bonds.iter().position(|bond| bond.is_named(&entry.value));
                match at {
                    Some(at) => port(connection, &mut found.bonds[at])?,
                    None if kind.is_some() => {
                        let text =
                            format!("{} is no connection of these files: name its file, too", entry.value);
                        return Err(entry.place.error(text));
                    }
                    None => {}
                }
            }
            _ => {
                let parent = connection.entry(&["vlan", "macvlan"], &["parent"]);
                let at = parent.and_then(|parent| bonds.iter().position(|bond| bond.is_named(&parent.value)));
                let name =
                    connection.value("interface-name").or_else(|| connection.value("id")).unwrap_or_default();
                if let Some(at) = at {
                    let bond = &mut found.bonds[at];
                    let text =
                        format!("{name} is stacked on {}: create it on the group interface", bond.name);
                    bond.note(&connection.source.at(0), text);
                } else if !matches!(name, "lo" | "") {
                    others.push(name.to_owned());
                }
            }
        }
    }
    found.left_out(&others);
    Ok(found)
}

fn configure(connection: &Connection<'_>, kind: &str, bond: &mut Bond) -> Result<(), Error> {
    if let Some(entry) = connection.controller() {
        return Err(bond.error(format!(
            "it is a port of {}, and a group interface cannot be one: give the addresses to the group, or keep the bond",
            entry.value
        )));
    }
    if kind == "team" {
        bond.mode = Mode::RoundRobin;
        match connection.entry(&["team"], &["config"]) {
            Some(entry) => teamd::configure(&entry.place, &entry.value.replace("\\n", " "), bond)?,
            None => bond.notes.push("[team] has no config: its runner is roundrobin".into()),
        }
    }
    for section in &connection.sections {
        for entry in &section.entries {
            key(section, entry, bond)?;
        }
    }
    Ok(())
}

fn key(section: &Section, entry: &Entry, bond: &mut Bond) -> Result<(), Error> {
    let (place, value) = (&entry.place, entry.value.as_str());
    let name = section.name.as_str();
    match (name, entry.key.as_str()) {
        ("connection" | "user" | "team" | "proxy", _) => {}
        // Older files have all options in one value.
        ("bond", "options") => {
            for option in value.split(',').filter(|option| !option.is_empty()) {
                let (option, value) = option
                    .split_once('=')
                    .ok_or_else(|| place.error(format!("{option:?} is not OPTION=VALUE")))?;
                bond.set(place, option.trim(), value.trim())?;
            }
        }
        ("bond", option) => bond.set(place, option, value)?,
        ("ethernet" | "802-3-ethernet", "mtu") if value != "0" => bond.set(place, "mtu", value)?,
        ("ethernet" | "802-3-ethernet", "cloned-mac-address") => bond.set(place, "mac", value)?,
        ("ipv4" | "ipv6", "method") => match (name, value) {
            ("ipv4", "auto") => bond.dynamic.push("DHCP"),
            ("ipv6", "auto") => bond.dynamic.push("router advertisements"),
            ("ipv6", "dhcp") => bond.dynamic.push("DHCPv6"),
            (_, "shared") => bond.note(place, format_args!("method {value} of [{name}] has no equivalent")),
            _ => {}
        },
        ("ipv4" | "ipv6", key) => ip(section, key, entry, bond)?,
        (_, _) if name.starts_with("bond-port") || matches!(name, "ethernet" | "802-3-ethernet") => {}
        (section, key) => bond.note(place, format_args!("{key}={value} of [{section}] has no equivalent")),
    }
    Ok(())
}

/// A key of `[ipv4]` or `[ipv6]`. `address1=192.0.2.5/24,192.0.2.1` has a router, `route1=198.51.100.0/24,192.0.2.9,100` a metric, and
/// `route1_options=onlink=true,table=100` its options.
fn ip(section: &Section, key: &str, entry: &Entry, bond: &mut Bond) -> Result<(), Error> {
    let (place, value) = (&entry.place, entry.value.as_str());
    let numbered = |prefix: &str| {
        key.strip_prefix(prefix).is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if numbered("address") || numbered("addresses") {
        let lists = value.split(';').filter(|text| !text.trim().is_empty());
        for text in lists {
            let mut parts = text.split(',').map(str::trim);
            bond.add_address(place, parts.next().unwrap_or_default())?;
            if let Some(router) = parts.next().filter(|router| !router.is_empty()) {
                bond.add_gateway(place, router)?;
            }
        }
    } else if key.ends_with("_options") && key.starts_with("route") {
        // Read with the route.
    } else if numbered("route") || numbered("routes") {
        let mut parts = value.split(',').map(str::trim);
        let to = parts.next();
        // Without a router: "0.0.0.0" or "::".
        let via = parts.next().filter(|via| !matches!(*via, "" | "0.0.0.0" | "::"));
        let metric = parts.next().filter(|metric| !matches!(*metric, "" | "0"));
        let mut route = RouteText { to, via, metric, ..RouteText::default() };
        if let Some(options) = section.entries.iter().find(|other| other.key == format!("{key}_options")) {
            for option in options.value.split(',') {
                match option.trim().split_once('=') {
                    Some(("onlink", value)) => route.onlink = value == "true",
                    Some(("table", table)) => route.table = Some(table),
                    Some(("src", source)) => route.src = Some(source),
                    _ => {
                        bond.note(&options.place, format_args!("{option} of {key}_options has no equivalent"))
                    }
                }
            }
        }
        bond.add_route(place, &route)?;
    } else {
        match key {
            "gateway" => bond.add_gateway(place, value)?,
            "dns" => bond.add_dns(place, value),
            "dns-search" => bond.add_search(place, value),
            "may-fail" | "never-default" | "addr-gen-mode" | "ignore-auto-dns" | "ip6-privacy"
            | "dns-priority" => {}
            _ => bond.note(place, format_args!("{key}={value} has no equivalent")),
        }
    }
    Ok(())
}

fn port(connection: &Connection<'_>, bond: &mut Bond) -> Result<(), Error> {
    let mut member = Member::default();
    if let Some(name) = connection.value("interface-name") {
        member.name = Some(name.into());
    }
    if let Some(entry) = connection.entry(&["ethernet", "802-3-ethernet"], &["mac-address"]) {
        let mac =
            mac(&entry.value).ok_or_else(|| entry.place.error(format!("{:?} is no MAC", entry.value)))?;
        member.permanent_mac = Some(mac);
    }
    if let Some(entry) = connection.entry(&["match"], &["interface-name"]) {
        member.pattern = words(&entry.value).next().map(Into::into);
    }
    if member == Member::default() {
        let text = "the port has neither interface-name nor mac-address: write that member";
        bond.note(&connection.source.at(0), text);
        return Ok(());
    }
    let is_team = bond.priority.is_some() || connection.entries("team-port").next().is_some();
    if let Some(name) = member.name.as_ref().filter(|_| is_team) {
        let config = connection.entry(&["team-port"], &["config"]);
        let place = config.map_or_else(|| connection.source.at(0), |entry| entry.place.clone());
        teamd::port(&place, name, config.map_or("{}", |entry| &entry.value), bond)?;
    }
    bond.add_member(member);
    Ok(())
}
