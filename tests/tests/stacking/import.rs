//! `ipmpctl import` of bonds that run.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use lab::daemon::binary;
use lab::{Bulk, Daemon, Lab, SECOND, TIMEOUT};

const PORTS: [&str; 2] = ["e1000g0", "e1000g1"];
const ADDRESS: &str = "192.168.178.50/24";
/// Bytes a second of a connection.
const PACE: u64 = 1 << 20;

/// A host with a bond of two cards, and a default route.
fn add_bond(lab: &Lab, options: &str) {
    let ip = |line: &str| lab.host().ip(line).unwrap();
    ip(&format!("link add bond0 type bond miimon 50 {options}"));
    for port in PORTS {
        ip(&format!("link set {port} down"));
        ip(&format!("link set {port} master bond0"));
    }
    ip("link set bond0 up");
    ip(&format!("address add {ADDRESS} dev bond0"));
    ip(&format!("route add default via {} dev bond0", lab.router().v4()));
}

/// Runs `ipmpctl` on the host; returns exit status, output and error.
fn ctl(lab: &Lab, socket: &Path, state: &Path, line: &str) -> (i32, String, String) {
    let mut command = lab.host().command(binary("ipmpctl").unwrap().to_str().unwrap());
    command.arg("--socket").arg(socket).args(line.split(' '));
    let output = command.env("IPMP_STATE_DIR", state).stdin(Stdio::null()).output().unwrap();
    let [text, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    println!("{line}: {}\n{text}{error}", output.status);
    (output.status.code().unwrap(), text, error)
}

#[test]
#[ignore = "needs bond, team, bridge and VLANs: `cargo xtask test` boots a kernel with them"]
fn stacked_bond_that_runs_is_imported_or_refused_with_reason() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let ip = |line: &str| lab.host().ip(line).unwrap();
    let socket = lab.directory().join("none.sock");
    let ctl = |line: &str| ctl(&lab, &socket, lab.directory(), line);
    let import = |line: &str| ctl(&format!("import {line}"));
    let refused = |line: &str, text: &str| {
        let (code, output, error) = import(line);
        assert_eq!((code, output.as_str(), error.lines().count()), (1, "", 1), "{line}");
        assert!(error.contains(text), "{line}: {error}\nexpected: {text}");
    };

    add_bond(&lab, "mode active-backup updelay 100");
    ip("link set bond0 type bond primary e1000g1");
    let (code, text, _) = import("bond0");
    let expected = format!(
        "# From bond0\n\n\
         # bond0 used one port at a time: without standby = true all members are used\n\
         [group.bond0]\naddresses = [\"{ADDRESS}\"]\ngateways = [\"{}\"]\nupdelay = \"100ms\"\n\n\
         [group.bond0.members]\ne1000g0 = {{ standby = true }}\ne1000g1 = {{}}\n",
        lab.router().v4()
    );
    assert_eq!((code, text), (0, expected.clone()));
    let file = lab.directory().join("bond0.toml");
    std::fs::write(&file, &expected).unwrap();
    let (code, text, _) = ctl(&format!("check {}", file.display()));
    assert!(code == 0 && text.ends_with("1 file, 1 group: 0 errors, 1 warning\n"), "{text}");

    ip("link add link bond0 name bond0.5 type vlan id 5");
    refused("bond0", "bond0: it has bond0.5 on it, which a group cannot take: import its files");
    ip("link del bond0.5");
    ip("link add br0 type bridge");
    ip("link set bond0 master br0");
    refused("bond0", "bond0: it is a port of br0 (bridge), and a group interface cannot be one");
    ip("link set bond0 nomaster");

    ip("link add bond1 type bond mode 802.3ad");
    refused("bond1", "bond1: in mode 802.3ad the switch treats the ports as one link");
    refused("bond1 --switch-ports-independent", "bond1: no port of it is known");
    ip("link add team0 type team");
    refused("team0", "team0: its teamd does not reply (");
    refused("rge0", "rge0: it is no bond and no team: ipmpctl attach takes an interface as it is");
    refused("none0", "none0: there is neither a file nor an interface of this name");

    ip("link del bond0");
    add_bond(&lab, "mode balance-alb");
    let (code, text, _) = import("bond0");
    assert!(code == 0 && text.ends_with("[group.bond0.members]\ne1000g0 = {}\ne1000g1 = {}\n"), "{text}");
}

