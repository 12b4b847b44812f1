//! Reports, and the tables that the reference and the tutorial print for them (`golden/`).

use std::{
    io::{BufRead, BufReader},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

use super::*;
use crate::{
    control::{
        probes::{self, ProbeReport},
        report::{
            AddressReport, MemberReport,
            probing::{Counters, ProbedTarget, Probing},
            sample,
        },
    },
    types::{
        Family, GroupState, LinkState, MemberState, OfflineCause, ProbeOutcome, ProbeState, TargetFault,
        TargetMode,
    },
};

/// Exit status, standard output and standard error.
type Ended = (u8, String, String);

fn ipmpstat(line: &str) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = run(line.split_whitespace().map(OsString::from), &mut out, &mut err, None);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// Runs a command line with the socket of a daemon that sends this reply.
fn replied(line: &str, reply: &str) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let reply = reply.to_owned();
    let daemon = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        stream.read_until(0, &mut Vec::new()).unwrap();
        // A client that sent no request has closed the connection.
        let _ = stream.get_mut().write_all(reply.as_bytes());
    });
    let ended = ipmpstat(&format!("{line} --socket {}", path.display()));
    drop(UnixStream::connect(&path));
    daemon.join().unwrap();
    ended
}

fn reported(line: &str, groups: &[GroupReport]) -> Ended {
    let groups = serde_json::to_string(groups).unwrap();
    replied(line, &format!("{{\"parameters\":{{\"version\":1,\"groups\":{groups}}}}}\0"))
}

/// A working member, not probed. Indexes and MACs are in no table.
fn member(name: &str) -> MemberReport {
    let flags = ["UP", "BROADCAST", "RUNNING", "MULTICAST"].map(str::to_owned).into();
    MemberReport { name: name.into(), cast: false, flags, addresses: vec![], ..sample().members[0].clone() }
}

trait Changed: Sized {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Changed for MemberReport {}
impl Changed for GroupReport {}

impl MemberReport {
    fn cast(self) -> Self {
        self.with(|m| m.cast = true)
    }

    fn probed(self, probe: ProbeState) -> Self {
        self.with(|m| m.probe = probe)
    }

    fn flag(self, flag: &str) -> Self {
        self.with(|m| m.flags.push(flag.into()))
    }

    fn failed(self) -> Self {
        self.with(|m| (m.state, m.active) = (MemberState::Failed, false)).flag("FAILED")
    }

    fn pulled(self) -> Self {
        self.failed().with(|m| m.link = LinkState::Down)
    }

    fn inactive(self) -> Self {
        self.flag("INACTIVE").with(|m| m.active = false)
    }

