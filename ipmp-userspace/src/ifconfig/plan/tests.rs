use super::*;
use crate::{
    control::report,
    ifconfig::grammar::{self, Line},
    link::Address,
};

/// The group of `report::sample`, `Production` with e1000g0, e1000g1 and rge0, and two NICs; the second has an address.
fn host() -> Host {
    let names = ["production0", "e1000g0", "e1000g1", "rge0", "eth7", "eth8"];
    Host {
        groups: vec![report::sample()],
        devices: names.iter().zip(2..).map(|(name, ifindex)| Device::sample(name, ifindex)).collect(),
        addresses: vec![
            (7, Address::new("10.0.0.8".parse().unwrap(), 8)),
            (6, Address::new("fe80::1".parse().unwrap(), 64)),
        ],
    }
}

/// The plan of a line whose addresses have prefix length 24.
fn planned(line: &str) -> Result<Plan, Error> {
    let words: Vec<String> = line
        .split_whitespace()
        .map(|word| if word == "\"\"" { String::new() } else { word.into() })
        .collect();
    let change = match grammar::parse(&words) {
        Ok(Line::Change(change)) => change,
        other => panic!("{line}: {other:?}"),
    };
    let data = |text: &str| format!("{text}/24").parse().unwrap();
    let base = change.base.address.as_deref().map(data);
    let added = change.added.iter().map(|line| data(line.address.as_deref().unwrap())).collect();
    let removed = change.removed.iter().map(|text| text.parse().unwrap()).collect();
    plan(&Wish { change, base, added, removed }, &host())
}

