//! Files as operators write them, and what is reported.

use std::{collections::BTreeSet, path::Path};

use super::{
    keys::{DEFAULTS, DNS, FILE, GROUP, Kind, MATCH, MEMBER, ROUTE, Table},
    *,
};
use crate::{
    control::setting::{self, Owner},
    link::Device,
};

const EXAMPLE: &str = include_str!("../../etc/ipmp.toml");

fn parse(files: &[(&str, &str)]) -> (Configuration, Vec<String>) {
    let texts: Vec<_> = files.iter().map(|(name, text)| (name.into(), (*text).to_owned())).collect();
    let (configuration, findings) = files::parse(&texts);
    (configuration, findings.iter().map(ToString::to_string).collect())
}

fn findings(text: &str) -> Vec<String> {
    parse(&[("ipmp.toml", text)]).1
}

#[test]
fn example_is_valid_and_has_every_key() {
    let (configuration, findings) = parse(&[("ipmp.toml", EXAMPLE)]);
    assert_eq!(findings, [""; 0]);
    let [group] = configuration.groups.as_slice() else { panic!("{configuration:?}") };
    assert_eq!(group.name.value, "production0");
    let labels: Vec<_> = group.members.iter().map(|member| member.label.value.as_str()).collect();
    assert_eq!(labels, ["eth0", "eth1", "uplink"]);
    assert_eq!(group.members[0].matching, Match { name: Some("eth0".into()), ..Match::default() });
    assert_eq!(group.members[1].matching.permanent_mac, Some([0x52, 0x54, 0, 0, 0, 2]));
    assert_eq!(group.members[2].matching.name.as_deref(), Some("eth2"));
    let names =
        |settings: &[Located<Setting>]| settings.iter().map(|own| own.value.name()).collect::<BTreeSet<_>>();
    let all: BTreeSet<_> = setting::descriptions(Owner::Group).map(|setting| setting.key).collect();
    assert_eq!(names(&group.settings), all);
    // The group's own value has precedence over the default.
    let settings = configuration.settings(group);
    assert_eq!(settings.iter().filter(|setting| setting.name() == "fdt").count(), 1);
    assert!(settings.contains(&"fdt=1s".parse().unwrap()));
    for table in [&FILE, &DEFAULTS, &GROUP, &ROUTE, &DNS, &MEMBER, &MATCH] {
        for name in table.keys.iter().map(|key| key.name) {
            let is_there = EXAMPLE.contains(&format!("{name} =")) || EXAMPLE.contains(&format!("[{name}"));
            assert!(
                is_there || EXAMPLE.contains(&format!(".{name}]")),
                "{name} of {} is missing",
                table.noun
            );
        }
    }
}

#[test]
fn default_applies_to_group_without_own_value() {
    let (configuration, _) = parse(&[
        ("a.toml", "[defaults]\nfdt = \"2s\"\nfailback = false\n[group.a0]\nfdt = \"1s\""),
        ("b.toml", "[group.b0]"),
    ]);
    let texts = |at: usize| -> Vec<String> {
        configuration.settings(&configuration.groups[at]).iter().map(ToString::to_string).collect()
    };
    assert_eq!(texts(0), ["fdt=1s", "failback=no"]);
    assert_eq!(texts(1), ["fdt=2s", "failback=no"]);
}

/// The reader knows the type of each key in the table of keys: a number is refused where none is meant, and nothing is ignored.
#[test]
fn wrong_type_is_refused_for_every_key() {
    for (table, start) in [(&GROUP, "[group.g0]\n"), (&MEMBER, "[group.g0.members.eth0]\n")] {
        for key in table.keys.iter().filter(|key| !matches!(key.kind, Kind::Number)) {
            let text = format!("{start}{} = 0", key.name);
            let found = findings(&text);
            let start =
                format!("ipmp.toml:2:{}: error: {} cannot be 0: write ", key.name.len() + 4, key.name);
            assert!(found.iter().any(|line| line.starts_with(&start)), "{text}: {found:?}");
        }
        for setting in table.settings() {
            let found = findings(&format!("{start}{} = 1.5", setting.key));
            let line = format!("error: {} cannot be 1.5: write ", setting.key);
            assert!(found.iter().any(|found| found.contains(&line)), "{}: {found:?}", setting.key);
        }
    }
}

