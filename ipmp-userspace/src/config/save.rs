//! Writes what runs into the text of the files. Comments, order and notation stay where the content is the same.

use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{Addresses, Configuration, Group, Member, Severity, files::parse, value::Form};
use crate::{
    control::{
        Setting,
        report::{
            GroupReport,
            configuration::{ConfiguredRoute, MemberConfiguration},
        },
        setting::{self, Owner},
    },
    link::{RouteEntry, show_mac},
    types::Origin,
};

/// What is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The files whose text changes.
    pub files: Vec<(PathBuf, String)>,
    /// What is left out, a sentence each.
    pub notes: Vec<String>,
}

/// The texts of the files with what runs. A group that no file has is written into `main`.
///
/// # Errors
/// A mistake in the files, or a notation that cannot be changed.
pub fn save(texts: &[(PathBuf, String)], main: &Path, groups: &[GroupReport]) -> Result<Saved, String> {
    let (configuration, findings) = parse(texts);
    if let Some(finding) = findings.iter().find(|finding| finding.severity == Severity::Error) {
        return Err(format!("{}: {}: correct it first", finding.place, finding.message));
    }
    let mut documents: Vec<(PathBuf, DocumentMut)> = Vec::new();
    for (path, text) in texts {
        let document = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
        documents.push((path.clone(), document));
    }
    let mut saved = Saved::default();
    for report in groups {
        let known = configuration.groups.iter().find(|group| group.name.value == report.name);
        let path = known.map_or(main, |known| known.name.place.file.as_path());
        let at = documents.iter().position(|(other, _)| other == path).unwrap_or_else(|| {
            documents.push((path.to_owned(), DocumentMut::new()));
            documents.len() - 1
        });
        let mut writer = Writer { configuration: &configuration, known, report, notes: &mut saved.notes };
        writer.write(&mut documents[at].1)?;
    }
    for known in &configuration.groups {
        if !groups.iter().any(|report| report.name == known.name.value) {
            saved.notes.push(format!(
                "group {} does not run: {} keeps it; remove it there if it is not needed",
                known.name.value, known.name.place
            ));
        }
    }
    let written: Vec<(PathBuf, String)> =
        documents.into_iter().map(|(path, document)| (path, document.to_string())).collect();
    if let Some(finding) = parse(&written).1.iter().find(|finding| finding.severity == Severity::Error) {
        return Err(format!("{}: {}: nothing is written", finding.place, finding.message));
    }
    saved.files = written.into_iter().filter(|file| !texts.contains(file)).collect();
    Ok(saved)
}

struct Writer<'a> {
    configuration: &'a Configuration,
    /// The group in the files.
    known: Option<&'a Group>,
    report: &'a GroupReport,
    notes: &'a mut Vec<String>,
}

