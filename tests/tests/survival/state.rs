//! What a change may change, without counters and without numbers that the kernel chooses.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

/// Groups that a test creates again: the kernel gives their interface another index and another MAC each time.
const NUMBERED: [&str; 3] = ["ifindex", "address", "link_index"];

/// The state of the host and of the daemon, as lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State(BTreeSet<String>);

impl State {
    /// Reads it; `recreated` is a group whose interface is created again.
    pub fn read(lab: &Lab, daemon: &Daemon<'_>, recreated: &str) -> Result<Self, String> {
        let shown = daemon.ctl("show --json").map_err(|error| format!("{error:#}"))?;
        let mut lines = Self::of_host(lab, recreated).map_err(|error| format!("{error:#}"))?;
        let shown: Value = serde_json::from_str(&shown).map_err(|error| error.to_string())?;
        for group in shown["groups"].as_array().into_iter().flatten() {
            lines.0.insert(format!("report: {}", constant_part(group)));
        }
        Ok(lines)
    }

    /// The part of it that needs no daemon.
    pub fn of_host(lab: &Lab, recreated: &str) -> anyhow::Result<Self> {
        let mut lines: BTreeSet<String> = BTreeSet::new();
        let mut promiscuous = 0;
        for line in Snapshot::take(lab)?.lines() {
            promiscuous += promiscuity(line);
            lines.extend(stable(line, recreated));
        }
        lines.insert(format!("promiscuous links: {promiscuous}"));
        lab.host().run(|| {
            use aya::programs::{SchedClassifier, TcAttachType};
            for member in lab.members() {
                let count = |hook| {
                    SchedClassifier::query_tcx(member.name(), hook).map_or(0, |(_, programs)| programs.len())
                };
                let counts = [TcAttachType::Ingress, TcAttachType::Egress].map(count);
                lines.insert(format!("tcx programs, {}: {counts:?}", member.name()));
            }
        });
        Ok(Self(lines))
    }

    /// What only one of both has; of lines that differ in a part, that part.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut added: Vec<&String> = self.0.difference(&other.0).collect();
        let mut lines = Vec::new();
        for removed in other.0.difference(&self.0) {
            let same = |line: &&String| line.bytes().zip(removed.bytes()).take_while(|(a, b)| a == b).count();
            let nearest = added
                .iter()
                .enumerate()
                .max_by_key(|(_, line)| same(line))
                .map(|(at, line)| (at, same(line)));
            match nearest.filter(|(_, same)| *same >= 60) {
                Some((at, same)) => {
                    let line = added.swap_remove(at);
                    let from = |text: &str| {
                        let part = &text.as_bytes()[same - 20..];
                        String::from_utf8_lossy(&part[..part.len().min(160)]).into_owned()
                    };
                    lines.push(format!("~ {} … {}\n    now {}", &line[..40], from(removed), from(line)));
                }
                None => lines.push(format!("- {removed}")),
            }
        }
        lines.extend(added.iter().map(|line| format!("+ {line}")));
        lines
    }

    /// The number of lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// How often a link was set promiscuous: the cast member is, and which one that is depends on the past.
fn promiscuity(line: &str) -> u64 {
    let after = line.split_once("\"promiscuity\":").map_or("", |(_, after)| after);
    after.split(',').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// A line without what differs from time to time.
fn stable(line: &str, recreated: &str) -> Option<String> {
    if line.starts_with("/sys/fs/bpf/") {
        // A pin that was created again has another inode number, the mark of a device the address of a kernel structure.
        let path = line.split(' ').next().unwrap_or_default();
        let (before, mark) = path.split_once("/devices/").unwrap_or((path, ""));
        let mark: Vec<&str> = mark.rsplitn(3, '-').collect();
        return Some(format!("{before} {}", mark.last().unwrap_or(&"")));
    }
    // What has happened stays.
    if line.starts_with("/run/ipmp/") && line.contains("/timelines") {
        return None;
    }
    if line.starts_with("/run/ipmp/")
        && let Some((path, text)) = line.split_once(": ")
        && let Ok(mut text) = serde_json::from_str::<Value>(text)
    {
        for (name, group) in text["groups"].as_object_mut().into_iter().flatten() {
            if name == recreated {
                group["ifindex"] = json!(0);
            }
            for (_, member) in group["members"].as_object_mut().into_iter().flatten() {
                let part = &mut member["filters"];
                *(if name == recreated { part } else { &mut part["unicast"] }) = Value::Null;
            }
        }
        return Some(format!("{path}: {text}"));
    }
    let line = &line.replace(&format!("\"promiscuity\":{},", promiscuity(line)), "");
    if let Some((command, text)) = line.split_once("maddress show: ") {
        let mut object: Value = serde_json::from_str(text).ok()?;
        // Solicited-node groups: those of a link-local address follow from a MAC, too.
        if let Some(groups) = object["maddr"].as_array_mut() {
            groups.retain(|group| !group["link"].as_str().is_some_and(|mac| mac.starts_with("33:33:ff:")));
        }
        // Not of the far end of a group interface that is a veth, nor of an interface that is created again.
        let is_constant = !line.contains("\"ipmpfar-") && !line.contains(recreated);
        return is_constant.then(|| format!("{command}maddress show: {object}"));
    }
    if !line.contains(recreated) {
        return Some(line.to_owned());
    }
    // Its link-local address follows from its MAC.
    if line.contains(" route show ") && line.contains("\"fe80") {
        return None;
    }
    let Some((command, mut object)) = line
        .split_once(": ")
        .and_then(|(command, text)| Some((command, serde_json::from_str::<Value>(text).ok()?)))
    else {
        return Some(line.to_owned());
    };
    for name in NUMBERED {
        if object.get(name).is_some() {
            object[name] = Value::Null;
        }
    }
    if let Some(addresses) = object["addr_info"].as_array_mut() {
        addresses.retain(|address| address["scope"] != "link");
    }
    Some(format!("{command}: {object}"))
}

/// A group of the report, without counters, measured times, and what the kernel numbers. Which member is the inbound one of an
/// address depends on the past; that there is one does not.
fn constant_part(group: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let addresses: Vec<Value> = list(&group["addresses"])
        .iter()
        .map(|address| {
            json!([
                address["address"],
                address["prefix"],
                address["up"],
                address["duplicate"],
                address["preferred"],
                address["inbound"].is_string()
            ])
        })
        .collect();
    let part = |member: &Value| {
        let names = [
            "name",
            "number",
            "mtu",
            "weight",
            "updelay_ms",
            "link",
            "state",
            "offline",
            "active",
            "usable",
            "live",
            "standby",
            "inactive",
        ];
        let part = names.map(|name| (name.to_owned(), member[name].clone()));
        Value::Object(part.into_iter().collect())
    };
    let members: Vec<Value> = list(&group["members"]).iter().map(part).collect();
    json!({ "name": group["name"], "state": group["state"], "mtu": group["mtu"], "detection": group["detection"]["configured_ms"],
        "hash": group["hash"], "addresses": addresses, "members": members, "configuration": group["configuration"] })
}
