//! Refused commands: each prints one line that names the object and the remedy, exits with the documented status, and changes
//! nothing: no interface, address, route, setting or pin, and nothing in the output of `ipmpctl show`.

lab::lane!(
    side_by_side,
    seconds = 90,
    quiet,
    no_clsact = "the commands are rejected before a program is attached"
);

use std::cell::RefCell;
use std::process::{Command, Output, Stdio};

use lab::daemon::binary;
use lab::network::DATA;
use lab::{Daemon, Lab, SECOND, Snapshot, wait_until};
use serde_json::{Value, json};

mod addresses;
mod firewall;
mod groups;
mod host;
mod members;
mod owners;
mod path;
mod repeated;
mod targets;

/// Exit statuses of `ipmpctl`, as its help documents them.
const REFUSED: i32 = 1;
const USAGE: i32 = 2;
const NO_DAEMON: i32 = 3;
const NOT_PERMITTED: i32 = 4;

/// Verbs whose `--dry-run` is refused as they are; the plan of `attach` lists some refusals.
const PLANNED: [&str; 9] =
    ["create", "destroy", "detach", "address", "test-address", "offline", "online", "set", "target"];

/// The tutorial's host without peers.
fn quiet_lab(members: usize) -> Lab {
    let lab = Lab::builder().members(members).peers(&[]).build().unwrap();
    // Without duplicate address detection, addresses do not change their state a second later.
    lab.host().sysctl("net.ipv6.conf.default.accept_dad", "0").unwrap();
    lab
}

/// A lab with its daemon.
struct Scene<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    /// State after the last refusal, if the test has changed nothing since.
    known: RefCell<Option<Snapshot>>,
}

impl<'lab> Scene<'lab> {
    /// A daemon without groups.
    fn new(lab: &'lab Lab) -> Self {
        Self { lab, daemon: Daemon::start_in(lab).unwrap(), known: RefCell::default() }
    }

    /// The group of the tutorial, with these members and its data address.
    fn production(lab: &'lab Lab, members: &str) -> Self {
        let scene = Self::new(lab);
        scene.ctl(&format!("create production0 --address {DATA}/24"));
        scene.ctl(&format!("attach {members} --group production0"));
        let transmit = || !scene.daemon.ctl("show production0").unwrap().contains("does not transmit");
        assert!(wait_until(10 * SECOND, transmit), "{}", scene.daemon.ctl("show").unwrap());
        scene
    }

    /// Runs `ip` on the host.
    fn ip(&self, arguments: &str) {
        self.known.take();
        self.lab.host().ip(arguments).unwrap();
    }

    /// Runs `ipmpctl`, which must succeed.
    fn ctl(&self, arguments: &str) {
        self.known.take();
        self.daemon.ctl(arguments).unwrap();
    }

    /// Pulls a cable and waits until the daemon has logged the failure.
    fn pull(&self, number: usize) {
        self.known.take();
        let since = self.daemon.log().len();
        let cable = self.lab.cable(number);
        cable.pull().unwrap();
        let line = format!("failure detected on {}", cable.near().interface);
        self.daemon.wait_line(&line, since, 10 * SECOND).unwrap();
    }

    /// The state, once it no longer changes.
    fn snapshot(&self) -> Snapshot {
        let now = || Snapshot::settled(self.lab).unwrap().with(shown(&self.daemon));
        self.known.take().unwrap_or_else(now)
    }

    /// Checks that the state is as before.
    fn assert_same(&self, before: Snapshot, what: &str) {
        let now = Snapshot::take(self.lab).unwrap().with(shown(&self.daemon));
        assert_same(&now, &before, what);
        self.known.replace(Some(before));
    }

    fn output(&self, words: &[&str]) -> Output {
        let mut command = Command::new(binary("ipmpctl").unwrap());
        command.arg("--socket").arg(self.daemon.socket()).args(words).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Checks that `ipmpctl WORDS` is refused with this line and changes nothing, and that `--json` prints the same message
    /// with its reason.
    fn refused_words(&self, words: &[&str], exit: i32, reason: &str, line: &str) {
        let before = self.snapshot();
        let output = self.output(words);
        assert_refused(&format!("ipmpctl {words:?}"), &output, exit, "ipmpctl", line);
        assert_eq!(text(&output.stdout), "", "ipmpctl {words:?}");

        let output = self.output(&[&["--json"], words].concat());
        assert_refused(&format!("ipmpctl --json {words:?}"), &output, exit, "ipmpctl", line);
        let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
        let expected = json!({"version": 1, "error": {"reason": reason, "message": line}});
        assert_eq!(reply, expected, "ipmpctl --json {words:?}");

        if exit == REFUSED && PLANNED.contains(&words[0]) && words[1] != "list" {
            let output = self.output(&[words, &["--dry-run"]].concat());
            assert_refused(&format!("ipmpctl {words:?} --dry-run"), &output, exit, "ipmpctl", line);
        }
        self.assert_same(before, &format!("ipmpctl {words:?}"));
    }

    /// The same, with the words in one string.
    fn refused(&self, command: &str, exit: i32, reason: &str, line: &str) {
        self.refused_words(&command.split_whitespace().collect::<Vec<_>>(), exit, reason, line);
    }
}

impl Scene<'_> {
    /// Waits until `ipmpctl show` stays the same for a second: members become live, addresses pass duplicate detection.
    fn settle(&self) {
        let mut last = String::new();
        for _ in 0..20 {
            let now = shown(&self.daemon);
            if now == last {
                return;
            }
            last = now;
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        panic!("the daemon does not settle: {last}");
    }
}

/// `ipmpctl show --json` without its counters, and without what members send each other while they have no target.
fn shown(daemon: &Daemon) -> String {
    let mut report: Value = serde_json::from_str(&daemon.ctl("show --json").unwrap()).unwrap();
    for group in report["groups"].as_array_mut().unwrap() {
        group["drops"].take();
        for member in group["members"].as_array_mut().unwrap() {
            member["traffic"].take();
            member["exchanged"].take();
        }
    }
    report.to_string()
}

fn assert_same(now: &Snapshot, before: &Snapshot, what: &str) {
    let differences = now.differences(before);
    assert!(differences.is_empty(), "{what} has changed:\n{}", differences.join("\n"));
}

/// Checks that `program` printed exactly this line to standard error, and its exit status.
fn assert_refused(what: &str, output: &Output, exit: i32, program: &str, line: &str) {
    assert_eq!(text(&output.stderr), format!("{program}: {line}\n"), "{what}");
    assert_eq!(output.status.code(), Some(exit), "{what}");
}

/// The processes in the lab's host: its daemons.
fn daemons(lab: &Lab) -> String {
    let output = Command::new("ip").args(["netns", "pids", lab.host().name()]).output().unwrap();
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
