//! Command lines, and what they print.

use std::{os::unix::net::UnixListener, path::Path, thread};

use tokio::sync::mpsc;

use super::*;
use crate::control::{
    LastMember, Refused, Request, Response, TestAddressSpec, explanation,
    monitor::{self as event, EventRecord, Publisher},
    path::sample_packet,
    probes::Feeds,
    report::sample,
    request::{self, reason},
};

fn parse(line: &str) -> Result<Request, String> {
    let arguments =
        Arguments::try_parse_from(line.split_whitespace()).map_err(|e| usage(&e.render().to_string()))?;
    arguments.verb.get().request().expect("a verb").map_err(|e| e.to_string())
}

fn ipmpctl(line: &str) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run(line.split_whitespace().map(OsString::from), &mut out, &mut err);
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn command_line_definition_is_consistent() {
    command().debug_assert();
}

#[test]
fn every_changing_command_has_dry_run() {
    let mut without = Vec::new();
    let command = command();
    for verb in command.get_subcommands() {
        let inner: Vec<_> = verb.get_subcommands().collect();
        for leaf in if inner.is_empty() { vec![verb] } else { inner } {
            if !leaf.get_arguments().any(|argument| argument.get_long() == Some("dry-run")) {
                without.push(leaf.get_name());
            }
        }
    }
    let reading = [
        "list",
        "show",
        "explain",
        "path",
        "simulate",
        "flows",
        "timeline",
        "monitor",
        "top",
        "health",
        "metrics",
        "hooks",
        "wait-online",
        "check",
        "diff",
    ];
    assert_eq!(without, reading);
}

