//! What is wrong between the entries of the files, and where redundancy is less than it seems.

use std::{collections::HashMap, net::IpAddr};

use super::{Addresses, Configuration, Finding, Group, Located, Member, Place};
use crate::{
    control::{DataAddress, Setting, TestAddressSpec},
    types::{ProbePolicy, network::first_of},
};

/// Most members of a group.
const MEMBERS: usize = ipmp_common::steer::MAX_MEMBERS;

/// Appends findings on the configuration as a whole.
pub fn check(configuration: &Configuration, findings: &mut Vec<Finding>) {
    group_names(configuration, findings);
    addresses(configuration, findings);
    interfaces(configuration, findings);
    for group in &configuration.groups {
        members(group, findings);
        inbound(group, findings);
        disabled_targets(group, findings);
        networks(group, findings);
        redundancy(group, &configuration.settings(group), findings);
    }
}

/// No two groups have one group name; the name of its interface is one.
fn group_names(configuration: &Configuration, findings: &mut Vec<Finding>) {
    let mut names: HashMap<&str, &Place> = HashMap::new();
    for group in &configuration.groups {
        let name = group.groupname.as_ref().unwrap_or(&group.name);
        if let Some(other) = names.insert(&name.value, &name.place) {
            let message = format!("group name {} is also at {other}: give each group its own", name.value);
            findings.push(Finding::error(&name.place, message));
        }
    }
}

/// An address is on one interface.
fn addresses(configuration: &Configuration, findings: &mut Vec<Finding>) {
    let mut all: HashMap<IpAddr, &Place> = HashMap::new();
    for group in &configuration.groups {
        let data = group.addresses.listed().iter().map(|address| (address.value, &address.place));
        let tests = group.members.iter().flat_map(|member| &member.test_addresses);
        let tests = tests.filter_map(|test| Some((test.value.address()?, &test.place)));
        for (address, place) in data.chain(tests) {
            if let Some(other) = all.insert(address.address(), place) {
                let message =
                    format!("{} is also at {other}: give each address to one interface", address.address());
                findings.push(Finding::error(place, message));
            }
        }
    }
}

/// No two entries are certain to match the same NIC.
fn interfaces(configuration: &Configuration, findings: &mut Vec<Finding>) {
    let members: Vec<&Member> = configuration.groups.iter().flat_map(|group| &group.members).collect();
    for (at, member) in members.iter().enumerate() {
        if let Some(other) = members[..at].iter().find(|other| same_interface(member, other)) {
            let message = format!(
                "{} matches the interface of {} at {}: write one entry for each interface",
                member.label.value, other.label.value, other.label.place
            );
            findings.push(Finding::error(&member.label.place, message));
        }
    }
}

/// Whether two entries match the same interface, if they match one: one key is the same in both and none differs.
fn same_interface(one: &Member, other: &Member) -> bool {
    let (one, other) = (&one.matching, &other.matching);
    fn compare<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> Option<bool> {
        Some(one? == other?)
    }
    let equal = [
        compare(one.name.as_ref(), other.name.as_ref()),
        compare(one.permanent_mac.as_ref(), other.permanent_mac.as_ref()),
        compare(one.mac.as_ref(), other.mac.as_ref()),
    ];
    equal.contains(&Some(true)) && !equal.contains(&Some(false))
}

fn members(group: &Group, findings: &mut Vec<Finding>) {
    if let Some(member) = group.members.get(MEMBERS) {
        let message = format!("a group can have {MEMBERS} members: remove those that it does not need");
        findings.push(Finding::error(&member.label.place, message));
    }
    for member in &group.members {
        for (at, test) in member.test_addresses.iter().enumerate() {
            let both =
                |other: &Located<TestAddressSpec>| TestAddressSpec::check(&[other.value, test.value], &[]);
            if let Some(Err(error)) = member.test_addresses[..at].iter().map(both).find(Result::is_err) {
                findings.push(Finding::error(&test.place, error.to_string()));
            }
        }
    }
}

/// A data address has one preferred inbound member.
fn inbound(group: &Group, findings: &mut Vec<Finding>) {
    let mut all: HashMap<IpAddr, &Place> = HashMap::new();
    let listed = group.addresses.listed();
    for address in group.members.iter().flat_map(|member| &member.inbound) {
        let ip = address.value;
        if let Some(other) = all.insert(ip, &address.place) {
            let message = format!("inbound {ip} is also at {other}: give each address one inbound member");
            findings.push(Finding::error(&address.place, message));
        } else if !listed.is_empty() && !listed.iter().any(|listed| listed.value.address() == ip) {
            let name = &group.name.value;
            let message =
                format!("inbound {ip} is none of the addresses of {name}: add it to them, or remove it here");
            findings.push(Finding::warning(&address.place, message));
        }
    }
}