/// The steps of a line, as the requests' JSON.
fn steps(line: &str) -> Vec<String> {
    let plan = planned(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = |action: &Action| match action {
        Action::Request(request) => {
            format!("{} {}", request.verb().method, serde_json::to_string(request).unwrap())
        }
        Action::Link { interface, up } => format!("{interface} up {up}"),
    };
    plan.steps.iter().map(|(action, _)| text(action)).collect()
}

const EXISTING: &str = r#"{"group":"production0","interfaces":["eth7"],"standby":false,"test_addresses":"#;

#[test]
fn lines_become_requests() {
    for (line, expected) in [
        ("eth7 plumb", vec![]),
        ("eth7 up", vec![]),
        ("eth7 down", vec!["eth7 up false".to_owned()]),
        ("eth7 unplumb", vec![]),
        ("eth7 group \"\"", vec![]),
        (
            "new0 ipmp 10.0.0.1 up",
            vec![r#"Create {"group":"new0","groupname":null,"addresses":["10.0.0.1/24"]}"#.into()],
        ),
        (
            "new0 ipmp group New 10.0.0.1 up addif 10.0.0.2 up",
            vec![r#"Create {"group":"new0","groupname":"New","addresses":["10.0.0.1/24","10.0.0.2/24"]}"#.into()],
        ),
        ("eth7 -failover group Production up", vec![format!("Attach {EXISTING}[],\"accept_firewall\":true}}")]),
        (
            "eth7 plumb 10.0.0.7 -failover group Production up",
            vec![format!("Attach {EXISTING}[\"10.0.0.7/24\"],\"accept_firewall\":true}}")],
        ),
        // A data address of a classic line goes to the group.
        (
            "eth7 10.0.0.7 netmask + broadcast + group Production up",
            vec![
                format!("Attach {EXISTING}[],\"accept_firewall\":true}}"),
                r#"AddAddress {"group":"production0","addresses":["10.0.0.7/24"],"inbound":"eth7","logical":0}"#
                    .into(),
            ],
        ),
        // It is on the NIC already: it moves, and has its home there.
        (
            "eth8 10.0.0.8 group other1 standby up",
            vec![
                r#"Attach {"group":"other1","interfaces":["eth8"],"standby":true,"test_addresses":[],"accept_firewall":true}"#.into(),
                r#"AddAddress {"group":"other1","addresses":["10.0.0.8/8"],"inbound":"eth8","logical":0}"#.into(),
            ],
        ),
        (
            "eth7 10.0.0.7 -failover group other1 up addif 10.0.0.9 up",
            vec![
                r#"Attach {"group":"other1","interfaces":["eth7"],"standby":false,"test_addresses":["10.0.0.7/24"],"accept_firewall":true}"#
                    .into(),
                r#"AddAddress {"group":"other1","addresses":["10.0.0.9/24"],"inbound":"eth7","logical":1}"#.into(),
            ],
        ),
        // No interface can have this name.
        (
            "eth7 group a.group.with.a.long.name",
            vec![
                r#"Create {"group":"ipmp0","groupname":"a.group.with.a.long.name","addresses":[]}"#.into(),
                r#"Attach {"group":"ipmp0","interfaces":["eth7"],"standby":false,"test_addresses":[],"accept_firewall":true}"#.into(),
            ],
        ),
        ("e1000g0 -failover group Production up", vec![]),
        ("e1000g0 standby", vec![r#"Set {"name":"e1000g0","settings":["standby=on"]}"#.into()]),
        ("e1000g0 -standby", vec![]),
        ("e1000g0 unplumb", vec![r#"Detach {"interface":"e1000g0","last":"keep_group"}"#.into()]),
        ("e1000g0 group \"\"", vec![r#"Detach {"interface":"e1000g0","last":"keep_group"}"#.into()]),
        ("e1000g0 192.168.178.201 -failover", vec![]),
        (
            "e1000g0 192.168.178.211 -failover",
            vec![
                r#"RemoveTestAddress {"interface":"e1000g0","address":"192.168.178.201/24"}"#.into(),
                r#"AddTestAddress {"interface":"e1000g0","address":"192.168.178.211/24"}"#.into(),
            ],
        ),
        (
            "e1000g1 addif 192.168.178.210 up",
            vec![
                r#"AddAddress {"group":"production0","addresses":["192.168.178.210/24"],"inbound":"e1000g1","logical":1}"#
                    .into(),
            ],
        ),
        (
            "production0 addif 192.168.178.210 up",
            vec![r#"AddAddress {"group":"production0","addresses":["192.168.178.210/24"]}"#.into()],
        ),
        (
            "production0 removeif 192.168.178.200",
            vec![r#"RemoveAddress {"group":"production0","addresses":["192.168.178.200/24"]}"#.into()],
        ),
        (
            "production0 192.168.178.210 up",
            vec![
                r#"AddAddress {"group":"production0","addresses":["192.168.178.210/24"]}"#.into(),
                r#"RemoveAddress {"group":"production0","addresses":["192.168.178.200/24"]}"#.into(),
            ],
        ),
        (
            "production0:1 192.168.178.210 up",
            vec![r#"AddAddress {"group":"production0","addresses":["192.168.178.210/24"]}"#.into()],
        ),
    ] {
        assert_eq!(steps(line), expected, "{line}");
    }
}

#[test]
fn steps_before_the_last_can_be_undone() {
    for line in [
        "eth7 10.0.0.7 group Production up",
        "eth7 10.0.0.7 group other1 up",
        "e1000g0 192.168.178.211 -failover",
        "production0 192.168.178.210 up",
        "production0 removeif 192.168.178.200 addif 192.168.178.210",
    ] {
        let plan = planned(line).unwrap();
        let (last, before) = plan.steps.split_last().unwrap();
        assert!(!before.is_empty() && before.iter().all(|(_, undo)| undo.is_some()), "{line}: {last:?}");
    }
}

#[test]
fn created_logical_interfaces_are_printed() {
    for (line, printed) in [
        ("production0 addif 192.168.178.210 up", "Created new logical interface production0:1\n"),
        // The classic display has the address of the group at e1000g0:1.
        ("e1000g0 addif 192.168.178.210 up", "Created new logical interface e1000g0:2\n"),
        ("e1000g1 addif 192.168.178.210 up", "Created new logical interface e1000g1:1\n"),
        ("eth7 10.0.0.7 -failover group x0 addif 10.0.0.9 up", "Created new logical interface eth7:1\n"),
        ("production0 removeif 192.168.178.200", ""),
    ] {
        assert_eq!(planned(line).unwrap().printed, printed, "{line}");
    }
}

#[test]
fn impossible_changes_are_refused_in_one_line() {
    for (line, text) in [
        (
            "production0 ipmp 10.0.0.1 up",
            "cannot create IPMP interface production0: Interface already exists",
        ),
        ("eth7 ipmp", "cannot create IPMP interface eth7: Interface already exists"),
        (
            "production0 unplumb",
            "cannot unplumb production0: IPMP group is not empty: unplumb e1000g0, e1000g1, rge0 first",
        ),
        ("missing0 unplumb", "cannot unplumb missing0: Interface does not exist"),
        (
            "eth8 unplumb",
            "cannot unplumb eth8: it has addresses that ipmp-ifconfig did not set: 10.0.0.8/8; remove them first (ip address \
             flush dev eth8)",
        ),
        (
            "e1000g0 inet6 unplumb",
            "cannot unplumb one family of e1000g0: an interface of Linux has both; leave out inet6",
        ),
        ("missing0 plumb", "missing0: no such interface"),
        (
            "production0:7 unplumb",
            "production0:7: no such logical interface; ifconfig -a lists those there are",
        ),
        (
            "eth7 10.0.0.1 up",
            "eth7 is in no group: add `group NAME` to the line, or use ip address for an interface outside groups",
        ),
        (
            "eth7 standby",
            "eth7 is in no group: add `group NAME` to the line, or use ip address for an interface outside groups",
        ),
        (
            "production0 standby",
            "standby is not possible on an IPMP interface: production0 is one; use it on its members",
        ),
        (
            "production0 group other",
            "production0 cannot get another group name: it is Production until the group is removed",
        ),
        ("production0 group \"\"", "production0 is an IPMP interface and cannot leave its group: unplumb it"),
        (
            "production0 10.0.0.1 down",
            "an address cannot be down on Linux: remove it (removeif), or set its interface down",
        ),
        ("e1000g0:1 up", "the addresses of e1000g0 are those of production0: use production0:NUMBER"),
        (
            "production0 removeif 10.9.9.9",
            "removeif: cannot remove interface: production0 does not have 10.9.9.9",
        ),
        (
            "e1000g0 failover",
            "192.168.178.201 is a test address of e1000g0 and cannot become a data address: remove it first (removeif)",
        ),
    ] {
        assert_eq!(planned(line).unwrap_err().to_string(), text, "{line}");
    }
}