impl Writer<'_> {
    fn write(&mut self, document: &mut DocumentMut) -> Result<(), String> {
        let name = &self.report.name;
        let fixed = |key: &str| format!("{key} of {name} is no table: write it as [{key}.{name}] first");
        let mut outer = Table::new();
        outer.set_implicit(true);
        let groups = document.as_table_mut().entry("group").or_insert(Item::Table(outer));
        let groups = groups.as_table_like_mut().ok_or_else(|| fixed("group"))?;
        let group = groups.entry(name).or_insert(Item::Table(Table::new()));
        let group = group.as_table_like_mut().ok_or_else(|| fixed("group"))?;
        if self.known.is_none() && self.report.groupname != *name {
            group.insert("groupname", self.report.groupname.as_str().into());
        }
        self.addresses(group);
        self.routes(group)?;
        self.settings(group);
        let known = self.known.and_then(|known| known.disabled_targets.as_deref()).unwrap_or_default();
        let known: Vec<String> = known.iter().map(|target| target.value.to_string()).collect();
        let wanted: Vec<String> =
            self.report.configuration.disabled_targets.iter().map(ToString::to_string).collect();
        put_list(group, "disabled-targets", &known, &wanted);
        self.members(group)
    }

    fn addresses(&mut self, group: &mut dyn TableLike) {
        let known = match self.known.map(|known| &known.addresses) {
            Some(Addresses::External) => return,
            Some(Addresses::Listed(listed)) => {
                listed.iter().map(|address| address.value.to_string()).collect()
            }
            None => Vec::new(),
        };
        let is_link_local = |address: &str| address.starts_with("fe80:");
        let all = self.report.configuration.addresses.iter();
        let (left_out, wanted): (Vec<_>, Vec<_>) = all
            .filter(|known| !is_link_local(&known.address))
            .partition(|known| known.origin == Origin::Other);
        for address in left_out {
            self.notes.push(format!(
                "{} of {} is left out: another program added it",
                address.address, self.report.name
            ));
        }
        let wanted: Vec<String> = wanted.into_iter().map(|known| known.address.clone()).collect();
        put_list(group, "addresses", &known, &wanted);
    }

    fn routes(&mut self, group: &mut dyn TableLike) -> Result<(), String> {
        let wanted: Vec<RouteEntry> = self.report.configuration.routes.iter().filter_map(entry).collect();
        let is_wanted = |route: &RouteEntry| wanted.iter().any(|other| other.is_same(route));
        let known: Vec<RouteEntry> = self.known.map(|known| known.all_routes().collect()).unwrap_or_default();
        let is_simple = |route: &&RouteEntry| {
            !route.onlink && route.via.is_some_and(|via| RouteEntry::default_through(via).is_same(route))
        };
        let missing = wanted.iter().filter(|route| !known.iter().any(|other| other.is_same(route)));
        let (simple, others): (Vec<_>, Vec<_>) = missing.partition(is_simple);

        let gateways = self.known.map_or(&[][..], |known| &known.gateways);
        let before: Vec<String> = gateways.iter().map(|gateway| gateway.value.to_string()).collect();
        let stays = gateways.iter().map(|gateway| gateway.value);
        let stays = stays.filter(|gateway| is_wanted(&RouteEntry::default_through(*gateway)));
        let added = simple.iter().filter_map(|route| route.via);
        let after: Vec<String> = stays.chain(added).map(|gateway| gateway.to_string()).collect();
        put_list(group, "gateways", &before, &after);

        let stays: Vec<bool> = self
            .known
            .map_or(&[][..], |known| &known.routes)
            .iter()
            .map(|route| is_wanted(&route.value))
            .collect();
        if others.is_empty() && stays.iter().all(|stays| *stays) {
            return Ok(());
        }
        if group.get("routes").is_none() {
            group.insert("routes", Item::Value(Array::new().into()));
        }
        let mut stays = stays.into_iter();
        match group.get_mut("routes") {
            Some(Item::Value(Value::Array(array))) => {
                array.retain(|_| stays.next().unwrap_or(true));
                array.extend(others.into_iter().map(inline_route));
            }
            Some(Item::ArrayOfTables(tables)) => {
                tables.retain(|_| stays.next().unwrap_or(true));
                others.into_iter().for_each(|route| tables.push(inline_route(route).into_table()));
            }
            _ => return Err(format!("routes of {} is no array: write it as one first", self.report.name)),
        }
        if group.get("routes").and_then(Item::as_array).is_some_and(Array::is_empty) {
            group.remove("routes");
        }
        Ok(())
    }

    fn settings(&mut self, group: &mut dyn TableLike) {
        let wanted = settings(&self.report.configuration.settings);
        let own: Vec<Setting> =
            self.known.map_or(&[][..], |known| &known.settings).iter().map(|own| own.value.clone()).collect();
        let default = |setting: &Setting| {
            let mut defaults = self.configuration.defaults.iter().map(|default| &default.value);
            defaults.find(|default| default.is_of_key_of(setting)).cloned()
        };
        for setting in &wanted {
            let has_own = own.iter().any(|own| own.is_of_key_of(setting));
            let holds = own.contains(setting) || (!has_own && default(setting).as_ref() == Some(setting));
            if !holds {
                put(group, setting.name(), value_of(setting, Owner::Group));
            }
        }
        for setting in &own {
            if !wanted.iter().any(|wanted| wanted.is_of_key_of(setting)) {
                group.remove(setting.name());
            }
        }
        for default in self.configuration.defaults.iter().map(|default| &default.value) {
            if !wanted.iter().any(|wanted| wanted.is_of_key_of(default)) {
                self.notes.push(format!(
                    "{} has no {} of its own, and [defaults] has {default}, which the next apply sets",
                    self.report.name,
                    default.name()
                ));
            }
        }
    }

    fn members(&mut self, group: &mut dyn TableLike) -> Result<(), String> {
        let known = self.known.map_or(&[][..], |known| &known.members);
        let running = &self.report.configuration.members;
        if known.is_empty() && running.is_empty() {
            return Ok(());
        }
        let fixed = || format!("members of {} is no table: write it as one first", self.report.name);
        let members = group.entry("members").or_insert(Item::Table(Table::new()));
        let members = members.as_table_like_mut().ok_or_else(fixed)?;
        let mut found: Vec<&str> = Vec::new();
        let mut is_certain = true;
        for member in running {
            // Another interface has its name: what it was is not reported.
            if member.name.starts_with("absent-") {
                is_certain = false;
                continue;
            }
            let mac = self.report.members.iter().find(|report| report.name == member.name);
            let mac = mac.map(|report| report.mac.as_str()).unwrap_or_default();
            let is_it = |known: &&Member| {
                let matching = &known.matching;
                matching.name.as_ref().is_none_or(|name| *name == member.name)
                    && matching.permanent_mac.is_none_or(|mac| member.permanent_mac == Some(show_mac(mac)))
                    && matching.mac.is_none_or(|wanted| mac == show_mac(wanted))
            };
            match known.iter().find(is_it) {
                Some(known) => {
                    found.push(&known.label.value);
                    let item = members.get_mut(&known.label.value).ok_or_else(fixed)?;
                    let before = item.to_string();
                    change_member(item.as_table_like_mut().ok_or_else(fixed)?, known, member);
                    // Else the space before the brace stays before a comma. It has no comments.
                    if let Some(table) =
                        item.as_inline_table_mut().filter(|table| table.to_string() != before)
                    {
                        table.fmt();
                    }
                }
                None => {
                    let is_free = |label: &String| members.get(label).is_none();
                    let mut labels = std::iter::once(member.name.clone())
                        .chain((2..).map(|number| format!("{}-{number}", member.name)));
                    let label = labels.find(is_free).unwrap_or_default();
                    members.insert(&label, Item::Value(new_member(&label, member).into()));
                }
            }
        }
        let removed = known.iter().filter(|known| is_certain && !found.contains(&known.label.value.as_str()));
        removed.for_each(|known| drop(members.remove(&known.label.value)));
        Ok(())
    }
}

