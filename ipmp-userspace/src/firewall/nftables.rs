//! Rules, chains and flowtables of nftables, as the kernel lists them (`include/uapi/linux/netfilter/nf_tables.h`).

use std::collections::{BTreeMap, BTreeSet};

use super::{Interface, Joining, NAME_LENGTH, Rule, padded, printable};

/// Messages of the list of chains, `NFT_MSG_NEWCHAIN`.
pub const NEW_CHAIN: u8 = 3;
/// Messages of the list of rules, `NFT_MSG_NEWRULE`.
pub const NEW_RULE: u8 = 6;
/// Messages of the elements of a set, `NFT_MSG_NEWSETELEM`.
pub const NEW_ELEMENT: u8 = 12;
/// Messages of the list of flowtables, `NFT_MSG_NEWFLOWTABLE`.
pub const NEW_FLOWTABLE: u8 = 22;

/// Bytes of a `nfgenmsg`, which begins with the family.
const HEADER: usize = 4;
/// Kinds of attributes without the bits that say what is in them (`NLA_TYPE_MASK`).
const TYPE: u16 = 0x3fff;
/// `NFT_CMP_EQ`; `NFT_CMP_NEQ` follows.
const COMPARES_EQUAL: u32 = 0;
/// A table that firewalld writes.
const FIREWALLD: &[u8] = b"firewalld";
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
/// Longest key of a set, in bytes: 16 registers.
const LONGEST_KEY: usize = 64;

/// A set by its family, table and name; the names end with NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Set {
    /// Family of the table.
    pub family: u8,
    /// Name of the table.
    pub table: Vec<u8>,
    /// Its name.
    pub name: Vec<u8>,
}

/// How an interface is in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Name,
    Index,
}

/// A part of the keys of a set: where it is, and what it has.
type Part = (usize, Kind);

/// What has been read of the part of a set.
#[derive(Debug, Default)]
struct Elements {
    /// Keys, and whether one begins an interval or is alone; else it ends one.
    points: BTreeSet<(Vec<u8>, bool)>,
    /// First and last keys of ranges.
    ranges: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

/// Reads the lists, message by message.
#[derive(Debug)]
pub struct Reader<'a> {
    joining: &'a Joining<'a>,
    found: Vec<Rule>,
    /// Rules that name interfaces by sets.
    lookups: BTreeMap<Set, Vec<(Part, String)>>,
    elements: BTreeMap<(Set, Part), Elements>,
    /// The zone to which a chain of firewalld sends what no other rule of it has.
    defaults: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    zones: Vec<(u8, Vec<u8>, Vec<u8>, Rule)>,
}

impl<'a> Reader<'a> {
    /// Nothing has been read yet.
    pub fn new(joining: &'a Joining<'a>) -> Self {
        Self {
            joining,
            found: Vec::new(),
            lookups: BTreeMap::new(),
            elements: BTreeMap::new(),
            defaults: BTreeMap::new(),
            zones: Vec::new(),
        }
    }

    /// Reads a message of this kind, without its `nlmsghdr`. `None`: it is malformed, and is left out.
    pub fn read(&mut self, kind: u8, message: &[u8]) -> Option<()> {
        let (&family, _) = message.split_first()?;
        let attributes = message.get(HEADER..)?;
        match kind {
            NEW_CHAIN => self.chain(family, attributes),
            NEW_RULE => self.rule(family, attributes),
            NEW_ELEMENT => self.elements(family, attributes),
            NEW_FLOWTABLE => self.flowtable(family, attributes),
            _ => None,
        }
    }

    /// The sets by which rules name interfaces; their elements are to be read after the rules.
    pub fn sets(&self) -> Vec<Set> {
        self.lookups.keys().cloned().collect()
    }

    /// What was found.
    pub fn finish(mut self) -> Vec<Rule> {
        for (family, chain, target, rule) in self.zones {
            // Without a rule the group has the same zone.
            if self.defaults.get(&(family, chain)) != Some(&target) {
                self.found.push(rule);
            }
        }
        let joining = self.joining;
        for (set, rules) in self.lookups {
            for (part, place) in rules {
                let Some(elements) = self.elements.get(&(set.clone(), part)) else { continue };
                let has = |interface: &Interface| match part.1 {
                    Kind::Name => elements.has(&padded(&interface.name)),
                    Kind::Index => elements.has(&interface.ifindex.to_ne_bytes()),
                };
                if part.1 == Kind::Name && elements.has(&padded(joining.group)) {
                    continue;
                }
                let named = joining.interfaces.iter().filter(|interface| has(interface));
                self.found.extend(
                    named.map(|interface| Rule { interface: interface.name.clone(), place: place.clone() }),
                );
            }
        }
        self.found
    }

