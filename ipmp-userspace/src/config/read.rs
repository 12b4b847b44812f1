//! Reads one file. Every mistake is a finding, and the rest of the file is read nevertheless.

use std::{net::IpAddr, path::Path, str::FromStr};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    Addresses, Configuration, Dns, Finding, Group, Located, Match, Member, Place,
    keys::{self, Table},
    value::{Form, show},
};
use crate::{
    control::{Setting, name, setting::Description, target},
    link::{Mac, RouteEntry},
    types::network::first_of,
};

type Key<'t> = Spanned<DeString<'t>>;
type Value<'t> = Spanned<DeValue<'t>>;

/// Reads a file into the configuration.
pub(super) fn read(file: &Path, text: &str, configuration: &mut Configuration, findings: &mut Vec<Finding>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { file, text, findings };
    for error in errors {
        let place = reader.place(error.span().map_or(0, |span| span.start));
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        reader.findings.push(Finding::error(&place, format!("no TOML: {message}")));
    }
    for (key, value) in reader.entries(table.get_ref(), &keys::FILE) {
        match key.get_ref().as_ref() {
            "defaults" => reader.defaults(value, configuration),
            _ => reader.groups(value, configuration),
        }
    }
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    fn place(&self, byte: usize) -> Place {
        Place::of(self.file.to_owned(), self.text, byte)
    }

    fn error<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        let place = self.place(at.span().start);
        self.findings.push(Finding::error(&place, message));
    }

    fn located<T, U>(&self, at: &Spanned<T>, value: U) -> Located<U> {
        Located { value, place: self.place(at.span().start) }
    }

    /// The entries of a table in the order of the file; unknown keys are findings.
    fn entries<'t, 'f>(&mut self, table: &'t DeTable<'f>, keys: &Table) -> Vec<(&'t Key<'f>, &'t Value<'f>)> {
        let all = in_order(table);
        for (key, _) in &all {
            let name = key.get_ref();
            if !keys.has(name) && keys.setting(name).is_none() {
                self.error(key, keys.unknown(name));
            }
        }
        all.into_iter()
            .filter(|(key, _)| keys.has(key.get_ref()) || keys.setting(key.get_ref()).is_some())
            .collect()
    }

    fn table<'t, 'f>(&mut self, key: &str, value: &'t Value<'f>) -> Option<&'t DeTable<'f>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.error(value, format!("{key} cannot be {}: write a table", show(value.get_ref())));
        }
        table
    }

    fn defaults(&mut self, value: &Value<'_>, configuration: &mut Configuration) {
        let Some(table) = self.table("defaults", value) else { return };
        for (key, value) in self.entries(table, &keys::DEFAULTS) {
            let Some(description) = keys::DEFAULTS.setting(key.get_ref()) else { continue };
            let Some(setting) = self.setting(key, value, &description) else { continue };
            let earlier =
                configuration.defaults.iter().find(|other| other.value.is_of_key_of(&setting.value));
            if let Some(earlier) = earlier {
                let message = format!("{} is set twice: it is also at {}", key.get_ref(), earlier.place);
                self.error(key, message);
            } else {
                configuration.defaults.push(setting);
            }
        }
    }

    fn groups(&mut self, value: &Value<'_>, configuration: &mut Configuration) {
        let Some(table) = self.table("group", value) else { return };
        for (key, value) in in_order(table) {
            if let Err(error) = name::check_group(key.get_ref()) {
                self.error(key, error.to_string());
            }
            let Some(table) = self.table(key.get_ref(), value) else { continue };
            let group = self.group(key, table);
            match configuration.groups.iter().find(|other| other.name.value == group.name.value) {
                Some(other) => {
                    let message = format!(
                        "group {} is also at {}: put all of a group into one file",
                        group.name.value, other.name.place
                    );
                    self.error(key, message);
                }
                None => configuration.groups.push(group),
            }
        }
    }

    fn group(&mut self, name: &Key<'_>, table: &DeTable<'_>) -> Group {
        let mut group = Group {
            name: self.located(name, name.get_ref().to_string()),
            groupname: None,
            addresses: Addresses::Listed(Vec::new()),
            gateways: Vec::new(),
            routes: Vec::new(),
            dns: Dns::default(),
            settings: Vec::new(),
            disabled_targets: None,
            members: Vec::new(),
        };
        for (key, value) in self.entries(table, &keys::GROUP) {
            match key.get_ref().as_ref() {
                "groupname" => {
                    group.groupname = self.string(key, value).and_then(|text| {
                        let checked = name::check_groupname(&text.value);
                        checked.map_err(|error| self.error(value, error.to_string())).ok().map(|()| text)
                    });
                }
                "addresses" if value.get_ref().as_str() == Some("external") => {
                    group.addresses = Addresses::External;
                }
                "addresses" => group.addresses = Addresses::Listed(self.parsed(key, value)),
                "gateways" => group.gateways = self.hosts(key, value),
                "routes" => group.routes = self.routes(key, value),
                "dns" => group.dns = self.dns(value),
                "disabled-targets" => group.disabled_targets = Some(self.hosts(key, value)),
                "members" => group.members = self.members(value),
                other => {
                    let Some(description) = keys::GROUP.setting(other) else { continue };
                    group.settings.extend(self.setting(key, value, &description));
                }
            }
        }
        group
    }

    fn members(&mut self, value: &Value<'_>) -> Vec<Member> {
        let Some(table) = self.table("members", value) else { return Vec::new() };
        let mut members = Vec::new();
        for (key, value) in in_order(table) {
            let Some(table) = self.table(key.get_ref(), value) else { continue };
            let label = self.located(key, key.get_ref().to_string());
            let mut member = Member {
                label,
                matching: Match::default(),
                test_addresses: Vec::new(),
                inbound: Vec::new(),
                offline: None,
                settings: Vec::new(),
            };
            for (key, value) in self.entries(table, &keys::MEMBER) {
                match key.get_ref().as_ref() {
                    "match" => member.matching = self.matching(value),
                    "test-addresses" => member.test_addresses = self.parsed(key, value),
                    "inbound" => member.inbound = self.hosts(key, value),
                    "offline" => member.offline = self.boolean(key, value),
                    other => {
                        let Some(description) = keys::MEMBER.setting(other) else { continue };
                        member.settings.extend(self.setting(key, value, &description));
                    }
                }
            }
            if !in_order(table).iter().any(|(key, _)| key.get_ref() == "match") {
                if let Err(error) = name::check_interface(key.get_ref()) {
                    self.error(key, error.to_string());
                }
                member.matching.name = Some(key.get_ref().to_string());
            }
            members.push(member);
        }
        members
    }

    fn matching(&mut self, value: &Value<'_>) -> Match {
        let mut matching = Match::default();
        let Some(table) = self.table("match", value) else { return matching };
        if table.is_empty() {
            self.error(value, "match is empty: write name, permanent-mac or mac");
        }
        for (key, value) in self.entries(table, &keys::MATCH) {
            let Some(text) = self.string(key, value) else { continue };
            match key.get_ref().as_ref() {
                "name" => match name::check_interface(&text.value) {
                    Ok(()) => matching.name = Some(text.value),
                    Err(error) => self.error(value, error.to_string()),
                },
                key => match mac(&text.value) {
                    Some(mac) if key == "mac" => matching.mac = Some(mac),
                    Some(mac) => matching.permanent_mac = Some(mac),
                    None => {
                        let message = format!(
                            "{:?} is not the MAC of an interface: write one like 52:54:00:00:00:02",
                            text.value
                        );
                        self.error(value, message);
                    }
                },
            }
        }
        matching
    }

    fn dns(&mut self, value: &Value<'_>) -> Dns {
        let mut dns = Dns::default();
        let Some(table) = self.table("dns", value) else { return dns };
        for (key, value) in self.entries(table, &keys::DNS) {
            match key.get_ref().as_ref() {
                "servers" => dns.servers = self.hosts(key, value),
                _ => dns.search = self.strings(key, value),
            }
        }
        dns
    }

    fn routes(&mut self, key: &Key<'_>, value: &Value<'_>) -> Vec<Located<RouteEntry>> {
        let Some(array) = value.get_ref().as_array() else {
            self.error(
                value,
                format!("{} cannot be {}: write an array of tables", key.get_ref(), show(value.get_ref())),
            );
            return Vec::new();
        };
        let mut routes = Vec::new();
        for value in array.iter() {
            let Some(table) = self.table("a route", value) else { continue };
            let (mut to, mut via, mut metric, mut number, mut src) = (None, None, None, None, None);
            let mut onlink = false;
            let mut valid = true;
            for (key, value) in self.entries(table, &keys::ROUTE) {
                let before = self.findings.len();
                match key.get_ref().as_ref() {
                    "to" => to = self.string(key, value),
                    "via" => via = self.host(key, value),
                    "src" => src = self.host(key, value),
                    "metric" => metric = self.number(key, value),
                    "onlink" => onlink = self.boolean(key, value).unwrap_or_default(),
                    _ => number = self.number(key, value),
                }
                valid &= self.findings.len() == before;
            }
            let Some(to) = to else {
                if valid {
                    self.error(
                        value,
                        "a route needs to: write to = \"default\" or a network like \"10.0.0.0/8\"",
                    );
                }
                continue;
            };
            match network(&to.value, via.as_ref().or(src.as_ref()).map(|at| at.value)) {
                Ok(to) if valid => {
                    let (via, src) = (via.map(|at| at.value), src.map(|at| at.value));
                    routes.push(
                        self.located(value, RouteEntry { to, via, metric, table: number, src, onlink }),
                    );
                }
                Ok(_) => {}
                Err(message) => self.findings.push(Finding::error(&to.place, message)),
            }
        }
        routes
    }

    fn setting(
        &mut self,
        key: &Key<'_>,
        value: &Value<'_>,
        description: &Description,
    ) -> Option<Located<Setting>> {
        let form = Form::of(description);
        let (text, shown) = match value.get_ref() {
            DeValue::Array(array) if form == Form::Addresses && array.is_empty() => (None, "empty".into()),
            DeValue::Array(_) if form == Form::Addresses => {
                let hosts = self.hosts(key, value);
                // Each wrong address is a finding already.
                if hosts.is_empty() {
                    return None;
                }
                let hosts: Vec<String> = hosts.iter().map(|host| host.value.to_string()).collect();
                (Some(hosts.join(",")), show(value.get_ref()))
            }
            other => (form.text(other), show(other)),
        };
        let setting = text.and_then(|text| Setting::from_str(&format!("{}={text}", description.key)).ok());
        if setting.is_none() {
            self.error(value, format!("{} cannot be {shown}: write {}", description.key, form.remedy()));
        }
        setting.map(|setting| self.located(value, setting))
    }

    fn string(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<Located<String>> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.error(
                value,
                format!("{} cannot be {}: write a string", key.get_ref(), show(value.get_ref())),
            );
        }
        text.map(|text| self.located(value, text.to_owned()))
    }

    fn number(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<u32> {
        let number = value.get_ref().as_integer();
        let number = number.and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
        if number.is_none() {
            let message = format!(
                "{} cannot be {}: write a number from 0 to {}",
                key.get_ref(),
                show(value.get_ref()),
                u32::MAX
            );
            self.error(value, message);
        }
        number
    }

    fn boolean(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<bool> {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            let message =
                format!("{} cannot be {}: write true or false", key.get_ref(), show(value.get_ref()));
            self.error(value, message);
        }
        found
    }

    fn strings(&mut self, key: &Key<'_>, value: &Value<'_>) -> Vec<Located<String>> {
        let Some(array) = value.get_ref().as_array() else {
            self.error(
                value,
                format!("{} cannot be {}: write an array", key.get_ref(), show(value.get_ref())),
            );
            return Vec::new();
        };
        array.iter().filter_map(|value| self.string(key, value)).collect()
    }

    /// An array of strings, each parsed.
    fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        key: &Key<'_>,
        value: &Value<'_>,
    ) -> Vec<Located<T>> {
        let mut parsed = Vec::new();
        for Located { value, place } in self.strings(key, value) {
            match value.parse() {
                Ok(value) => parsed.push(Located { value, place }),
                Err(error) => self.findings.push(Finding::error(&place, format!("{error}"))),
            }
        }
        parsed
    }

    /// An array of addresses of hosts, none twice.
    fn hosts(&mut self, key: &Key<'_>, value: &Value<'_>) -> Vec<Located<IpAddr>> {
        let mut hosts: Vec<Located<IpAddr>> = Vec::new();
        for text in self.strings(key, value) {
            let before: Vec<IpAddr> = hosts.iter().map(|host| host.value).collect();
            match host(key.get_ref(), &text.value) {
                Ok(host) if before.contains(&host) => {
                    self.findings.push(Finding::error(&text.place, target::Error::Twice(host).to_string()));
                }
                Ok(_) if before.len() == target::MOST && key.get_ref() == "targets" => {
                    self.findings.push(Finding::error(&text.place, target::Error::Many.to_string()));
                }
                Ok(value) => hosts.push(Located { value, place: text.place }),
                Err(message) => self.findings.push(Finding::error(&text.place, message)),
            }
        }
        hosts
    }

    fn host(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<Located<IpAddr>> {
        let text = self.string(key, value)?;
        match host(key.get_ref(), &text.value) {
            Ok(value) => Some(Located { value, place: text.place }),
            Err(message) => {
                self.findings.push(Finding::error(&text.place, message));
                None
            }
        }
    }
}

