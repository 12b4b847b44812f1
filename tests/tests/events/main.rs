//! What operators hear: cables are pulled and replugged, members taken out, put back, set down and deleted, and the log,
//! the journal and `ipmpctl monitor` say what happened, in order, in the words of the reference where it has any, and
//! what made it happen.

lab::lane!(side_by_side, seconds = 70);

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use lab::network::DATA;
use lab::{Daemon, Lab, Monitor, TIMEOUT, wait_until};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Exit status of `ipmpctl monitor` when the daemon goes, as its help documents it.
const DAEMON_GONE: i32 = 5;

/// An event as this file writes it down: kind, severity, cause, line of the log.
type Told<'a> = (&'a str, &'a str, &'a str, &'a str);

fn told(event: &Value) -> Told<'_> {
    let word = |name: &str| event[name].as_str().unwrap();
    (word("kind"), word("severity"), word("cause"), word("message"))
}

/// Whether it is of interest here. What only debuggers hear comes before or after what follows from it, as the datapath
/// or the kernel was first; the kernel gives the group interface a link-local address when it likes, and 20 s after a
/// member has joined it depends on the machine how far the story is.
fn counts(event: &Value) -> bool {
    let link_local = event["address"].as_str().is_some_and(|address| address.starts_with("fe80:"));
    event["severity"] != "debug" && event["kind"] != "no-test-address" && !link_local
}

/// The group of the tutorial, and who listens to it.
struct Scene<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    monitor: Monitor,
    /// Events that have been compared.
    compared: usize,
}

impl<'lab> Scene<'lab> {
    fn set(lab: &'lab Lab) -> Self {
        let daemon = Daemon::start_in(lab).unwrap();
        let monitor = Monitor::start(&daemon, "--json").unwrap();
        Self { lab, daemon, monitor, compared: 0 }
    }

    fn ctl(&self, arguments: &str) {
        self.daemon.ctl(arguments).unwrap();
    }