#[test]
fn schema_in_docs_is_generated_from_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ipmp.schema.json");
    let text = serde_json::to_string_pretty(&schema::schema()).unwrap() + "\n";
    if std::env::var_os("IPMP_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == text, "docs/ipmp.schema.json is old: run this test with IPMP_WRITE_SCHEMA=1");
}

#[test]
fn every_key_is_documented() {
    let page = include_str!("../../../docs/configuration.md");
    for table in [&FILE, &DEFAULTS, &GROUP, &ROUTE, &DNS, &MEMBER, &MATCH] {
        let table: &Table = table;
        for name in table.keys.iter().map(|key| key.name) {
            assert!(page.contains(&format!("`{name}`")), "docs/configuration.md does not describe {name}");
        }
    }
}

/// Two members and probing, so that there is no warning.
const MEMBERS: &str = "probe = \"auto\"\ngateways = [\"10.0.0.1\"]\nmembers = { eth0 = {}, eth1 = {} }\n";

#[test]
fn broken_files_are_reported_with_place_and_remedy() {
    let g0 = format!("[group.g0]\naddresses = [\"10.0.0.2/24\"]\n{MEMBERS}");
    let cases: &[(&str, String, &[&str])] = &[
        (
            "unknown keys",
            "default = {}\n".to_owned() + &g0 + "address = []\ntarget = []\ncolour = 1\n",
            &[
                "ipmp.toml:1:1: error: the file has no key \"default\": write defaults",
                "ipmp.toml:7:1: error: a group has no key \"address\": write addresses",
                "ipmp.toml:8:1: error: a group has no key \"target\": write targets",
                "ipmp.toml:9:1: error: a group has no key \"colour\": its keys are groupname, addresses, gateways, routes, \
                 dns, disabled-targets, members, address-detection, announce-count, announce-interval, announce-rate, capture, classic, confirm, \
                 evidence, fail-open, failback, failback-limit, fdt, hash, loss-fail, loss-warn, manage-sysctls, probe, source-spread, split, targets, updelay",
            ],
        ),
        (
            "values out of range",
            g0.clone() + "fdt = \"5ms\"\nfailback = \"yes\"\nannounce-count = 21\nhash = \"l4\"\nupdelay = 200\ntargets = []\nloss-warn = \"0%\"\n",
            &[
                "ipmp.toml:6:7: error: fdt cannot be \"5ms\": write a time from \"10ms\" to \"3600s\"",
                "ipmp.toml:7:12: error: failback cannot be \"yes\": write true, false or \"idle\"",
                "ipmp.toml:8:18: error: announce-count cannot be 21: write \"auto\" or a number from 1 to 20",
                "ipmp.toml:9:8: error: hash cannot be \"l4\": write one of \"connection\", \"flow\", \"destination\"",
                "ipmp.toml:10:11: error: updelay cannot be 200: write a time from \"0ms\" to \"600s\"",
                "ipmp.toml:11:11: error: targets cannot be empty: write \"auto\" or an array of addresses",
                "ipmp.toml:12:13: error: loss-warn cannot be \"0%\": write \"off\" or a share from \"0.01%\" to \"100%\"",
            ],
        ),
        (
            "addresses",
            format!(
                "[group.g0]\naddresses = [\"10.0.0.2\", \"10.0.0.0/24\", \"10.0.0.2/24\", \"10.0.0.2/24\"]\n{MEMBERS}\
                 targets = [\"224.0.0.1\", \"10.0.1.1\"]\n"
            ),
            &[
                "ipmp.toml:2:14: error: 10.0.0.2 has no prefix length: write 10.0.0.2/24, or the prefix length of its network",
                "ipmp.toml:2:26: error: 10.0.0.0/24 is the network address of its network: give it an address of a host",
                "ipmp.toml:2:56: error: 10.0.0.2 is also at ipmp.toml:2:41: give each address to one interface",
                "ipmp.toml:6:11: error: target 10.0.1.1 is in no network of g0: write an address in 10.0.0.0/24",
                "ipmp.toml:6:12: error: 224.0.0.1 is a multicast address, which cannot be a target: name a host on the link \
                 of the group",
            ],
        ),
        (
            "gateway in no network",
            "[group.g0]\naddresses = [\"10.0.1.2/24\"]\n".to_owned() + MEMBERS,
            &["ipmp.toml:4:13: error: gateway 10.0.0.1 is in no network of g0: write an address in 10.0.1.0/24"],
        ),
        (
            "two entries for one interface",
            g0.clone() + "[group.g1.members]\nlan = { match = { name = \"eth0\" }, test-addresses = [\"10.0.0.9/24\"] }\n\
                a = { match = { permanent-mac = \"52:54:00:00:00:02\" }, test-addresses = [\"10.0.0.3/24\"] }\n\
                b = { match = { permanent-mac = \"52:54:00:00:00:02\" }, test-addresses = [\"10.0.0.4/24\", \"10.0.0.5/24\"] }\n\
                [group.g1]\ntargets = [\"10.0.0.1\"]\n",
            &[
                "ipmp.toml:7:1: error: lan matches the interface of eth0 at ipmp.toml:5:13: write one entry for each interface",
                "ipmp.toml:9:1: error: b matches the interface of a at ipmp.toml:8:1: write one entry for each interface",
                "ipmp.toml:9:89: error: 10.0.0.4/24 and 10.0.0.5/24 are both IPv4: a member has one test address in each \
                 family",
            ],
        ),
        (
            "match",
            "[group.g0.members]\na = { match = {} }\nb = { match = { permanent-mac = \"52:54:0:0:0:2\" } }\n\
             c = { match = { perm-mac = \"52:54:00:00:00:02\" } }\n[group.g0]\nprobe = \"auto\"\ntargets = \"auto\"\n\
             addresses = \"external\""
                .to_owned(),
            &[
                "ipmp.toml:2:15: error: match is empty: write name, permanent-mac or mac",
                "ipmp.toml:3:33: error: \"52:54:0:0:0:2\" is not the MAC of an interface: write one like 52:54:00:00:00:02",
                "ipmp.toml:4:17: error: match has no key \"perm-mac\": its keys are name, permanent-mac, mac",
            ],
        ),
        (
            "routes",
            g0.clone() + "routes = [{ via = \"10.0.0.1\" }, { to = \"10.1.2.3/8\" }, { to = \"default\" },\n\
                {to = \"10.0.0.0/8\", via = \"10.9.0.1\", src = \"10.0.0.3\" }]\n",
            &[
                "ipmp.toml:6:11: error: a route needs to: write to = \"default\" or a network like \"10.0.0.0/8\"",
                "ipmp.toml:6:40: error: 10.1.2.3/8 has bits after its prefix: write 10.0.0.0/8",
                "ipmp.toml:6:63: error: a default route needs via: write the address of the router",
                "ipmp.toml:7:1: error: router 10.9.0.1 is in no network of g0: write an address in 10.0.0.0/24",
                "ipmp.toml:7:1: error: 10.0.0.3 is no data address of g0: write one of its addresses",
            ],
        ),
        (
            "names",
            "[group.\"a.0\"]\n[group.g1]\ngroupname = \"\"\n[group.g1.members]\n\"a/b\" = {}\n[defaults]\nprobe = \"auto\"\n".to_owned(),
            &[
                "ipmp.toml:1:8: error: \"a.0\" cannot name a group: choose one without '.'",
                "ipmp.toml:1:8: warning: a.0 has no member: it transmits nothing until one is attached",
                "ipmp.toml:2:8: warning: g1 has one member: nothing replaces it when it fails; add a second one",
                "ipmp.toml:2:8: warning: g1 has neither a gateway nor targets: only hosts that reply to multicast probes can \
                 be targets; write targets or gateways",
                "ipmp.toml:3:13: error: a group has an empty name: give it 1 to 31 bytes",
                "ipmp.toml:5:1: error: \"a/b\" cannot name an interface: choose one without '/'",
            ],
        ),
        (
            "types",
            "defaults = 1\n[group]\na0 = true\n[group.b0]\nmembers = [\"eth0\"]\ndns = { servers = \"10.0.0.1\" }\n".to_owned(),
            &[
                "ipmp.toml:1:12: error: defaults cannot be 1: write a table",
                "ipmp.toml:3:6: error: a0 cannot be true: write a table",
                "ipmp.toml:4:8: warning: b0 has no member: it transmits nothing until one is attached",
                "ipmp.toml:5:11: error: members cannot be an array: write a table",
                "ipmp.toml:6:19: error: servers cannot be \"10.0.0.1\": write an array",
            ],
        ),
    ];
    let wrong = cases.iter().filter(|(_, text, lines)| findings(text) != *lines);
    let wrong: Vec<_> = wrong.map(|(name, text, lines)| (name, findings(text), lines)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_syntax_error_is_reported_and_the_rest_is_read() {
    let found = findings(
        "[group.g0\nfdt = 1s\n[defaults]\nfdt = \n[group.g0]\nfdt = \"1s\"\nfdt = \"2s\"\nhush = 1\n",
    );
    for start in ["ipmp.toml:1:", "ipmp.toml:4:", "ipmp.toml:7:1: error: no TOML: duplicate key"] {
        assert!(found.iter().any(|line| line.starts_with(start)), "{start}: {found:#?}");
    }
    assert!(
        found.contains(&"ipmp.toml:8:1: error: a group has no key \"hush\": write hash".into()),
        "{found:#?}"
    );
}

#[test]
fn group_in_two_files_is_refused() {
    let group = "[group.g0]\naddresses = [\"10.0.0.2/24\"]\n".to_owned() + MEMBERS;
    let second = "[defaults]\nfdt = \"1s\"\n".to_owned() + &group;
    let third =
        second.replace("g0", "g1").replace("eth", "lan").replace(".2/", ".3/") + "groupname = \"g0\"\n";
    let (_, found) = parse(&[("a.toml", &group), ("b.toml", &second), ("c.toml", &third)]);
    assert_eq!(
        found,
        [
            "b.toml:3:8: error: group g0 is also at a.toml:1:8: put all of a group into one file",
            "c.toml:2:1: error: fdt is set twice: it is also at b.toml:2:7",
            "c.toml:8:13: error: group name g0 is also at a.toml:1:8: give each group its own",
        ]
    );
}

#[test]
fn illusory_redundancy_is_a_warning() {
    let text = "[group.a0]\naddresses = [\"10.0.0.2/24\"]\nmembers = { eth0 = {} }\n\
                [group.b0]\naddresses = [\"10.0.0.3/24\"]\nprobe = \"arp\"\nmembers = { eth1 = {}, eth2 = {} }\n\
                [group.c0]\naddresses = \"external\"\nmembers = { eth3 = {}, eth4 = { test-addresses = [\"dhcp\"] } }\n\
                [group.d0]\nmembers = {}\n";
    assert_eq!(
        findings(text),
        [
            "ipmp.toml:1:8: warning: a0 has one member: nothing replaces it when it fails; add a second one",
            "ipmp.toml:1:8: warning: eth0 of a0 is not probed: failures behind the switch are not detected; write probe = \
             \"auto\" or test-addresses",
            "ipmp.toml:4:8: warning: b0 has neither a gateway nor targets: only hosts that reply to multicast probes can be \
             targets; write targets or gateways",
            "ipmp.toml:8:8: warning: eth3 of c0 is not probed: failures behind the switch are not detected; write probe = \
             \"auto\" or test-addresses",
            "ipmp.toml:11:8: warning: d0 has no member: it transmits nothing until one is attached",
        ]
    );
}

fn nic(ifindex: u32, name: &str, pci: Option<&str>) -> (Device, Option<String>) {
    let mut device = Device::parse(&Default::default());
    device.ifindex = ifindex;
    device.name = name.into();
    device.permanent_mac = Some([2, 0, 0, 0, 0, ifindex as u8]);
    (device, pci.map(str::to_owned))
}

#[test]
fn interfaces_of_the_host_are_compared() {
    let text = "[group.g0]\naddresses = [\"10.0.0.2/24\"]\nprobe = \"auto\"\ngateways = [\"10.0.0.1\"]\n[group.g0.members]\n\
                eth0 = {}\neth1 = {}\n[group.g1]\naddresses = \"external\"\nprobe = \"auto\"\n[group.g1.members]\neth9 = {}\n\
                same = { match = { permanent-mac = \"02:00:00:00:00:01\" } }\n";
    let (configuration, found) = parse(&[("ipmp.toml", text)]);
    assert_eq!(found, [""; 0]);
    let interfaces = vec![nic(1, "eth0", Some("0000:03:00")), nic(2, "eth1", Some("0000:03:00"))];
    let mut findings = Vec::new();
    host::check(&configuration, &host::Host { interfaces }, &mut findings);
    assert_eq!(
        findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "ipmp.toml:1:8: warning: all members of g0 are ports of one PCI device, 0000:03:00: it fails as a whole; add a \
             member on another one",
            "ipmp.toml:12:1: warning: no interface of this host has the name eth9: eth9 of g1 is absent until one appears",
            "ipmp.toml:13:1: error: same matches eth0, as eth0 at ipmp.toml:6:1 does: write one entry for each interface",
        ]
    );
    // Two interfaces with one permanent MAC, as ports of a multi-function card can have.
    let interfaces = vec![nic(1, "eth0", None), nic(1, "eth9", None), nic(2, "eth1", None)];
    let mut findings = Vec::new();
    host::check(&configuration, &host::Host { interfaces }, &mut findings);
    let last = findings.last().unwrap().to_string();
    assert_eq!(
        last,
        "ipmp.toml:13:1: error: same matches eth0 and eth9: add a key to match that only one of them has"
    );
}

#[test]
fn files_of_directory_are_read_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let missing = files::of_directory(directory.path()).unwrap_err().to_string();
    assert!(
        missing.contains("ipmp.toml: error: there is no configuration: create this file, or a file in "),
        "{missing}"
    );
    std::fs::create_dir(directory.path().join("ipmp.d")).unwrap();
    for name in ["ipmp.d/20-b.toml", "ipmp.d/10-a.toml", "ipmp.d/10-a.toml.rpmsave", "ipmp.toml"] {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    let files = files::of_directory(directory.path()).unwrap();
    let names: Vec<_> =
        files.iter().map(|file| file.strip_prefix(directory.path()).unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["ipmp.toml", "ipmp.d/10-a.toml", "ipmp.d/20-b.toml"]);
    std::fs::write(&files[1], b"\xff").unwrap();
    std::fs::remove_file(&files[2]).unwrap();
    let (_, findings) = load(&files);
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(lines[0].ends_with("10-a.toml: error: byte 1 is no UTF-8: save it as UTF-8"), "{lines:?}");
    assert!(lines[1].contains("20-b.toml: error: cannot read it: No such file"), "{lines:?}");
}