    fn offline(self, cause: OfflineCause) -> Self {
        self.flag("OFFLINE")
            .with(|m| (m.state, m.offline, m.active) = (MemberState::Offline, Some(cause), false))
    }
}

/// A group with one data address and these members, in the order in which they joined.
fn group(name: &str, state: GroupState, members: impl Into<Vec<MemberReport>>) -> GroupReport {
    let members = members.into();
    let inbound = members.iter().find(|m| m.active).map(|m| m.name.clone());
    let addresses = vec![address("192.168.178.200", inbound.as_deref())];
    GroupReport { name: name.into(), groupname: name.into(), state, members, addresses, ..sample() }
}

fn production(state: GroupState, members: impl Into<Vec<MemberReport>>) -> GroupReport {
    group("production0", state, members)
}

fn probed(state: GroupState, fdt_ms: u64, members: impl Into<Vec<MemberReport>>) -> GroupReport {
    production(state, members).with(|g| g.fdt_ms = Some(fdt_ms))
}

fn address(text: &str, inbound: Option<&str>) -> AddressReport {
    let inbound = inbound.map(str::to_owned);
    AddressReport { inbound, ..AddressReport::new(text.parse().unwrap(), 24) }
}

/// Runs the commands of a transcript, each with its report, and compares the output with the transcript.
fn golden(transcript: &str, reports: &[&[GroupReport]]) {
    let commands: Vec<&str> = transcript.lines().filter_map(|line| line.strip_prefix("# ")).collect();
    assert_eq!(commands.len(), reports.len(), "a report for each command");
    let shown: String = commands
        .into_iter()
        .zip(reports)
        .map(|(command, report)| {
            let (_, out, err) = reported(command, report);
            format!("# {command}\n{err}{out}")
        })
        .collect();
    assert!(shown == transcript, "expected:\n{transcript}\ngot:\n{shown}");
}

#[test]
fn tutorial_link_based() {
    let all = |first: MemberReport, second: MemberReport| [first, second, member("rge0")];
    let empty = production(GroupState::Failed, []);
    let whole = production(GroupState::Ok, all(member("e1000g0").cast(), member("e1000g1")));
    let pulled = production(GroupState::Degraded, all(member("e1000g0").pulled(), member("e1000g1").cast()));
    let repaired = production(GroupState::Ok, all(member("e1000g0"), member("e1000g1").cast()));
    let [empty, whole, pulled, repaired] = [[empty], [whole], [pulled], [repaired]];
    golden(
        include_str!("golden/tutorial-1.6.1.txt"),
        &[&empty, &whole, &pulled, &pulled, &repaired, &repaired, &repaired, &repaired],
    );
}

#[test]
fn tutorial_probe_based() {
    let ok = |name| member(name).probed(ProbeState::Ok);
    let lost = |name| member(name).failed().probed(ProbeState::Failed);
    let cast = || ok("rge0").cast();
    golden(
        include_str!("golden/tutorial-1.6.2.txt"),
        &[
            &[production(GroupState::Failed, [])],
            &[probed(GroupState::Ok, 10_000, [ok("e1000g0")])],
            &[probed(GroupState::Ok, 10_000, [ok("e1000g0"), ok("e1000g1")])],
            &[probed(GroupState::Ok, 10_000, [ok("e1000g0"), ok("e1000g1"), ok("rge0")])],
            &[probed(
                GroupState::Degraded,
                10_000,
                [lost("e1000g0").with(|m| m.link = LinkState::Down), ok("e1000g1"), cast()],
            )],
            &[probed(GroupState::Degraded, 10_000, [lost("e1000g0"), ok("e1000g1"), cast()])],
            &[probed(GroupState::Ok, 10_000, [ok("e1000g0"), ok("e1000g1"), cast()])],
            &[probed(GroupState::Degraded, 10_000, [lost("e1000g0"), lost("e1000g1"), cast()])],
        ],
    );
}

#[test]
fn tutorial_on_an_aggregation() {
    let whole = [production(GroupState::Ok, [member("aggregate0").cast(), member("rge0")])];
    let pulled = [production(GroupState::Degraded, [member("aggregate0").pulled(), member("rge0").cast()])];
    golden(include_str!("golden/tutorial-1.6.4.txt"), &[&whole, &whole, &pulled, &pulled]);
}

#[test]
fn reference_groups() {
    let three = |first: MemberReport, second: MemberReport| [first, second, member("rge0")];
    let whole = [probed(GroupState::Ok, 10_000, three(member("e1000g0"), member("e1000g1")))];
    let empty = [production(GroupState::Failed, [])];
    let degraded = [probed(
        GroupState::Degraded,
        10_000,
        three(member("e1000g0").pulled(), member("e1000g1").inactive()),
    )];
    let two = [
        group("ipmp0", GroupState::Failed, [member("net4").pulled(), member("net3").failed()]),
        group(
            "ipmp1",
            GroupState::Degraded,
            [member("net6").pulled(), member("net7").inactive(), member("net5"), member("net2")],
        )
        .with(|g| (g.ifindex, g.fdt_ms) = (20, Some(20_000))),
    ];
    golden(
        include_str!("golden/reference-6.5.txt"),
        &[&whole, &empty, &degraded, &whole, &two, &two, &two, &two, &[]],
    );
}

#[test]
fn reference_interfaces() {
    let every_state = [production(
        GroupState::Degraded,
        [
            member("net10").probed(ProbeState::Unknown).with(|m| m.state = MemberState::Unknown),
            member("net9").offline(OfflineCause::DuplicateMac),
            member("net8").offline(OfflineCause::Operator),
            member("e1000g0").pulled().probed(ProbeState::Failed),
            member("e1000g1").probed(ProbeState::Ok).flag("STANDBY").inactive(),
            member("rge0").probed(ProbeState::Ok).cast(),
        ],
    )];
    let others = [production(
        GroupState::Degraded,
        [
            member("net1").cast().with(|m| m.link = LinkState::Unknown),
            member("net0").pulled().with(|m| m.flags.retain(|flag| flag != "UP")),
            member("net11").probed(ProbeState::Ok).flag("STANDBY"),
            member("net12").probed(ProbeState::Ok).inactive(),
        ],
    )
    .with(|g| g.addresses.push(address("fe80::1", None)))];
    golden(include_str!("golden/reference-6.6.txt"), &[&every_state, &others, &others, &others]);
}

#[test]
fn reference_addresses() {
    let tutorial =
        production(GroupState::Degraded, [member("e1000g0").pulled(), member("e1000g1"), member("rge0")])
            .with(|g| {
                // In the kernel's order, which is reversed in the table. An address that is down has no inbound member.
                g.addresses = vec![
                    address("192.168.178.211", Some("rge0")),
                    address("192.168.178.200", Some("e1000g1")),
                ];
                g.addresses[0].up = false;
            });
    let newer = group("ipmp1", GroupState::Ok, [member("net1"), member("net2")]).with(|g| {
        g.ifindex = 20;
        g.addresses = vec![
            address("10.0.0.1", Some("net1")),
            address("10.0.0.2", None),
            address("2001:db8:1234:5678:9abc:def0:1234:5678", Some("net1")),
            address("2001:db8:0:1:aaaa:bbbb:cccc:1", Some("net2")),
            address("fe80::1", Some("net1")),
            // With another prefix length, and a duplicate of another host.
            AddressReport { prefix: 10, up: false, ..address("fe80::1", None) },
        ];
    });
    let older = tutorial.clone().with(|g| drop(g.addresses.remove(0)));
    let both = [older, newer];
    golden(include_str!("golden/reference-6.7.txt"), &[&[tutorial], &both, &both, &both]);
}

#[test]
fn address_with_two_prefixes_is_shown_once_as_usable() {
    let twins = production(GroupState::Ok, [member("e1000g0")]).with(|g| {
        g.addresses.insert(0, AddressReport { prefix: 8, up: false, ..address("192.168.178.200", None) });
        g.addresses.push(AddressReport { prefix: 16, up: false, ..address("192.168.178.200", None) });
    });
    let row = "192.168.178.200:up:e1000g0\n".to_owned();
    assert_eq!(reported("ipmpstat -anP -o address,state,inbound", &[twins]), (0, row, String::new()));
}

#[test]
fn addresses_are_shown_as_names_without_n() {
    let here = production(GroupState::Ok, [member("e1000g0")])
        .with(|g| g.addresses = vec![address("127.0.0.1", Some("e1000g0"))]);
    let (status, out, err) = reported("ipmpstat -aP -o address", &[here]);
    let name = names::resolve([127, 0, 0, 1].into()).unwrap_or_else(|| "127.0.0.1".into());
    assert_eq!((status, out, err.as_str()), (0, format!("{name}\n"), ""));
}

#[test]
fn header_is_printed_every_24_lines() {
    let members: Vec<MemberReport> = (0..30).map(|n| member(&format!("eth{n}"))).collect();
    let (_, out, _) = reported("ipmpstat -i", &[production(GroupState::Ok, members)]);
    let headers = out.lines().enumerate().filter(|(_, line)| line.starts_with("INTERFACE "));
    assert_eq!(headers.map(|(number, _)| number).collect::<Vec<_>>(), [0, 24]);
    assert_eq!(out.lines().count(), 32);
}

#[test]
fn usage_is_that_of_the_reference() {
    let reference = "\
usage: ipmpstat [-n] [-o <field> [-P]] -a|-g|-i|-p|-t

  output modes:\t -a  display IPMP data address information
\t\t -g  display IPMP group information
\t\t -i  display IPMP-related IP interface information
\t\t -p  display IPMP probe information
\t\t -t  display IPMP target information

       options:\t -n  display IP addresses numerically
\t\t -o  display only the specified fields, in order
\t\t -P  display using parsable output mode
";
    let more = options::USAGE.strip_prefix(reference).expect("our usage starts with that of the reference");
    assert!(more.lines().all(|line| line.starts_with("\t\t --")), "{more}");
    let usage = options::USAGE;
    let (status, help, err) = ipmpstat("ipmpstat --help");
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(help.starts_with("Show the state of IP multipathing groups") && help.contains(usage), "{help}");
    for (line, complaint) in [
        ("ipmpstat", String::new()),
        ("ipmpstat -g production0", String::new()),
        ("ipmpstat -n", String::new()),
        ("ipmpstat -gx", "ipmpstat: illegal option -- x\n".into()),
        ("ipmpstat -g -o", "ipmpstat: option requires an argument -- o\n".into()),
    ] {
        assert_eq!(ipmpstat(line), (1, String::new(), format!("{complaint}{usage}")), "{line}");
    }
}

/// The errors with a daemon that replies, as docs/reference.md 6.2 lists them.
#[test]
fn errors_of_the_reference() {
    let group = [production(GroupState::Ok, [member("e1000g0")])];
    let table = "GROUP\nproduction0\n";
    for (line, status, out, err) in [
        ("-g -o x,group", 0, table, "warning: ignoring unknown output field: `x'"),
        ("-g -o x,group,y", 0, table, "warning: ignoring unknown output fields: `x' `y'"),
        ("-gP -o x,group", 1, "", "unknown output field: `x'"),
        ("-g -o x", 1, "", "no valid output fields"),
        ("-gP -o x", 1, "", "no valid output fields"),
        ("-gP", 1, "", "output fields must be specified in parsable mode"),
        ("-gP -o all", 1, "", "output field `all' invalid in parsable mode"),
        ("-gi", 1, "", "only one output format may be specified"),
        ("-p", 1, "", "probe-based failure detection is disabled"),
        ("-p -o target", 1, "", "probe-based failure detection is disabled"),
    ] {
        let expected = (status, out.to_owned(), format!("ipmpstat: {err}\n"));
        assert_eq!(reported(&format!("ipmpstat {line}"), &group), expected, "{line}");
    }
    for mode in ["-a", "-g", "-i", "-t"] {
        assert_eq!(reported(&format!("ipmpstat {mode}"), &[]), (0, String::new(), String::new()), "{mode}");
    }
    assert_eq!(
        reported("ipmpstat -p", &[]),
        (1, String::new(), "ipmpstat: probe-based failure detection is disabled\n".into())
    );
}

#[test]
fn options_and_fields_are_checked_before_contact_and_no_daemon_is_started() {
    let contact = "ipmpstat: cannot contact ipmpd at /nonexistent/s -- is IPMP in use?\n";
    let run = |line: &str| ipmpstat(&format!("ipmpstat --socket /nonexistent/s {line}"));
    for mode in ["-a", "-g", "-i", "-p", "-t"] {
        assert_eq!(run(mode), (1, String::new(), contact.into()), "{mode}");
    }
    assert_eq!(
        run("-g -o x,state"),
        (1, String::new(), format!("ipmpstat: warning: ignoring unknown output field: `x'\n{contact}"))
    );
    assert_eq!(run("-g -o x").2, "ipmpstat: no valid output fields\n");
    assert_eq!(
        ipmpstat("ipmpstat -g --netns ../x").2,
        "ipmpstat: \"../x\" cannot name a network namespace: give the name that `ip netns list` shows\n"
    );
    assert!(!Path::new("/nonexistent").exists());
}

#[test]
fn daemon_that_refuses_or_closes_is_a_snapshot_error() {
    let (status, out, err) = replied("ipmpstat -g", "");
    assert_eq!((status, out.as_str()), (1, ""));
    let err = err.replace('\n', "");
    assert!(err.starts_with("ipmpstat: cannot snapshot IPMP state: ipmpd at "), "{err}");
    assert!(err.ends_with(" closed the connection before it replied; see its log"), "{err}");
    let refusal = "{\"error\":\"net.ipmp.Manager.Refused\",\
                    \"parameters\":{\"reason\":\"shutting-down\",\"message\":\"ipmpd is being stopped\"}}\0";
    assert_eq!(
        replied("ipmpstat -i", refusal).2,
        "ipmpstat: cannot snapshot IPMP state: ipmpd is being stopped\n"
    );
}

/// Probing of a member, in the family of its targets or test address.
fn probing(mode: TargetMode, test_address: &str, targets: &[&str]) -> Probing {
    let target = |address: &&str| ProbedTarget {
        address: address.parse().unwrap(),
        excluded: None,
        retry_ms: None,
        average_us: Some(300),
        deviation_us: Some(20),
        losses: 0,
        replies: 7,
    };
    let is_v6 = [test_address].iter().chain(targets).any(|address| address.contains(':'));
    Probing {
        family: if is_v6 { Family::V6 } else { Family::V4 },
        method: None,
        obstacle: None,
        test_address: test_address.parse().ok(),
        prefix: None,
        mode,
        failed: false,
        losses: 0,
        replies: 7,
        targets: targets.iter().map(target).collect(),
        inactive_targets: 0,
        passed: None,
        counters: Counters::default(),
    }
}

#[test]
fn reference_targets() {
    let probed =
        |name, probing: Vec<Probing>| member(name).probed(ProbeState::Ok).with(|m| m.probing = probing);
    let tutorial = [production(
        GroupState::Ok,
        [
            member("e1000g0"),
            probed(
                "e1000g1",
                vec![probing(
                    TargetMode::Multicast,
                    "192.168.178.202",
                    &["192.168.178.22", "192.168.178.114"],
                )],
            ),
            probed("rge0", vec![probing(TargetMode::Routes, "192.168.178.203", &["192.168.178.1"])]),
        ],
    )];
    let mut both = probing(
        TargetMode::Explicit,
        "192.168.178.205",
        &["192.168.178.9", "192.168.178.8", "192.168.178.7"],
    );
    // Excluded targets are not in the table.
    both.targets[2].excluded = Some(TargetFault::Unresponsive);
    let others = [production(
        GroupState::Ok,
        [
            probed("net1", vec![probing(TargetMode::Multicast, "fe80::a00:27ff:fe11:3443", &["fe80::1"])]),
            // Its test address is not assigned by the DHCP client yet.
            member("net2").with(|m| m.probing = vec![probing(TargetMode::Disabled, "", &[])]),
            probed("net3", vec![probing(TargetMode::Multicast, "fe80::203", &[])]),
            // Probed by ARP, without a test address.
            probed("net4", vec![probing(TargetMode::Routes, "", &["192.168.178.1"])]),
            probed("net5", vec![both, probing(TargetMode::Routes, "fe80::205", &["fe80::1"])]),
        ],
    )];
    golden(include_str!("golden/reference-6.8.txt"), &[&tutorial, &others, &others]);
}

#[test]
fn targets_are_shown_as_names_without_n() {
    let here = member("e1000g0").probed(ProbeState::Ok);
    let here = here.with(|m| m.probing = vec![probing(TargetMode::Routes, "192.0.2.1", &["127.0.0.1"])]);
    let (status, out, err) = reported("ipmpstat -tP -o targets", &[production(GroupState::Ok, [here])]);
    let name = names::resolve([127, 0, 0, 1].into()).unwrap_or_else(|| "127.0.0.1".into());
    assert_eq!((status, out), (0, format!("{name}\n")), "{err}");
}

/// Runs a test with the socket of a daemon that has one probed member and sends these probes.
fn with_probes<T>(records: &[(ProbeUpdate, bool)], test: impl FnOnce(&Path) -> T) -> T {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let bytes: Vec<u8> = [(ProbeUpdate::default(), false)]
        .iter()
        .chain(records)
        .flat_map(|(record, is_last)| crate::control::wire::probe(record, *is_last))
        .collect();
    let daemon = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut call = Vec::new();
        while stream.read_until(0, &mut call).unwrap_or(0) > 0 {
            let is_show = String::from_utf8_lossy(&call).contains("Manager.Show");
            call.clear();
            if !is_show {
                let _ = stream.get_mut().write_all(&bytes);
                return;
            }
            let probed = [probed(GroupState::Ok, 10_000, [member("rge0").probed(ProbeState::Ok)])];
            let groups = serde_json::to_string(&probed).unwrap();
            let reply = format!("{{\"parameters\":{{\"version\":1,\"groups\":{groups}}}}}\0");
            stream.get_mut().write_all(reply.as_bytes()).unwrap();
        }
    });
    let result = test(&path);
    daemon.join().unwrap();
    result
}

