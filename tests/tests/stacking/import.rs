//! `ipmpctl import` of bonds that run.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use lab::daemon::binary;
use lab::ssh::{SshConnection, SshServer};
use lab::{Daemon, Lab, TIMEOUT, command, wait_until};

const PORTS: [&str; 2] = ["e1000g0", "e1000g1"];
const IP: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 50);
const ADDRESS: &str = "192.168.178.50/24";
/// A connection that has ended is silent for longer. An emulated machine takes seconds for a change.
const LONGEST_STALL: Duration = Duration::from_secs(10);

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
    printed(line, command.env("IPMP_STATE_DIR", state).stdin(Stdio::null()).output().unwrap())
}

/// Prints what a command has printed; returns exit status, output and error.
fn printed(line: &str, output: Output) -> (i32, String, String) {
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
    refused("bond1 --apply --confirm 60", "bond1: in mode 802.3ad the switch treats the ports as one link");
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

/// A host whose operator reaches it over its bond only.
struct Operator<'lab> {
    lab: &'lab Lab,
    server: SshServer<'lab>,
    /// A session and a copy that last.
    connections: [SshConnection; 2],
    prefix: String,
    stalls: Vec<String>,
}

impl<'lab> Operator<'lab> {
    fn new(lab: &'lab Lab, daemon: &Daemon<'_>) -> Self {
        let server = SshServer::start(lab, IP).unwrap();
        let connections = [server.session().unwrap(), server.copy().unwrap()];
        // An emulated machine takes long for the keys of a connection, which counts as its first stall.
        let is_logged_in =
            |connection: &SshConnection| wait_until(3 * TIMEOUT, || connection.continues().is_ok());
        assert!(connections.iter().all(is_logged_in), "no login");
        let state = lab.directory().join("state");
        let (program, socket) = (binary("ipmpctl").unwrap(), daemon.socket());
        let prefix =
            format!("IPMP_STATE_DIR={} {} --socket {}", state.display(), program.display(), socket.display());
        Self { lab, server, connections, prefix, stalls: Vec::new() }
    }

    /// Runs `ipmpctl` by a new connection; returns exit status, output and error.
    fn ctl(&self, line: &str) -> (i32, String, String) {
        printed(line, self.server.run(&format!("{} {line}", self.prefix)).unwrap())
    }

    fn done(&self, line: &str) -> String {
        let (code, text, error) = self.ctl(line);
        assert_eq!(code, 0, "{line}: {error}");
        text
    }

    fn shown(&self, what: &str) -> String {
        self.lab.host().ip(what).unwrap()
    }

    /// What the host is for others.
    fn host(&self) -> [String; 3] {
        ["-4 -br address show dev bond0", "route", "-br link show dev bond0"].map(|what| self.shown(what))
    }

    fn kind(&self) -> String {
        self.shown("-d link show dev bond0")
    }

    /// The bond is as it was.
    fn assert_restored(&self, before: &[String; 3], mode: &str, what: &str) {
        assert_eq!(self.host(), *before, "{what}");
        assert!(self.kind().contains(&format!("bond mode {mode}")), "{what}: {}", self.kind());
        for port in PORTS {
            assert!(self.shown(&format!("link show {port}")).contains("master bond0"), "{what}: {port}");
        }
        assert!(!self.shown("link").contains("bond0-old"), "{what}");
        assert_eq!(self.done("show"), "no IPMP groups\n", "{what}");
    }

    /// Both connections continue; keeps their longest stalls.
    fn continues(&mut self, after: &str) {
        let stalls = self.connections.each_ref().map(|connection| {
            let stall = connection.continues().unwrap_or_else(|error| panic!("{after}: {error:#}"));
            assert!(stall < LONGEST_STALL, "{after}: the {} stalled {stall:?}", connection.name());
            stall.as_millis().to_string()
        });
        self.stalls.push(format!("{after} {}", stalls.join("/")));
    }

    fn end(self, mode: &str) {
        println!("{mode}: longest stalls, session/copy in ms: {}", self.stalls.join(", "));
        self.connections.into_iter().for_each(|connection| connection.end().unwrap());
    }
}

const APPLY: &str = "import bond0 --apply";

/// Since Linux 6.2 (`bd039b5ea2a9`, net/core: Allow live renaming when an interface is up).
fn can_rename_interface_that_is_up() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(2))
}

