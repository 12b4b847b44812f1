//! The daemon with the kernel: each test in its own network namespace, with the datapath loaded.

mod probing;
mod settings;

use std::{
    collections::BTreeSet,
    future::Future,
    mem::MaybeUninit,
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{sync::oneshot, time::timeout};

use super::{
    EventLoop,
    migration::{Configuration, Place},
    teardown,
};
use crate::{
    control::{
        GroupReport, LastMember,
        request::{Caller, Refused, Request, Response, Sender, reason},
    },
    datapath,
    link::{Address, GroupInterface, Links, Mac, Route, multicast, show_mac, testing::in_namespace_then},
    types::{GroupState, MemberState},
};

mod joining;
mod migration;
mod test_address;

/// A client.
struct Client(Sender);

impl Client {
    async fn ask(&self, request: Request) -> Result<Response, Refused> {
        let (answer, answered) = oneshot::channel();
        self.0
            .send((request, Caller::default(), answer))
            .await
            .unwrap_or_else(|_| panic!("the daemon has ended"));
        timeout(Duration::from_secs(60), answered).await.expect("no reply in 60 s").expect("no reply")
    }

    async fn done(&self, request: Request) -> Vec<String> {
        match self.ask(request.clone()).await {
            Ok(Response::Done { notes, .. }) => notes.iter().map(ToString::to_string).collect(),
            other => panic!("{request:?}: {other:?}"),
        }
    }

    async fn refused(&self, request: Request) -> Refused {
        match self.ask(request.clone()).await {
            Err(refused) => refused,
            Ok(response) => panic!("{request:?} was not refused: {response:?}"),
        }
    }

    async fn attach(&self, interfaces: &[&str]) -> Vec<String> {
        self.done(attach(interfaces)).await
    }

    async fn show(&self) -> Vec<GroupReport> {
        match self.ask(Request::Show { name: None }).await {
            Ok(Response::Show(groups)) => groups,
            other => panic!("show: {other:?}"),
        }
    }

    /// Waits until the only group fulfils a condition.
    async fn until(&self, what: &str, wanted: impl Fn(&GroupReport) -> bool) -> GroupReport {
        let mut last = None;
        for _ in 0..300 {
            let groups = self.show().await;
            if let [group] = groups.as_slice() {
                if wanted(group) {
                    return group.clone();
                }
                last = Some(group.clone());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what}: not in 6 s, but {last:#?}");
    }
}

fn attach(interfaces: &[&str]) -> Request {
    Request::Attach {
        group: "production0".into(),
        interfaces: interfaces.iter().map(|&name| name.into()).collect(),
        standby: false,
        test_addresses: Vec::new(),
        dry_run: false,
        accept_firewall: false,
    }
}

fn detach(interface: &str, last: Option<LastMember>) -> Request {
    Request::Detach { interface: interface.into(), last }
}

/// Runs a daemon beside the test, as `ipmpd` does, and drops it when the test ends, as if it were killed.
async fn with_daemon<F: Future<Output = ()>>(test: impl FnOnce(Client) -> F) {
    let (daemon, requests) =
        EventLoop::start(String::new(), false, datapath::Interval::default(), None).await.unwrap();
    let mut daemon = std::pin::pin!(daemon.run());
    tokio::select! {
        result = &mut daemon => panic!("the daemon has ended: {result:?}"),
        () = test(Client(requests)) => {}
    }
}

/// A host with two NICs, `eth0` in use: an address of each family, and default routes.
async fn host(links: &Links) {
    links.add_pair("eth0", "sw0").await;
    links.add_pair("eth1", "sw1").await;
    let eth0 = links.need("eth0").await;
    for address in addresses() {
        links.add_address(eth0.ifindex, "eth0", &address).await.unwrap();
    }
    links.add_default_routes(&eth0).await;
}

/// Runs a test on such a host, and cleans up.
fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce(Links) -> F + Send + 'static) {
    let test = |links: Links| async move {
        host(&links).await;
        test(links).await;
    };
    in_namespace_then(test, || async {
        teardown().await.unwrap();
    });
}

fn addresses() -> [Address; 2] {
    [
        Address::new("192.168.178.21".parse().unwrap(), 24),
        Address::new("2001:db8::21".parse().unwrap(), 64).without_detection(),
    ]
}

async fn global(links: &Links, name: &str) -> BTreeSet<(IpAddr, u8)> {
    let device = links.need(name).await;
    let all = links.addresses_of(device.ifindex).unwrap();
    all.into_iter().filter(Address::is_global).map(|address| (address.ip, address.prefix)).collect()
}

async fn routes(links: &Links, name: &str) -> BTreeSet<String> {
    let device = links.need(name).await;
    let all = links.routes();
    all.iter()
        .filter(|route| route.uses(device.ifindex) && !route.is_link_local())
        .map(Route::to_string)
        .collect()
}

fn both() -> BTreeSet<(IpAddr, u8)> {
    addresses().iter().map(|address| (address.ip, address.prefix)).collect()
}

fn settings(interface: &str) -> Vec<String> {
    [
        "ipv4/conf/IF/arp_ignore",
        "ipv4/conf/IF/rp_filter",
        "ipv6/conf/IF/accept_ra",
        "ipv6/conf/IF/addr_gen_mode",
    ]
    .iter()
    .map(|path| std::fs::read_to_string(format!("/proc/sys/net/{}", path.replace("IF", interface))).unwrap())
    .collect()
}

#[test]
fn addresses_and_routes_move_to_group_and_back() {
    on_a_host(|links| async move {
        let before = routes(&links, "eth0").await;
        let group = GroupInterface::create(&links, "production0", "production0", "").await.unwrap();
        let eth0 = links.need("eth0").await;
        let (nic, place) = (Place::from(&eth0), Place { ifindex: group.ifindex, name: "production0" });
        let configuration = Configuration::of(&links, eth0.ifindex).await.unwrap();
        let copied = configuration.copy(&links, nic, place).await.unwrap();
        assert_eq!(global(&links, "eth0").await, both(), "the old interface is cleared too early");
        assert_eq!(global(&links, "production0").await, both());
        configuration.clear(&links, nic, &copied).await.unwrap();
        assert_eq!(global(&links, "eth0").await, BTreeSet::new());
        assert_eq!(routes(&links, "eth0").await, BTreeSet::new());
        assert_eq!(routes(&links, "production0").await, before);

        let back = configuration.copy(&links, place, nic).await.unwrap();
        configuration.clear(&links, place, &back).await.unwrap();
        assert_eq!(global(&links, "eth0").await, both());
        assert_eq!(routes(&links, "eth0").await, before);
        assert_eq!(routes(&links, "production0").await, BTreeSet::new());
    });
}

/// The valid neighbours of an interface, with what `ip` says of their state; IPv6's own ones of multicast groups left out.
fn neighbours(interface: &str) -> BTreeSet<String> {
    let output = Command::new("ip").args(["neighbour", "show", "dev", interface]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn neighbours_move_to_group_and_back_with_static_ones() {
    on_a_host(|links| async move {
        let group = GroupInterface::create(&links, "production0", "production0", "").await.unwrap();
        let eth0 = links.need("eth0").await;
        let (nic, place) = (Place::from(&eth0), Place { ifindex: group.ifindex, name: "production0" });
        for entry in [
            "192.168.178.7 lladdr 02:b0:00:00:00:07 nud reachable",
            "192.168.178.8 lladdr 02:b0:00:00:00:08 nud permanent",
            "fe80::9 lladdr 02:b0:00:00:00:09 nud reachable router",
            "192.168.178.10 nud failed",
        ] {
            let line = format!("neighbour add {entry} dev eth0");
            assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "{line}");
        }
        let configuration = Configuration::of(&links, eth0.ifindex).await.unwrap();
        let copied = configuration.copy(&links, nic, place).await.unwrap();
        configuration.clear(&links, nic, &copied).await.unwrap();
        let expected = [
            "192.168.178.7 lladdr 02:b0:00:00:00:07 STALE",
            "192.168.178.8 lladdr 02:b0:00:00:00:08 PERMANENT",
            "fe80::9 lladdr 02:b0:00:00:00:09 router STALE",
        ];
        assert_eq!(neighbours("production0"), expected.map(str::to_owned).into());
        assert!(!neighbours("eth0").contains(expected[1]), "the static one is in both");

        let back = configuration.copy(&links, place, nic).await.unwrap();
        configuration.clear(&links, place, &back).await.unwrap();
        assert!(neighbours("eth0").contains(expected[1]), "{:?}", neighbours("eth0"));
        assert!(!neighbours("production0").contains(expected[1]));
    });
}

#[test]
fn move_refused_by_kernel_changes_nothing() {
    on_a_host(|links| async move {
        let before = routes(&links, "eth0").await;
        let group = GroupInterface::create(&links, "production0", "production0", "").await.unwrap();
        // The kernel refuses routes through an interface that is down.
        links.set_up(&links.need("production0").await, false).await.unwrap();
        let eth0 = links.need("eth0").await;
        let (nic, place) = (Place::from(&eth0), Place { ifindex: group.ifindex, name: "production0" });
        let configuration = Configuration::of(&links, eth0.ifindex).await.unwrap();
        configuration.copy(&links, nic, place).await.unwrap_err();
        assert_eq!(global(&links, "eth0").await, both());
        assert_eq!(routes(&links, "eth0").await, before);
        assert_eq!(global(&links, "production0").await, BTreeSet::new());
    });
}

/// All members are active, and all addresses have an inbound member: tentative and new ones have none.
fn settled(group: &GroupReport) -> bool {
    group.state == GroupState::Ok
        && group.addresses.iter().all(|address| address.up && address.inbound.is_some())
}

#[test]
fn nic_in_use_is_attached_and_restored_from_last_member() {
    on_a_host(|links| async move {
        let (before, untouched) = (routes(&links, "eth0").await, settings("eth1"));
        with_daemon(|client| async move {
            let notes = client.attach(&["eth0", "eth1"]).await;
            assert!(notes.iter().any(|note| note.contains("did not exist")), "{notes:?}");
            assert_eq!(global(&links, "production0").await, both());
            assert_eq!(routes(&links, "production0").await, before);
            let group = client.until("all are active", settled).await;
            assert!(group.members.iter().all(|member| member.state == MemberState::Ok && member.live));

            client.done(detach("eth1", None)).await;
            assert_eq!(settings("eth1"), untouched);
            assert_eq!(client.refused(detach("eth0", None)).await.reason, reason::LAST_MEMBER);
            client.done(detach("eth0", Some(LastMember::Restore))).await;
            assert_eq!(global(&links, "eth0").await, both());
            assert_eq!(routes(&links, "eth0").await, before);
            assert_eq!(links.device_named("production0").await.unwrap(), None);
            assert_eq!(client.show().await, []);
        })
        .await;
    });
}

#[test]
fn link_failure_and_repair_move_inbound_addresses() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.until("all are active", settled).await;
            let sw0 = links.need("sw0").await;
            links.set_up(&sw0, false).await.unwrap();
            let group =
                client.until("eth0 failed", |group| group.members[0].state == MemberState::Failed).await;
            assert!(
                group.addresses.iter().all(|address| address.inbound.as_deref() == Some("eth1")),
                "{group:#?}"
            );
            assert!(group.members[1].cast);
            links.set_up(&sw0, true).await.unwrap();
            client.until("repaired", |group| group.state == GroupState::Ok).await;
            links.set_up(&sw0, false).await.unwrap();
            links.set_up(&links.need("sw1").await, false).await.unwrap();
            let group = client.until("all failed", |group| group.state == GroupState::Failed).await;
            assert!(group.flags.contains(&"FAILED".to_owned()));
            let interface = links.need("production0").await;
            assert_eq!(interface.link(), crate::types::LinkState::Down, "a failed group has a carrier");
        })
        .await;
    });
}

