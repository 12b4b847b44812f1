//! `samples/`: directories with the files of one host each, and what is printed for them: `expected.toml`, or the beginning of
//! the refusal, `expected.error`. Both are written by hand.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Error, Format, Found, Source, bond::milliseconds, print};
use crate::{
    config::{self, Severity, host::Host},
    link::Device,
};

/// A host with two cards that have permanent MACs.
fn host() -> Host {
    let card = |name: &str, number: u8| Device {
        permanent_mac: Some([0x52, 0x54, 0, 0, 0, number]),
        ..Device::sample(name, number.into())
    };
    Host { interfaces: vec![(card("eno1", 1), None), (card("eno2", 2), None)] }
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/samples")
}

/// The files of a sample, by their paths in its directory.
fn sources(directory: &Path, below: &str, sources: &mut Vec<Source>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            self::sources(&path, &format!("{name}/"), sources);
        } else if !name.starts_with("expected.") {
            sources.push(Source { path: name.into(), text: fs::read_to_string(path).unwrap() });
        }
    }
}

fn imported(sources: &[Source], switch_ports_independent: bool) -> Result<String, Error> {
    let format = Format::of(&sources[0]).unwrap();
    assert!(sources.iter().all(|source| Format::of(source) == Some(format)));
    print(&format.read(sources)?, "FILES", &host(), switch_ports_independent)
}

#[test]
fn files_of_each_program_become_configuration_that_check_accepts() {
    for sample in fs::read_dir(samples()).unwrap() {
        let sample = sample.unwrap().path();
        let name = sample.file_name().unwrap().to_str().unwrap();
        let mut sources = Vec::new();
        self::sources(&sample, "", &mut sources);
        let result = imported(&sources, name == "teamd-2");
        match fs::read_to_string(sample.join("expected.toml")) {
            Ok(expected) => {
                let text = result.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(text, expected, "{name}");
                let (configuration, findings) = config::parse(&[(PathBuf::new(), text)]);
                let errors: Vec<_> =
                    findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
                assert!(errors.is_empty(), "{name}: {errors:?}");
                assert_eq!(configuration.groups[0].members.len(), 2, "{name}");
            }
            Err(_) => {
                let expected = fs::read_to_string(sample.join("expected.error")).unwrap();
                let error = result.expect_err(name).to_string();
                assert!(
                    error.starts_with(expected.trim_end_matches('\n')),
                    "{name}: {error}\nexpected: {expected}"
                );
                assert_eq!(error.lines().count(), 1, "{name}: {error}");
            }
        }
    }
}

#[test]
fn each_format_has_samples_that_are_accepted_and_refused() {
    for program in ["networkd", "netplan", "ifupdown", "keyfile", "teamd"] {
        let of = |file: &str| {
            (1..=4).filter(|number| samples().join(format!("{program}-{number}/{file}")).exists()).count()
        };
        assert_eq!((of("expected.toml"), of("expected.error")), (2, 2), "{program}");
    }
}

fn source(name: &str, text: &str) -> Source {
    Source { path: name.into(), text: text.into() }
}

#[test]
fn format_is_recognised_by_name_or_text() {
    for (name, text, expected) in [
        ("10-bond0.netdev", "", Some(Format::Networkd)),
        ("10-bond0.network.d/local.conf", "[Network]\n", Some(Format::Networkd)),
        ("x.yml", "", Some(Format::Netplan)),
        ("system-connections/Bond 1", "# Generated\n[connection]\nid=x\n", Some(Format::Keyfile)),
        ("team0.conf", "\n {\n}\n", Some(Format::Teamd)),
        ("interfaces", "# x\nauto lo\niface lo inet loopback\n", Some(Format::Ifupdown)),
        ("resolved.conf", "[Resolve]\n", None),
        ("interfaces", "# empty\n", None),
    ] {
        assert_eq!(Format::of(&source(name, text)), expected, "{name}");
    }
}

