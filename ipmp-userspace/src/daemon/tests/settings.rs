//! What an operator sets, from the request to the state machine, and through the end of a daemon.

use std::path::PathBuf;

use ipmp_common::{maps, steer::MemberSet};

use super::*;
use crate::{
    control::Setting,
    core::{self},
    types::{MemberState, ProbePolicy, TargetSource, TargetStatus},
};

async fn start(config: Option<PathBuf>) -> Engine {
    Engine::start(String::new(), false, datapath::Interval::default(), config).await.unwrap().0
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

async fn done(engine: &mut Engine, request: Request) -> Vec<String> {
    match engine.request(request.clone()).await {
        Ok(Response::Done(notes)) => notes,
        other => panic!("{request:?}: {other:?}"),
    }
}

fn core_of(engine: &Engine) -> &core::Group {
    &engine.groups["production0"].core
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
fn what_is_set_reaches_the_core_and_outlives_the_daemon() {
    on_a_host(|_| async move {
        let config = Config::new("FAILURE_DETECTION_TIME=3000\nFAILBACK=no\n");
        let mut engine = start(Some(config.path())).await;
        done(&mut engine, attach(&["eth0", "eth1"])).await;
        let defaults =
            core::Settings { fdt: Duration::from_secs(3), failback: false, ..core::Settings::default() };
        assert_eq!(*core_of(&engine).settings(), defaults);

        let notes =
            done(&mut engine, set("production0", &["fdt=50ms", "failback=yes", "fail-open=no"])).await;
        assert_eq!(
            notes,
            [
                "A failure detection time of 50 ms in group production0 means up to 200 probes a second for each target"
            ]
        );
        let wanted = core::Settings {
            fdt: Duration::from_millis(50),
            failback: true,
            fail_open: false,
            ..core::Settings::default()
        };
        assert_eq!(*core_of(&engine).settings(), wanted);
        let notes = done(&mut engine, set("production0", &["targets=192.168.178.1,192.168.178.2"])).await;
        assert_eq!(
            notes,
            ["no member probes 192.168.178.1, 192.168.178.2 yet: \
                 give members test addresses in the same subnet (`ipmpctl test-address add`), or \
                 probe without any by `ipmpctl set production0 probe=arp`"]
        );
        assert_eq!(done(&mut engine, set("production0", &["probe=arp"])).await, [""; 0]);
        let targets = ips(&["192.168.178.2"]);
        done(&mut engine, Request::DisableTarget { group: group(), addresses: targets }).await;
        done(&mut engine, set("eth1", &["standby=on"])).await;

        let same = |engine: &Engine| {
            let core = core_of(engine);
            assert_eq!(*core.settings(), core::Settings { probe: ProbePolicy::Arp, ..wanted });
            assert_eq!(core.known_targets().explicit, ips(&["192.168.178.1"]));
            assert_eq!(core.known_targets().disabled, ips(&["192.168.178.2"]));
            assert!(core.member_named("eth1").unwrap().standby());
            assert!(!core.member_named("eth0").unwrap().standby());
            let listed = engine.list_targets("production0").unwrap();
            let chosen = |at: usize| -> Vec<_> {
                listed[at].members.iter().map(|prober| (prober.member.as_str(), prober.status)).collect()
            };
            assert_eq!(chosen(0), [("eth0", TargetStatus::Active), ("eth1", TargetStatus::Active)]);
            assert_eq!((listed[1].enabled, listed[1].source), (false, TargetSource::Explicit));
            assert_eq!((chosen(1), listed.len()), (vec![], 2));
        };
        same(&engine);
        // As if it were killed.
        drop(engine);
        let mut engine = start(Some(config.path())).await;
        same(&engine);

        let targets = ips(&["192.168.178.2"]);
        done(&mut engine, Request::EnableTarget { group: group(), addresses: targets }).await;
        let targets = ips(&["192.168.178.1"]);
        done(&mut engine, Request::RemoveTarget { group: group(), addresses: targets }).await;
        done(&mut engine, set("eth1", &["standby=off"])).await;
        assert_eq!(core_of(&engine).known_targets().explicit, ips(&["192.168.178.2"]));
        assert!(core_of(&engine).known_targets().disabled.is_empty());
        assert!(!core_of(&engine).member_named("eth1").unwrap().standby());
    });
}

#[test]
fn targets_that_cannot_be_are_refused_and_nothing_changes() {
    on_a_host(|_| async move {
        let mut engine = start(None).await;
        done(&mut engine, attach(&["eth0", "eth1"])).await;
        let add = |addresses: &[&str]| Request::AddTarget { group: group(), addresses: ips(addresses) };
        done(&mut engine, add(&["192.168.178.1"])).await;
        let of = |wish: fn(String, Vec<IpAddr>) -> Request, address| wish(group(), ips(&[address]));
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
                add(&["192.168.178.1"]),
                reason::TARGET_EXISTS,
                "192.168.178.1 is a target of production0 already; `ipmpctl target list --group production0` lists all",
            ),
            (
                of(remove, "192.168.178.9"),
                reason::NO_SUCH_TARGET,
                "192.168.178.9 is no target of production0; `ipmpctl target list --group production0` lists all",
            ),
            (
                Request::DiscoverTargets { group: group() },
                reason::NO_TEST_ADDRESS,
                "no member of production0 has a test address to look for hosts from: \
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
            let before = (engine.file.state.clone(), *core_of(&engine).settings());
            let refused = engine.request(request.clone()).await.unwrap_err();
            assert_eq!((refused.reason, refused.message.as_str()), (reason, line), "{request:?}");
            assert_eq!((engine.file.state.clone(), *core_of(&engine).settings()), before, "{request:?}");
        }
        // The router of the default route was found, not named; the loop that reads routes does not run here.
        let router = ips(&["192.168.178.3"]);
        let (groups, mut hands) = engine.with_hands();
        let family = crate::types::Family::V4;
        let routes = core::Input::Routes { family, hosts: vec![], routers: router.clone() };
        groups.get_mut("production0").unwrap().tell(&mut hands, routes).await;
        let refused = engine.request(of(disable, "192.168.178.3")).await.unwrap_err();
        assert_eq!(
            refused.message,
            "192.168.178.3 was not added to the targets of production0, but found: it is a router; add it first, and it \
             is yours to change"
        );
        // Hosts that answer are told apart, wherever else they come from.
        let (groups, mut hands) = engine.with_hands();
        groups.get_mut("production0").unwrap().tell(&mut hands, core::Input::Host(router[0])).await;
        let listed = engine.list_targets("production0").unwrap();
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
fn a_standby_rests_from_the_start_and_after_a_restart() {
    on_a_host(|_| async move {
        let rests = |group: &GroupReport| {
            let is = |name: &str, active: bool| {
                let mut members = group.members.iter();
                members.any(|member| {
                    member.name == name && member.state == MemberState::Ok && member.active == active
                })
            };
            is("eth0", true) && is("eth1", false)
        };
        with_engine(|client| async move {
            client.attach(&["eth0"]).await;
            let standby = Request::Attach {
                group: group(),
                interfaces: vec!["eth1".into()],
                standby: true,
                test_addresses: vec![],
            };
            client.done(standby).await;
            client.until("eth1 rests", rests).await;
        })
        .await;
        with_engine(|client| async move {
            client.until("eth1 rests after a restart", rests).await;
            client.done(set("eth1", &["standby=off"])).await;
            client.until("both carry", |group| group.members.iter().all(|member| member.active)).await;
        })
        .await;
    });
}

/// A member that has failed by its probes stays so: a new daemon, new settings and a file that is read again disprove
/// nothing.
#[test]
fn a_verdict_outlives_restarts_settings_and_hangups() {
    on_a_host(|_| async move {
        let config = Config::new("FAILURE_DETECTION_TIME=20000\n");
        with_engine(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.done(set("production0", &["probe=arp", "targets=192.168.178.1"])).await;
            client.until("both are live", |group| group.members.iter().all(|member| member.live)).await;
        })
        .await;
        // What a daemon leaves that has found eth0 failed behind its link.
        let mut engine = start(None).await;
        let datapath = &mut engine.groups.get_mut("production0").unwrap().datapath;
        datapath.set_state(0, maps::MemberStatus::Failed).unwrap();
        datapath.set_usable(MemberSet::of(1));
        datapath.set_reserve(MemberSet::of(0));
        drop(engine);

        let path = config.path();
        let (engine, requests) =
            Engine::start(String::new(), false, datapath::Interval::default(), Some(path)).await.unwrap();
        assert!(core_of(&engine).member_named("eth0").unwrap().probes_failed());
        let (mut events, _) = engine.feeds().events.listen().unwrap();
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
            let mut said = Vec::new();
            while !said
                .iter()
                .any(|line| line == "Too small failure detection time of 5, assuming minimum of 100 ms")
            {
                let event = timeout(Duration::from_secs(20), events.recv()).await.expect("a line").unwrap();
                said.push(event.message.clone());
            }
            assert!(said.contains(&"SIGHUP: restart and reread config file".to_owned()), "{said:?}");
            let group = client.show().await.remove(0);
            assert!(failed(&group), "{group:#?}");
            assert!(!said.iter().any(|line| line.contains("repair")), "{said:?}");
        };
        {
            let mut engine = std::pin::pin!(engine.run());
            tokio::select! {
                result = &mut engine => panic!("the engine has ended: {result:?}"),
                () = test => {}
            }
        }
        let engine = start(None).await;
        assert!(core_of(&engine).member_named("eth0").unwrap().probes_failed());
    });
}
