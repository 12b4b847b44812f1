//! The daemon against a kernel: each test in a network namespace of its own, with the real datapath.

mod probing;
mod settings;

use std::{collections::BTreeSet, future::Future, mem::MaybeUninit, net::IpAddr, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{sync::oneshot, time::timeout};

use crate::daemon::{
    Engine,
    migration::{Configuration, Place},
    teardown,
};
use crate::{
    control::{
        GroupReport, Last,
        request::{Caller, Refused, Request, Response, Sender, reason},
    },
    datapath,
    link::{Address, GroupInterface, Links, Mac, Route, multicast, show_mac, testing::in_namespace_then},
    types::{GroupState, MemberState},
};

mod test_address;

/// What a client does.
struct Client(Sender);

impl Client {
    async fn ask(&self, request: Request) -> Result<Response, Refused> {
        let (answer, answered) = oneshot::channel();
        self.0
            .send((request, Caller::default(), answer))
            .await
            .unwrap_or_else(|_| panic!("the engine has ended"));
        timeout(Duration::from_secs(60), answered).await.expect("no answer in 60 s").expect("no answer")
    }

    async fn done(&self, request: Request) -> Vec<String> {
        match self.ask(request.clone()).await {
            Ok(Response::Done(notes)) => notes.iter().map(ToString::to_string).collect(),
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

    /// Waits until the only group is as it should be.
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
    }
}

fn detach(interface: &str, last: Option<Last>) -> Request {
    Request::Detach { interface: interface.into(), last }
}

/// Runs an engine beside the test, as `ipmpd` does, and drops it when the test ends: as if it were killed.
async fn with_engine<F: Future<Output = ()>>(test: impl FnOnce(Client) -> F) {
    let (engine, requests) =
        Engine::start(String::new(), false, datapath::Interval::default(), None).await.unwrap();
    let mut engine = std::pin::pin!(engine.run());
    tokio::select! {
        result = &mut engine => panic!("the engine has ended: {result:?}"),
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

/// Runs a test on such a host, and leaves nothing behind.
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
    let all = links.addresses_of(device.ifindex).await.unwrap();
    all.into_iter().filter(Address::is_global).map(|address| (address.ip, address.prefix)).collect()
}

async fn routes(links: &Links, name: &str) -> BTreeSet<String> {
    let device = links.need(name).await;
    let all = links.routes().await.unwrap();
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
fn addresses_and_routes_move_there_and_back() {
    on_a_host(|links| async move {
        let before = routes(&links, "eth0").await;
        let group = GroupInterface::create(&links, "production0", "production0", "").await.unwrap();
        let eth0 = links.need("eth0").await;
        let (nic, place) = (Place::from(&eth0), Place { ifindex: group.ifindex, name: "production0" });
        let configuration = Configuration::of(&links, eth0.ifindex).await.unwrap();
        let furnished = configuration.furnish(&links, nic, place).await.unwrap();
        assert_eq!(global(&links, "eth0").await, both(), "the old place is cleared too early");
        assert_eq!(global(&links, "production0").await, both());
        configuration.clear(&links, nic, &furnished).await.unwrap();
        assert_eq!(global(&links, "eth0").await, BTreeSet::new());
        assert_eq!(routes(&links, "eth0").await, BTreeSet::new());
        assert_eq!(routes(&links, "production0").await, before);

        let back = configuration.furnish(&links, place, nic).await.unwrap();
        configuration.clear(&links, place, &back).await.unwrap();
        assert_eq!(global(&links, "eth0").await, both());
        assert_eq!(routes(&links, "eth0").await, before);
        assert_eq!(routes(&links, "production0").await, BTreeSet::new());
    });
}

#[test]
fn a_move_that_the_kernel_refuses_changes_nothing() {
    on_a_host(|links| async move {
        let before = routes(&links, "eth0").await;
        let group = GroupInterface::create(&links, "production0", "production0", "").await.unwrap();
        // A route can only lead through an interface that is up.
        links.set_up(&links.need("production0").await, false).await.unwrap();
        let eth0 = links.need("eth0").await;
        let (nic, place) = (Place::from(&eth0), Place { ifindex: group.ifindex, name: "production0" });
        let configuration = Configuration::of(&links, eth0.ifindex).await.unwrap();
        configuration.furnish(&links, nic, place).await.unwrap_err();
        assert_eq!(global(&links, "eth0").await, both());
        assert_eq!(routes(&links, "eth0").await, before);
        assert_eq!(global(&links, "production0").await, BTreeSet::new());
    });
}

/// Every member carries, and every address is answered for: one that is still tentative is not, nor is one that the
/// kernel has made just now.
fn settled(group: &GroupReport) -> bool {
    group.state == GroupState::Ok
        && group.addresses.iter().all(|address| address.up && address.inbound.is_some())
}

#[test]
fn a_nic_in_use_is_attached_and_the_last_gets_everything_back() {
    on_a_host(|links| async move {
        let (before, untouched) = (routes(&links, "eth0").await, settings("eth1"));
        with_engine(|client| async move {
            let notes = client.attach(&["eth0", "eth1"]).await;
            assert!(notes.iter().any(|note| note.contains("did not exist")), "{notes:?}");
            assert_eq!(global(&links, "production0").await, both());
            assert_eq!(routes(&links, "production0").await, before);
            let group = client.until("all carry", settled).await;
            assert!(group.members.iter().all(|member| member.state == MemberState::Ok && member.live));

            client.done(detach("eth1", None)).await;
            assert_eq!(settings("eth1"), untouched);
            assert_eq!(client.refused(detach("eth0", None)).await.reason, reason::LAST_MEMBER);
            client.done(detach("eth0", Some(Last::Restore))).await;
            assert_eq!(global(&links, "eth0").await, both());
            assert_eq!(routes(&links, "eth0").await, before);
            assert_eq!(links.device_named("production0").await.unwrap(), None);
            assert_eq!(client.show().await, []);
        })
        .await;
    });
}

#[test]
fn a_link_that_goes_and_comes_moves_what_it_answered_for() {
    on_a_host(|links| async move {
        with_engine(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.until("all carry", settled).await;
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
            assert_eq!(interface.link(), crate::types::LinkState::Down, "a dead group has a carrier");
        })
        .await;
    });
}

/// The interfaces as somebody has set them up; their links still settle.
async fn set_up(links: &Links) -> Vec<(String, [u8; 6], u32, Option<u32>)> {
    let devices = links.devices().await.unwrap();
    devices.into_iter().map(|device| (device.name, device.mac, device.mtu, device.master)).collect()
}

#[test]
fn whatever_is_refused_changes_nothing() {
    on_a_host(|links| async move {
        links.add_bridge("br0").await;
        let (port, _) = links.add_pair("port0", "far0").await;
        links.put_under(&port, &links.need("br0").await).await;
        let before = (set_up(&links).await, global(&links, "eth0").await, routes(&links, "eth0").await);
        with_engine(|client| async move {
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
fn a_daemon_takes_over_and_a_teardown_needs_none() {
    on_a_host(|links| async move {
        let (before, untouched) = (routes(&links, "eth0").await, settings("eth0"));
        with_engine(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.until("all carry", |group| group.state == GroupState::Ok).await;
        })
        .await;
        // While nobody looks, a cable is pulled and an address is added.
        links.set_up(&links.need("sw0").await, false).await.unwrap();
        let group = links.need("production0").await;
        let added = Address::new("192.168.178.30".parse().unwrap(), 24);
        links.add_address(group.ifindex, "production0", &added).await.unwrap();
        with_engine(|client| async move {
            let group = client.until("one carries", |group| group.state == GroupState::Degraded).await;
            assert_eq!(group.members[0].state, MemberState::Failed);
            let found =
                group.addresses.iter().find(|address| address.address == added.ip).expect("the new address");
            assert_eq!(found.inbound.as_deref(), Some("eth1"));
        })
        .await;
        assert_eq!(teardown().await.unwrap(), ["production0"]);
        assert_eq!(global(&links, "eth0").await, both());
        // Without a carrier IPv6 routes are there all the same.
        assert_eq!(routes(&links, "eth0").await, before);
        assert_eq!(settings("eth0"), untouched);
        assert_eq!(links.device_named("production0").await.unwrap(), None);
        assert_eq!(teardown().await.unwrap(), [""; 0]);
    });
}

#[test]
fn members_and_groups_that_vanish_are_let_go() {
    on_a_host(|links| async move {
        let before = routes(&links, "eth0").await;
        with_engine(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            let eth1 = links.need("eth1").await;
            links.delete(eth1.ifindex, "eth1").await.unwrap();
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
        with_engine(|client| async move {
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
                .until("the address is forgotten", |group| {
                    group.addresses.iter().all(|known| known.address != address.ip)
                })
                .await;
        })
        .await;
    });
}

#[test]
fn a_daemon_that_ends_without_groups_leaves_nothing() {
    on_a_host(|links| async move {
        let cookie = datapath::pins::netns_cookie().unwrap();
        let pins = format!("{}/ipmp/v{}/{cookie}", datapath::pins::BPFFS, ipmp_common::LAYOUT);
        with_engine(|client| async move {
            client.attach(&["eth0"]).await;
            client.done(detach("eth0", Some(Last::KeepGroup))).await;
            let group = || "production0".to_owned();
            client
                .done(Request::AddAddress {
                    group: group(),
                    addresses: vec!["192.168.178.9/24".parse().unwrap()],
                })
                .await;
            client.done(Request::Destroy { group: group() }).await;
        })
        .await;
        assert_eq!(links.devices().await.unwrap().len(), 5, "the group interface is left");
        let left: Vec<_> =
            std::fs::read_dir(&pins).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, [datapath::pins::SENTINEL], "a killed daemon leaves no more than its sentinel");
        assert!(!std::path::Path::new(&format!("/run/ipmp/{cookie}")).exists());
        teardown().await.unwrap();
        assert!(!std::path::Path::new(&pins).exists());
    });
}

#[test]
fn offline_is_refused_for_the_last_and_a_new_mac_is_announced() {
    on_a_host(|links| async move {
        with_engine(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.until("all carry", |group| group.state == GroupState::Ok).await;
            let offline = |interface: &str| Request::Offline { interface: interface.into() };
            client.done(offline("eth0")).await;
            assert_eq!(client.refused(offline("eth0")).await.reason, reason::ALREADY_OFFLINE);
            assert_eq!(client.refused(offline("eth1")).await.reason, reason::LAST_FUNCTIONING);
            let online = Request::Online { interface: "eth0".into() };
            client.done(online.clone()).await;
            assert_eq!(client.refused(online).await.reason, reason::NOT_OFFLINE);

            let eth1 = links.need("eth1").await;
            links.set_mac(&eth1, [2, 0, 0, 0, 0, 0x99]).await;
            let group =
                client.until("eth1 has its new MAC", |group| group.members[1].mac.ends_with(":99")).await;
            assert_eq!(group.members[1].state, MemberState::Ok);
            // Its neighbour's MAC makes it step aside.
            links.set_mac(&eth1, links.need("eth0").await.mac).await;
            client.until("eth1 is offline", |group| group.members[1].state == MemberState::Offline).await;
        })
        .await;
    });
}

/// Groups that nobody joins by himself.
const GROUPS: [Mac; 2] = [[0x01, 0, 0x5e, 0x7f, 1, 2], [0x33, 0x33, 0, 0, 0x12, 0x34]];

/// What was asked for at an interface.
async fn requested(links: &Links, name: &str) -> BTreeSet<Mac> {
    let ifindex = links.need(name).await.ifindex;
    multicast::lists().unwrap().remove(&ifindex).unwrap_or_default().requested
}

/// Waits until the interfaces that have been asked for a MAC are just these.
async fn wait_asked(links: &Links, mac: Mac, interfaces: &[&str]) {
    let mut asked = Vec::new();
    for _ in 0..300 {
        asked.clear();
        for name in ["eth0", "eth1"] {
            if requested(links, name).await.contains(&mac) {
                asked.push(name);
            }
        }
        if asked == interfaces {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{mac:02x?} is let in by {asked:?} after 6 s, and not by {interfaces:?}");
}

/// The interfaces that take frames for a MAC besides their own.
fn takers(mac: Mac) -> Vec<String> {
    let shown = std::process::Command::new("bridge").args(["fdb", "show"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let lines = shown.lines().filter(|line| line.starts_with(&show_mac(mac)));
    lines.filter_map(|line| line.split(' ').nth(2).map(str::to_owned)).collect()
}

#[test]
fn the_members_let_in_what_the_group_interface_does() {
    on_a_host(|links| async move {
        let before = [requested(&links, "eth0").await, requested(&links, "eth1").await];
        // The operator's stays his.
        let eth1 = links.need("eth1").await;
        multicast::accept(eth1.ifindex, GROUPS[1]).unwrap();
        with_engine(|client| async move {
            client.attach(&["eth0"]).await;
            let group = links.need("production0").await;
            // Nobody reports these: the list of the group interface tells.
            for mac in GROUPS {
                multicast::accept(group.ifindex, mac).unwrap();
                wait_asked(&links, mac, if mac == GROUPS[1] { &["eth0", "eth1"] } else { &["eth0"] }).await;
            }
            // Who comes later gets them all at once.
            client.attach(&["eth1"]).await;
            assert!(GROUPS.iter().all(|mac| !before[1].contains(mac)));
            let theirs = requested(&links, "eth1").await;
            assert!(GROUPS.iter().all(|mac| theirs.contains(mac)), "{theirs:02x?}");
            // What somebody takes away comes back.
            multicast::refuse(eth1.ifindex, GROUPS[0]).unwrap();
            wait_asked(&links, GROUPS[0], &["eth0", "eth1"]).await;
            // What is wanted no more goes, but for what was the operator's.
            for mac in GROUPS {
                multicast::refuse(group.ifindex, mac).unwrap();
                wait_asked(&links, mac, if mac == GROUPS[1] { &["eth1"] } else { &[] }).await;
            }
            multicast::accept(group.ifindex, GROUPS[0]).unwrap();
            wait_asked(&links, GROUPS[0], &["eth0", "eth1"]).await;
            client.done(detach("eth0", None)).await;
            assert_eq!(requested(&links, "eth0").await, before[0]);
            client.done(detach("eth1", Some(Last::Restore))).await;
            assert_eq!(requested(&links, "eth1").await, BTreeSet::from([GROUPS[1]]));
        })
        .await;
    });
}

#[test]
fn filters_outlive_the_daemon_are_taken_over_and_torn_down() {
    on_a_host(|links| async move {
        let before = [requested(&links, "eth0").await, requested(&links, "eth1").await];
        let mine = &links;
        with_engine(|client| async move {
            let links = mine;
            client.attach(&["eth0", "eth1"]).await;
            client.until("all carry", settled).await;
            let group = links.need("production0").await;
            multicast::accept(group.ifindex, GROUPS[0]).unwrap();
            wait_asked(links, GROUPS[0], &["eth0", "eth1"]).await;
        })
        .await;
        let group = links.need("production0").await;
        let all = requested(&links, "eth0").await;
        assert!(all.contains(&GROUPS[0]), "{all:02x?}");
        // With nobody there one goes and one comes; the next daemon finds out.
        multicast::refuse(group.ifindex, GROUPS[0]).unwrap();
        multicast::accept(group.ifindex, GROUPS[1]).unwrap();
        with_engine(|client| async move {
            let links = mine;
            client.until("all carry", settled).await;
            wait_asked(links, GROUPS[0], &[]).await;
            wait_asked(links, GROUPS[1], &["eth0", "eth1"]).await;
        })
        .await;
        assert_eq!(takers(group.mac).len(), 1);
        teardown().await.unwrap();
        assert_eq!([requested(&links, "eth0").await, requested(&links, "eth1").await], before);
        assert_eq!(takers(group.mac), [""; 0]);
    });
}

#[test]
fn the_cast_member_takes_what_is_sent_to_the_group_itself() {
    on_a_host(|links| async move {
        with_engine(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.until("all carry", settled).await;
            let group = links.need("production0").await;
            let taken_by = |name: &'static str| async move {
                for _ in 0..300 {
                    if takers(group.mac) == [name] {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                panic!("the group's MAC is taken by {:?} after 6 s, and not by {name}", takers(group.mac));
            };
            taken_by("eth0").await;
            let sw0 = links.need("sw0").await;
            links.set_up(&sw0, false).await.unwrap();
            taken_by("eth1").await;
            links.set_up(&sw0, true).await.unwrap();
            client.until("repaired", |group| group.state == GroupState::Ok).await;
            // The role stays, and the filter with it.
            taken_by("eth1").await;
            // With nobody left, whoever had it keeps it.
            for name in ["sw0", "sw1"] {
                links.set_up(&links.need(name).await, false).await.unwrap();
            }
            client.until("all failed", |group| group.state == GroupState::Failed).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(takers(group.mac).len(), 1);
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
                // SAFETY: the kernel has written so many bytes.
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
fn one_member_is_a_whole_group_whose_mtu_and_mac_are_followed() {
    on_a_host(|links| async move {
        with_engine(|client| async move {
            client.attach(&["eth0"]).await;
            let group = client.until("it carries", settled).await;
            assert!(group.members[0].cast && group.members[0].state == MemberState::Ok);
            let eth0 = links.need("eth0").await;
            for mtu in [1400, 1500] {
                links.set_mtu(eth0.ifindex, "eth0", mtu).await.unwrap();
                client.until("the MTU is followed", |group| group.mtu == mtu).await;
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