/// The probes of the reference; one from before the start, of a target without measured times; and two with an outcome that
/// is not shown.
fn probes_of_the_reference(start: u64) -> Vec<(ProbeUpdate, bool)> {
    let record = |probe| (ProbeUpdate { probe: Some(probe), lost: None }, false);
    let answered = ProbeReport { sent_ns: start + 110_000_000, ..probes::sample() };
    let lost = ProbeReport {
        member: "e1000g1".into(),
        number: 612,
        outcome: ProbeOutcome::Lost,
        sent_ns: start + 170_000_000,
        network_ns: None,
        handled_ns: None,
        average_ns: Some(740_000),
        deviation_ns: Some(50_000),
        ..probes::sample()
    };
    let old = ProbeReport {
        member: "e1000g0".into(),
        family: Family::V6,
        number: 65_535,
        target: "fe80::1".parse().unwrap(),
        sent_ns: start - 20_000_000,
        network_ns: Some(12_345_678),
        handled_ns: Some(12_500_000),
        average_ns: None,
        deviation_ns: None,
        ..probes::sample()
    };
    let discarded = ProbeReport {
        outcome: ProbeOutcome::Discarded,
        network_ns: None,
        handled_ns: None,
        ..answered.clone()
    };
    let unsent = ProbeReport { outcome: ProbeOutcome::Unsent, ..discarded.clone() };
    let end = (ProbeUpdate::default(), true);
    vec![record(answered), record(discarded), record(lost), record(unsent), record(old), end]
}

