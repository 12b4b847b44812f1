//! A bond, however it was described.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Error, Place};
use crate::{
    control::DataAddress,
    link::{Mac, RouteEntry},
    types::network::first_of,
};

/// How long a bond without `missed_max` waits: `bond_init_params` in `drivers/net/bonding/bond_main.c`.
const MISSED_MAX: u64 = 2;

/// How a bond distributes its packets (`Documentation/networking/bonding.rst`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::Display, strum::EnumString)]
pub enum Mode {
    /// The default of the kernel.
    #[default]
    #[strum(serialize = "balance-rr", serialize = "0")]
    RoundRobin,
    /// One port at a time.
    #[strum(serialize = "active-backup", serialize = "1")]
    ActiveBackup,
    /// By a hash.
    #[strum(serialize = "balance-xor", serialize = "2")]
    Xor,
    /// Each packet through all ports.
    #[strum(serialize = "broadcast", serialize = "3")]
    Broadcast,
    /// LACP.
    #[strum(serialize = "802.3ad", serialize = "4")]
    Lacp,
    /// Without the switch, outbound.
    #[strum(serialize = "balance-tlb", serialize = "5")]
    Tlb,
    /// Without the switch, both directions.
    #[strum(serialize = "balance-alb", serialize = "6")]
    Alb,
}

impl Mode {
    /// The name in the kernel's documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "balance-rr",
            Self::ActiveBackup => "active-backup",
            Self::Xor => "balance-xor",
            Self::Broadcast => "broadcast",
            Self::Lacp => "802.3ad",
            Self::Tlb => "balance-tlb",
            Self::Alb => "balance-alb",
        }
    }

    /// Whether the switch treats the ports as one link.
    pub fn needs_switch(self) -> bool {
        matches!(self, Self::RoundRobin | Self::Xor | Self::Lacp)
    }
}

/// A port of a bond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Name of its interface, if that is known.
    pub name: Option<String>,
    /// Its permanent MAC, if that is known.
    pub permanent_mac: Option<Mac>,
    /// The MAC that it has, if it is recognised by that.
    pub mac: Option<Mac>,
    /// A pattern for its name.
    pub pattern: Option<String>,
}

impl Member {
    /// A port by its name.
    pub fn named(name: &str) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }
}

/// A bond or a team.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bond {
    /// Name of its interface.
    pub name: String,
    /// Where it is described.
    pub place: Place,
    /// How it distributes packets.
    pub mode: Mode,
    /// Its ports.
    pub members: Vec<Member>,
    /// The preferred port.
    pub primary: Option<String>,
    /// The highest priority of a port of a team.
    pub(super) priority: Option<i64>,
    /// Whether a repaired port is used again; `None`: as the mode has it.
    pub failback: Option<bool>,
    /// How long a link must be up before its port is used, in milliseconds.
    pub updelay: u64,
    /// Time between two probes, in milliseconds; 0: none.
    pub arp_interval: u64,
    /// How many probes may be lost.
    pub missed_max: Option<u64>,
    /// Targets of probes.
    pub targets: Vec<IpAddr>,
    /// Its addresses.
    pub addresses: Vec<DataAddress>,
    /// Another program adds addresses: by which protocol.
    pub dynamic: Vec<&'static str>,
    /// Routes through it, with their places.
    pub routes: Vec<(Place, RouteEntry)>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Domains in which names are searched.
    pub search: Vec<String>,
    /// What has no equivalent, a line each.
    pub notes: Vec<String>,
}

impl Bond {
    /// A bond of this name, with the mode that the kernel gives it.
    pub fn named(name: &str, place: Place) -> Self {
        Self { name: name.into(), place, ..Self::default() }
    }

    /// What it cannot be, in one line.
    pub(super) fn error(&self, text: impl Into<String>) -> Error {
        Error::Bond { name: self.name.clone(), text: text.into() }
    }

    /// Adds a note on a line.
    pub(super) fn note(&mut self, place: &Place, text: impl std::fmt::Display) {
        self.notes.push(format!("{place}: {text}"));
    }

    /// Adds a port, once.
    pub(super) fn add_member(&mut self, member: Member) {
        if !self.members.contains(&member) {
            self.members.push(member);
        }
    }

