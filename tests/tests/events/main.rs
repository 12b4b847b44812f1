//! The events of a group: when cables are pulled and replugged, and members are set offline, set down, detached and deleted,
//! the log, the journal and `ipmpctl monitor` report each event in order, with its cause, and with the text of
//! docs/reference.md where it has one.

lab::lane!(side_by_side, seconds = 70);

mod journal;

use lab::network::DATA;
use lab::{Daemon, Lab, Monitor, TIMEOUT, log_file, wait_until};
use serde_json::Value;

/// Exit status of `ipmpctl monitor` when the daemon ends, as its help documents it.
const DAEMON_ENDED: i32 = 5;

/// An event: kind, severity, cause, message.
type Summary<'a> = (&'a str, &'a str, &'a str, &'a str);

fn summary(event: &Value) -> Summary<'_> {
    let field = |name: &str| event[name].as_str().unwrap();
    (field("kind"), field("severity"), field("cause"), field("message"))
}

/// Whether the order of the event is deterministic. Debug events come before or after their consequences, depending on whether
/// the datapath or the kernel was first. The kernel may add the link-local address of the group interface at any time.
/// `no-test-address` comes 20 s after a member has joined, whatever the test does then.
fn is_compared(event: &Value) -> bool {
    let link_local = event["address"].as_str().is_some_and(|address| address.starts_with("fe80:"));
    event["severity"] != "debug" && event["kind"] != "no-test-address" && !link_local
}

/// The group of the tutorial, and a monitor of all its events.
struct Scene<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    monitor: Monitor,
    /// Events that have been compared.
    compared: usize,
}

