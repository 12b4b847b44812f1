//! netplan: YAML in `/etc/netplan` (netplan(5)). Later files are merged into earlier ones.

use super::{
    Bond, Error, Found, Member, Source,
    bond::{RouteText, milliseconds},
    yaml::{self, Node, Value},
};
use crate::config::mac;

/// Keys of `parameters` with the options of the driver that they set.
const OPTIONS: [(&str, &str); 20] = [
    ("mode", "mode"),
    ("lacp-rate", "lacp_rate"),
    ("mii-monitor-interval", "miimon"),
    ("min-links", "min_links"),
    ("transmit-hash-policy", "xmit_hash_policy"),
    ("ad-select", "ad_select"),
    ("all-members-active", "all_slaves_active"),
    ("all-slaves-active", "all_slaves_active"),
    ("arp-interval", "arp_interval"),
    ("arp-ip-targets", "arp_ip_target"),
    ("arp-validate", "arp_validate"),
    ("arp-all-targets", "arp_all_targets"),
    ("up-delay", "updelay"),
    ("down-delay", "downdelay"),
    ("fail-over-mac-policy", "fail_over_mac"),
    ("gratuitous-arp", "num_grat_arp"),
    ("packets-per-member", "packets_per_slave"),
    ("primary-reselect-policy", "primary_reselect"),
    ("resend-igmp", "resend_igmp"),
    ("learn-packet-interval", "lp_interval"),
];

/// Reads the files, in the order of their names.
///
/// # Errors
/// A line that cannot be read, or a bond that is a port of a bridge.
pub fn read(sources: &[Source]) -> Result<Found, Error> {
    let mut sources: Vec<&Source> = sources.iter().collect();
    sources.sort_by_key(|source| source.name());
    let mut all: Option<Node> = None;
    for source in sources {
        let Some(node) = yaml::parse(source)? else { continue };
        match &mut all {
            Some(all) => all.merge(node),
            None => all = Some(node),
        }
    }
    let mut found = Found::default();
    let Some(network) = all.as_ref().and_then(|all| all.get("network")) else { return Ok(found) };
    if let Some(version) = network.get("version")
        && version.text()? != "2"
    {
        return Err(version
            .place
            .error("only version 2 of netplan is read: that of cloud-init is converted by it"));
    }
    let section = |name: &str| network.get(name).map_or(&[][..], Node::map);
    let ethernets = section("ethernets");
    for (name, node) in section("bonds") {
        found.bonds.push(bond(name, node, ethernets)?);
    }
    for (name, node) in section("bridges") {
        for port in node.get("interfaces").map_or(&[][..], Node::list) {
            let port = port.text()?;
            if let Some(bond) = found.bonds.iter().find(|bond| bond.name == port) {
                return Err(bond.error(format!(
                    "it is a port of bridge {name}, and a group interface cannot be one: give the addresses to the group, or \
                     keep the bond"
                )));
            }
        }
    }
    for (name, node) in section("vlans") {
        let link = node.get("link").map(Node::text).transpose()?;
        if let Some(bond) = found.bonds.iter_mut().find(|bond| Some(bond.name.as_str()) == link) {
            let text = format!("{name} is stacked on {}: create it on the group interface", bond.name);
            bond.note(&node.place, text);
        }
    }
    let is_port = |name: &String, node: &Node| {
        found.bonds.iter().flat_map(|bond| &bond.members).any(|member| {
            member.name.as_ref() == Some(name) || member == &ethernet(name, Some(node)).unwrap_or_default()
        })
    };
    let others: Vec<String> =
        ethernets.iter().filter(|(name, node)| !is_port(name, node)).map(|(name, _)| name.clone()).collect();
    found.left_out(&others);
    Ok(found)
}

/// The port of a name; `ethernets` may recognise it by its MAC.
fn ethernet(name: &str, node: Option<&Node>) -> Result<Member, Error> {
    let Some(matching) = node.and_then(|node| node.get("match")) else { return Ok(Member::named(name)) };
    let new_name = node.and_then(|node| node.get("set-name")).map(Node::text).transpose()?;
    let mut member = Member { name: new_name.map(Into::into), ..Member::default() };
    for (key, value) in matching.map() {
        let text = value.text()?;
        match key.as_str() {
            "macaddress" => {
                let mac = mac(text).ok_or_else(|| value.place.error(format!("{text:?} is no MAC")))?;
                member.permanent_mac = Some(mac);
            }
            "name" if text.contains(['*', '?', '[']) => member.pattern = Some(text.into()),
            "name" => member.name = Some(text.into()),
            _ => {}
        }
    }
    if member == Member::default() {
        // By its driver, which several have.
        member.pattern = Some(name.into());
    }
    Ok(member)
}

