//! What is saved, and what of the files stays as it is.

use proptest::prelude::*;

use super::*;
use crate::{
    config::plan::{
        RunningGroup, RunningMember, plan,
        tests::{host, read, text},
    },
    control::report::{
        configuration::{ConfiguredAddress, GroupConfiguration},
        sample,
    },
};

/// A group with a member of this name, and no permanent MAC.
fn report(configuration: GroupConfiguration) -> GroupReport {
    GroupReport { groupname: "production0".into(), configuration, ..sample() }
}

fn configuration(
    settings: &[&str],
    addresses: &[(&str, Origin)],
    members: &[(&str, Option<&str>, &[&str])],
) -> GroupConfiguration {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    GroupConfiguration {
        origin: Origin::Command,
        settings: texts(settings),
        disabled_targets: Vec::new(),
        addresses: addresses
            .iter()
            .map(|&(address, origin)| ConfiguredAddress { address: address.into(), origin })
            .collect(),
        routes: Vec::new(),
        members: members
            .iter()
            .map(|&(name, permanent_mac, settings)| MemberConfiguration {
                name: name.into(),
                permanent_mac: permanent_mac.map(str::to_owned),
                settings: texts(settings),
                test_addresses: Vec::new(),
                inbound: Vec::new(),
                offline: false,
            })
            .collect(),
    }
}

fn saved(text: Option<&str>, report: &GroupReport) -> (String, Vec<String>) {
    let main = Path::new("ipmp.toml");
    let texts: Vec<_> = text.iter().map(|text| (main.to_owned(), (*text).to_owned())).collect();
    let Saved { files, notes } = save(&texts, main, std::slice::from_ref(report)).unwrap();
    (files.into_iter().map(|(_, text)| text).collect(), notes)
}

#[test]
fn group_of_commands_is_written_without_what_other_programs_added() {
    let addresses = [
        ("192.168.178.200/24", Origin::Command),
        ("192.168.178.7/24", Origin::Moved),
        ("192.168.178.250/24", Origin::Other),
        ("fe80::1/64", Origin::Other),
    ];
    let members: [(&str, Option<&str>, &[&str]); 2] = [
        ("e1000g0", None, &["weight=7", "match=name"]),
        ("e1000g1", Some("52:54:00:00:00:02"), &["standby=on"]),
    ];
    let mut configuration = configuration(
        &["fdt=2s", "failback=no", "targets=192.168.178.3,192.168.178.4"],
        &addresses,
        &members,
    );
    configuration.members[1].test_addresses = vec!["192.168.178.201/24".into()];
    configuration.members[0].offline = true;
    configuration.disabled_targets = vec!["192.168.178.4".parse().unwrap()];
    let route = |to: &str, via: &str, metric, origin| ConfiguredRoute {
        to: to.into(),
        via: via.parse().ok(),
        metric,
        table: None,
        src: None,
        onlink: false,
        origin,
    };
    configuration.routes = vec![
        route("0.0.0.0/0", "192.168.178.1", None, Origin::Moved),
        route("10.1.0.0/16", "192.168.178.2", Some(5), Origin::Moved),
        ConfiguredRoute { onlink: true, ..route("0.0.0.0/0", "10.9.9.1", Some(7), Origin::Moved) },
    ];
    let (text, notes) = saved(None, &report(configuration));
    println!("{text}");
    let expected = r#"[group.production0]
addresses = ["192.168.178.200/24", "192.168.178.7/24"]
gateways = ["192.168.178.1"]
routes = [{ to = "10.1.0.0/16", via = "192.168.178.2", metric = 5 }, { to = "default", via = "10.9.9.1", metric = 7, onlink = true }]
fdt = "2s"
failback = false
targets = ["192.168.178.3", "192.168.178.4"]
disabled-targets = ["192.168.178.4"]

[group.production0.members]
e1000g0 = { weight = 7, offline = true }
e1000g1 = { match = { permanent-mac = "52:54:00:00:00:02" }, standby = true, test-addresses = ["192.168.178.201/24"] }
"#;
    assert_eq!(text, expected);
    assert_eq!(notes, ["192.168.178.250/24 of production0 is left out: another program added it"]);
}

const FILE: &str = r#"# The defaults.
[defaults]
fdt = "2s"

# Our servers.
[group.production0]
addresses = [
    "192.168.178.200/24",   # the main one
    "192.168.178.201/24",
]
hash = "flow"               # see ticket 7
probe = "arp"
[group.production0.members]
first = { match = { name = "e1000g0" }, weight = 7 }   # on board
# Removed by a command.
e1000g1 = {}
"#;