/// The configuration of all interfaces without their links, which are still settling.
async fn set_up(links: &Links) -> Vec<(String, [u8; 6], u32, Option<u32>)> {
    let devices = links.devices().unwrap();
    devices.into_iter().map(|device| (device.name, device.mac, device.mtu, device.master)).collect()
}

#[test]
fn refused_attach_changes_nothing() {
    on_a_host(|links| async move {
        links.add_bridge("br0").await;
        let (port, _) = links.add_pair("port0", "far0").await;
        links.put_under(&port, &links.need("br0").await).await;
        let before = (set_up(&links).await, global(&links, "eth0").await, routes(&links, "eth0").await);
        with_daemon(|client| async move {
            for (interfaces, word) in [
                (&["eth0", "no-such"][..], reason::NO_SUCH_INTERFACE),
                (&["eth0", "lo"], reason::UNSUITABLE),
                (&["eth0", "port0"], reason::IN_USE),
            ] {
                let refused = client.refused(attach(interfaces)).await;
                assert_eq!(refused.reason, word, "{refused}");
                assert!(
                    refused.message.contains(interfaces[1]) && !refused.message.contains('\n'),
                    "{refused}"
                );
            }
            let after = (set_up(&links).await, global(&links, "eth0").await, routes(&links, "eth0").await);
            assert_eq!(before, after);
            assert_eq!(client.show().await, []);
        })
        .await;
    });
}