    fn chain(&mut self, family: u8, attributes: &[u8]) -> Option<()> {
        let (table, name) = (find(attributes, 1)?, find(attributes, 3)?);
        let hook = find(attributes, 4)?;
        let place = format!("{} {} (device)", table_name(family, table), printable(name));
        // NFTA_HOOK_DEV, NFTA_HOOK_DEVS
        self.devices(find(hook, 3), find(hook, 4), &place);
        Some(())
    }

    fn flowtable(&mut self, family: u8, attributes: &[u8]) -> Option<()> {
        let (table, name) = (find(attributes, 1)?, find(attributes, 2)?);
        let hook = find(attributes, 3)?;
        let place = format!("{} flowtable {}", table_name(family, table), printable(name));
        self.devices(None, find(hook, 3), &place);
        Some(())
    }

    fn devices(&mut self, one: Option<&[u8]>, list: Option<&[u8]>, place: &str) {
        let listed = list.map(Attributes).into_iter().flatten().map(|(_, name)| name);
        let names: Vec<String> = one.into_iter().chain(listed).map(printable).collect();
        if names.iter().any(|name| name == self.joining.group) {
            return;
        }
        let named = self.joining.interfaces.iter().filter(|interface| names.contains(&interface.name));
        self.found
            .extend(named.map(|interface| Rule { interface: interface.name.clone(), place: place.into() }));
    }

    fn rule(&mut self, family: u8, attributes: &[u8]) -> Option<()> {
        let (table, chain) = (find(attributes, 1)?, find(attributes, 2)?);
        let handle = find(attributes, 3)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))?;
        let place = format!("{} {} handle {handle}", table_name(family, table), printable(chain));
        let mut registers = BTreeMap::new();
        let mut values = BTreeMap::new();
        let (mut named, mut target, mut conditions) = (BTreeSet::new(), None, 0);
        for (_, expression) in Attributes(find(attributes, 4).unwrap_or_default()) {
            let (Some(name), data) = (find(expression, 1), find(expression, 2).unwrap_or_default()) else {
                continue;
            };
            let name = printable(name);
            let number = |attribute| number(find(data, attribute)?);
            let register = |attribute| number(attribute).and_then(register);
            match name.as_str() {
                "cmp" => {
                    conditions += 1;
                    let kind = register(1).and_then(|register| registers.get(&register).copied());
                    let value = find(data, 3).and_then(|data| find(data, 1)).unwrap_or_default();
                    let is_equal = number(2) == Some(COMPARES_EQUAL);
                    if let (Some(kind), Some(..=1)) = (kind, number(2)) {
                        named.extend(self.compared(kind, value, is_equal));
                    }
                }
                "lookup" => {
                    conditions += 1;
                    if let (Some(set), Some(start)) = (find(data, 1), register(2)) {
                        let set = Set { family, table: table.into(), name: set.into() };
                        let parts = registers.range(start..start + LONGEST_KEY);
                        let parts = parts.map(|(at, kind)| ((at - start, *kind), place.clone()));
                        self.lookups.entry(set).or_default().extend(parts);
                    }
                }
                "immediate" => {
                    let data = find(data, 2).unwrap_or_default();
                    target = target.or_else(|| find(find(data, 2)?, 2));
                    let value = find(data, 1).and_then(|value| value.first_chunk());
                    if let (Some(register), Some(value)) = (register(1), value) {
                        values.insert(register, u32::from_ne_bytes(*value));
                        registers.remove(&register);
                    }
                }
                "fwd" | "dup" => {
                    let index = register(if name == "fwd" { 1 } else { 2 })
                        .and_then(|register| values.get(&register).copied());
                    let through = self.joining.interfaces.iter();
                    let through = through.filter(|interface| Some(interface.ifindex) == index);
                    named.extend(through.map(|interface| interface.name.clone()));
                }
                _ => {
                    let loaded = match (name.as_str(), number(2)) {
                        // NFT_META_IIF, OIF, SDIF; NFT_META_IIFNAME, OIFNAME, SDIFNAME
                        ("meta", Some(4 | 5 | 33)) | ("fib", Some(1)) => Some(Kind::Index),
                        ("meta", Some(6 | 7 | 34)) | ("fib", Some(2)) => Some(Kind::Name),
                        _ => None,
                    };
                    if let Some(register) = register(destination(&name)) {
                        values.remove(&register);
                        match loaded {
                            Some(kind) => registers.insert(register, kind),
                            None => registers.remove(&register),
                        };
                    }
                }
            }
        }
        self.add(family, (table, chain, target), &place, named, conditions == 0);
        Some(())
    }

    /// Adds what a rule names. Rules of firewalld count by their zone, once all rules are known.
    fn add(
        &mut self,
        family: u8,
        (table, chain, target): (&[u8], &[u8], Option<&[u8]>),
        place: &str,
        named: BTreeSet<String>,
        is_unconditional: bool,
    ) {
        let is_firewalld = table.strip_suffix(b"\0").unwrap_or(table) == FIREWALLD;
        let Some(target) = target.filter(|_| is_firewalld) else {
            let rules = named.into_iter().map(|interface| Rule { interface, place: place.to_owned() });
            self.found.extend(rules);
            return;
        };
        if is_unconditional {
            self.defaults.insert((family, chain.into()), target.into());
        }
        // Its chains of a zone: filter_IN_public.
        let text = printable(target);
        let zone = text.splitn(3, '_').nth(2).unwrap_or(&text);
        for interface in named {
            let rule = Rule { interface, place: format!("firewalld zone {zone}") };
            self.zones.push((family, chain.into(), target.into(), rule));
        }
    }

    /// Interfaces that a comparison names, unless it holds for the group, too.
    fn compared(&self, kind: Kind, value: &[u8], is_equal: bool) -> Vec<String> {
        let is_named = |interface: &&Interface| match kind {
            // A shorter value is the beginning of a name: "eth*".
            Kind::Name => padded(&interface.name).starts_with(value),
            Kind::Index => interface.ifindex.to_ne_bytes() == value,
        };
        let holds_for_group = kind == Kind::Name && is_equal && padded(self.joining.group).starts_with(value);
        if value.is_empty() || holds_for_group {
            return Vec::new();
        }
        self.joining.interfaces.iter().filter(is_named).map(|interface| interface.name.clone()).collect()
    }

    fn elements(&mut self, family: u8, attributes: &[u8]) -> Option<()> {
        let (table, name) = (find(attributes, 1)?, find(attributes, 2)?);
        let set = Set { family, table: table.into(), name: name.into() };
        let parts: BTreeSet<Part> = self.lookups.get(&set)?.iter().map(|(part, _)| *part).collect();
        for (_, element) in Attributes(find(attributes, 3)?) {
            // NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_KEY_END
            let Some(key) = find(element, 1).and_then(|key| find(key, 1)) else { continue };
            let last = find(element, 10).and_then(|key| find(key, 1));
            let is_end = find(element, 3).and_then(number).is_some_and(|flags| flags & INTERVAL_END != 0);
            for &part in &parts {
                let (at, kind) = part;
                let length = if kind == Kind::Name { NAME_LENGTH } else { size_of::<u32>() };
                let Some(first) = key.get(at..at + length) else { continue };
                let elements = self.elements.entry((set.clone(), part)).or_default();
                match last.and_then(|last| last.get(at..at + length)) {
                    Some(last) => elements.ranges.insert((first.into(), last.into())),
                    None => elements.points.insert((first.into(), !is_end)),
                };
            }
        }
        Some(())
    }
}