/// What is disabled is a target.
fn disabled_targets(group: &Group, findings: &mut Vec<Finding>) {
    let is_target = |address: IpAddr| {
        let has =
            |setting: &Setting| matches!(setting, Setting::Targets(targets) if targets.contains(&address));
        group.settings.iter().any(|setting| has(&setting.value))
    };
    let disabled = group.disabled_targets.iter().flatten();
    for target in disabled.filter(|target| !is_target(target.value)) {
        let message = format!(
            "{} is none of the targets of {}: add it to targets, or remove it here",
            target.value, group.name.value
        );
        findings.push(Finding::error(&target.place, message));
    }
}

/// Gateways and targets are on the link. IPv6 networks can come from routers: only IPv4 is decidable.
fn networks(group: &Group, findings: &mut Vec<Finding>) {
    if matches!(group.addresses, Addresses::External) {
        return;
    }
    let tests = group.members.iter().flat_map(|member| &member.test_addresses).map(|test| test.value);
    if tests.clone().any(|test| test == TestAddressSpec::Dhcp) {
        return;
    }
    let data: Vec<DataAddress> = group.addresses.listed().iter().map(|address| address.value).collect();
    let tests: Vec<DataAddress> = tests.filter_map(TestAddressSpec::address).collect();
    let off_link = |what: &str, address: IpAddr, place: &Place, networks: &[DataAddress]| {
        if address.is_ipv6() || networks.iter().any(|network| is_in(address, *network)) {
            return None;
        }
        let v4 = networks.iter().filter(|network| network.address().is_ipv4());
        let mut names: Vec<String> = v4
            .map(|network| format!("{}/{}", first_of(network.address(), network.prefix()), network.prefix()))
            .collect();
        names.dedup();
        let name = &group.name.value;
        let message = if names.is_empty() {
            format!("{what} {address} is in no network of {name}, which has no IPv4 address: add one")
        } else {
            format!("{what} {address} is in no network of {name}: write an address in {}", names.join(" or "))
        };
        Some(Finding::error(place, message))
    };
    for gateway in &group.gateways {
        findings.extend(off_link("gateway", gateway.value, &gateway.place, &data));
    }
    for route in &group.routes {
        if let Some(via) = route.value.via.filter(|_| !route.value.onlink) {
            findings.extend(off_link("router", via, &route.place, &data));
        }
        if let Some(src) = route.value.src
            && !data.iter().any(|address| address.address() == src)
        {
            let message =
                format!("{src} is no data address of {}: write one of its addresses", group.name.value);
            findings.push(Finding::error(&route.place, message));
        }
    }
    let all = [data, tests].concat();
    for setting in &group.settings {
        if let Setting::Targets(targets) = &setting.value {
            for &target in targets {
                findings.extend(off_link("target", target, &setting.place, &all));
            }
        }
    }
}

fn is_in(address: IpAddr, network: DataAddress) -> bool {
    address.is_ipv4() == network.address().is_ipv4()
        && first_of(address, network.prefix()) == first_of(network.address(), network.prefix())
}

fn redundancy(group: &Group, settings: &[Setting], findings: &mut Vec<Finding>) {
    let name = &group.name.value;
    let mut warn = |message: String| findings.push(Finding::warning(&group.name.place, message));
    match group.members.as_slice() {
        [] => warn(format!("{name} has no member: it transmits nothing until one is attached")),
        [_] => warn(format!("{name} has one member: nothing replaces it when it fails; add a second one")),
        _ => {}
    }
    let probe = settings
        .iter()
        .any(|setting| matches!(setting, Setting::Probe(policy) if *policy != ProbePolicy::Off));
    let unprobed: Vec<&str> = group
        .members
        .iter()
        .filter(|member| !probe && member.test_addresses.is_empty())
        .map(|member| member.label.value.as_str())
        .collect();
    if !unprobed.is_empty() {
        let is = if unprobed.len() == 1 { "is" } else { "are" };
        warn(format!(
            "{} of {name} {is} not probed: failures behind the switch are not detected; write probe = \"auto\" or \
             test-addresses",
            unprobed.join(", ")
        ));
    }
    let targets =
        settings.iter().any(|setting| matches!(setting, Setting::Targets(targets) if !targets.is_empty()));
    let has_router = !group.gateways.is_empty() || group.routes.iter().any(|route| route.value.via.is_some());
    let probed = unprobed.len() < group.members.len();
    if probed && !targets && !has_router && !matches!(group.addresses, Addresses::External) {
        warn(format!(
            "{name} has neither a gateway nor targets: only hosts that reply to multicast probes can be targets; write \
             targets or gateways"
        ));
    }
}
