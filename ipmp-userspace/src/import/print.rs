//! Writes bonds as a configuration file.

use std::{fmt::Write as _, net::IpAddr, path::PathBuf};

use toml_edit::Value;

use super::{Bond, Error, Found, Member, Mode};
use crate::{
    config::{self, Severity, host::Host},
    control::{DataAddress, name},
    link::{Device, RouteEntry, show_mac},
    owners::ifupdown,
    types::network::first_of,
};

/// The text of the configuration file, which `ipmpctl check` accepts. `host` has the permanent MACs of ports that exist.
///
/// # Errors
/// A bond that no group can replace.
pub fn print(
    found: &Found,
    source: &str,
    host: &Host,
    switch_ports_independent: bool,
) -> Result<String, Error> {
    if found.bonds.is_empty() {
        return Err(Error::NoBond(source.into()));
    }
    let mut text = comment(&format!("From {source}"));
    for note in &found.notes {
        text += &comment(note);
    }
    for bond in &found.bonds {
        text += &group(bond, host, switch_ports_independent)?;
    }
    let (_, findings) = config::parse(&[(PathBuf::new(), text.clone())]);
    match findings.iter().find(|finding| finding.severity == Severity::Error) {
        None => Ok(text),
        Some(finding) => Err(Error::Bond { name: source.into(), text: finding.message.clone() }),
    }
}

/// Refuses a bond that no group can replace.
fn check(bond: &Bond, switch_ports_independent: bool) -> Result<(), Error> {
    name::check_group(&bond.name).map_err(|error| bond.error(error.to_string()))?;
    let mode = bond.mode.name();
    if bond.mode == Mode::Broadcast {
        return Err(bond.error("mode broadcast has no equivalent: a group transmits each packet once"));
    }
    if bond.mode.needs_switch() && !switch_ports_independent {
        return Err(bond.error(format!(
            "in mode {mode} the switch treats the ports as one link, and would send packets of one member to another: make \
             them independent ports there, then add --switch-ports-independent"
        )));
    }
    if bond.members.is_empty() {
        return Err(bond.error("no port of it is known: name the files of its ports, too"));
    }
    Ok(())
}

fn group(bond: &Bond, host: &Host, switch_ports_independent: bool) -> Result<String, Error> {
    check(bond, switch_ports_independent)?;
    let mut notes = bond.notes.clone();
    if bond.mode.needs_switch() {
        notes.push(format!(
            "{} used mode {}: its switch ports must be independent before this is applied",
            bond.name,
            bond.mode.name()
        ));
    }
    let members = members(bond, host, &mut notes);
    let settings = settings(bond, &members, &mut notes);
    let mut body = format!("\n[group.{}]\n", key(&bond.name));
    if bond.dynamic.is_empty() {
        let _ = writeln!(body, "addresses = [{}]", list(&bond.addresses));
        if bond.addresses.is_empty() {
            notes.push(format!(
                "{} has no address in these files: write those that the group shall have",
                bond.name
            ));
        }
    } else {
        body += "addresses = \"external\"\n";
        notes.push(format!(
            "{} has addresses by {}: its client or daemon must configure the group interface (docs/services.md)",
            bond.name,
            bond.dynamic.join(" and ")
        ));
        for address in &bond.addresses {
            notes.push(format!("{address}: the program that adds the other addresses must add it"));
        }
    }
    body += &routes(bond, &mut notes);
    body += &dns(bond);
    body += &settings;
    let _ = writeln!(body, "\n[group.{}.members]", key(&bond.name));
    for (label, matching, is_standby) in &members {
        let keys: Vec<&str> =
            [matching.as_deref(), is_standby.then_some("standby = true")].into_iter().flatten().collect();
        let value = if keys.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", keys.join(", ")) };
        let _ = writeln!(body, "{} = {value}", key(label));
    }
    if !notes.is_empty() {
        let notes: String = notes.iter().map(|note| comment(note)).collect();
        body = format!("\n{notes}{}", body.trim_start_matches('\n'));
    }
    Ok(body)
}