    /// The next events that count are these, and, for a while, no others.
    fn expect(&mut self, what: &str, expected: &[Told<'_>]) {
        self.expect_one_of(what, &[expected]);
    }

    /// The same, of several stories that may be true.
    fn expect_one_of(&mut self, what: &str, stories: &[&[Told<'_>]]) {
        let news = || -> Vec<Value> {
            self.monitor.events().into_iter().filter(counts).skip(self.compared).collect()
        };
        let is_true = |events: &[Value]| {
            let events: Vec<_> = events.iter().map(told).collect();
            stories.iter().any(|story| *story == events)
        };
        wait_until(TIMEOUT, || is_true(&news()));
        let events = news();
        let all: Vec<_> = events.iter().map(told).collect();
        println!("{what}:");
        all.iter().for_each(|event| println!("  {event:?}"));
        assert!(is_true(&events), "{what}: not one of {stories:#?}, but {all:#?}");
        self.compared += events.len();
    }

    /// Of the last events: those of this kind.
    fn last(&self, kind: &str) -> Value {
        let events = self.monitor.events();
        events.into_iter().rfind(|event| event["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    }

    fn wait_live(&self, members: usize) {
        let live = || self.daemon.ctl("show production0").unwrap().matches(", transmits").count() == members;
        assert!(wait_until(TIMEOUT, live), "{}", self.daemon.ctl("show").unwrap());
    }
}

#[test]
fn all_events_are_reported_with_their_cause() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let mut scene = Scene::set(&lab);
    assert_eq!(told(&scene.monitor.events()[0]), ("watching", "info", "monitor", "watching every group"));
    scene.compared = 1;

    scene.ctl(&format!("create production0 --address {DATA}/24"));
    scene.ctl("attach e1000g0 --group production0");
    scene.wait_live(1);
    scene.ctl("attach e1000g1 rge0 --group production0");
    scene.wait_live(3);
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

    // Tutorial 1.6.5, 1.6.1: the lines of the reference, and the roles go to e1000g1.
    lab.cable(1).pull().unwrap();
    scene.expect(
        "cable 1 out",
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
        println!("{kind}: {} µs after {} saw it", number("took_ns") / 1000, event["seen_by"]);
        assert!(number("took_ns") < 10_000_000_000, "{event}");
    }
    scene.last("not-live");

    lab.cable(1).replug().unwrap();
    scene.expect(
        "cable 1 back",
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

    delete_a_member(&mut scene);
    lose_everything(&mut scene);
    end(scene);
}

/// `rge0` has every role, and is deleted. The kernel sets a device down before it deletes it; whether anybody sees that
/// is chance.
fn delete_a_member(scene: &mut Scene<'_>) {
    scene.lab.host().ip("link delete rge0").unwrap();
    let left = ("left", "info", "interface-deleted", "IP interface rge0 has left group production0");
    let data = "Data address 192.168.178.200 of group production0 has moved from rge0 to e1000g1";
    let cast = "Multicast and broadcast of group production0 have moved from rge0 to e1000g1";
    let roles = |cause| [("moved", "info", cause, data), ("cast-moved", "info", cause, cast)];
    let [moved, cast_moved] = roles("member-left");
    let removed = |family| ("removed-from-kernel", "info", "interface-deleted", family);
    let (inet, inet6) = (
        removed("inet rge0 has been removed from kernel"),
        removed("inet6 rge0 has been removed from kernel"),
    );
    let unseen = [inet, inet6, left, moved, cast_moved];
    let seen = |cause| {
        let [moved, cast_moved] = roles("member-failed");
        [
            ("link-down", "warning", cause, "The link has gone down on rge0"),
            ("failed", "warning", cause, "IP interface failure detected on rge0 of group production0"),
            moved,
            cast_moved,
            inet,
            inet6,
            left,
        ]
    };
    // It may be gone by the time that the daemon looks why, or be set down only.
    scene.expect_one_of(
        "rge0 deleted",
        &[&unseen, &seen("interface-down"), &seen("interface-deleted"), &mixed(&seen)],
    );
}

/// Set down when the link was looked at, gone when the failure was.
fn mixed<'a>(seen: &impl Fn(&'a str) -> [Told<'a>; 7]) -> [Told<'a>; 7] {
    let mut mixed = seen("interface-deleted");
    mixed[0] = seen("interface-down")[0];
    mixed
}

fn lose_everything(scene: &mut Scene<'_>) {
    scene.lab.cable(1).pull().unwrap();
    scene.expect(
        "cable 1 out",
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
        "cable 2 out",
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
        "cable 2 back",
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

/// The daemon ends, in order and then not, and whoever listens is told.
fn end(mut scene: Scene<'_>) {
    // Reference 5.3: 20 s after it joined. It is all that it has ever been: seen by its link.
    let line =
        "No test address configured on interface e1000g1; disabling probe-based failure detection on it";
    let of_e1000g1 = || -> Vec<Value> {
        scene.monitor.events().into_iter().filter(|event| event["message"] == line).collect()
    };
    assert!(wait_until(TIMEOUT, || !of_e1000g1().is_empty()), "{:?}", scene.daemon.log());
    let expected = ("no-test-address", "info", "no-test-address", line);
    assert_eq!(of_e1000g1().iter().map(told).collect::<Vec<_>>(), [expected]);

    let text = Monitor::start(&scene.daemon, "production0").unwrap();
    scene.daemon.terminate().unwrap();
    let stopped = "stopped; the datapath of production0 stays loaded and keeps forwarding";
    scene.expect("SIGTERM", &[("stopped", "info", "signal", stopped)]);

    let Scene { mut daemon, monitor, .. } = scene;
    let socket = daemon.socket();
    let socket = socket.display();
    let line = format!(
        "ipmpctl: ipmpd at {socket} has stopped: its groups stay as they are, and nobody tells what happens to them\n"
    );
    let events = monitor.events();
    let (status, complaint, _) = monitor.end().unwrap();
    assert_eq!((status.code(), &complaint), (Some(DAEMON_GONE), &line));
    let (status, complaint, lines) = text.end().unwrap();
    assert_eq!((status.code(), &complaint), (Some(DAEMON_GONE), &line));
    println!("as text:\n  {}", lines.join("\n  "));
    assert!(lines[0].contains(" info watching: watching group production0 ("), "{lines:?}");
    assert!(lines[1].ends_with(&format!("info stopped: {stopped} (ipmpd was asked to end)")), "{lines:?}");

    // Nothing was lost, and the log has said the same.
    let numbers: Vec<_> = events.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
    for event in &events {
        let time = event["time"].as_str().unwrap();
        assert!(time.len() == "2010-01-08T20:01:06.000Z".len() && time.ends_with('Z'), "{time}");
    }
    let said: Vec<String> = events
        .iter()
        .filter(|event| event["severity"] != "debug" && event["kind"] != "watching")
        .map(|event| format!("ipmpd: {}", event["message"].as_str().unwrap()))
        .collect();
    let others = ["ipmpd: uid 0, pid ", "ipmpd: serving ", "ipmpd: no real-time priority"];
    let is_other = |line: &String| others.iter().any(|other| line.starts_with(other));
    let log: Vec<String> = daemon.log().into_iter().filter(|line| !is_other(line)).collect();
    assert_eq!(log, said);

    daemon.start().unwrap();
    daemon.wait_line("Group production0 has been adopted with 1 members", 0, TIMEOUT).unwrap();
    let monitor = Monitor::start(&daemon, "production0 --json").unwrap();
    daemon.kill().unwrap();
    let (status, complaint, lines) = monitor.end().unwrap();
    assert_eq!(status.code(), Some(DAEMON_GONE));
    let line = format!(
        "ipmpctl: ipmpd at {socket} is gone: it was killed or has crashed; its log and its service manager say more\n"
    );
    assert_eq!(complaint, line);
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(last["error"]["reason"], "daemon-ended");
}

/// Where the journal takes entries.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The fields of a datagram in the journal's native protocol.
fn parse(mut datagram: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields = Vec::new();
    while let Some(end) = datagram.iter().position(|&byte| byte == b'\n') {
        let line = &datagram[..end];
        if let Some(at) = line.iter().position(|&byte| byte == b'=') {
            fields.push((text(&line[..at]), text(&line[at + 1..])));
            datagram = &datagram[end + 1..];
        } else {
            let (length, rest) = datagram[end + 1..].split_at(8);
            let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            fields.push((text(line), text(&rest[..length])));
            assert_eq!(rest[length], b'\n', "a value ends with a line feed");
            datagram = &rest[length + 1..];
        }
    }
    assert_eq!(datagram, b"");
    fields
}

/// In a mount namespace of its own the test plays journald, and the daemon takes its standard error for the journal's.
#[test]
fn journal_receives_every_message_with_its_fields() {
    lab::needs_root!();
    let lab = Lab::builder().members(2).peers(&[]).build().unwrap();
    let listen = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).unwrap();
        let systemd = Path::new("/run/systemd");
        let is_new = fs::create_dir(systemd).is_ok();
        mount(Some("tmpfs"), systemd, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::create_dir(Path::new(JOURNAL).parent().unwrap()).unwrap();
        let journald = UnixDatagram::bind(JOURNAL).unwrap();
        journald.set_read_timeout(Some(TIMEOUT)).unwrap();

        let log = lab.directory().join(format!("{}.log", lab.host().name()));
        let file = File::create(&log).unwrap().metadata().unwrap();
        let stream = format!("{}:{}", file.dev(), file.ino());
        let daemon = Daemon::builder(&lab).environment("JOURNAL_STREAM", &stream).start().unwrap();
        daemon.ctl(&format!("create production0 --address {DATA}/24")).unwrap();
        daemon.ctl("attach e1000g0 rge0 --group production0").unwrap();
        let carry = || !daemon.ctl("show production0").unwrap().contains("does not transmit");
        assert!(wait_until(TIMEOUT, carry), "{}", daemon.ctl("show").unwrap());
        lab.cable(1).pull().unwrap();

        let mut buffer = vec![0; 1 << 16];
        let mut entries = Vec::new();
        while !entries.iter().any(|fields: &Vec<(String, String)>| fields[0].1.contains("failure detected")) {
            let length = journald.recv(&mut buffer).expect("an entry of the failure");
            entries.push(parse(&buffer[..length]));
        }
        drop(daemon);
        drop(journald);
        if is_new {
            nix::mount::umount(systemd).unwrap();
            let _ = fs::remove_dir(systemd);
        }
        assert_eq!(
            fs::read_to_string(&log).unwrap(),
            "",
            "what is in the journal is not on standard error, too"
        );
        entries
    };
    let entries = std::thread::scope(|scope| scope.spawn(listen).join().unwrap());
    let entry = |message: &str| {
        let found = entries.iter().find(|fields| fields[0] == ("MESSAGE".into(), message.into()));
        found.unwrap_or_else(|| panic!("no {message:?} in {entries:#?}"))
    };
    let fields = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    let failure = "IP interface failure detected on e1000g0 of group production0";
    assert_eq!(
        *entry(failure),
        fields(&[
            ("MESSAGE", failure),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "ipmpd"),
            ("IPMP_GROUP", "production0"),
            ("IPMP_MEMBER", "e1000g0"),
            ("IPMP_EVENT", "failed"),
            ("IPMP_CAUSE", "carrier-lost"),
            ("IPMP_BECAUSE", "e1000g0 has lost its carrier"),
        ])
    );
    let added = "Data address 192.168.178.200 has been added to group production0";
    let entry = entry(added);
    let because = entry.iter().find(|(name, _)| name == "IPMP_BECAUSE").unwrap().1.clone();
    assert!(because.starts_with("uid 0, pid ") && because.ends_with(" requested Create"), "{because}");
    assert_eq!(
        *entry,
        fields(&[
            ("MESSAGE", added),
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "ipmpd"),
            ("IPMP_GROUP", "production0"),
            ("IPMP_EVENT", "address-added"),
            ("IPMP_CAUSE", "operator"),
            ("IPMP_BECAUSE", &because),
            ("IPMP_ADDRESS", "192.168.178.200"),
            ("IPMP_UID", "0"),
        ])
    );
}