/// Replaces a bond by commands over connections through it, undoes it, confirms it from a new connection, and removes the group.
fn replaces_bond_over_its_own_session(mode: &str, option: &str) {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    add_bond(&lab, &format!("mode {mode}"));
    // Of a table that applies to the bond, a port, and neither.
    let rules = lab.directory().join("firewall.nft");
    let text = "table inet firewall {
        chain input {
            type filter hook input priority filter; policy accept
            iifname bond0 accept
            iif bond0 accept
            iifname e1000g1 accept
            iifname lo accept
        }
    }\n";
    fs::write(&rules, text).unwrap();
    command::run(lab.host().command("nft").arg("-f").arg(&rules)).unwrap();
    let mut daemon = Daemon::start_in(&lab).unwrap();
    let mut operator = Operator::new(&lab, &daemon);
    operator.continues("login");
    let before = operator.host();
    let apply = format!("{APPLY}{option} --confirm 120");
    let router = lab.router().v4();
    let firewall = [
        "a firewall rule has the index of bond bond0 and does not apply to group bond0: nftables inet firewall input handle",
        "a firewall rule names e1000g1 and does not apply to bond0: nftables inet firewall input handle",
    ];
    let names_rules = |text: &str| {
        assert!(firewall.iter().all(|line| text.contains(line)), "{text}");
        assert_eq!(text.matches("a firewall rule").count(), 2, "{text}");
    };

    let plan = operator.done(&format!("{APPLY}{option} --dry-run"));
    names_rules(&plan);
    for step in [
        "rename bond bond0 to bond0-old\ncreate group bond0\n".to_owned(),
        format!(
            "bond0: move {ADDRESS} from bond0-old\nbond0: move route default via {router} from bond0-old\n"
        ),
        "bond0: detach bond0-old\nbond bond0-old: release e1000g".to_owned(),
        format!("afterwards {IP} is on bond0, and packets leave through bond0\n"),
    ] {
        assert!(plan.contains(&step), "{plan}\nexpected: {step}");
    }
    operator.continues("dry run");
    operator.assert_restored(&before, mode, "dry run");

    if !can_rename_interface_that_is_up() {
        let (code, _, error) = operator.ctl(&apply);
        assert!(
            code == 1 && error.contains("an interface that is up can be renamed since Linux 6.2"),
            "{error}"
        );
        operator.continues("refused apply");
        operator.assert_restored(&before, mode, "refused apply");
        operator.end(mode);
        return daemon.terminate().unwrap();
    }
    let text = operator.done(&apply);
    assert!(
        text.starts_with("SSH session from ") && text.contains("undone in 120 s unless confirmed"),
        "{text}"
    );
    names_rules(&text);
    operator.continues("apply");
    assert!(!operator.kind().contains("bond mode"), "{}", operator.kind());
    assert!(operator.host()[0].contains(ADDRESS), "{:?}", operator.host());
    let old = operator.shown("-br link show dev bond0-old");
    assert!(old.contains("DOWN"), "{old}");
    assert!(operator.done("undo").starts_with(&format!("undone: {APPLY}\n")));
    operator.continues("undo");
    operator.assert_restored(&before, mode, "undone");

    // Nothing behind the switch port of the backup port replies. A bond that sends through both would lose connections itself.
    if mode == "active-backup" {
        let backup = plan.split("bond bond0: release ").nth(1).unwrap().split('\n').next().unwrap();
        lab.member(backup).cable().cut().unwrap();
        let (code, _, error) = operator.ctl(&apply);
        let expected = format!("gateway {router} does not reply through {backup}");
        assert!(code == 1 && error.contains(&expected), "{error}");
        lab.member(backup).cable().restore().unwrap();
        operator.continues("gateway does not reply");
        operator.assert_restored(&before, mode, "gateway does not reply");
    }

    operator.done(&apply);
    operator.continues("second apply");
    // From a new connection.
    operator.done("confirm");
    operator.continues("confirm");
    assert!(!operator.shown("link").contains("bond0-old"));
    for (line, text) in [("import bond0", "it is no bond and no team"), ("undo", "nothing to undo")] {
        let (_, output, error) = operator.ctl(line);
        assert!([output, error].concat().contains(text), "{line}");
    }
    operator.done(&format!("detach {}", PORTS[1]));
    operator.continues("detach");
    operator.done(&format!("detach {} --restore", PORTS[0]));
    operator.continues("detach --restore");
    operator.end(mode);
    daemon.terminate().unwrap();
}

#[test]
#[ignore = "needs bond and OpenSSH: the soak boots a kernel with it and unpacks this"]
fn stacked_bond_active_backup_is_replaced_over_its_own_session_and_restored() {
    replaces_bond_over_its_own_session("active-backup", "");
}

#[test]
#[ignore = "needs bond and OpenSSH: the soak boots a kernel with it and unpacks this"]
fn stacked_bond_tlb_is_replaced_over_its_own_session_and_restored() {
    replaces_bond_over_its_own_session("balance-tlb", "");
}

#[test]
#[ignore = "needs bond and OpenSSH: the soak boots a kernel with it and unpacks this"]
fn stacked_bond_alb_is_replaced_over_its_own_session_and_restored() {
    replaces_bond_over_its_own_session("balance-alb", "");
}

#[test]
#[ignore = "needs bond and OpenSSH: the soak boots a kernel with it and unpacks this"]
fn stacked_bond_802_3ad_with_independent_ports_is_replaced_over_its_own_session_and_restored() {
    replaces_bond_over_its_own_session("802.3ad", " --switch-ports-independent");
}