#[test]
fn command_line_becomes_its_request() {
    let group = || "production0".to_owned();
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let hosts = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let attach = |interfaces: &[&str], test_addresses: &[&str]| Request::Attach {
        group: group(),
        interfaces: interfaces.iter().map(|&name| name.into()).collect(),
        standby: false,
        test_addresses: test_addresses.iter().map(|text| text.parse().unwrap()).collect(),
        dry_run: false,
        accept_firewall: false,
    };
    let detach_all = |group| Request::DetachAll { group };
    let detach = |last| Request::Detach { interface: "eth2".into(), last };
    for (line, request) in [
        (
            "ipmpctl create production0 --address 192.168.178.200/24",
            Request::Create {
                group: group(),
                groupname: None,
                addresses: addresses(&["192.168.178.200/24"]),
            },
        ),
        (
            "ipmpctl create production0 --address 192.168.178.200/24 --address 2001:db8::1/64 --groupname P",
            Request::Create {
                group: group(),
                groupname: Some("P".into()),
                addresses: addresses(&["192.168.178.200/24", "2001:db8::1/64"]),
            },
        ),
        (
            "ipmpctl create production0",
            Request::Create { group: group(), groupname: None, addresses: vec![] },
        ),
        ("ipmpctl attach eth0 eth1 --group production0", attach(&["eth0", "eth1"], &[])),
        (
            "ipmpctl attach eth2 --group production0 --standby",
            Request::Attach {
                group: group(),
                interfaces: vec!["eth2".into()],
                standby: true,
                test_addresses: vec![],
                dry_run: false,
                accept_firewall: false,
            },
        ),
        (
            "ipmpctl attach eth2 --group production0 --dry-run",
            Request::Attach {
                group: group(),
                interfaces: vec!["eth2".into()],
                standby: false,
                test_addresses: vec![],
                dry_run: true,
                accept_firewall: false,
            },
        ),
        (
            "ipmpctl target add 192.168.178.1 fe80::1 --group production0",
            Request::AddTarget { group: group(), addresses: hosts(&["192.168.178.1", "fe80::1"]) },
        ),
        (
            "ipmpctl target del 192.168.178.1 --group production0",
            Request::RemoveTarget { group: group(), addresses: hosts(&["192.168.178.1"]) },
        ),
        (
            "ipmpctl target enable 192.168.178.1 --group production0",
            Request::EnableTarget { group: group(), addresses: hosts(&["192.168.178.1"]) },
        ),
        (
            "ipmpctl target disable 192.168.178.1 --group production0",
            Request::DisableTarget { group: group(), addresses: hosts(&["192.168.178.1"]) },
        ),
        (
            "ipmpctl target route 192.168.178.2",
            Request::AddTargetRoute { group: None, addresses: hosts(&["192.168.178.2"]) },
        ),
        (
            "ipmpctl target route --remove 192.168.178.2 fe80::1 --group production0",
            Request::RemoveTargetRoute {
                group: Some(group()),
                addresses: hosts(&["192.168.178.2", "fe80::1"]),
            },
        ),
        ("ipmpctl target list --group production0", Request::ListTargets { group: group() }),
        ("ipmpctl target discover --group production0", Request::DiscoverTargets { group: group() }),
        (
            "ipmpctl set production0 fdt=1s failback=no hash=flow probe=arp targets=192.168.178.1",
            Request::Set {
                name: group(),
                settings: ["fdt=1s", "failback=no", "hash=flow", "probe=arp", "targets=192.168.178.1"]
                    .map(|text| text.parse().unwrap())
                    .to_vec(),
            },
        ),
        (
            "ipmpctl set eth2 standby=off weight=10",
            Request::Set {
                name: "eth2".into(),
                settings: ["standby=off", "weight=10"].map(|text| text.parse().unwrap()).to_vec(),
            },
        ),
        (
            "ipmpctl attach eth2 --group production0 --test-address 192.168.178.203/24 --test-address fe80::3/64",
            attach(&["eth2"], &["192.168.178.203/24", "fe80::3/64"]),
        ),
        (
            "ipmpctl attach eth2 eth1 --group production0 --test-address dhcp",
            attach(&["eth2", "eth1"], &["dhcp"]),
        ),
        (
            "ipmpctl test-address add eth2 192.168.178.203/24",
            Request::AddTestAddress {
                interface: "eth2".into(),
                address: "192.168.178.203/24".parse().unwrap(),
            },
        ),
        (
            "ipmpctl test-address del eth2 dhcp",
            Request::RemoveTestAddress { interface: "eth2".into(), address: TestAddressSpec::Dhcp },
        ),
        ("ipmpctl detach eth2", detach(None)),
        ("ipmpctl detach eth2 --restore", detach(Some(LastMember::Restore))),
        ("ipmpctl detach eth2 --move-back", detach(Some(LastMember::MoveBack))),
        ("ipmpctl detach --keep-group eth2", detach(Some(LastMember::KeepGroup))),
        ("ipmpctl detach eth2 --force", detach(Some(LastMember::Force))),
        ("ipmpctl detach --all --restore", detach_all(None)),
        ("ipmpctl detach --restore --all --group production0", detach_all(Some(group()))),
        (
            "ipmpctl address add 192.168.178.210/24 --group production0",
            Request::AddAddress {
                group: group(),
                addresses: addresses(&["192.168.178.210/24"]),
                inbound: None,
                logical: None,
            },
        ),
        (
            "ipmpctl address add 192.168.178.210/24 --group production0 --inbound eth1",
            Request::AddAddress {
                group: group(),
                addresses: addresses(&["192.168.178.210/24"]),
                inbound: Some("eth1".into()),
                logical: None,
            },
        ),
        (
            "ipmpctl address del --group production0 192.168.178.210/24 10.0.0.1/8",
            Request::RemoveAddress {
                group: group(),
                addresses: addresses(&["192.168.178.210/24", "10.0.0.1/8"]),
            },
        ),
        ("ipmpctl offline eth0", Request::Offline { interface: "eth0".into() }),
        ("ipmpctl offline eth0 --drain 60", Request::Drain { interface: "eth0".into(), seconds: 60 }),
        ("ipmpctl --json online eth0", Request::Online { interface: "eth0".into() }),
        ("ipmpctl destroy production0 --netns blue", Request::Destroy { group: group() }),
        (
            "ipmpctl set production0 capture=on hash=flow",
            Request::Set {
                name: group(),
                settings: vec!["capture=on".parse().unwrap(), "hash=flow".parse().unwrap()],
            },
        ),
        (
            "ipmpctl set eth2 weight=10",
            Request::Set { name: "eth2".into(), settings: vec!["weight=10".parse().unwrap()] },
        ),
        ("ipmpctl show", Request::Show { name: None }),
        ("ipmpctl show production0 --socket /s --json", Request::Show { name: Some(group()) }),
        ("ipmpctl monitor", Request::Monitor { name: None }),
        ("ipmpctl monitor production0 --json", Request::Monitor { name: Some(group()) }),
        (
            "ipmpctl path production0 192.168.178.200 192.168.178.22 tcp 5000 443 --if-lost eth0 eth1",
            Request::Path {
                group: group(),
                packet: sample_packet(),
                lost: vec!["eth0".into(), "eth1".into()],
            },
        ),
        (
            "ipmpctl simulate production0 --lose eth0 eth1 --seconds 0",
            Request::Simulate { group: group(), lost: vec!["eth0".into(), "eth1".into()] },
        ),
    ] {
        assert_eq!(parse(line), Ok(request), "{line}");
    }
}