/// Has a connection from a peer meanwhile; prints how long it had no data at most.
fn measured(lab: &Lab, what: &str, change: impl FnOnce()) {
    let destination: Ipv4Addr = ADDRESS.split('/').next().unwrap().parse().unwrap();
    let bulk = Bulk::new(lab.peer(0).namespace(), lab.host(), destination)
        .pace(PACE)
        .stalls(SECOND / 2)
        .start()
        .unwrap();
    let flows =
        |when: &str| bulk.wait_received(1 << 17, TIMEOUT).unwrap_or_else(|e| panic!("{what}, {when}: {e}"));
    flows("before");
    change();
    flows("after");
    let report = bulk.stop().unwrap();
    println!("{what}: longest stall {:?}; {report}", report.longest_stall);
    assert!(report.error.is_none() && report.intact, "{what}: {report:?}");
    assert!(report.longest_stall < 10 * SECOND, "{what}: {report:?}");
}

#[test]
#[ignore = "needs bond: `cargo xtask test` boots a kernel with it"]
fn stacked_bond_is_replaced_by_group_under_its_connections_and_restored() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    add_bond(&lab, "mode active-backup");
    let mut daemon = Daemon::start_in(&lab).unwrap();
    let state = lab.directory().join("state");
    let ctl = |line: &str| ctl(&lab, &daemon.socket(), &state, line);
    let done = |line: &str| {
        let (code, text, error) = ctl(line);
        assert_eq!(code, 0, "{line}: {error}");
        text
    };
    let shown = |what: &str| lab.host().ip(what).unwrap();
    let host = || [shown("-4 -br address show dev bond0"), shown("route"), shown("-br link show dev bond0")];
    let kind = || shown("-d link show dev bond0");
    let before = host();
    let is_as_before = |what: &str| {
        assert_eq!(host(), before, "{what}");
        assert!(kind().contains("bond mode active-backup"), "{what}: {}", kind());
        assert!(
            PORTS.iter().all(|port| shown(&format!("link show {port}")).contains("master bond0")),
            "{what}"
        );
        assert!(!shown("link").contains("bond0-old"), "{what}");
        assert_eq!(done("show"), "no IPMP groups\n", "{what}");
    };

    let session = Bulk::new(lab.peer(0).namespace(), lab.host(), Ipv4Addr::new(192, 168, 178, 50))
        .pace(PACE / 4)
        .stalls(SECOND);
    let session = session.start().unwrap();
    let apply = "import bond0 --apply --confirm 60";
    measured(&lab, apply, || {
        let text = done(apply);
        assert!(text.contains("undone in 60 s unless confirmed"), "{text}");
    });
    assert!(!kind().contains("bond mode"), "{}", kind());
    assert!(host()[0].contains(ADDRESS), "{:?}", host());
    let old = shown("-br link show dev bond0-old");
    assert!(old.contains("DOWN"), "{old}");
    assert!(done("show bond0").contains("e1000g1"));
    measured(&lab, "undo", || assert!(done("undo").starts_with("undone: import bond0 --apply\n")));
    is_as_before("undone");

    // Nothing behind the switch port of the backup port replies.
    lab.member(PORTS[1]).cable().cut().unwrap();
    measured(&lab, "gateway does not reply", || {
        let (code, _, error) = ctl(apply);
        let expected = format!("gateway {} does not reply through {}", lab.router().v4(), PORTS[1]);
        assert!(code == 1 && error.contains(&expected), "{error}");
    });
    lab.member(PORTS[1]).cable().restore().unwrap();
    is_as_before("gateway does not reply");

    measured(&lab, "confirmed", || {
        done(apply);
        done("confirm --force");
    });
    assert!(!shown("link").contains("bond0-old"));
    for (line, text) in [("import bond0", "it is no bond and no team"), ("undo", "nothing to undo")] {
        let (_, output, error) = ctl(line);
        assert!([output, error].concat().contains(text), "{line}");
    }
    let report = session.stop().unwrap();
    println!(
        "the connection that lasted: longest stall {:?}, stalls {:?}",
        report.longest_stall, report.stalls
    );
    assert!(report.error.is_none() && report.intact, "{report:?}");
    for port in [PORTS[1], PORTS[0]] {
        done(&format!("detach {port}{}", if port == PORTS[0] { " --restore" } else { "" }));
    }
    daemon.terminate().unwrap();
}