#[test]
fn reference_probes() {
    let start = 15_113_000_000_000;
    let records = probes_of_the_reference(start);
    let transcript = include_str!("golden/reference-6.9.txt");
    let shown: String = transcript
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .map(|command| {
            let options = Options::parse(command.split(' ').skip(1).map(OsString::from)).unwrap();
            assert_eq!(options.mode, Mode::Probes);
            let (table, _) = Table::new(&probe::FIELDS, options.fields.as_deref(), options.parsable).unwrap();
            let live = Live { table: &table, page: 24, start: Duration::from_nanos(start), names: false };
            let mut out = Vec::new();
            with_probes(&records, |path| {
                let probes = Client::connect(path).unwrap().probes(None).unwrap();
                let ended = follow(probes, &live, &mut out, &mut |warning| panic!("{warning}"));
                assert!(matches!(ended, Err(Error::Probes(client::Error::Stopped(_)))), "{ended:?}");
            });
            format!("# {command}\n{}", String::from_utf8(out).unwrap())
        })
        .collect();
    assert!(shown == transcript, "expected:\n{transcript}\ngot:\n{shown}");
}

#[test]
fn probes_are_shown_until_daemon_ends() {
    let stat = |records: &[(ProbeUpdate, bool)]| {
        with_probes(records, |path| {
            let (status, out, err) =
                ipmpstat(&format!("ipmpstat -pn -o interface,probe --socket {}", path.display()));
            (status, out, err.replace(&path.display().to_string(), "PATH"))
        })
    };
    let rows = "INTERFACE   PROBE\nrge0        589\ne1000g1     612\ne1000g0     65535\n";
    let mut records = probes_of_the_reference(20_000_000);
    assert_eq!(
        stat(&records),
        (
            1,
            rows.to_owned(),
            "ipmpstat: lost the stream of probes: ipmpd at PATH has stopped: its groups keep working, but no \
             events are reported\n"
                .to_owned()
        )
    );
    records.pop();
    records.insert(0, (ProbeUpdate { probe: None, lost: Some(7) }, false));
    assert_eq!(
        stat(&records),
        (
            1,
            rows.to_owned(),
            "ipmpstat: warning: 7 probes skipped: output is too slow\nipmpstat: lost the stream of \
             probes: ipmpd at PATH was killed or has crashed; see its log and its service \
             manager\n"
                .to_owned()
        )
    );
}