#[test]
fn daemon_adopts_group_and_teardown_works_without_daemon() {
    on_a_host(|links| async move {
        let (before, untouched) = (routes(&links, "eth0").await, settings("eth0"));
        with_daemon(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.until("all are active", |group| group.state == GroupState::Ok).await;
        })
        .await;
        // While no daemon runs, a link fails and an address is added.
        links.set_up(&links.need("sw0").await, false).await.unwrap();
        let group = links.need("production0").await;
        let added = Address::new("192.168.178.30".parse().unwrap(), 24);
        links.add_address(group.ifindex, "production0", &added).await.unwrap();
        with_daemon(|client| async move {
            let group = client.until("one is active", |group| group.state == GroupState::Degraded).await;
            assert_eq!(group.members[0].state, MemberState::Failed);
            let found =
                group.addresses.iter().find(|address| address.address == added.ip).expect("the new address");
            assert_eq!(found.inbound.as_deref(), Some("eth1"));
        })
        .await;
        assert_eq!(teardown().await.unwrap(), ["production0"]);
        assert_eq!(global(&links, "eth0").await, both());
        // IPv6 routes exist even without a carrier.
        assert_eq!(routes(&links, "eth0").await, before);
        assert_eq!(settings("eth0"), untouched);
        assert_eq!(links.device_named("production0").await.unwrap(), None);
        assert_eq!(teardown().await.unwrap(), [""; 0]);
    });
}