#[test]
fn invalid_command_line_is_refused_in_one_line() {
    for (line, message) in [
        ("ipmpctl attach eth0", "missing arguments: --group <GROUP> (see ipmpctl attach --help)"),
        ("ipmpctl explode", "unrecognized subcommand 'explode' (see ipmpctl --help)"),
        (
            "ipmpctl detach eth0 --force --restore",
            "the argument '--force' cannot be used with '--restore' (see ipmpctl detach --help)",
        ),
        ("ipmpctl detach", "missing arguments: <INTERFACE> (see ipmpctl detach --help)"),
        ("ipmpctl detach --all", "missing arguments: --restore (see ipmpctl detach --help)"),
        (
            "ipmpctl detach eth0 --all --restore",
            "the argument '[INTERFACE]' cannot be used with '--all' (see ipmpctl detach --help)",
        ),
        ("ipmpctl detach eth0 --group g0", "missing arguments: --restore --all (see ipmpctl detach --help)"),
        ("ipmpctl create a.b", r#""a.b" cannot name a group: choose one without '.'"#),
        (
            "ipmpctl create g0 --groupname 32-bytes-of-a-second-group-name.",
            r#""32-bytes-of-a-second-group-name." is too long for a group: 32 bytes, and the limit is 31"#,
        ),
        ("ipmpctl attach eth0 eth0 --group g0", "eth0 is named twice: name each interface once"),
        ("ipmpctl attach et/h0 --group g0", r#""et/h0" cannot name an interface: choose one without '/'"#),
        (
            "ipmpctl address add 10.0.0.1 --group g0",
            "10.0.0.1 has no prefix length: write 10.0.0.1/24, or the prefix length of its network",
        ),
        (
            "ipmpctl create g0 --address 192.168.178.255/24",
            "192.168.178.255/24 is the broadcast address of its network: give it an address of a host",
        ),
        (
            "ipmpctl target add 224.0.0.1 --group g0",
            "224.0.0.1 is a multicast address, which cannot be a target: name a host on the link of the group",
        ),
        (
            "ipmpctl target disable 192.168.178.1/24 --group g0",
            "\"192.168.178.1/24\" is not the address of a host: write one like 192.168.178.1 or 2001:db8::1, without a \
             prefix length",
        ),
        (
            "ipmpctl target enable 10.0.0.1 10.0.0.1 --group g0",
            "10.0.0.1 is given twice: give each address once",
        ),
        ("ipmpctl set g0 fdt=5ms", "fdt cannot be \"5ms\": write fdt=10ms..3600s"),
        (
            "ipmpctl set g0 targets=10.0.0.1,",
            "\"\" is not the address of a host: write one like 192.168.178.1 or 2001:db8::1, without a prefix length",
        ),
        (
            "ipmpctl attach eth0 --group g0 --test-address dhcp --test-address 10.0.0.1/8",
            "dhcp and 10.0.0.1/8 are both IPv4: a member has one test address in each family",
        ),
        (
            "ipmpctl attach eth0 eth1 --group g0 --test-address 10.0.0.1/8",
            "10.0.0.1/8 can be on one interface only, not on eth0 and eth1: attach each with its own --test-address",
        ),
        (
            "ipmpctl test-address add eth0 ::1/128",
            "::1 is a loopback address, which cannot be a test address: give it an address of a host, or dhcp",
        ),
        ("ipmpctl set g0 capture=maybe", "capture cannot be \"maybe\": write capture=auto|on|off"),
        ("ipmpctl set g0 hash=flow hash=flow", "hash is set twice: set it once"),
        ("ipmpctl set g0", "missing arguments: <KEY=VALUE>... (see ipmpctl set --help)"),
        (
            "ipmpctl address del 10.0.0.1/8 10.0.0.1/24 --group g0",
            "10.0.0.1 is given twice: give each address once",
        ),
    ] {
        // Nothing listens on this socket: arguments are checked before a daemon is contacted or started.
        let line = line.replace("ipmpctl ", "ipmpctl --socket /nonexistent/s ");
        assert_eq!(ipmpctl(&line), (Exit::Usage, String::new(), format!("ipmpctl: {message}\n")), "{line}");
    }
    let (exit, out, _) = ipmpctl("ipmpctl offline a/b --json");
    assert_eq!(exit, Exit::Usage);
    assert!(out.contains(r#""reason":"bad-name""#), "{out}");
}

#[test]
fn help_is_printed_on_stdout_with_every_exit_status() {
    let (exit, help, err) = ipmpctl("ipmpctl --help");
    assert_eq!((exit, err.as_str()), (Exit::Done, ""));
    for exit in
        [Exit::Done, Exit::Refused, Exit::Usage, Exit::NoDaemon, Exit::NotPermitted, Exit::DaemonEnded]
    {
        assert!(help.contains(&format!("\n  {}  ", exit.code())), "{help}");
    }
    let (exit, out, err) = ipmpctl("ipmpctl");
    assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
    assert!(err.contains("Usage: ipmpctl"), "{err}");
}

#[test]
fn every_verb_has_help_with_one_line_of_purpose_and_an_example() {
    for verb in command().get_subcommands().map(|verb| verb.get_name().to_owned()) {
        let (exit, help, err) = ipmpctl(&format!("ipmpctl help {verb}"));
        assert_eq!((exit, err.as_str()), (Exit::Done, ""), "{verb}");
        assert_eq!(ipmpctl(&format!("ipmpctl {verb} --help")), (exit, help.clone(), err), "{verb}");
        let purpose = help.lines().next().unwrap();
        assert!(purpose.len() <= 100 && !purpose.ends_with('.'), "{purpose}");
        assert!(help.contains(&format!("\n  ipmpctl {verb} ")), "{help}");
    }
    assert_eq!(ipmpctl("ipmpctl help").1, ipmpctl("ipmpctl --help").1);
    let (exit, out, err) = ipmpctl("ipmpctl help explode");
    let message = "ipmpctl: unrecognized subcommand 'explode' (see ipmpctl --help)\n";
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Usage, "", message));
}

#[test]
fn show_does_not_start_a_daemon() {
    let contact = "cannot contact ipmpd at /nonexistent/s -- is IPMP in use?";
    assert_eq!(
        ipmpctl("ipmpctl show --socket /nonexistent/s"),
        (Exit::NoDaemon, String::new(), format!("ipmpctl: {contact}\n"))
    );
    let json =
        format!("{{\"version\":1,\"error\":{{\"reason\":\"no-daemon\",\"message\":\"{contact}\"}}}}\n");
    assert_eq!(
        ipmpctl("ipmpctl show --socket /nonexistent/s --json"),
        (Exit::NoDaemon, json, format!("ipmpctl: {contact}\n"))
    );
    assert_eq!(
        ipmpctl("ipmpctl show --netns ../x").2,
        "ipmpctl: \"../x\" cannot name a network namespace: give the name that `ip netns list` shows\n"
    );
}

/// Runs a test with the socket of a daemon that has one group, with a member `e1000g0`.
fn with_daemon(test: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, mut requests) = mpsc::channel::<request::PendingRequest>(1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let publisher = Publisher::default();
    let feeds = Feeds { events: publisher.feed(), probes: Publisher::new(1).feed() };
    let daemon = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::spawn(async move {
                let answer = async {
                    while let Some((request, _, back)) = requests.recv().await {
                        let is_last = matches!(request, Request::Monitor { .. });
                        let refused = |reason, message: &str| Err(Refused::new(reason, message));
                        let _ = back.send(match request {
                            // An event, then an orderly stop if all groups are monitored, else a crash.
                            Request::Monitor { name } => {
                                publisher.publish(|sequence| EventRecord { sequence, ..event::sample() });
                                if name.is_none() {
                                    let kind = event::STOPPED;
                                    publisher.publish(|sequence| EventRecord {
                                        kind: kind.into(),
                                        sequence,
                                        ..event::sample()
                                    });
                                }
                                Ok(Response::Show(vec![sample()]))
                            }
                            Request::Explain { member } if member == "e1000g0" => {
                                Ok(Response::Explained(Box::new(explanation::sample())))
                            }
                            Request::Show { name: None } => Ok(Response::Show(vec![sample()])),
                            Request::Show { .. } => refused(reason::NO_SUCH_GROUP, "there is no group x0"),
                            Request::Destroy { .. } => refused(reason::NOT_EMPTY, "IPMP group is not empty"),
                            Request::Attach { group, .. } => {
                                Ok(Response::done(vec![format!("created {group}")]))
                            }
                            _ => Ok(Response::done(vec![])),
                        });
                        if is_last {
                            return;
                        }
                    }
                };
                tokio::select! { () = answer => (), _ = stopped => () }
                drop(publisher);
            });
            crate::control::server::start(listener, sender, feeds).unwrap().await.unwrap();
        });
    });
    test(&path);
    drop(stop);
    daemon.join().unwrap();
}