#[test]
fn probes_end_on_broken_pipe() {
    with_probes(&probes_of_the_reference(20_000_000), |path| {
        let arguments = [OsString::from("ipmpstat"), "-pn".into(), "--socket".into(), path.into()];
        let mut err = Vec::new();
        assert_eq!(run(arguments, &mut Fails(io::ErrorKind::BrokenPipe), &mut err, None), 0);
        assert_eq!(String::from_utf8(err).unwrap(), "");
    });
}

#[test]
fn control_characters_in_names_are_replaced() {
    let (_, out, _) =
        reported("ipmpstat -i -o interface", &[production(GroupState::Ok, [member("\u{1b}c")])]);
    assert_eq!(out, "INTERFACE\n\u{fffd}c\n");
}

/// A writer that always fails.
struct Fails(io::ErrorKind);

impl Write for Fails {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn broken_pipe_is_ignored_and_full_disk_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let run_into = |kind| {
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            stream.read_until(0, &mut Vec::new()).unwrap();
            let groups = serde_json::to_string(&[sample()]).unwrap();
            write!(stream.get_mut(), "{{\"parameters\":{{\"version\":1,\"groups\":{groups}}}}}\0").unwrap();
        });
        let mut err = Vec::new();
        let arguments = [OsString::from("ipmpstat"), "-g".into(), "--socket".into(), path.clone().into()];
        let status = run(arguments, &mut Fails(kind), &mut err, None);
        daemon.join().unwrap();
        std::fs::remove_file(&path).unwrap();
        (status, String::from_utf8(err).unwrap())
    };
    assert_eq!(run_into(io::ErrorKind::BrokenPipe), (0, String::new()));
    let (status, err) = run_into(io::ErrorKind::StorageFull);
    assert_eq!(status, 1);
    assert!(err.starts_with("ipmpstat: cannot write to standard output: "), "{err}");
}

#[test]
fn documentation_has_usage_and_every_field_with_its_width() {
    let document = include_str!("../../../docs/ipmpstat.md");
    assert!(document.contains(options::USAGE), "docs/ipmpstat.md has another usage than the program");
    for mode in [Mode::Addresses, Mode::Groups, Mode::Interfaces, Mode::Probes, Mode::Targets] {
        let table: String =
            fields(mode).iter().map(|field| format!("| {} | {} |", field.name, field.width)).collect();
        let written: Vec<String> = document
            .lines()
            .filter_map(|line| line.split_once(" | "))
            .filter_map(|(name, rest)| Some((name, rest.split_once(" | ")?.0)))
            .map(|(name, width)| format!("{name} | {width} |"))
            .collect();
        assert!(written.concat().contains(&table), "{mode:?}: {table} is not in {written:?}");
    }
}