    /// Adds an address with prefix length. Link-local ones are no data addresses.
    pub(super) fn add_address(&mut self, place: &Place, text: &str) -> Result<(), Error> {
        let address: DataAddress =
            text.parse().map_err(|error: crate::control::address::Error| place.error(error.to_string()))?;
        if matches!(address.address(), IpAddr::V6(v6) if v6.is_unicast_link_local()) {
            self.note(
                place,
                format_args!("{address} is link-local: the group interface has an address of its own"),
            );
        } else if !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
        Ok(())
    }

    /// Adds a default route.
    pub(super) fn add_gateway(&mut self, place: &Place, text: &str) -> Result<(), Error> {
        self.add_route(place, &RouteText { via: Some(text), ..RouteText::default() })
    }

    /// Adds a route.
    pub(super) fn add_route(&mut self, place: &Place, text: &RouteText<'_>) -> Result<(), Error> {
        let host = |text: &str| {
            text.parse::<IpAddr>()
                .map_err(|_| place.error(format!("{text:?} is no address: write one like 192.168.178.1")))
        };
        let number =
            |text: &str| text.parse::<u32>().map_err(|_| place.error(format!("{text:?} is no number")));
        let via = text.via.map(host).transpose()?;
        let any = |is_v4| -> IpAddr {
            if is_v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
        };
        let to = match text.to {
            None | Some("default" | "") => (any(via.is_none_or(|via| via.is_ipv4())), 0),
            Some(to) => {
                let (network, prefix) =
                    to.split_once('/').map_or((to, None), |(network, prefix)| (network, Some(prefix)));
                let network = host(network)?;
                let bits = if network.is_ipv4() { 32 } else { 128 };
                let prefix =
                    prefix.map_or(Some(bits), |prefix| prefix.parse().ok().filter(|prefix| *prefix <= bits));
                let prefix =
                    prefix.ok_or_else(|| place.error(format!("{to:?} has no valid prefix length")))?;
                (first_of(network, prefix), prefix)
            }
        };
        if via.is_some_and(|via| via.is_ipv4() != to.0.is_ipv4()) {
            self.note(place, "a route through a router of the other family has no equivalent");
            return Ok(());
        }
        let entry = RouteEntry {
            to,
            via,
            metric: text.metric.map(number).transpose()?,
            table: text.table.map(table).transpose().map_err(|text| place.error(text))?,
            src: text.src.map(host).transpose()?,
            onlink: text.onlink,
        };
        self.routes.push((place.clone(), entry));
        Ok(())
    }

    /// Adds name servers, separated by spaces or commas.
    pub(super) fn add_dns(&mut self, place: &Place, texts: &str) {
        for text in words(texts) {
            match text.parse() {
                Ok(server) if !self.dns.contains(&server) => self.dns.push(server),
                Ok(_) => {}
                // A port, an interface or a name for TLS.
                Err(_) => self.note(
                    place,
                    format_args!("name server {text} has no equivalent: only addresses have one"),
                ),
            }
        }
    }

    /// Adds search domains, separated by spaces or commas.
    pub(super) fn add_search(&mut self, place: &Place, texts: &str) {
        for text in words(texts) {
            if text.starts_with('~') {
                self.note(place, format_args!("routing domain {text} has no equivalent"));
            } else if !self.search.iter().any(|known| known == text) {
                self.search.push(text.into());
            }
        }
    }

    /// An option of the bonding driver, by its name there. Times are in milliseconds.
    pub(super) fn set(&mut self, place: &Place, option: &str, value: &str) -> Result<(), Error> {
        let number =
            || value.parse::<u64>().map_err(|_| place.error(format!("{option} {value:?} is no number")));
        match option {
            "mode" => {
                self.mode = value.parse().map_err(|_| {
                    place.error(format!(
                        "mode {value:?} is none of the bonding driver: write one like active-backup"
                    ))
                })?;
            }
            "primary" => self.primary = Some(value.into()),
            "primary_reselect" => match value {
                "always" | "0" => {}
                "failure" | "2" => self.failback = Some(false),
                _ => {
                    self.note(
                        place,
                        format_args!(
                            "{option} {value} has no equivalent: a repaired primary port is used again"
                        ),
                    );
                }
            },
            "updelay" => self.updelay = number()?,
            "arp_interval" => self.arp_interval = number()?,
            "arp_missed_max" | "missed_max" => self.missed_max = Some(number()?),
            "arp_ip_target" | "ns_ip6_target" => {
                for text in words(value) {
                    let target = text.strip_prefix('+').unwrap_or(text);
                    let target = target
                        .parse()
                        .map_err(|_| place.error(format!("{option} {text:?} is no address")))?;
                    if !self.targets.contains(&target) {
                        self.targets.push(target);
                    }
                }
            }
            "downdelay" if value == "0" => {}
            "miimon" | "use_carrier" => {
                if !matches!(value, "0" | "1") {
                    self.note(
                        place,
                        format_args!("{option} {value}: not needed, link changes are reported by the kernel"),
                    );
                }
            }
            _ => {
                let why = reason(option).map_or(String::new(), |why| format!(": {why}"));
                self.note(place, format_args!("{option} {value} has no equivalent{why}"));
            }
        }
        Ok(())
    }