#[test]
fn verb_prints_reply_of_daemon() {
    with_daemon(|path| {
        let run = |line: &str| ipmpctl(&format!("ipmpctl --socket {} {line}", path.display()));
        let done = |out: &str| (Exit::Done, out.to_owned(), String::new());
        assert_eq!(run("online e1000g0"), done(""));
        assert_eq!(run("attach e1000g0 --group x0"), done("created x0\n"));
        assert_eq!(
            run("attach e1000g0 --group x0 --json"),
            done("{\"version\":1,\"changed\":true,\"notes\":[\"created x0\"]}\n")
        );
        assert_eq!(run("show"), done(&show::text(&[sample()])));
        let (exit, out, _) = run("show --json");
        assert_eq!(exit, Exit::Done);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["version"], 1);
        assert_eq!(value["groups"][0], serde_json::to_value(sample()).unwrap());
        assert_eq!(
            run("destroy production0"),
            (Exit::Refused, String::new(), "ipmpctl: IPMP group is not empty\n".into())
        );
        assert_eq!(run("explain e1000g0"), done(&explain::text(&explanation::sample())));
        let (exit, out, _) = run("explain e1000g0 --json");
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((exit, &value["version"]), (Exit::Done, &1.into()));
        assert_eq!(value["explanation"], serde_json::to_value(explanation::sample()).unwrap());
        let (exit, out, _) = run("show x0 --json");
        assert_eq!(exit, Exit::Refused);
        assert!(out.contains(r#""reason":"no-such-group""#), "{out}");
    });
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
    let run_into = |kind| {
        let mut err = Vec::new();
        let exit = run(["ipmpctl", "--help"].map(OsString::from), &mut Fails(kind), &mut err);
        (exit, String::from_utf8(err).unwrap())
    };
    assert_eq!(run_into(io::ErrorKind::BrokenPipe), (Exit::Done, String::new()));
    let (exit, err) = run_into(io::ErrorKind::StorageFull);
    assert_eq!(exit, Exit::Refused);
    assert!(err.starts_with("ipmpctl: cannot write to standard output: "), "{err}");
}

/// Output of `monitor` with a daemon that sends one event and ends.
fn monitored(arguments: &str) -> (Exit, Vec<String>, String) {
    let mut result = None;
    with_daemon(|path| {
        let (exit, out, err) = ipmpctl(&format!("ipmpctl --socket {} monitor {arguments}", path.display()));
        let err = err.replace(&path.display().to_string(), "PATH");
        result = Some((exit, out.lines().map(str::to_owned).collect(), err));
    });
    result.unwrap()
}

#[test]
fn monitor_prints_events_until_daemon_ends() {
    let stopped = "ipmpctl: ipmpd at PATH has stopped: its groups keep working, but no events are \
                   reported\n";
    let (exit, lines, err) = monitored("");
    assert_eq!((exit, lines.len(), err.as_str()), (Exit::DaemonEnded, 3, stopped), "{lines:?}");
    assert!(lines[0].ends_with("info watching: watching every group (a client has subscribed)"), "{lines:?}");
    assert_eq!(lines[1], monitor::text(&event::sample()).trim_end());
    let (exit, lines, err) = monitored("production0");
    let killed = "ipmpctl: ipmpd at PATH was killed or has crashed; see its log and its service \
                manager\n";
    assert_eq!((exit, lines.len(), err.as_str()), (Exit::DaemonEnded, 2, killed), "{lines:?}");
    assert!(lines[0].contains(" watching: watching group production0 ("), "{lines:?}");
}

#[test]
fn monitor_json_prints_one_object_per_line() {
    let (exit, lines, _) = monitored("--json");
    assert_eq!((exit, lines.len()), (Exit::DaemonEnded, 4), "{lines:?}");
    let objects: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.iter().all(|object| object["version"] == 1), "{lines:?}");
    let kinds: Vec<_> = objects.iter().filter_map(|object| object["event"]["kind"].as_str()).collect();
    assert_eq!(kinds, ["watching", "moved", "stopped"]);
    let expected = EventRecord { sequence: 1, ..event::sample() };
    assert_eq!(objects[1]["event"], serde_json::to_value(expected).unwrap());
    assert_eq!(objects[3]["error"]["reason"], "daemon-ended");
}