/// Label, `match` and `standby` of each member.
fn members(bond: &Bond, host: &Host, notes: &mut Vec<String>) -> Vec<(String, Option<String>, bool)> {
    let mut known: Vec<Member> = Vec::new();
    for member in &bond.members {
        for member in on_host(member, host, notes) {
            let is_same = |other: &Member| {
                other.name.is_some() && other.name == member.name
                    || other.permanent_mac.is_some() && other.permanent_mac == member.permanent_mac
            };
            if !known.iter().any(is_same) {
                known.push(member);
            }
        }
    }
    let is_primary = |member: &Member| bond.primary.is_some() && member.name == bond.primary;
    if let Some(primary) = bond.primary.as_ref().filter(|_| !known.iter().any(is_primary)) {
        notes.push(format!("primary port {primary} is no port of {}", bond.name));
    }
    let active = known.iter().position(is_primary).unwrap_or(0);
    let mut labels: Vec<String> = Vec::new();
    for member in &known {
        let usual = member.name.clone().unwrap_or_else(|| "nic0".into());
        let mut all = std::iter::once(usual).chain((1..).map(|number| format!("nic{number}")));
        labels.extend(all.find(|label| !labels.contains(label)));
    }
    let rows = known.iter().zip(labels).enumerate().map(|(at, (member, label))| {
        let is_standby = bond.mode == Mode::ActiveBackup && at != active;
        let matching = match (member.permanent_mac, member.mac) {
            (Some(mac), _) => Some(format!("match = {{ permanent-mac = {} }}", quoted(&show_mac(mac)))),
            (None, Some(mac)) => Some(format!("match = {{ mac = {} }}", quoted(&show_mac(mac)))),
            (None, None) => None,
        };
        (label, matching, is_standby)
    });
    rows.collect()
}

/// The ports that a description matches, by what this host has.
fn on_host(member: &Member, host: &Host, notes: &mut Vec<String>) -> Vec<Member> {
    let devices = host.interfaces.iter().map(|(device, _)| device);
    if let Some(pattern) = &member.pattern {
        let matching = devices.filter(|device| ifupdown::matches(pattern, &device.name));
        let found: Vec<Member> = matching
            .map(|device| Member { permanent_mac: device.permanent_mac, ..Member::named(&device.name) })
            .collect();
        if found.is_empty() {
            notes.push(format!("no interface of this host matches {pattern}: write the members"));
        }
        return found;
    }
    let mut member = member.clone();
    let is_it = |device: &&Device| match (&member.name, member.permanent_mac) {
        (_, Some(mac)) => device.permanent_mac == Some(mac),
        (Some(name), None) => device.name == *name || device.altnames.contains(name),
        (None, None) => false,
    };
    let mut devices = devices;
    if let Some(device) = devices.find(is_it) {
        member.name.get_or_insert_with(|| device.name.clone());
        if member.mac.is_none() {
            member.permanent_mac = device.permanent_mac.or(member.permanent_mac);
        }
    }
    vec![member]
}

/// Addresses of a bond whose networks can be compared with routers and targets.
fn is_on_link(bond: &Bond, address: IpAddr) -> bool {
    let is_in = |own: &DataAddress| {
        own.address().is_ipv4() == address.is_ipv4()
            && first_of(own.address(), own.prefix()) == first_of(address, own.prefix())
    };
    address.is_ipv6() || !bond.dynamic.is_empty() || bond.addresses.iter().any(is_in)
}

