//! The server over a real socket, with a daemon that echoes requests.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream as StdStream,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime, sync::mpsc};

use super::{
    super::{
        DEFINITION, client,
        monitor::{self, EventRecord, Publisher},
        probes::{self, ProbeReport},
        report,
        request::{LastMember, samples},
        verb::{Permission, VerbInfo},
    },
    limits::MAX_CONNECTIONS,
    *,
};
use crate::types::Severity;

/// A served socket. The daemon replies to `Offline slow0` only after `Online slow0`, with a refusal, and drops requests
/// for `crash0`. Every other request succeeds at once, with the request as its note.
struct Served {
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    publisher: Publisher,
    probes: Publisher<ProbeReport>,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl Served {
    fn start(group: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = StdListener::bind(directory.path().join("s")).unwrap();
        // Any user may connect, as to the socket of the daemon.
        for path in [directory.path(), &directory.path().join("s")] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        }
        let (stop, stopped) = oneshot::channel();
        let (publisher, probes) = (Publisher::default(), Publisher::new(probes::CAPACITY));
        let feeds = Feeds { events: publisher.feed(), probes: probes.feed() };
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (queue, receiver) = mpsc::channel(16);
                tokio::spawn(engine(receiver, stopped));
                serve_group(listener, queue, feeds, group).await
            })
        });
        Self { directory, stop: Some(stop), publisher, probes, thread: Some(thread) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    fn connect(&self) -> StdStream {
        let stream = StdStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn client(&self) -> client::Client {
        client::Client::connect(&self.path()).unwrap()
    }

    /// Ends the daemon, and with it the server.
    fn stop(mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

type Requests = mpsc::Receiver<super::super::request::PendingRequest>;

async fn engine(mut requests: Requests, mut stop: oneshot::Receiver<()>) {
    let mut held = Vec::new();
    loop {
        let (request, caller, sender) = tokio::select! {
            request = requests.recv() => request.expect("the server ends last"),
            _ = &mut stop => return,
        };
        match &request {
            Request::Offline { interface } if interface == "slow0" => {
                held.push(sender);
            }
            Request::Online { interface } if interface == "slow0" => {
                for sender in held.drain(..).chain([sender]) {
                    // The client may have left.
                    let _ = sender.send(Err(Refused::new(reason::NOT_A_MEMBER, "slow0 is in no group")));
                }
            }
            Request::Offline { interface } if interface == "crash0" => drop(sender),
            Request::Show { name } | Request::Monitor { name } | Request::Probes { name } => {
                let groups = match name.as_deref() {
                    Some("huge0") => vec![sample(); 4000],
                    Some(_) => vec![],
                    None => vec![sample()],
                };
                let _ = sender.send(Ok(Response::Show(groups)));
            }
            _ => {
                assert_eq!(format!("{request:?}").split(' ').next(), Some(caller.method.as_str()));
                assert_eq!(caller.pid, std::process::id() as i32);
                let _ = sender.send(Ok(Response::done(vec![format!("{request:?}")])));
            }
        }
    }
}

fn sample() -> report::GroupReport {
    crate::control::report::sample()
}

fn exchange(stream: &mut StdStream, message: &[u8]) -> String {
    stream.write_all(message).unwrap();
    let mut reply = Vec::new();
    BufReader::new(stream).read_until(0, &mut reply).unwrap();
    String::from_utf8(reply).unwrap()
}

const SHOW_NOTHING: &[u8] = b"{\"method\":\"net.ipmp.Manager.Show\",\"parameters\":{\"name\":\"none0\"}}\0";
const NOTHING: &str = "{\"parameters\":{\"version\":1,\"groups\":[]}}\0";

#[test]
fn requests_and_replies_are_delivered() {
    let served = Served::start(GROUP);
    let mut client = served.client();
    for request in [
        Request::Create {
            group: "g0".into(),
            groupname: None,
            addresses: vec!["10.0.0.1/24".parse().unwrap()],
        },
        Request::Attach {
            group: "g0".into(),
            interfaces: vec!["eth0".into(), "eth1".into()],
            standby: false,
            test_addresses: vec![],
            dry_run: false,
            accept_firewall: false,
        },
        Request::AddTarget { group: "g0".into(), addresses: vec!["10.0.0.1".parse().unwrap()] },
        Request::Detach { interface: "eth0".into(), last: Some(LastMember::KeepGroup) },
    ] {
        let response = client.call(&request).unwrap();
        assert_eq!(response, Response::done(vec![format!("{request:?}")]));
    }
    assert_eq!(client.call(&Request::Show { name: None }).unwrap(), Response::Show(vec![sample()]));
    let error = client.call(&Request::Online { interface: "slow0".into() }).unwrap_err();
    assert!(matches!(&error, client::Error::Refused { reason, .. } if reason == reason::NOT_A_MEMBER));
    assert_eq!(error.to_string(), "slow0 is in no group");
    served.stop();
}

#[test]
fn report_larger_than_buffers_is_complete() {
    let served = Served::start(GROUP);
    let Response::Show(groups) = served.client().call(&Request::Show { name: Some("huge0".into()) }).unwrap()
    else {
        panic!("Show shows")
    };
    assert_eq!(groups, vec![sample(); 4000]);
    served.stop();
}

#[test]
fn ended_daemon_is_distinguished_from_refusal() {
    let served = Served::start(GROUP);
    let error = served.client().call(&Request::Offline { interface: "crash0".into() }).unwrap_err();
    assert!(matches!(error, client::Error::Refused { reason, .. } if reason == reason::SHUTTING_DOWN));
    let mut idle = served.client();
    served.stop();
    assert!(matches!(idle.call(&Request::Show { name: None }), Err(client::Error::Closed(_))));
}

#[test]
fn clients_do_not_wait_for_each_other() {
    let served = Served::start(GROUP);
    let _silent = served.connect();
    let mut half = served.connect();
    half.write_all(b"{\"method\":").unwrap();
    // An unread reply: more than both socket buffers hold.
    let mut stalled = served.connect();
    stalled
        .write_all(b"{\"method\":\"net.ipmp.Manager.Show\",\"parameters\":{\"name\":\"huge0\"}}\0")
        .unwrap();
    let mut slow = served.connect();
    slow.write_all(b"{\"method\":\"net.ipmp.Manager.Offline\",\"parameters\":{\"interface\":\"slow0\"}}\0")
        .unwrap();

    assert_eq!(exchange(&mut served.connect(), SHOW_NOTHING), NOTHING);
    served.client().call(&Request::Online { interface: "slow0".into() }).unwrap_err();
    assert!(exchange(&mut slow, b"").contains("slow0 is in no group"));
    served.stop();
}

#[test]
fn closed_connections_do_not_affect_others() {
    let served = Served::start(GROUP);
    for message in [
        &b""[..],
        b"{\"method\":",
        b"{\"method\":\"net.ipmp.Manager.Offline\",\"parameters\":{\"interface\":\"slow0\"}}\0",
        b"{\"method\":\"net.ipmp.Manager.Show\",\"parameters\":{\"name\":\"huge0\"}}\0",
    ] {
        served.connect().write_all(message).unwrap();
    }
    assert_eq!(exchange(&mut served.connect(), SHOW_NOTHING), NOTHING);
    served.stop();
}

#[test]
fn calls_sent_together_are_answered_in_turn() {
    let served = Served::start(GROUP);
    let mut stream = served.connect();
    let oneway =
        b"{\"method\":\"net.ipmp.Manager.Online\",\"parameters\":{\"interface\":\"eth0\"},\"oneway\":true}\0";
    let unknown = b"{\"method\":\"net.ipmp.Manager.Explode\",\"parameters\":{}}\0";
    stream.write_all(&[oneway, &unknown[..], SHOW_NOTHING].concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).unwrap();
    let not_found = "{\"error\":\"org.varlink.service.MethodNotFound\",\
                     \"parameters\":{\"method\":\"net.ipmp.Manager.Explode\"}}";
    assert_eq!(replies, format!("{not_found}\0{NOTHING}"));
    served.stop();
}

#[test]
fn malformed_call_closes_only_its_connection() {
    let served = Served::start(GROUP);
    let mut other = served.connect();
    let deep = [&b"{\"method\":"[..], &[b'['; 100_000], b"\0"].concat();
    for garbage in
        [&b"\0"[..], b"GET / HTTP/1.1\r\n\r\n\0", b"{}\0", b"[]\0", b"{\"method\":7}\0", b"\xff\xfe\0", &deep]
    {
        let mut stream = served.connect();
        stream.write_all(garbage).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        assert_eq!(reply, b"", "{:?}", String::from_utf8_lossy(garbage));
    }
    assert_eq!(exchange(&mut other, SHOW_NOTHING), NOTHING);
    served.stop();
}

#[test]
fn call_longer_than_one_mebibyte_is_refused() {
    let served = Served::start(GROUP);
    let (head, tail) = ("{\"method\":\"net.ipmp.Manager.Show\",\"parameters\":{\"name\":\"none0\"}", "}");
    let sized = |size: usize| {
        let padding = " ".repeat(size - head.len() - tail.len());
        format!("{head}{padding}{tail}\0").into_bytes()
    };
    assert_eq!(exchange(&mut served.connect(), &sized(MAX_CALL)), NOTHING);

    for endless in [sized(MAX_CALL + 1), vec![b' '; 2 * MAX_CALL]] {
        let mut stream = served.connect();
        // The server may close before it has read everything.
        let _ = stream.write_all(&endless);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        assert_eq!(reply, b"");
    }
    assert_eq!(exchange(&mut served.connect(), SHOW_NOTHING), NOTHING);
    served.stop();
}

#[test]
fn connections_per_user_are_limited() {
    let served = Served::start(GROUP);
    let mut open: Vec<_> = (0..MAX_CONNECTIONS).map(|_| served.connect()).collect();
    for stream in &mut open {
        assert_eq!(exchange(stream, SHOW_NOTHING), NOTHING);
    }
    let mut reply = Vec::new();
    served.connect().read_to_end(&mut reply).unwrap();
    assert_eq!(reply, b"");
    // Another user is not locked out.
    if let Some(reply) = as_user(&served.path(), UNPRIVILEGED, SHOW_NOTHING) {
        assert_eq!(reply, NOTHING);
    }
    drop(open);
    wait_for_a_place(&served);
    served.stop();
}

fn wait_for_a_place(served: &Served) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut stream = served.connect();
        let mut reply = String::new();
        let _ = stream.write_all(SHOW_NOTHING).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let _ = stream.read_to_string(&mut reply);
        if reply == NOTHING {
            break;
        }
        assert!(Instant::now() < deadline, "closed connections keep their places");
    }
}

#[test]
fn introspection_returns_the_definition() {
    let served = Served::start(GROUP);
    let mut stream = served.connect();
    let mut ask = |call: Value| -> Value {
        let reply = exchange(&mut stream, format!("{call}\0").as_bytes());
        serde_json::from_str(reply.trim_end_matches('\0')).unwrap()
    };
    assert_eq!(
        ask(json!({ "method": "org.varlink.service.GetInfo" })),
        json!({ "parameters": {
            "vendor": "ipmp",
            "product": "ipmpd",
            "version": env!("CARGO_PKG_VERSION"),
            "url": "",
            "interfaces": ["org.varlink.service", "net.ipmp.Manager"],
        } })
    );
    let description = |interface: &str| {
        json!({
            "method": "org.varlink.service.GetInterfaceDescription",
            "parameters": { "interface": interface },
        })
    };
    assert_eq!(ask(description("net.ipmp.Manager")), json!({ "parameters": { "description": DEFINITION } }));
    assert_eq!(
        ask(description("com.example")),
        json!({ "error": "org.varlink.service.InterfaceNotFound", "parameters": { "interface": "com.example" } })
    );
    served.stop();
}

/// Reads the next reply.
fn next(stream: &mut impl BufRead) -> Value {
    let mut reply = Vec::new();
    stream.read_until(0, &mut reply).unwrap();
    assert_eq!(reply.pop(), Some(0), "the connection was closed");
    serde_json::from_slice(&reply).unwrap()
}

/// Subscribes to events, and reads the first one.
fn subscribe(served: &Served, name: Value) -> BufReader<StdStream> {
    let mut stream = served.connect();
    let call = json!({ "method": "net.ipmp.Manager.Monitor", "parameters": { "name": name }, "more": true });
    stream.write_all(format!("{call}\0").as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let first = next(&mut stream);
    assert_eq!((&first["continues"], &first["parameters"]["version"]), (&json!(true), &json!(1)));
    assert_eq!(first["parameters"]["event"]["kind"], json!("watching"));
    stream
}

fn of(group: &str, kind: &'static str) -> impl FnOnce(u64) -> EventRecord {
    let group = Some(group.to_owned());
    move |sequence| EventRecord { group, ..EventRecord::new(sequence, kind, Severity::Info, "x".repeat(500)) }
}

#[test]
fn subscribers_receive_events_and_the_last_one_ends_the_stream() {
    let served = Served::start(GROUP);
    let mut all = subscribe(&served, Value::Null);
    // `sample` has the group production0; every name is one of it to this engine but "none0".
    let mut one = subscribe(&served, json!("huge0"));
    served.publisher.publish(of("other0", "joined"));
    served.publisher.publish(of("production0", "left"));
    for (stream, expected) in [(&mut all, &[(1, "joined"), (2, "left")][..]), (&mut one, &[(2, "left")])] {
        for (sequence, kind) in expected {
            let reply = next(stream);
            assert_eq!(reply["continues"], json!(true));
            assert_eq!(reply["parameters"]["event"]["sequence"], json!(sequence));
            assert_eq!(reply["parameters"]["event"]["kind"], json!(kind));
        }
    }
    served.publisher.publish(|sequence| EventRecord { group: None, ..of("", monitor::STOPPED)(sequence) });
    for stream in [&mut all, &mut one] {
        let reply = next(stream);
        assert_eq!(
            (&reply["continues"], &reply["parameters"]["event"]["kind"]),
            (&Value::Null, &json!("stopped"))
        );
    }
    served.stop();
    let mut rest = Vec::new();
    all.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

/// Subscribes to probes, and reads the first reply.
fn subscribe_to_probes(served: &Served, name: Value) -> BufReader<StdStream> {
    let mut stream = served.connect();
    let call = json!({ "method": "net.ipmp.Manager.Probes", "parameters": { "name": name }, "more": true });
    stream.write_all(format!("{call}\0").as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let nothing = json!({ "version": 1, "probe": null, "lost": null });
    assert_eq!(next(&mut stream), json!({ "parameters": nothing, "continues": true }));
    stream
}

#[test]
fn probes_are_created_for_subscribers_only() {
    let mut served = Served::start(GROUP);
    served.probes.publish(|_| panic!("no subscriber"));
    assert!(!served.probes.has_subscribers());
    let mut all = subscribe_to_probes(&served, Value::Null);
    let mut one = subscribe_to_probes(&served, json!("huge0"));
    assert!(served.probes.has_subscribers());
    for (group, number) in [("other0", 1), ("production0", 2)] {
        served.probes.publish(|_| ProbeReport { group: group.into(), number, ..probes::sample() });
    }
    for (stream, numbers) in [(&mut all, &[1, 2][..]), (&mut one, &[2])] {
        for number in numbers {
            let reply = next(stream);
            assert_eq!(reply["parameters"]["probe"]["number"], json!(number));
            assert_eq!(reply["continues"], json!(true));
        }
    }
    // The subscriptions end with the daemon.
    served.probes = Publisher::new(1);
    let last = json!({ "parameters": { "version": 1, "probe": null, "lost": null } });
    assert_eq!(next(&mut all), last);
    assert_eq!(next(&mut one), last);
    served.stop();
}

#[test]
fn slow_subscriber_receives_number_of_lost_probes() {
    let served = Served::start(GROUP);
    let mut stalled = subscribe_to_probes(&served, Value::Null);
    // More than the socket's buffers and the ring hold.
    let count = 20 * probes::CAPACITY as u64;
    for number in 1..=count {
        served.probes.publish(|_| ProbeReport { sent_ns: number, ..probes::sample() });
    }
    let (mut lost, mut last) = (0, 0);
    while last < count {
        let update = next(&mut stalled)["parameters"].take();
        match update["lost"].as_u64() {
            Some(missed) => (lost, last) = (lost + missed, last + missed),
            None => {
                assert_eq!(update["probe"]["sent_ns"], json!(last + 1));
                last += 1;
            }
        }
    }
    assert!(lost > 0 && lost < count, "{lost} of {count} lost");
    served.stop();
}

#[test]
fn stream_without_more_is_refused() {
    let served = Served::start(GROUP);
    let expected = "{\"error\":\"org.varlink.service.ExpectedMore\",\"parameters\":{}}\0";
    let mut stream = served.connect();
    assert_eq!(exchange(&mut stream, b"{\"method\":\"net.ipmp.Manager.Monitor\"}\0"), expected);
    assert_eq!(exchange(&mut stream, b"{\"method\":\"net.ipmp.Manager.Probes\"}\0"), expected);
    // The connection stays usable.
    assert_eq!(exchange(&mut stream, SHOW_NOTHING), NOTHING);
    // A method with a single reply accepts "more".
    let more = b"{\"method\":\"net.ipmp.Manager.Show\",\"parameters\":{\"name\":\"none0\"},\"more\":true}\0";
    assert_eq!(exchange(&mut stream, more), NOTHING);
    served.stop();
}

#[test]
fn unread_subscription_delays_no_other_and_reports_lost_events() {
    let served = Served::start(GROUP);
    let mut stalled = subscribe(&served, Value::Null);
    let mut other = subscribe(&served, Value::Null);
    // More than the socket's buffers and the ring hold: 500 bytes of text alone.
    let count = 3 * monitor::CAPACITY as u64;
    let start = Instant::now();
    for sequence in 1..=count {
        served.publisher.publish(of("production0", "moved"));
        assert_eq!(next(&mut other)["parameters"]["event"]["sequence"], json!(sequence));
    }
    println!("{count} events with one stalled subscriber: {:?}", start.elapsed());
    let (mut lost, mut last) = (0, 0);
    while last < count {
        let event = next(&mut stalled)["parameters"]["event"].take();
        let sequence = event["sequence"].as_u64().unwrap();
        if event["kind"] == "lost" {
            let missed = event["lost"].as_u64().unwrap();
            assert_eq!(last + missed, sequence, "{event}");
            lost += missed;
        } else {
            assert_eq!(last + 1, sequence, "{event}");
        }
        last = sequence;
    }
    assert!(lost > 0 && lost < count, "{lost} of {count} lost");
    served.stop();
}

#[test]
fn closed_subscription_releases_its_place_at_once() {
    let served = Served::start(GROUP);
    let listeners: Vec<_> = (0..MAX_CONNECTIONS).map(|_| subscribe(&served, Value::Null)).collect();
    drop(listeners);
    // The server detects it without an event to send.
    wait_for_a_place(&served);
    served.stop();
}

/// Every verb of the table: reading verbs are answered, changing ones refused with the remedy.
#[test]
fn unprivileged_user_may_call_reading_verbs_only() {
    let served = Served::start("ipmp-no-such-group");
    let mut reading = Vec::new();
    for request in samples() {
        let VerbInfo { method, permission, .. } = request.verb();
        let mut call = serde_json::to_vec(&MethodCall::new(&request)).unwrap();
        call.push(0);
        let Some(reply) = as_user(&served.path(), UNPRIVILEGED, &call) else { break };
        match permission {
            Permission::Read => {
                assert!(reply.starts_with("{\"parameters\":{"), "{method}: {reply}");
                reading.push(method);
            }
            Permission::Change => assert_eq!(
                reply,
                "{\"error\":\"net.ipmp.Manager.NotPermitted\",\"parameters\":{\"message\":\"uid 65534 may read IPMP \
                 groups, not change them: run as root, or join group ipmp-no-such-group and log in again\"}}\0",
                "{method}"
            ),
        }
    }
    if nix::unistd::geteuid().is_root() {
        assert_eq!(
            reading,
            [
                "RecordState",
                "ListTargets",
                "Show",
                "Monitor",
                "Probes",
                "Explain",
                "Path",
                "Simulate",
                "Timeline"
            ]
        );
    }
    served.stop();
}

#[test]
fn members_of_the_group_may_change() {
    let Some(group) = ["games", "users", "daemon"].into_iter().find(|group| gid(group).is_some()) else {
        eprintln!("skipped: the system has none of the groups that every system has");
        return;
    };
    let gid = gid(group).unwrap();
    let served = Served::start(group);
    for user in
        [User { uid: 65534, gid, groups: &[] }, User { uid: 65534, gid: 65534, groups: &[65533, gid] }]
    {
        let call = b"{\"method\":\"net.ipmp.Manager.Online\",\"parameters\":{\"interface\":\"eth0\"}}\0";
        if let Some(reply) = as_user(&served.path(), user, call) {
            assert_eq!(
                reply,
                "{\"parameters\":{\"notes\":[\"Online { interface: \\\"eth0\\\" }\"],\"changed\":true}}\0",
                "{user:?}"
            );
        }
    }
    served.stop();
}

fn gid(group: &str) -> Option<u32> {
    nix::unistd::Group::from_name(group)
        .ok()
        .flatten()
        .map(|group| group.gid.as_raw())
        .filter(|&gid| gid != 0)
}

#[derive(Clone, Copy, Debug)]
struct User<'a> {
    uid: u32,
    gid: u32,
    groups: &'a [u32],
}

const UNPRIVILEGED: User<'static> = User { uid: 65534, gid: 65534, groups: &[] };

#[derive(Debug, Deserialize)]
struct Notes {
    notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Shown {
    version: u32,
    groups: Vec<report::GroupReport>,
}

#[derive(Debug, PartialEq, zlink::ReplyError)]
#[zlink(interface = "net.ipmp.Manager")]
enum ManagerError {
    Refused { reason: String, message: String },
    NotPermitted { message: String },
}

#[zlink::proxy("net.ipmp.Manager")]
trait Manager {
    async fn attach(
        &mut self,
        group: &str,
        interfaces: &[&str],
    ) -> zlink::Result<Result<Notes, ManagerError>>;
    async fn online(&mut self, interface: &str) -> zlink::Result<Result<Notes, ManagerError>>;
    async fn show(&mut self, name: Option<&str>) -> zlink::Result<Result<Shown, ManagerError>>;
}

#[test]
fn zlink_client_interoperates() {
    use zlink::varlink_service::Proxy as _;

    let served = Served::start(GROUP);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = zlink::tokio::unix::connect(served.path()).await.unwrap();
        let info = connection.get_info().await.unwrap().unwrap();
        let interfaces: Vec<String> = info.interfaces.iter().map(ToString::to_string).collect();
        assert_eq!(interfaces, ["org.varlink.service", "net.ipmp.Manager"]);
        for interface in interfaces {
            let description = connection
                .get_interface_description(interface.as_str().try_into().unwrap())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(description.parse().unwrap().name(), interface.as_str());
        }

        let done = connection.attach("g0", &["eth0", "eth1"]).await.unwrap().unwrap();
        assert_eq!(
            done.notes,
            [r#"Attach { group: "g0", interfaces: ["eth0", "eth1"], standby: false, test_addresses: [], dry_run: false, accept_firewall: false }"#]
        );
        let refused = connection.online("slow0").await.unwrap().unwrap_err();
        let (reason, message) = (reason::NOT_A_MEMBER.into(), "slow0 is in no group".into());
        assert_eq!(refused, ManagerError::Refused { reason, message });
        let shown = connection.show(None).await.unwrap().unwrap();
        assert_eq!((shown.version, shown.groups), (report::VERSION, vec![sample()]));
    });
    served.stop();
}

/// The reply to a message of another user; `None`, with the reason printed, without root.
///
/// To the kernel a user is a property of a thread, and a connection has that of the thread that makes it. The calls of
/// the C library would change every thread of the process.
fn as_user(path: &Path, user: User<'_>, message: &[u8]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return None;
    }
    let become_user = move || {
        let check = |result: libc::c_long| assert_eq!(result, 0, "{}", io::Error::last_os_error());
        let User { uid, gid, groups } = user;
        // SAFETY: the length is that of the list; the other two take numbers only.
        check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) });
        // SAFETY: see above.
        check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) });
        // SAFETY: see above.
        check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) });
    };
    thread::scope(|scope| {
        scope
            .spawn(|| {
                become_user();
                let mut stream = StdStream::connect(path).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                Some(exchange(&mut stream, message))
            })
            .join()
            .unwrap()
    })
}