#[test]
fn monitor_ends_on_broken_pipe() {
    with_daemon(|path| {
        let arguments = format!("ipmpctl --socket {} monitor", path.display());
        let mut err = Vec::new();
        let arguments = arguments.split_whitespace().map(OsString::from);
        let exit = run(arguments, &mut Fails(io::ErrorKind::BrokenPipe), &mut err);
        assert_eq!((exit, String::from_utf8(err).unwrap().as_str()), (Exit::Done, ""));
    });
}

#[test]
fn check_prints_findings_and_decides_exit_status() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ipmp.toml");
    let shown = file.display();
    let line = format!("ipmpctl --socket /nonexistent check {shown}");
    std::fs::write(&file, "[group.g0]\nmember = {}\n").unwrap();
    let (exit, out, err) = ipmpctl(&line);
    assert_eq!((exit, err.as_str()), (Exit::Refused, ""));
    assert_eq!(
        out,
        format!(
            "{shown}:1:8: warning: g0 has no member: it transmits nothing until one is attached\n\
             {shown}:2:1: error: a group has no key \"member\": write members\n1 file, 1 group: 1 error, 1 warning\n"
        )
    );
    let (exit, out, _) = ipmpctl(&format!("{line} --json"));
    assert_eq!(exit, Exit::Refused);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["findings"][1]["line"], 2);
    assert_eq!(json["findings"][1]["severity"], "error");
    assert_eq!(json["findings"][1]["message"], "a group has no key \"member\": write members");
    // Warnings do not change the exit status; without a file the directory is read.
    std::fs::write(&file, "[group.g0]\n").unwrap();
    let (exit, out, _) =
        ipmpctl(&format!("ipmpctl --socket /nonexistent check --config-dir {}", directory.path().display()));
    assert_eq!(exit, Exit::Done);
    assert!(out.ends_with("\n1 file, 1 group: 0 errors, 1 warning\n"), "{out}");
    std::fs::remove_file(&file).unwrap();
    let (exit, out, _) =
        ipmpctl(&format!("ipmpctl --socket /nonexistent check --config-dir {}", directory.path().display()));
    assert_eq!(exit, Exit::Refused);
    assert!(out.starts_with(&format!("{shown}: error: there is no configuration: ")), "{out}");
    assert!(out.ends_with("\n0 files, 0 groups: 1 error, 0 warnings\n"), "{out}");
}
