//! Every key of the files. The reader accepts these and no others, and the JSON schema lists them.

use crate::control::setting::{self, Description, Owner};

/// A key that is no setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it has.
    pub kind: Kind,
    /// What it does.
    pub about: &'static str,
}

/// What a key has.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// A number of 32 bits.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An array of strings.
    Texts,
    /// An array of strings, or the string `external`.
    TextsOrExternal,
    /// A table.
    Table(&'static Table),
    /// An array of tables.
    Tables(&'static Table),
    /// A table whose keys are names.
    Named(&'static Table),
}

/// A table.
#[derive(Debug)]
pub struct Table {
    /// What it is, in messages.
    pub noun: &'static str,
    /// Keys that are no settings.
    pub keys: &'static [Key],
    /// Whose settings are keys of it.
    pub settings: Option<Owner>,
    /// Settings that are no keys of it.
    pub without: &'static [&'static str],
}

impl Table {
    /// The settings that are keys of it.
    pub fn settings(&self) -> impl Iterator<Item = Description> {
        let all = self.settings.into_iter().flat_map(setting::descriptions);
        all.filter(|setting| !self.without.contains(&setting.key))
    }

    /// The setting of this name.
    pub fn setting(&self, name: &str) -> Option<Description> {
        self.settings().find(|setting| setting.key == name)
    }

    /// Whether it has this key, which is no setting.
    pub fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name)
    }

    fn names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.name).chain(self.settings().map(|setting| setting.key)).collect()
    }

    /// The message on a key that it does not have, with the nearest that it has.
    pub fn unknown(&self, name: &str) -> String {
        let distance = |known: &&'static str| strsim::damerau_levenshtein(name, known);
        let names = self.names();
        let nearest = names.iter().copied().min_by_key(distance).filter(|known| {
            distance(known) <= (known.len() / 3).max(1) || known.starts_with(name) || name.starts_with(known)
        });
        match nearest {
            Some(known) => format!("{} has no key {name:?}: write {known}", self.noun),
            None => format!("{} has no key {name:?}: its keys are {}", self.noun, names.join(", ")),
        }
    }
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about }
}

/// A file.
pub static FILE: Table = Table {
    noun: "the file",
    keys: &[
        key("defaults", Kind::Table(&DEFAULTS), "settings of every group that does not have them itself"),
        key("group", Kind::Named(&GROUP), "a group, by the name of its interface"),
    ],
    settings: None,
    without: &[],
};

/// `[defaults]`.
pub static DEFAULTS: Table =
    Table { noun: "[defaults]", keys: &[], settings: Some(Owner::Group), without: &["targets"] };

/// `[group.NAME]`.
pub static GROUP: Table = Table {
    noun: "a group",
    keys: &[
        key(
            "groupname",
            Kind::Text,
            "second name of the group, as on Solaris; default: the name of its interface",
        ),
        key(
            "addresses",
            Kind::TextsOrExternal,
            "data addresses with prefix length; \"external\": another program adds and removes them",
        ),
        key("gateways", Kind::Texts, "routers of default routes"),
        key("routes", Kind::Tables(&ROUTE), "further routes"),
        key("dns", Kind::Table(&DNS), "name servers, for systemd-resolved"),
        key("disabled-targets", Kind::Texts, "those of targets that are not probed; default: as they are"),
        key("members", Kind::Named(&MEMBER), "members, in this order; a key is a label"),
    ],
    settings: Some(Owner::Group),
    without: &[],
};

/// An entry of `routes`.
pub static ROUTE: Table = Table {
    noun: "a route",
    keys: &[
        key("to", Kind::Text, "network with prefix length, or \"default\""),
        key("via", Kind::Text, "address of the router; without it the network is on the link"),
        key("metric", Kind::Number, "metric; default: the kernel's"),
        key("table", Kind::Number, "routing table; default: 254, the main table"),
        key("src", Kind::Text, "preferred source address, a data address of the group"),
        key("onlink", Kind::Boolean, "the router is on the link although no network of the group has it"),
    ],
    settings: None,
    without: &[],
};

/// `dns`.
pub static DNS: Table = Table {
    noun: "dns",
    keys: &[
        key("servers", Kind::Texts, "addresses of name servers"),
        key("search", Kind::Texts, "domains in which names are searched"),
    ],
    settings: None,
    without: &[],
};

/// A member.
pub static MEMBER: Table = Table {
    noun: "a member",
    keys: &[
        key(
            "match",
            Kind::Table(&MATCH),
            "by what the NIC is recognised, all of it; default: the label is its name",
        ),
        key("test-addresses", Kind::Texts, "test addresses with prefix length, or \"dhcp\"; one a family"),
        key("inbound", Kind::Texts, "data addresses that the member receives for while it is active"),
        key("offline", Kind::Boolean, "out of service, as after ipmpctl offline; default: as it is"),
    ],
    settings: Some(Owner::Member),
    // The table `match` of the file decides.
    without: &["match"],
};

/// `match` of a member.
pub static MATCH: Table = Table {
    noun: "match",
    keys: &[
        key("name", Kind::Text, "name of the interface"),
        key("permanent-mac", Kind::Text, "the MAC that the NIC stores: ip -d link shows it as permaddr"),
        key("mac", Kind::Text, "the MAC that it has"),
    ],
    settings: None,
    without: &[],
};