fn bond(name: &str, node: &Node, ethernets: &[(String, Node)]) -> Result<Bond, Error> {
    let mut bond = Bond::named(name, node.place.clone());
    let primary = node
        .get("parameters")
        .and_then(|parameters| parameters.get("primary"))
        .map(Node::text)
        .transpose()?;
    for (key, value) in node.map() {
        match key.as_str() {
            "interfaces" => {
                for port in value.list() {
                    let id = port.text()?;
                    let own = ethernets.iter().find(|(name, _)| name == id).map(|(_, node)| node);
                    let member = ethernet(id, own)?;
                    if primary == Some(id) {
                        bond.primary = member.name.clone().or(Some(id.into()));
                    }
                    bond.add_member(member);
                }
            }
            "addresses" => {
                for address in value.list() {
                    match &address.value {
                        Value::Text(text) => bond.add_address(&address.place, text)?,
                        Value::Map(map) => {
                            for (text, options) in map {
                                bond.add_address(&address.place, text)?;
                                bond.note(
                                    &options.place,
                                    format_args!("label or lifetime of {text} has no equivalent"),
                                );
                            }
                        }
                        Value::List(_) => drop(address.text()?),
                    }
                }
            }
            "gateway4" | "gateway6" => bond.add_gateway(&value.place, value.text()?)?,
            "routes" => {
                for route in value.list() {
                    add_route(route, &mut bond)?;
                }
            }
            "nameservers" => {
                for server in value.get("addresses").map_or(&[][..], Node::list) {
                    bond.add_dns(&server.place, server.text()?);
                }
                for domain in value.get("search").map_or(&[][..], Node::list) {
                    bond.add_search(&domain.place, domain.text()?);
                }
            }
            "dhcp4" if value.is_true() => bond.dynamic.push("DHCP"),
            "dhcp6" if value.is_true() => bond.dynamic.push("DHCPv6"),
            "accept-ra" if value.is_true() => bond.dynamic.push("router advertisements"),
            "parameters" => parameters(value, &mut bond)?,
            "mtu" => bond.set(&value.place, "mtu", value.text()?)?,
            "macaddress" => bond.set(&value.place, "mac", value.text()?)?,
            "dhcp4" | "dhcp6" | "accept-ra" | "renderer" | "optional" | "critical" => {}
            _ => bond.note(&value.place, format_args!("{key} has no equivalent")),
        }
    }
    Ok(bond)
}

fn parameters(node: &Node, bond: &mut Bond) -> Result<(), Error> {
    for (key, value) in node.map() {
        let place = &value.place;
        if key == "primary" {
            if bond.primary.is_none() {
                bond.primary = Some(value.text()?.into());
            }
            continue;
        }
        let Some((_, option)) = OPTIONS.iter().find(|(known, _)| known == key) else {
            bond.note(place, format_args!("{key} has no equivalent"));
            continue;
        };
        let text = match &value.value {
            Value::List(list) => {
                let texts: Result<Vec<&str>, Error> = list.iter().map(Node::text).collect();
                texts?.join(",")
            }
            _ => value.text()?.to_owned(),
        };
        if matches!(*option, "miimon" | "updelay" | "downdelay" | "arp_interval") {
            let time = milliseconds(&text, 1.0).ok_or_else(|| place.error(format!("{text:?} is no time")))?;
            bond.set(place, option, &time.to_string())?;
        } else {
            bond.set(place, option, &text)?;
        }
    }
    Ok(())
}

fn add_route(node: &Node, bond: &mut Bond) -> Result<(), Error> {
    let text = |key: &str| node.get(key).map(Node::text).transpose();
    let route = RouteText {
        to: text("to")?,
        via: text("via")?,
        metric: text("metric")?,
        table: text("table")?,
        src: text("from")?,
        onlink: node.get("on-link").is_some_and(Node::is_true),
    };
    for (key, value) in node.map() {
        if !matches!(key.as_str(), "to" | "via" | "metric" | "table" | "from" | "on-link") {
            bond.note(&value.place, format_args!("{key} of a route has no equivalent"));
        }
    }
    if route.to.is_none() && route.via.is_none() {
        return Err(node.place.error("a route needs to or via"));
    }
    bond.add_route(&node.place, &route)
}