#[test]
fn what_no_group_can_be_is_refused_in_one_line_with_remedy() {
    let members = "      interfaces: [eno1, eno2]\n      parameters: {mode: active-backup}\n";
    let netplan = |name: &str, more: &str| {
        source("a.yaml", &format!("network:\n  version: 2\n  bonds:\n    {name}:\n{members}{more}"))
    };
    for (file, expected) in [
        (netplan("bond.lan", ""), "bond.lan: \\\"bond.lan\\\" cannot name a group"),
        (netplan("bond0", "      addresses: [10.0.0.5]\n"), "a.yaml:7: 10.0.0.5 has no prefix length"),
        (
            netplan("bond0", "      addresses: [10.0.0.0/24]\n"),
            "a.yaml:7: 10.0.0.0/24 is the network address",
        ),
        (netplan("bond0", "      routes: [{metric: 3}]\n"), "a.yaml:7: a route needs to or via"),
        (netplan("bond0", "      routes: [{to: default, via: x}]\n"), "a.yaml:7: \\\"x\\\" is no address"),
        (
            netplan("bond0", "      addresses: &a [10.0.0.5/24]\n      nope: *a\n"),
            "a.yaml:8: aliases are not read",
        ),
        (netplan("bond0", "      interfaces: [eno3]\n"), "a.yaml:7: key \\\"interfaces\\\" is there twice"),
        (source("a.yaml", "network:\n  version: 1\n"), "a.yaml:2: only version 2 of netplan is read"),
        (source("a.yaml", "network:\n  version: 2\n"), "FILES has no bond and no team"),
        (source("a.netdev", "Kind=bond\n"), "a.netdev:1: \\\"Kind=bond\\\" is in no section"),
        (source("a.netdev", "[NetDev]\nKind=bond\n"), "a.netdev: [NetDev] has no Name="),
        (source("a.netdev", "[NetDev\n"), "a.netdev:1: a section ends with ]"),
        (
            source("a.netdev", "[NetDev]\nName=b\nKind=bond\n[Bond]\nMIIMonitorSec=soon\n"),
            "a.netdev:5: soon is no time",
        ),
        (
            source("a.netdev", "[NetDev]\nName=b\nKind=bond\n[Bond]\nMode=fast\n"),
            "a.netdev:5: mode \\\"fast\\\" is none",
        ),
        (source("t.json", "[]"), "t.json: "),
        (
            source("t.json", "{\"runner\": {\"name\": \"quick\"}}"),
            "t.json: runner \\\"quick\\\" is none of teamd",
        ),
        (source("t.json", "{\"runner\": {\"name\": \"activebackup\"}}"), "t: no port of it is known"),
        (
            source("c.nmconnection", "[connection]\ntype=bond\n"),
            "c.nmconnection: the connection has no interface-name",
        ),
    ] {
        let error = imported(std::slice::from_ref(&file), false).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn text_of_files_cannot_leave_its_comment_or_its_string() {
    let text = "network:\n  bonds:\n    bond0:\n      interfaces: [\"a\\\"b\", eno2]\n      \"x\\ny = 1\": z\n      \
                nameservers: {search: [\"a\\nb\\\"\"]}\n      parameters: {mode: balance-alb}\n";
    let text = imported(&[source("a\n.yaml", text)], false).unwrap();
    assert!(text.contains("# a\\n.yaml:5: x\\ny = 1 has no equivalent\n"), "{text}");
    let (configuration, _) = config::parse(&[(PathBuf::new(), text)]);
    assert_eq!(configuration.groups[0].members[0].label.value, "a\"b");
    assert_eq!(configuration.groups[0].dns.search[0].value, "a\nb\"");
}

#[test]
fn cards_of_another_host_keep_the_names_and_macs_of_the_files() {
    let text = "[NetDev]\nName=bond0\nKind=bond\n[Bond]\nMode=balance-tlb\n";
    let port = "[Match]\nName=ens1\n[Network]\nBond=bond0\n";
    let by_mac = "[Match]\nMACAddress=52:54:00:00:00:09\n[Network]\nBond=bond0\n";
    let files = [source("b.netdev", text), source("p.network", port), source("q.network", by_mac)];
    let text = print(&Format::Networkd.read(&files).unwrap(), "FILES", &Host::default(), false).unwrap();
    let members = "\n[group.bond0.members]\nens1 = {}\nnic0 = { match = { mac = \"52:54:00:00:00:09\" } }\n";
    assert!(text.ends_with(members), "{text}");
}

#[test]
fn times_have_units_of_systemd() {
    for (text, expected) in [
        ("100ms", Some(100)),
        ("0.1s", Some(100)),
        ("1min 30s", Some(90_000)),
        ("2", Some(2000)),
        ("infinity", None),
        ("", None),
        ("1.2.3", None),
        ("99999999999s", None),
    ] {
        assert_eq!(milliseconds(text, 1000.0), expected, "{text}");
    }
}

#[test]
fn nothing_found_is_no_configuration() {
    let error = print(&Found::default(), "FILES", &host(), false).unwrap_err().to_string();
    assert_eq!(error, "FILES has no bond and no team: there is nothing to import");
}