#[test]
fn deleted_members_and_groups_are_cleaned_up() {
    on_a_host(|links| async move {
        let before = routes(&links, "eth0").await;
        with_daemon(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            let eth1 = links.need("eth1").await;
            links.delete(eth1.ifindex, "eth1").await.unwrap();
            let is_absent = |group: &GroupReport| group.members[1].state == MemberState::Absent;
            client.until("eth1 is absent", is_absent).await;
            // The one that is left is the last one.
            assert_eq!(client.refused(detach("eth0", None)).await.reason, reason::LAST_MEMBER);
            assert_eq!(client.done(detach("eth1", None)).await, [""; 0]);
            client.until("eth1 has left", |group| group.members.len() == 1).await;

            links.add_bridge("br0").await;
            let group = links.need("production0").await;
            links.put_under(&group, &links.need("br0").await).await;
            for _ in 0..100 {
                if links.need("production0").await.master.is_none() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(links.need("production0").await.master, None, "still a bridge port");

            links.delete(group.ifindex, "production0").await.unwrap();
            for _ in 0..100 {
                if client.show().await.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(client.show().await, []);
            assert_eq!(global(&links, "eth0").await, both());
            assert_eq!(routes(&links, "eth0").await, before);
        })
        .await;
    });
}

#[test]
fn an_address_on_the_group_interface_is_a_data_address_at_once() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0"]).await;
            let group = links.need("production0").await;
            let address = Address::new("192.168.178.77".parse().unwrap(), 24);
            links.add_address(group.ifindex, "production0", &address).await.unwrap();
            client
                .until("the address has an inbound member", |group| {
                    group.addresses.iter().any(|known| known.address == address.ip && known.inbound.is_some())
                })
                .await;
            links.delete_address(group.ifindex, "production0", &address).await.unwrap();
            client
                .until("the address is removed", |group| {
                    group.addresses.iter().all(|known| known.address != address.ip)
                })
                .await;
        })
        .await;
    });
}