fn change_member(table: &mut dyn TableLike, known: &Member, member: &MemberConfiguration) {
    let wanted = settings(&member.settings);
    let own: Vec<&Setting> = known.settings.iter().map(|setting| &setting.value).collect();
    for setting in wanted.iter().filter(|setting| !own.contains(setting)) {
        put(table, setting.name(), value_of(setting, Owner::Member));
    }
    for setting in own.iter().filter(|own| !wanted.iter().any(|wanted| wanted.is_of_key_of(own))) {
        table.remove(setting.name());
    }
    let tests: Vec<String> = known.test_addresses.iter().map(|test| test.value.to_string()).collect();
    put_list(table, "test-addresses", &tests, &member.test_addresses);
    let inbound: Vec<String> = known.inbound.iter().map(|address| address.value.to_string()).collect();
    put_list(table, "inbound", &inbound, &member.inbound);
    if member.offline && known.offline != Some(true) {
        put(table, "offline", true.into());
    } else if !member.offline && known.offline == Some(true) {
        table.remove("offline");
    }
}

/// A member by its permanent MAC, or by its name, which usually is its label.
fn new_member(label: &str, member: &MemberConfiguration) -> InlineTable {
    let mut table = InlineTable::new();
    let key = match &member.permanent_mac {
        Some(mac) => Some(("permanent-mac", mac)),
        None => Some(("name", &member.name)).filter(|_| label != member.name),
    };
    if let Some((key, value)) = key {
        let mut matching = InlineTable::new();
        matching.insert(key, value.as_str().into());
        table.insert("match", matching.into());
    }
    for setting in settings(&member.settings) {
        table.insert(setting.name(), value_of(&setting, Owner::Member));
    }
    put_list(&mut table, "test-addresses", &[], &member.test_addresses);
    put_list(&mut table, "inbound", &[], &member.inbound);
    if member.offline {
        table.insert("offline", true.into());
    }
    table
}

/// The settings that files have: by what a member is recognised is its table `match`.
fn settings(texts: &[String]) -> Vec<Setting> {
    let all = texts.iter().filter_map(|text| text.parse().ok());
    all.filter(|setting| !matches!(setting, Setting::Match(_))).collect()
}

