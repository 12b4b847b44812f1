//! teamd: its configuration as JSON (teamd.conf(5)).

use serde_json::Value;

use super::{Bond, Error, Found, Member, Mode, Place, Source};

/// How often teamd probes by default, and how many probes may be lost, by teamd.conf(5).
const INTERVAL: u64 = 1000;
const MISSED_MAX: u64 = 3;

/// Reads the files, a team each.
///
/// # Errors
/// A text that is no JSON, or a runner that has no equivalent.
pub fn read(sources: &[Source]) -> Result<Found, Error> {
    let mut found = Found::default();
    for source in sources {
        let place = source.at(0);
        let name = match parse(&place, &source.text)?.get("device").and_then(Value::as_str) {
            Some(name) => name.to_owned(),
            // teamd -t NAME -f NAME.conf
            None => source.name().split('.').next().unwrap_or_default().to_owned(),
        };
        let mut bond = Bond::named(&name, place.clone());
        configure(&place, &source.text, &mut bond)?;
        found.bonds.push(bond);
    }
    Ok(found)
}

fn parse(place: &Place, text: &str) -> Result<Value, Error> {
    let value: Value = serde_json::from_str(text).map_err(|error| place.error(error.to_string()))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(place.error("the configuration of a team is an object of JSON"))
    }
}

/// Fills a bond from the JSON of a team.
pub(super) fn configure(place: &Place, text: &str, bond: &mut Bond) -> Result<(), Error> {
    let config = parse(place, text)?;
    for (key, value) in config.as_object().into_iter().flatten() {
        match key.as_str() {
            "device" => {}
            "runner" => runner(place, value, bond)?,
            "link_watch" => link_watch(place, value, bond)?,
            "ports" => {
                for (name, options) in value.as_object().into_iter().flatten() {
                    bond.add_member(Member::named(name));
                    port_options(place, name, options, bond)?;
                }
            }
            "hwaddr" => bond.set(place, "mac", value.as_str().unwrap_or_default())?,
            _ => bond.note(place, format_args!("{key} has no equivalent")),
        }
    }
    if config.get("runner").is_none() {
        bond.mode = Mode::RoundRobin;
    }
    Ok(())
}

/// The options of a port, as JSON.
pub(super) fn port(place: &Place, name: &str, text: &str, bond: &mut Bond) -> Result<(), Error> {
    port_options(place, name, &parse(place, text)?, bond)
}

fn runner(place: &Place, value: &Value, bond: &mut Bond) -> Result<(), Error> {
    let name = value.get("name").and_then(Value::as_str).unwrap_or("roundrobin");
    bond.mode = match name {
        "activebackup" => Mode::ActiveBackup,
        "roundrobin" | "random" => Mode::RoundRobin,
        "loadbalance" => Mode::Xor,
        "lacp" => Mode::Lacp,
        "broadcast" => Mode::Broadcast,
        _ => return Err(place.error(format!("runner {name:?} is none of teamd"))),
    };
    for (key, value) in value.as_object().into_iter().flatten().filter(|(key, _)| *key != "name") {
        bond.note(place, format_args!("{key} {value} of the runner has no equivalent"));
    }
    Ok(())
}

fn link_watch(place: &Place, value: &Value, bond: &mut Bond) -> Result<(), Error> {
    let several = value.as_array();
    for watch in several.into_iter().flatten().chain(several.is_none().then_some(value)) {
        let number = |key: &str| watch.get(key).and_then(Value::as_u64);
        match watch.get("name").and_then(Value::as_str).unwrap_or("ethtool") {
            "ethtool" => {
                bond.updelay = number("delay_up").unwrap_or(bond.updelay);
                if let Some(delay) = number("delay_down").filter(|delay| *delay > 0) {
                    bond.set(place, "downdelay", &delay.to_string())?;
                }
            }
            name @ ("arp_ping" | "nsna_ping") => {
                bond.arp_interval = number("interval").unwrap_or(INTERVAL);
                bond.missed_max = Some(number("missed_max").unwrap_or(MISSED_MAX));
                match watch.get("target_host").and_then(Value::as_str) {
                    Some(target) if target.parse::<std::net::IpAddr>().is_ok() => {
                        bond.set(place, "arp_ip_target", target)?;
                    }
                    Some(target) => {
                        bond.note(place, format_args!("target {target} of {name}: write its address"))
                    }
                    None => {}
                }
            }
            name => bond.note(place, format_args!("link watch {name} has no equivalent")),
        }
    }
    Ok(())
}

fn port_options(place: &Place, name: &str, options: &Value, bond: &mut Bond) -> Result<(), Error> {
    // The port of the highest priority is preferred, if one has it alone.
    let priority = options.get("prio").and_then(Value::as_i64).unwrap_or(0);
    match bond.priority {
        Some(highest) if priority < highest => {}
        Some(highest) if priority == highest => bond.primary = None,
        _ => {
            bond.priority = Some(priority);
            bond.primary = Some(name.into());
        }
    }
    for (key, value) in options.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("prio", _) => {}
            ("sticky", Value::Bool(true)) => {
                bond.failback = Some(false);
                bond.note(place, format_args!("sticky of {name}: failback = false is for the whole group"));
            }
            ("sticky", _) => {}
            ("link_watch", value) => link_watch(place, value, bond)?,
            (key, value) => bond.note(place, format_args!("{key} {value} of port {name} has no equivalent")),
        }
    }
    Ok(())
}