#[test]
fn daemon_without_groups_leaves_nothing() {
    on_a_host(|links| async move {
        let cookie = datapath::pins::netns_cookie().unwrap();
        let pins = format!("{}/ipmp/v{}/{cookie}", datapath::pins::BPFFS, ipmp_common::LAYOUT);
        with_daemon(|client| async move {
            client.attach(&["eth0"]).await;
            client.done(detach("eth0", Some(LastMember::KeepGroup))).await;
            let group = || "production0".to_owned();
            client
                .done(Request::AddAddress {
                    group: group(),
                    addresses: vec!["192.168.178.9/24".parse().unwrap()],
                    inbound: None,
                    logical: None,
                })
                .await;
            client.done(Request::Destroy { group: group() }).await;
        })
        .await;
        assert_eq!(links.devices().unwrap().len(), 5, "the group interface is left");
        let left: Vec<_> =
            std::fs::read_dir(&pins).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [datapath::pins::SENTINEL], "a killed daemon leaves no more than its sentinel");
        assert!(!std::path::Path::new(&format!("/run/ipmp/{cookie}")).exists());
        teardown().await.unwrap();
        assert!(!std::path::Path::new(&pins).exists());
    });
}

#[test]
fn offline_of_last_member_is_refused_and_mac_change_is_applied() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.until("all are active", |group| group.state == GroupState::Ok).await;
            let offline = |interface: &str| Request::Offline { interface: interface.into() };
            client.done(offline("eth0")).await;
            assert_eq!(client.done(offline("eth0")).await, ["interface eth0 is already offline"]);
            assert_eq!(client.refused(offline("eth1")).await.reason, reason::LAST_FUNCTIONING);
            let online = Request::Online { interface: "eth0".into() };
            client.done(online.clone()).await;
            assert_eq!(client.done(online).await, ["interface eth0 is not offline"]);

            let eth1 = links.need("eth1").await;
            links.set_mac(&eth1, [2, 0, 0, 0, 0, 0x99]).await;
            let group =
                client.until("eth1 has its new MAC", |group| group.members[1].mac.ends_with(":99")).await;
            assert_eq!(group.members[1].state, MemberState::Ok);
            // With the MAC of another member it goes offline.
            links.set_mac(&eth1, links.need("eth0").await.mac).await;
            client.until("eth1 is offline", |group| group.members[1].state == MemberState::Offline).await;
        })
        .await;
    });
}