#[test]
fn comments_order_and_notation_stay() {
    let member: (&str, Option<&str>, &[&str]) = ("e1000g0", None, &["weight=7"]);
    let both = [("192.168.178.200/24", Origin::File), ("192.168.178.201/24", Origin::File)];
    let known: (&str, Option<&str>, &[&str]) = ("e1000g1", None, &[]);
    let same = configuration(&["hash=flow", "fdt=2s", "probe=arp"], &both, &[member, known]);
    assert_eq!(saved(Some(FILE), &report(same)), (String::new(), Vec::new()));

    let addresses = [("192.168.178.200/24", Origin::File), ("192.168.178.210/24", Origin::Command)];
    let heavier: (&str, Option<&str>, &[&str]) = ("e1000g0", None, &["weight=9"]);
    let rge0: (&str, Option<&str>, &[&str]) = ("rge0", None, &[]);
    let changed = configuration(&["hash=destination", "fdt=2s"], &addresses, &[heavier, rge0]);
    let (text, notes) = saved(Some(FILE), &report(changed));
    println!("{text}");
    for line in [
        "# The defaults.\n[defaults]\nfdt = \"2s\"\n\n# Our servers.\n[group.production0]\n",
        "\"192.168.178.200/24\",   # the main one\n",
        "\n    \"192.168.178.210/24\"",
        "hash = \"destination\"               # see ticket 7\n",
        "first = { match = { name = \"e1000g0\" }, weight = 9 }   # on board\n",
        "rge0 = {}",
    ] {
        assert!(text.contains(line), "{line}");
    }
    assert!(!text.contains("192.168.178.201") && !text.contains("probe") && !text.contains("e1000g1"));
    assert_eq!(notes, [""; 0]);
}

#[test]
fn external_addresses_other_groups_and_mistakes_are_left_alone() {
    let addresses = [("192.168.178.200/24", Origin::Other)];
    let member: (&str, Option<&str>, &[&str]) = ("e1000g0", None, &[]);
    let file = "[group.production0]\naddresses = \"external\"\nmembers = { e1000g0 = {} }\n[group.lab0]\n";
    let report = report(configuration(&[], &addresses, &[member]));
    let (text, notes) = saved(Some(file), &report);
    assert_eq!((text.as_str(), notes.len()), ("", 1));
    assert!(notes[0].starts_with("group lab0 does not run: ipmp.toml:4:8 keeps it"), "{notes:?}");
    let broken = [("ipmp.toml".into(), "[group.production0]\nfdt = 1\n".into())];
    let refused = save(&broken, Path::new("ipmp.toml"), &[report]).unwrap_err();
    assert!(
        refused.starts_with("ipmp.toml:2:7: fdt cannot be 1") && refused.ends_with("correct it first"),
        "{refused}"
    );
}

#[test]
fn default_that_does_not_run_is_reported() {
    let member: (&str, Option<&str>, &[&str]) = ("e1000g0", None, &[]);
    let file = "[defaults]\nfdt = \"2s\"\n[group.production0.members]\ne1000g0 = {}\n";
    let (text, notes) = saved(Some(file), &report(configuration(&[], &[], &[member])));
    assert_eq!(text, "");
    assert_eq!(
        notes,
        ["production0 has no fdt of its own, and [defaults] has fdt=2s, which the next apply sets"]
    );
}

/// The report on a group.
fn report_of(group: &RunningGroup) -> GroupReport {
    let texts = |settings: &[Setting]| settings.iter().map(Setting::to_string).collect();
    let member = |member: &RunningMember| MemberConfiguration {
        name: member.name.clone(),
        permanent_mac: member.permanent_mac.map(show_mac),
        settings: texts(&member.settings),
        test_addresses: member.test_addresses.iter().map(ToString::to_string).collect(),
        inbound: member.inbound.iter().map(ToString::to_string).collect(),
        offline: member.offline,
    };
    let route = |(RouteEntry { to: (network, prefix), via, metric, table, src, onlink }, origin): &(
        RouteEntry,
        Origin,
    )| {
        let to = format!("{network}/{prefix}");
        ConfiguredRoute {
            to,
            via: *via,
            metric: *metric,
            table: *table,
            src: *src,
            onlink: *onlink,
            origin: *origin,
        }
    };
    let address = |(ip, prefix, origin): &(std::net::IpAddr, u8, Origin)| ConfiguredAddress {
        address: format!("{ip}/{prefix}"),
        origin: *origin,
    };
    GroupReport {
        name: group.name.clone(),
        groupname: group.groupname.clone(),
        members: Vec::new(),
        configuration: GroupConfiguration {
            origin: group.origin,
            settings: texts(&group.settings),
            disabled_targets: group.disabled_targets.clone(),
            addresses: group.addresses.iter().map(address).collect(),
            routes: group.routes.iter().map(route).collect(),
            members: group.members.iter().map(member).collect(),
        },
        ..sample()
    }
}

proptest! {
    /// Whatever the files had and commands changed since: what is saved is what runs.
    #[test]
    fn saved_files_describe_what_runs(files in text(), runs in text(), has_files: bool, by_commands: bool) {
        let mut running = host();
        running.apply(&read(&runs));
        if by_commands {
            running.groups.iter_mut().flat_map(|group| &mut group.addresses).for_each(|address| address.2 = Origin::Command);
        }
        for group in &mut running.groups {
            group.addresses.push(([10, 0, 0, 99].into(), 24, Origin::Other));
        }
        let reports: Vec<GroupReport> = running.groups.iter().map(report_of).collect();
        let main = Path::new("ipmp.toml");
        // A group that does not run is kept: only files without one are comparable.
        let is_running = |group: &Group| reports.iter().any(|report| report.name == group.name.value);
        let has_files = has_files && read(&files).groups.iter().all(is_running);
        let texts: Vec<_> = has_files.then(|| (main.to_owned(), files)).into_iter().collect();
        let saved = save(&texts, main, &reports).unwrap();
        let written = saved.files.into_iter().chain(texts).next().unwrap_or_else(|| (main.into(), String::new()));
        let planned = plan(&read(&written.1), true, &running).unwrap();
        prop_assert_eq!(planned.steps, [], "{}", written.1);
    }
}
