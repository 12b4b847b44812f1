//! Settings: from the request to the state machine, and across restarts.

use std::path::PathBuf;

use ipmp_common::{maps, steer::MemberSet};

use super::*;
use crate::{
    control::Setting,
    core::{self},
    daemon::{
        events::trigger::Trigger,
        group::actions,
        operations::{execute, target},
    },
    types::{Failback, MemberState, ProbePolicy, TargetSource, TargetStatus},
};

async fn start(config: Option<PathBuf>) -> EventLoop {
    EventLoop::start(String::new(), false, datapath::Interval::default(), config).await.unwrap().0
}

fn set(name: &str, settings: &[&str]) -> Request {
    let settings = settings.iter().map(|text| text.parse::<Setting>().unwrap()).collect();
    Request::Set { name: name.into(), settings }
}

fn group() -> String {
    "production0".into()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn done(daemon: &mut EventLoop, request: Request) -> Vec<String> {
    match execute(&mut daemon.manager, &Trigger::default(), request.clone()).await {
        Ok(Response::Done { notes, .. }) => notes,
        other => panic!("{request:?}: {other:?}"),
    }
}

async fn refusal(daemon: &mut EventLoop, request: Request) -> Refused {
    execute(&mut daemon.manager, &Trigger::default(), request).await.unwrap_err()
}

async fn feed(daemon: &mut EventLoop, event: core::Input) {
    let trigger = Trigger::default();
    let (group, mut context) = daemon.manager.group("production0", &trigger).unwrap();
    actions::tell(group, &mut context, event).await;
}

fn core_of(daemon: &EventLoop) -> &core::Group {
    &daemon.manager.groups["production0"].core
}

/// A file of defaults in a directory of its own.
struct Config(tempfile::TempDir);

impl Config {
    fn new(text: &str) -> Self {
        let config = Self(tempfile::tempdir().unwrap());
        config.write(text);
        config
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mpathd")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }
}

#[test]
fn settings_reach_state_machine_and_outlive_daemon() {
    on_a_host(|_| async move {
        let config = Config::new("FAILURE_DETECTION_TIME=3000\nFAILBACK=no\n");
        let mut daemon = start(Some(config.path())).await;
        done(&mut daemon, attach(&["eth0", "eth1"])).await;
        let defaults = core::Settings {
            fdt: Duration::from_secs(3),
            failback: Failback::No,
            ..core::Settings::default()
        };
        assert_eq!(*core_of(&daemon).settings(), defaults);

        let notes =
            done(&mut daemon, set("production0", &["fdt=50ms", "failback=yes", "fail-open=no"])).await;
        assert_eq!(
            notes,
            [
                "Failure detection time of 50 ms in group production0 sends up to 200 probes per second to each target"
            ]
        );
        let wanted = core::Settings {
            fdt: Duration::from_millis(50),
            failback: Failback::Yes,
            fail_open: false,
            ..core::Settings::default()
        };
        assert_eq!(*core_of(&daemon).settings(), wanted);
        let notes = done(&mut daemon, set("production0", &["targets=192.168.178.1,192.168.178.2"])).await;
        assert_eq!(
            notes,
            ["no member probes 192.168.178.1, 192.168.178.2 yet: \
                 give members test addresses in the same subnet (`ipmpctl test-address add`), or \
                 probe without any by `ipmpctl set production0 probe=arp`"]
        );
        assert_eq!(done(&mut daemon, set("production0", &["probe=arp"])).await, [""; 0]);
        let targets = ips(&["192.168.178.2"]);
        done(&mut daemon, Request::DisableTarget { group: group(), addresses: targets }).await;
        done(&mut daemon, set("eth1", &["standby=on"])).await;

        let same = |daemon: &EventLoop| {
            let core = core_of(daemon);
            assert_eq!(*core.settings(), core::Settings { probe: ProbePolicy::Arp, ..wanted });
            assert_eq!(core.known_targets().explicit, ips(&["192.168.178.1"]));
            assert_eq!(core.known_targets().disabled, ips(&["192.168.178.2"]));
            assert!(core.member_named("eth1").unwrap().standby());
            assert!(!core.member_named("eth0").unwrap().standby());
            let listed = target::list(&daemon.manager, "production0").unwrap();
            let chosen = |at: usize| -> Vec<_> {
                listed[at].members.iter().map(|prober| (prober.member.as_str(), prober.status)).collect()
            };
            assert_eq!(chosen(0), [("eth0", TargetStatus::Active), ("eth1", TargetStatus::Active)]);
            assert_eq!((listed[1].enabled, listed[1].source), (false, TargetSource::Explicit));
            assert_eq!((chosen(1), listed.len()), (vec![], 2));
        };
        same(&daemon);
        // As if it were killed.
        drop(daemon);
        let mut daemon = start(Some(config.path())).await;
        same(&daemon);

        let targets = ips(&["192.168.178.2"]);
        done(&mut daemon, Request::EnableTarget { group: group(), addresses: targets }).await;
        let targets = ips(&["192.168.178.1"]);
        done(&mut daemon, Request::RemoveTarget { group: group(), addresses: targets }).await;
        done(&mut daemon, set("eth1", &["standby=off"])).await;
        assert_eq!(core_of(&daemon).known_targets().explicit, ips(&["192.168.178.2"]));
        assert!(core_of(&daemon).known_targets().disabled.is_empty());
        assert!(!core_of(&daemon).member_named("eth1").unwrap().standby());
    });
}

#[test]
fn invalid_targets_are_refused_without_change() {
    on_a_host(|_| async move {
        let mut daemon = start(None).await;
        done(&mut daemon, attach(&["eth0", "eth1"])).await;
        let add = |addresses: &[&str]| Request::AddTarget { group: group(), addresses: ips(addresses) };
        done(&mut daemon, add(&["192.168.178.1"])).await;
        let of = |change: fn(String, Vec<IpAddr>) -> Request, address| change(group(), ips(&[address]));
        let disable = |group, addresses| Request::DisableTarget { group, addresses };
        let remove = |group, addresses| Request::RemoveTarget { group, addresses };
        for (request, reason, line) in [
            (
                add(&["192.168.178.2", "192.168.178.21"]),
                reason::BAD_TARGET,
                "192.168.178.21 is this host's own address, on production0: name another host",
            ),
            (
                add(&["10.0.0.1"]),
                reason::BAD_TARGET,
                "10.0.0.1 is not on the link of production0, which reaches 192.168.178.0/24: name a host there, or \
                 give production0 or its members addresses of that subnet first",
            ),
            (
                add(&["192.168.178.255"]),
                reason::BAD_TARGET,
                "192.168.178.255/24 is the broadcast address of its network: give it an address of a host",
            ),
            (
                of(disable, "192.168.178.9"),
                reason::NO_SUCH_TARGET,
                "192.168.178.9 is no target of production0; `ipmpctl target list --group production0` lists all",
            ),
            (
                Request::DiscoverTargets { group: group() },
                reason::NO_TEST_ADDRESS,
                "no member of production0 has a test address to search for targets from: \
                 give members test addresses (`ipmpctl test-address add`), or \
                 name targets with `ipmpctl target add`",
            ),
            (
                set("production0", &["fdt=1s", "targets=10.0.0.1"]),
                reason::BAD_TARGET,
                "10.0.0.1 is not on the link of production0, which reaches 192.168.178.0/24: name a host there, or \
                 give production0 or its members addresses of that subnet first",
            ),
            (
                Request::ListTargets { group: "other0".into() },
                reason::NO_SUCH_GROUP,
                "there is no group other0; `ipmpctl show` lists those that exist",
            ),
        ] {
            let before = (daemon.manager.file.state.clone(), *core_of(&daemon).settings());
            let refused = refusal(&mut daemon, request.clone()).await;
            assert_eq!((refused.reason, refused.message.as_str()), (reason, line), "{request:?}");
            assert_eq!(
                (daemon.manager.file.state.clone(), *core_of(&daemon).settings()),
                before,
                "{request:?}"
            );
        }
        // A router is discovered, not explicit. The loop that reads routes does not run here.
        let router = ips(&["192.168.178.3"]);
        let family = crate::types::Family::V4;
        let routes = core::Input::Routes { family, hosts: vec![], routers: router.clone(), default: None };
        feed(&mut daemon, routes).await;
        for request in [of(disable, "192.168.178.3"), of(remove, "192.168.178.3")] {
            assert_eq!(
                refusal(&mut daemon, request).await.message,
                "192.168.178.3 was not added to the targets of production0, but discovered (it is a router); add it first \
                 (`ipmpctl target add`)"
            );
        }
        // Hosts that replied are marked, whatever their source.
        feed(&mut daemon, core::Input::Host(router[0])).await;
        let listed = target::list(&daemon.manager, "production0").unwrap();
        let answered = listed.iter().filter(|target| target.answered);
        assert_eq!(answered.map(|target| target.address).collect::<Vec<_>>(), router);
        let listed: Vec<_> = listed.iter().map(|target| (target.address, target.source)).collect();
        assert_eq!(
            listed[..2],
            [(ips(&["192.168.178.1"])[0], TargetSource::Explicit), (router[0], TargetSource::Router)]
        );
    });
}

#[test]
fn standby_is_inactive_from_start_and_after_restart() {
    on_a_host(|_| async move {
        let is_inactive = |group: &GroupReport| {
            let is = |name: &str, active: bool| {
                let mut members = group.members.iter();
                members.any(|member| {
                    member.name == name && member.state == MemberState::Ok && member.active == active
                })
            };
            is("eth0", true) && is("eth1", false)
        };
        with_daemon(|client| async move {
            client.attach(&["eth0"]).await;
            let standby = Request::Attach {
                group: group(),
                interfaces: vec!["eth1".into()],
                standby: true,
                test_addresses: vec![],
                dry_run: false,
                accept_firewall: false,
            };
            client.done(standby).await;
            client.until("eth1 is inactive", is_inactive).await;
        })
        .await;
        with_daemon(|client| async move {
            client.until("eth1 is inactive after a restart", is_inactive).await;
            client.done(set("eth1", &["standby=off"])).await;
            client.until("both are active", |group| group.members.iter().all(|member| member.active)).await;
        })
        .await;
    });
}

/// Restart, new settings and a reload say nothing about reachability.
#[test]
fn probe_failure_outlives_restart_settings_and_reload() {
    on_a_host(|_| async move {
        let config = Config::new("FAILURE_DETECTION_TIME=20000\n");
        with_daemon(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.done(set("production0", &["probe=arp", "targets=192.168.178.1"])).await;
            client.until("both are live", |group| group.members.iter().all(|member| member.live)).await;
        })
        .await;
        // The maps after a probe failure of eth0.
        let mut daemon = start(None).await;
        let datapath = &mut daemon.manager.groups.get_mut("production0").unwrap().datapath;
        datapath.set_state(0, maps::MemberStatus::Failed).unwrap();
        datapath.set_usable(MemberSet::of(1));
        datapath.set_reserve(MemberSet::of(0));
        drop(daemon);

        let path = config.path();
        let (daemon, requests) =
            EventLoop::start(String::new(), false, datapath::Interval::default(), Some(path)).await.unwrap();
        assert!(core_of(&daemon).member_named("eth0").unwrap().probes_failed());
        let (mut events, _) = daemon.feeds().events.subscribe().unwrap();
        let test = async {
            let client = Client(requests);
            let failed = |group: &GroupReport| {
                let [eth0, eth1] = group.members.as_slice() else { panic!("{group:?}") };
                eth0.state == MemberState::Failed && eth0.live && !eth0.usable && eth1.usable
            };
            client.until("eth0 has failed", failed).await;
            client.done(set("production0", &["failback=no"])).await;
            config.write("FAILURE_DETECTION_TIME=5\nFAILBACK=yes\n");
            nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGHUP).unwrap();
            let mut logged = Vec::new();
            while !logged
                .iter()
                .any(|line| line == "Too small failure detection time of 5, assuming minimum of 100 ms")
            {
                let event = timeout(Duration::from_secs(20), events.recv()).await.expect("a line").unwrap();
                logged.push(event.message.clone());
            }
            assert!(logged.contains(&"SIGHUP: restart and reread config file".to_owned()), "{logged:?}");
            let group = client.show().await.remove(0);
            assert!(failed(&group), "{group:#?}");
            assert!(!logged.iter().any(|line| line.contains("repair")), "{logged:?}");
        };
        {
            let mut daemon = std::pin::pin!(daemon.run());
            tokio::select! {
                result = &mut daemon => panic!("the daemon has ended: {result:?}"),
                () = test => {}
            }
        }
        let daemon = start(None).await;
        assert!(core_of(&daemon).member_named("eth0").unwrap().probes_failed());
    });
}