/// Another MAC of the group interface needs every program of the group anew.
#[test]
fn loop_serves_clients_while_programs_are_loaded() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            let group = links.need("production0").await;
            let mut shares = Vec::new();
            for number in 1..=3 {
                let mac = [2, 0, 0, 0, 9, number];
                let start = Instant::now();
                links.set_mac(&group, mac).await;
                let (mut longest, mut last) = (Duration::ZERO, Instant::now());
                loop {
                    let groups = client.show().await;
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                    if groups[0].mac == show_mac(mac) {
                        break;
                    }
                    assert!(start.elapsed() < Duration::from_secs(60), "{groups:?}");
                    // The thread that loads has normal priority.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                shares.push(longest.as_secs_f64() / start.elapsed().as_secs_f64());
            }
            println!("longest wait for a reply, as a share of the time until the programs were replaced: {shares:.2?}");
            // Where the loop loads them, it is nearly all of it each time.
            assert!(shares.iter().any(|share| *share < 0.5), "{shares:?}");
        })
        .await;
    });
}

/// Multicast groups that the kernel does not join.
const GROUPS: [Mac; 2] = [[0x01, 0, 0x5e, 0x7f, 1, 2], [0x33, 0x33, 0, 0, 0x12, 0x34]];

/// The multicast MACs requested on an interface.
async fn requested(links: &Links, name: &str) -> BTreeSet<Mac> {
    let ifindex = links.need(name).await.ifindex;
    multicast::lists().unwrap().remove(&ifindex).unwrap_or_default().requested
}

/// Waits until exactly these interfaces have a request for a MAC.
async fn wait_requested(links: &Links, mac: Mac, interfaces: &[&str]) {
    let mut found = Vec::new();
    for _ in 0..300 {
        found.clear();
        for name in ["eth0", "eth1"] {
            if requested(links, name).await.contains(&mac) {
                found.push(name);
            }
        }
        if found == interfaces {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{mac:02x?} is requested on {found:?} after 6 s, and not on {interfaces:?}");
}

/// The interfaces with this additional unicast MAC.
fn receivers(mac: Mac) -> Vec<String> {
    let shown = Command::new("bridge").args(["fdb", "show"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let lines = shown.lines().filter(|line| line.starts_with(&show_mac(mac)));
    lines.filter_map(|line| line.split(' ').nth(2).map(str::to_owned)).collect()
}

#[test]
fn members_receive_multicast_of_group_interface() {
    on_a_host(|links| async move {
        let before = [requested(&links, "eth0").await, requested(&links, "eth1").await];
        // A request of the operator stays.
        let eth1 = links.need("eth1").await;
        multicast::accept(eth1.ifindex, GROUPS[1]).unwrap();
        with_daemon(|client| async move {
            client.attach(&["eth0"]).await;
            let group = links.need("production0").await;
            // There are no membership reports for these.
            for mac in GROUPS {
                multicast::accept(group.ifindex, mac).unwrap();
                wait_requested(&links, mac, if mac == GROUPS[1] { &["eth0", "eth1"] } else { &["eth0"] })
                    .await;
            }
            // A later member gets all at once.
            client.attach(&["eth1"]).await;
            assert!(GROUPS.iter().all(|mac| !before[1].contains(mac)));
            let present = requested(&links, "eth1").await;
            assert!(GROUPS.iter().all(|mac| present.contains(mac)), "{present:02x?}");
            // One that another program removes is added again.
            multicast::refuse(eth1.ifindex, GROUPS[0]).unwrap();
            wait_requested(&links, GROUPS[0], &["eth0", "eth1"]).await;
            // Obsolete ones are removed, except for the operator's.
            for mac in GROUPS {
                multicast::refuse(group.ifindex, mac).unwrap();
                wait_requested(&links, mac, if mac == GROUPS[1] { &["eth1"] } else { &[] }).await;
            }
            multicast::accept(group.ifindex, GROUPS[0]).unwrap();
            wait_requested(&links, GROUPS[0], &["eth0", "eth1"]).await;
            client.done(detach("eth0", None)).await;
            assert_eq!(requested(&links, "eth0").await, before[0]);
            client.done(detach("eth1", Some(LastMember::Restore))).await;
            assert_eq!(requested(&links, "eth1").await, BTreeSet::from([GROUPS[1]]));
        })
        .await;
    });
}

#[test]
fn filters_outlive_daemon_and_are_adopted_and_torn_down() {
    on_a_host(|links| async move {
        let before = [requested(&links, "eth0").await, requested(&links, "eth1").await];
        let mine = &links;
        with_daemon(|client| async move {
            let links = mine;
            client.attach(&["eth0", "eth1"]).await;
            client.until("all are active", settled).await;
            let group = links.need("production0").await;
            multicast::accept(group.ifindex, GROUPS[0]).unwrap();
            wait_requested(links, GROUPS[0], &["eth0", "eth1"]).await;
        })
        .await;
        let group = links.need("production0").await;
        let all = requested(&links, "eth0").await;
        assert!(all.contains(&GROUPS[0]), "{all:02x?}");
        // Changes while no daemon runs are found by the next one.
        multicast::refuse(group.ifindex, GROUPS[0]).unwrap();
        multicast::accept(group.ifindex, GROUPS[1]).unwrap();
        with_daemon(|client| async move {
            let links = mine;
            client.until("all are active", settled).await;
            wait_requested(links, GROUPS[0], &[]).await;
            wait_requested(links, GROUPS[1], &["eth0", "eth1"]).await;
        })
        .await;
        assert_eq!(receivers(group.mac).len(), 1);
        teardown().await.unwrap();
        assert_eq!([requested(&links, "eth0").await, requested(&links, "eth1").await], before);
        assert_eq!(receivers(group.mac), [""; 0]);
    });
}

#[test]
fn cast_member_receives_packets_to_group_mac() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.until("all are active", settled).await;
            let group = links.need("production0").await;
            let received_by = |name: &'static str| async move {
                for _ in 0..300 {
                    if receivers(group.mac) == [name] {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                panic!(
                    "the group's MAC is received by {:?} after 6 s, and not by {name}",
                    receivers(group.mac)
                );
            };
            received_by("eth0").await;
            let sw0 = links.need("sw0").await;
            links.set_up(&sw0, false).await.unwrap();
            received_by("eth1").await;
            links.set_up(&sw0, true).await.unwrap();
            client.until("repaired", |group| group.state == GroupState::Ok).await;
            // The role does not move back.
            received_by("eth1").await;
            // Without a usable member the last one keeps the filter.
            for name in ["sw0", "sw1"] {
                links.set_up(&links.need(name).await, false).await.unwrap();
            }
            client.until("all failed", |group| group.state == GroupState::Failed).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(receivers(group.mac).len(), 1);
        })
        .await;
    });
}