fn routes(bond: &Bond, notes: &mut Vec<String>) -> String {
    let mut gateways: Vec<IpAddr> = Vec::new();
    let mut others: Vec<RouteEntry> = Vec::new();
    for (place, route) in &bond.routes {
        let mut route = route.clone();
        let is_near = route.via.is_none_or(|via| is_on_link(bond, via));
        route.onlink &= !is_near;
        if let Some(via) = route.via.filter(|_| !is_near && !route.onlink) {
            notes.push(format!("{place}: {via} is in no network of these addresses: its route is left out"));
            continue;
        }
        if let Some(src) = route.src
            && !bond.addresses.iter().any(|address| address.address() == src && bond.dynamic.is_empty())
        {
            notes.push(format!(
                "{place}: source address {src} of a route is none of these addresses: left out"
            ));
            route.src = None;
        }
        let is_known = |other: &RouteEntry| other.is_same(&route);
        match route.via.filter(|via| !route.onlink && RouteEntry::default_through(*via).is_same(&route)) {
            Some(via) if !gateways.contains(&via) => gateways.push(via),
            None if !others.iter().any(is_known) => others.push(route),
            _ => {}
        }
    }
    let mut text = String::new();
    if !gateways.is_empty() {
        let _ = writeln!(text, "gateways = [{}]", list(&gateways));
    }
    if !others.is_empty() {
        text += "routes = [\n";
        for route in others {
            let to = match route.to {
                (_, 0) => "default".to_owned(),
                (network, prefix) => format!("{network}/{prefix}"),
            };
            let number = |key: &str, number: Option<u32>| number.map(|number| format!("{key} = {number}"));
            let address = |key: &str, address: Option<IpAddr>| {
                address.map(|address| format!("{key} = {}", quoted(&address.to_string())))
            };
            let keys = [
                Some(format!("to = {}", quoted(&to))),
                address("via", route.via),
                number("metric", route.metric),
                number("table", route.table),
                address("src", route.src),
                route.onlink.then(|| "onlink = true".to_owned()),
            ];
            let _ =
                writeln!(text, "    {{ {} }},", keys.into_iter().flatten().collect::<Vec<_>>().join(", "));
        }
        text += "]\n";
    }
    text
}

fn dns(bond: &Bond) -> String {
    let servers = (!bond.dns.is_empty()).then(|| format!("servers = [{}]", list(&bond.dns)));
    let search = (!bond.search.is_empty()).then(|| format!("search = [{}]", list(&bond.search)));
    let keys: Vec<String> = servers.into_iter().chain(search).collect();
    if keys.is_empty() { String::new() } else { format!("dns = {{ {} }}\n", keys.join(", ")) }
}

fn settings(bond: &Bond, members: &[(String, Option<String>, bool)], notes: &mut Vec<String>) -> String {
    let mut text = String::new();
    if let Some(time) = bond.detection_time() {
        let _ = writeln!(text, "fdt = \"{}ms\"", time.clamp(10, 3_600_000));
        let is_v4 = bond.targets.iter().any(IpAddr::is_ipv4);
        let is_v6 = bond.targets.iter().any(IpAddr::is_ipv6);
        let probe = match (is_v4, is_v6) {
            (true, true) => "auto",
            (false, true) => "nd",
            _ => "arp",
        };
        let _ = writeln!(text, "probe = \"{probe}\"");
        let (near, far): (Vec<IpAddr>, Vec<IpAddr>) =
            bond.targets.iter().partition(|target| is_on_link(bond, **target));
        for target in far {
            notes.push(format!("target {target} is in no network of these addresses: left out"));
        }
        if !near.is_empty() {
            let _ = writeln!(text, "targets = [{}]", list(&near));
        }
    }
    if bond.updelay > 0 {
        let _ = writeln!(text, "updelay = \"{}ms\"", bond.updelay.min(600_000));
    }
    if bond.mode == Mode::ActiveBackup && members.len() > 1 {
        // A bond without a primary port stays with the port that it uses.
        let failback = bond.failback.unwrap_or(bond.primary.is_some());
        if !failback {
            text += "failback = false\n";
        }
        notes.push(format!(
            "{} used one port at a time: without standby = true all members are used",
            bond.name
        ));
    }
    text
}

fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(|value| quoted(&value.to_string())).collect::<Vec<_>>().join(", ")
}

/// A comment in one line.
fn comment(text: &str) -> String {
    let mut line = "# ".to_owned();
    for character in text.chars() {
        if character.is_control() { line.extend(character.escape_default()) } else { line.push(character) }
    }
    line.push('\n');
    line
}

/// A key of TOML: bare where it can be.
fn key(name: &str) -> String {
    toml_edit::Key::new(name).to_string()
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