    /// In what time a failure is detected by probes, in milliseconds; `None`: there are none.
    pub(super) fn detection_time(&self) -> Option<u64> {
        let missed = self.missed_max.unwrap_or(MISSED_MAX);
        (self.arp_interval > 0).then(|| self.arp_interval.saturating_mul(missed.saturating_add(1)))
    }
}

/// Why an option of the bonding driver has no equivalent.
fn reason(option: &str) -> Option<&'static str> {
    Some(match option {
        "downdelay" => "a failure is acted upon at once",
        "fail_over_mac" => "each member keeps its own MAC",
        "lacp_rate" | "ad_select" | "lacp_active" | "ad_user_port_key" | "ad_actor_system"
        | "ad_actor_sys_prio" => "a group sends no LACP",
        "xmit_hash_policy" => "flows are distributed by the setting hash",
        "min_links" => "a group works while it has a usable member",
        "num_grat_arp" | "num_unsol_na" | "peer_notif_delay" => {
            "addresses are announced by the setting announce-count"
        }
        "resend_igmp" => "membership reports are always sent again",
        "packets_per_slave" | "tlb_dynamic_lb" | "lp_interval" => "flows are distributed by their hash",
        "arp_validate" | "arp_all_targets" => "only replies to the probes of a member count",
        "all_slaves_active" => "packets are received on all members",
        "mtu" => "the group has the least MTU of its members; set it on them",
        "mac" => "a group has a MAC of its own",
        _ => return None,
    })
}

/// A route as files have it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RouteText<'a> {
    pub to: Option<&'a str>,
    pub via: Option<&'a str>,
    pub metric: Option<&'a str>,
    pub table: Option<&'a str>,
    pub src: Option<&'a str>,
    pub onlink: bool,
}

/// Numbers of the tables that have names everywhere.
fn table(text: &str) -> Result<u32, String> {
    match text {
        "main" => Ok(254),
        "default" => Ok(253),
        "local" => Ok(255),
        _ => text
            .parse()
            .map_err(|_| format!("routing table {text:?}: write its number, from /etc/iproute2/rt_tables")),
    }
}

/// Words that are separated by spaces, commas or semicolons.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', ',', ';']).filter(|word| !word.is_empty())
}

/// The prefix length of a netmask.
pub(super) fn prefix_of(netmask: &str) -> Option<u8> {
    if let Ok(prefix) = netmask.parse::<u8>() {
        return Some(prefix);
    }
    let mask = u32::from(netmask.parse::<Ipv4Addr>().ok()?);
    (mask.count_ones() == mask.leading_ones()).then(|| mask.leading_ones() as u8)
}

/// A time as systemd.time(7) and netplan have it, in milliseconds: `100ms`, `0.1s`, `1min 30s`. `usual` is the unit of a number
/// without one, in milliseconds.
pub(super) fn milliseconds(text: &str, usual: f64) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        rest = rest[end..].trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "" => usual,
            "us" | "usec" => 0.001,
            "ms" | "msec" => 1.0,
            "s" | "sec" | "second" | "seconds" => 1000.0,
            "m" | "min" | "minute" | "minutes" => 60_000.0,
            "h" | "hr" | "hour" | "hours" => 3_600_000.0,
            _ => return None,
        };
        total += number * unit;
        rest = rest[end..].trim_start();
    }
    // Longer than any of the driver.
    (total < 4e9).then_some(total.round() as u64)
}