/// Waits for an ARP packet of this sender with this hardware address, on any interface of the namespace.
async fn wait_announced(ear: &Socket, address: [u8; 4], mac: Mac) {
    for _ in 0..600 {
        let mut frame = [MaybeUninit::uninit(); 64];
        match ear.recv(&mut frame) {
            Ok(length) => {
                // SAFETY: the kernel has written this many bytes.
                let frame: Vec<u8> =
                    frame[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
                if frame.len() >= 42 && frame[22..28] == mac && frame[28..32] == address {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{address:?} was not announced with {}", show_mac(mac));
}

#[test]
fn group_of_one_follows_mtu_and_mac_of_member() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0"]).await;
            let group = client.until("it is active", settled).await;
            assert!(group.members[0].cast && group.members[0].state == MemberState::Ok);
            let eth0 = links.need("eth0").await;
            for mtu in [1400, 1500] {
                links.set_mtu(eth0.ifindex, "eth0", mtu).await.unwrap();
                client.until("the MTU is applied", |group| group.mtu == mtu).await;
                assert_eq!(links.need("production0").await.mtu, mtu);
            }
            let protocol = Protocol::from(libc::c_int::from((libc::ETH_P_ARP as u16).to_be()));
            let ear = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap();
            ear.set_nonblocking(true).unwrap();
            let mac = [2, 0, 0, 0, 0, 0x99];
            links.set_mac(&eth0, mac).await;
            wait_announced(&ear, [192, 168, 178, 21], mac).await;
        })
        .await;
    });
}