/// The entries of a table in the order of the file.
fn in_order<'t, 'f>(table: &'t DeTable<'f>) -> Vec<(&'t Key<'f>, &'t Value<'f>)> {
    let mut all: Vec<_> = table.iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    all
}

/// The address of a host.
fn host(key: &str, text: &str) -> Result<IpAddr, String> {
    if key == "targets" {
        let address = target::read(text).map_err(|error| error.to_string())?;
        return target::check(&[address]).map(|()| address).map_err(|error| error.to_string());
    }
    let address: IpAddr = text.parse().map_err(|_| {
        format!("{text:?} is not the address of a host: write one like 192.168.178.1 or 2001:db8::1, without a prefix length")
    })?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("{address} in {key} is not the address of a host: write that of a host"));
    }
    Ok(address)
}

/// `default` or a network. The family of a default route is that of its router or source address.
fn network(text: &str, other: Option<IpAddr>) -> Result<(IpAddr, u8), String> {
    if text == "default" {
        return match other {
            Some(IpAddr::V4(_)) => Ok((IpAddr::from([0; 4]), 0)),
            Some(IpAddr::V6(_)) => Ok((IpAddr::from([0; 16]), 0)),
            None => Err("a default route needs via: write the address of the router".into()),
        };
    }
    let bad = || format!("{text:?} is not a network: write \"default\" or one like \"10.0.0.0/8\"");
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let (address, prefix): (IpAddr, u8) =
        (address.parse().map_err(|_| bad())?, prefix.parse().map_err(|_| bad())?);
    let bits = if address.is_ipv4() { 32 } else { 128 };
    if prefix > bits {
        return Err(bad());
    }
    let start = first_of(address, prefix);
    if start != address {
        return Err(format!("{text} has bits after its prefix: write {start}/{prefix}"));
    }
    if other.is_some_and(|other| other.is_ipv4() != address.is_ipv4()) {
        return Err(format!("{text} and the addresses of its route are of different families"));
    }
    Ok((address, prefix))
}

/// The MAC of an interface: six bytes, neither zero nor multicast.
pub(crate) fn mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part =
            parts.next().filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    (parts.next().is_none() && mac != [0; 6] && mac[0] & 1 == 0).then_some(mac)
}
