//! `ipmpctl import` of bonds that run.

use std::path::Path;
use std::process::Stdio;

use lab::Lab;
use lab::daemon::binary;

const PORTS: [&str; 2] = ["e1000g0", "e1000g1"];
const ADDRESS: &str = "192.168.178.50/24";

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
fn ctl(lab: &Lab, state: &Path, line: &str) -> (i32, String, String) {
    let mut command = lab.host().command(binary("ipmpctl").unwrap().to_str().unwrap());
    command.arg("--socket").arg(lab.directory().join("import.sock")).args(line.split(' '));
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
    let import = |line: &str| ctl(&lab, lab.directory(), &format!("import {line}"));
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
    let (code, text, _) = ctl(&lab, lab.directory(), &format!("check {}", file.display()));
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