impl<'lab> Scene<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        let daemon = Daemon::start_in(lab).unwrap();
        let monitor = Monitor::start(&daemon, "--json").unwrap();
        Self { lab, daemon, monitor, compared: 0 }
    }

    fn ctl(&self, arguments: &str) {
        self.daemon.ctl(arguments).unwrap();
    }

    /// Checks that exactly these events follow.
    fn expect(&mut self, what: &str, expected: &[Summary<'_>]) {
        self.expect_one_of(what, &[expected]);
    }

    /// Checks that exactly one of several sequences of events follows.
    fn expect_one_of(&mut self, what: &str, sequences: &[&[Summary<'_>]]) {
        let new_events = || -> Vec<Value> {
            self.monitor.events().into_iter().filter(is_compared).skip(self.compared).collect()
        };
        let matches = |events: &[Value]| {
            let events: Vec<_> = events.iter().map(summary).collect();
            sequences.iter().any(|sequence| *sequence == events)
        };
        wait_until(TIMEOUT, || matches(&new_events()));
        let events = new_events();
        let all: Vec<_> = events.iter().map(summary).collect();
        println!("{what}:");
        all.iter().for_each(|event| println!("  {event:?}"));
        assert!(matches(&events), "{what}: none of {sequences:#?}, but {all:#?}");
        self.compared += events.len();
    }

    /// The last event of this kind.
    fn last(&self, kind: &str) -> Value {
        let events = self.monitor.events();
        events.into_iter().rfind(|event| event["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    }

    fn wait_transmitting(&self, members: usize) {
        let transmit =
            || self.daemon.ctl("show production0").unwrap().matches(", transmits").count() == members;
        assert!(wait_until(TIMEOUT, transmit), "{}", self.daemon.ctl("show").unwrap());
    }
}

#[test]
fn all_events_are_reported_with_their_cause() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let mut scene = Scene::new(&lab);
    assert_eq!(summary(&scene.monitor.events()[0]), ("watching", "info", "monitor", "watching every group"));
    scene.compared = 1;

    scene.ctl(&format!("create production0 --address {DATA}/24"));
    scene.ctl("attach e1000g0 --group production0");
    scene.wait_transmitting(1);
    scene.ctl("attach e1000g1 rge0 --group production0");
    scene.wait_transmitting(3);
    scene.expect(
        "created",
        &[
            ("created", "info", "operator", "Group production0 has been created"),
            (
                "address-added",
                "info",
                "operator",
                "Data address 192.168.178.200 has been added to group production0",
            ),
            ("joined", "info", "operator", "IP interface e1000g0 has joined group production0"),
            ("joined", "info", "operator", "IP interface e1000g1 has joined group production0"),
            ("joined", "info", "operator", "IP interface rge0 has joined group production0"),
        ],
    );
    let joined = scene.last("joined");
    assert_eq!((joined["uid"].as_u64(), joined["group"].as_str()), (Some(0), Some("production0")));
    assert!(joined["because"].as_str().unwrap().ends_with(" requested Attach"), "{joined}");

    // Tutorial 1.6.5, 1.6.1: the messages of the reference; the roles move to e1000g1.
    lab.cable(1).pull().unwrap();
    scene.expect(
        "cable 1 pulled",
        &[
            ("link-down", "warning", "carrier-lost", "The link has gone down on e1000g0"),
            (
                "failed",
                "warning",
                "carrier-lost",
                "IP interface failure detected on e1000g0 of group production0",
            ),
            (
                "moved",
                "info",
                "member-failed",
                "Data address 192.168.178.200 of group production0 has moved from e1000g0 to e1000g1",
            ),
            (
                "cast-moved",
                "info",
                "member-failed",
                "Multicast and broadcast of group production0 have moved from e1000g0 to e1000g1",
            ),
        ],
    );
    let moved = scene.last("moved");
    assert_eq!((moved["from"].as_str(), moved["member"].as_str()), (Some("e1000g0"), Some("e1000g1")));
    assert_eq!(moved["because"], "e1000g0 has failed");
    for kind in ["failed", "moved"] {
        let event = scene.last(kind);
        let number = |name: &str| event[name].as_u64().unwrap_or_else(|| panic!("no {name} in {event}"));
        assert!(number("seen_ns") + number("took_ns") <= number("monotonic_ns"), "{event}");
        println!("{kind}: {} µs after {} detected it", number("took_ns") / 1000, event["seen_by"]);
        assert!(number("took_ns") < 10_000_000_000, "{event}");
    }
    scene.last("not-live");

    lab.cable(1).replug().unwrap();
    scene.expect(
        "cable 1 replugged",
        &[
            ("link-up", "info", "carrier-gained", "The link has come up on e1000g0"),
            (
                "repaired",
                "info",
                "updelay-passed",
                "IP interface repair detected on e1000g0 of group production0",
            ),
        ],
    );

    scene.ctl("offline e1000g1");
    scene.expect(
        "e1000g1 offline",
        &[
            ("offline", "info", "operator", "IP interface e1000g1 of group production0 is now offline"),
            (
                "moved",
                "info",
                "member-offline",
                "Data address 192.168.178.200 of group production0 has moved from e1000g1 to rge0",
            ),
            (
                "cast-moved",
                "info",
                "member-offline",
                "Multicast and broadcast of group production0 have moved from e1000g1 to rge0",
            ),
        ],
    );
    scene.ctl("online e1000g1");
    scene.expect(
        "e1000g1 online",
        &[("online", "info", "operator", "IP interface e1000g1 of group production0 is now online")],
    );

    lab.host().ip("link set e1000g0 down").unwrap();
    scene.expect(
        "e1000g0 set down",
        &[
            ("link-down", "warning", "interface-down", "The link has gone down on e1000g0"),
            (
                "failed",
                "warning",
                "interface-down",
                "IP interface failure detected on e1000g0 of group production0",
            ),
        ],
    );
    lab.host().ip("link set e1000g0 up").unwrap();
    scene.expect(
        "e1000g0 set up",
        &[
            ("link-up", "info", "carrier-gained", "The link has come up on e1000g0"),
            (
                "repaired",
                "info",
                "updelay-passed",
                "IP interface repair detected on e1000g0 of group production0",
            ),
        ],
    );

    delete_member(&mut scene);
    lose_all_members(&mut scene);
    stop_daemon(scene);
}

/// Deletes `rge0`, which has all roles. The kernel sets a device down before it deletes it; whether the sentinel or the
/// daemon observes that state depends on timing.
fn delete_member(scene: &mut Scene<'_>) {
    scene.lab.host().ip("link delete rge0").unwrap();
    let absent = "IP interface rge0 of group production0 is absent: its device was deleted or moved to another network \
                  namespace; it rejoins when the device returns";
    let absent = ("absent", "warning", "interface-deleted", absent);
    let failed =
        |cause| ("failed", "warning", cause, "IP interface failure detected on rge0 of group production0");
    let data = "Data address 192.168.178.200 of group production0 has moved from rge0 to e1000g1";
    let cast = "Multicast and broadcast of group production0 have moved from rge0 to e1000g1";
    let roles = |cause| [("moved", "info", cause, data), ("cast-moved", "info", cause, cast)];
    let [moved, cast_moved] = roles("member-absent");
    let removed = |family| ("removed-from-kernel", "info", "interface-deleted", family);
    let (inet, inet6) = (
        removed("inet rge0 has been removed from kernel"),
        removed("inet6 rge0 has been removed from kernel"),
    );
    let deleted_only = [inet, inet6, absent, failed("member-absent"), moved, cast_moved];
    let down_first = |cause| {
        let [moved, cast_moved] = roles("member-failed");
        [
            ("link-down", "warning", cause, "The link has gone down on rge0"),
            failed(cause),
            moved,
            cast_moved,
            inet,
            inet6,
            absent,
        ]
    };
    // When the daemon reads the cause, the interface is down or already deleted.
    scene.expect_one_of(
        "rge0 deleted",
        &[
            &deleted_only,
            &down_first("interface-down"),
            &down_first("interface-deleted"),
            &mixed(&down_first),
        ],
    );
}

/// The interface was down when the link event was reported, and deleted when the failure was.
fn mixed<'a>(down_first: &impl Fn(&'a str) -> [Summary<'a>; 7]) -> [Summary<'a>; 7] {
    let mut mixed = down_first("interface-deleted");
    mixed[0] = down_first("interface-down")[0];
    mixed
}

fn lose_all_members(scene: &mut Scene<'_>) {
    scene.lab.cable(1).pull().unwrap();
    scene.expect(
        "cable 1 pulled",
        &[
            ("link-down", "warning", "carrier-lost", "The link has gone down on e1000g0"),
            (
                "failed",
                "warning",
                "carrier-lost",
                "IP interface failure detected on e1000g0 of group production0",
            ),
        ],
    );
    // Tutorial 1.6.5: failure of all interfaces and repair of a single one.
    scene.lab.cable(2).pull().unwrap();
    scene.expect(
        "cable 2 pulled",
        &[
            ("link-down", "warning", "carrier-lost", "The link has gone down on e1000g1"),
            (
                "group-unusable",
                "error",
                "carrier-lost",
                "All IP interfaces in group production0 are now unusable",
            ),
        ],
    );
    assert_eq!(scene.last("group-unusable")["because"], "e1000g1 has lost its carrier");
    scene.lab.cable(2).replug().unwrap();
    scene.expect(
        "cable 2 replugged",
        &[
            ("link-up", "info", "carrier-gained", "The link has come up on e1000g1"),
            (
                "repaired",
                "info",
                "updelay-passed",
                "IP interface repair detected on e1000g1 of group production0",
            ),
            (
                "group-usable",
                "info",
                "updelay-passed",
                "At least 1 IP interface (e1000g1) in group production0 is now usable",
            ),
        ],
    );
    scene.ctl("detach e1000g0");
    scene.expect(
        "e1000g0 detached",
        &[("left", "info", "operator", "IP interface e1000g0 has left group production0")],
    );
}

/// The daemon is stopped, then killed: its monitors report which.
fn stop_daemon(mut scene: Scene<'_>) {
    // docs/reference.md 5.3: 20 s after it joined. It never had probes.
    let line =
        "No test address configured on interface e1000g1; disabling probe-based failure detection on it";
    let of_e1000g1 = || -> Vec<Value> {
        scene.monitor.events().into_iter().filter(|event| event["message"] == line).collect()
    };
    assert!(wait_until(TIMEOUT, || !of_e1000g1().is_empty()), "{:?}", scene.daemon.log());
    let expected = ("no-test-address", "info", "no-test-address", line);
    assert_eq!(of_e1000g1().iter().map(summary).collect::<Vec<_>>(), [expected]);

    let text = Monitor::start(&scene.daemon, "production0").unwrap();
    scene.daemon.terminate().unwrap();
    let stopped = "stopped; the datapath of production0 stays loaded and keeps forwarding";
    scene.expect("SIGTERM", &[("stopped", "info", "signal", stopped)]);

    let Scene { mut daemon, monitor, .. } = scene;
    let socket = daemon.socket();
    let socket = socket.display();
    let line = format!(
        "ipmpctl: ipmpd at {socket} has stopped: its groups keep working, but no events are reported\n"
    );
    let events = monitor.events();
    let (status, error, _) = monitor.end().unwrap();
    assert_eq!((status.code(), &error), (Some(DAEMON_ENDED), &line));
    let (status, error, lines) = text.end().unwrap();
    assert_eq!((status.code(), &error), (Some(DAEMON_ENDED), &line));
    println!("as text:\n  {}", lines.join("\n  "));
    assert!(lines[0].contains(" info watching: watching group production0 ("), "{lines:?}");
    assert!(
        lines[1].ends_with(&format!("info stopped: {stopped} (ipmpd received a signal to end)")),
        "{lines:?}"
    );

    // No event was lost, and the log contains the same messages.
    let numbers: Vec<_> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
    for event in &events {
        let time = event["time"].as_str().unwrap();
        assert!(time.len() == "2010-01-08T20:01:06.000Z".len() && time.ends_with('Z'), "{time}");
    }
    let messages: Vec<(String, String)> = events
        .iter()
        .filter(|event| event["severity"] != "debug" && event["kind"] != "watching")
        .map(|event| {
            let severity = event["severity"].as_str().filter(|severity| *severity != "info");
            (severity.unwrap_or_default().to_owned(), event["message"].as_str().unwrap().to_owned())
        })
        .collect();
    // Two depend on the machine; the last one is about namespaces of other labs.
    let others = [
        "uid 0, pid ",
        "serving ",
        "no real-time priority",
        "the kernel does not report changes of carriers",
        "Pins and run files of deleted network namespaces have been removed",
    ];
    let is_other = |text: &str| others.iter().any(|other| text.starts_with(other));
    let log = daemon.log();
    let log = log.iter().map(|line| log_file::parts(line)).filter(|(_, text)| !is_other(text));
    let log: Vec<_> = log.map(|(severity, text)| (severity.to_owned(), text.to_owned())).collect();
    assert_eq!(log, messages);

    daemon.start().unwrap();
    // One is absent.
    daemon.wait_line("Group production0 has been adopted with 2 members", 0, TIMEOUT).unwrap();
    let monitor = Monitor::start(&daemon, "production0 --json").unwrap();
    daemon.kill().unwrap();
    let (status, error, lines) = monitor.end().unwrap();
    assert_eq!(status.code(), Some(DAEMON_ENDED));
    let line = format!(
        "ipmpctl: ipmpd at {socket} was killed or has crashed; see its log and its service manager\n"
    );
    assert_eq!(error, line);
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(last["error"]["reason"], "daemon-ended");
}