fn entry(route: &ConfiguredRoute) -> Option<RouteEntry> {
    let (network, prefix) = route.to.split_once('/')?;
    let to = (network.parse().ok()?, prefix.parse().ok()?);
    Some(RouteEntry {
        to,
        via: route.via,
        metric: route.metric,
        table: route.table,
        src: route.src,
        onlink: route.onlink,
    })
}

fn inline_route(route: &RouteEntry) -> InlineTable {
    let mut table = InlineTable::new();
    let to = match route.to {
        (_, 0) => "default".to_owned(),
        (network, prefix) => format!("{network}/{prefix}"),
    };
    table.insert("to", to.into());
    if let Some(via) = route.via {
        table.insert("via", via.to_string().into());
    }
    for (key, number) in [("metric", route.metric), ("table", route.table)] {
        if let Some(number) = number {
            table.insert(key, i64::from(number).into());
        }
    }
    if let Some(src) = route.src {
        table.insert("src", src.to_string().into());
    }
    if route.onlink {
        table.insert("onlink", true.into());
    }
    table
}

/// A setting in the type of TOML that it has.
fn value_of(setting: &Setting, owner: Owner) -> Value {
    let text = setting.to_string();
    let text = text.split_once('=').map_or("", |(_, value)| value);
    let form =
        setting::descriptions(owner).find(|known| known.key == setting.name()).map(|known| Form::of(&known));
    match (form, text.parse::<i64>()) {
        (Some(Form::Boolean(yes, no, _)), _) if [yes, no].contains(&text) => Value::from(text == yes),
        (Some(Form::Number(..)), Ok(number)) => Value::from(number),
        (Some(Form::Addresses), _) if text != "auto" => text.split(',').collect::<Array>().into(),
        _ => Value::from(text),
    }
}

/// Sets a value; the comment beside the old one stays.
fn put(table: &mut dyn TableLike, key: &str, mut value: Value) {
    if let Some(before) = table.get(key).and_then(Item::as_value) {
        *value.decor_mut() = before.decor().clone();
    }
    match table.get_mut(key) {
        Some(item) => *item = Item::Value(value),
        None => drop(table.insert(key, Item::Value(value))),
    }
}

/// Changes an array of strings: those that stay keep their place and notation.
fn put_list(table: &mut dyn TableLike, key: &str, before: &[String], wanted: &[String]) {
    let missing: Vec<&String> = wanted.iter().filter(|text| !before.contains(text)).collect();
    if missing.is_empty() && before.iter().all(|text| wanted.contains(text)) {
        return;
    }
    let Some(array) = table.get_mut(key).and_then(Item::as_array_mut) else {
        put(table, key, wanted.iter().map(String::as_str).collect::<Array>().into());
        return;
    };
    change_array(array, before, wanted, &missing);
    if array.is_empty() {
        table.remove(key);
    }
}

/// Changes an array of strings. A comment at the end of a line belongs to the element before it, but TOML has it before the next
/// one.
fn change_array(array: &mut Array, before: &[String], wanted: &[String], missing: &[&String]) {
    let old: Vec<Value> = array.iter().cloned().collect();
    let prefix = |value: &Value| {
        value.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned()
    };
    let indent =
        old.last().map(&prefix).and_then(|prefix| prefix.rfind('\n').map(|at| prefix[at..].to_owned()));
    let comment = |prefix: &str| {
        let (line, _) = prefix.split_once('\n').filter(|(line, _)| line.contains('#'))?;
        Some(line.to_owned())
    };
    let mut carried = String::new();
    array.clear();
    for (mut value, text) in old.into_iter().zip(before) {
        let prefix = prefix(&value);
        if wanted.contains(text) {
            if !carried.is_empty() {
                value.decor_mut().set_prefix(std::mem::take(&mut carried) + &prefix);
            }
            array.push_formatted(value);
        } else {
            carried.extend(comment(&prefix));
        }
    }
    let mut trailing = array.trailing().as_str().unwrap_or_default().to_owned();
    for text in missing {
        let mut value = Value::from(text.as_str());
        if let Some(indent) = &indent {
            if let Some(line) = comment(&trailing) {
                trailing.drain(..line.len());
                carried += &line;
            }
            value.decor_mut().set_prefix(std::mem::take(&mut carried) + indent);
            array.push_formatted(value);
        } else {
            array.push(value);
        }
    }
    array.set_trailing(carried + &trailing);
}

#[cfg(test)]
mod tests;