impl Elements {
    fn has(&self, key: &[u8]) -> bool {
        let in_range = |(first, last): &(Vec<u8>, Vec<u8>)| first.as_slice() <= key && key <= last.as_slice();
        if self.ranges.iter().any(in_range) {
            return true;
        }
        let point = (key.to_vec(), true);
        if self.points.iter().all(|(_, is_first)| *is_first) {
            return self.points.contains(&point);
        }
        // In the interval that begins last before it.
        self.points.range(..=point).next_back().is_some_and(|(_, is_first)| *is_first)
    }
}

/// The attribute with the destination register of an expression (`NFTA_…_DREG`).
fn destination(expression: &str) -> u16 {
    match expression {
        "bitwise" | "byteorder" | "hash" | "socket" | "tunnel" => 2,
        _ => 1,
    }
}

/// The first byte of a register: there are 4 of 16 bytes, or 16 of 4 bytes (`NFT_REG_1`, `NFT_REG32_00`).
fn register(number: u32) -> Option<usize> {
    match number as usize {
        number @ 1..=4 => Some((number - 1) * 16),
        number @ 8..=23 => Some((number - 8) * 4),
        _ => None,
    }
}

fn table_name(family: u8, table: &[u8]) -> String {
    let family = match family {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "unknown",
    };
    format!("nftables {family} {}", printable(table))
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The value of an attribute.
fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    Attributes(attributes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// Attributes of netlink, until one that is malformed.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_first_chunk::<4>()?;
        let [a, b, c, d] = *header;
        let (length, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]) & TYPE);
        let value = self.0.get(header.len()..length)?;
        // The next one is aligned; the last one may end without padding.
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}
