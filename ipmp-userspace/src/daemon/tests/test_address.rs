//! Test addresses: their configuration, their use as a source address, and their removal.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use super::*;
use crate::control::{TestAddressSpec, report::MemberReport};

pub(super) fn named(texts: &[&str]) -> Vec<TestAddressSpec> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(super) fn attach_with(interfaces: &[&str], tests: &[&str]) -> Request {
    let Request::Attach { group, interfaces, .. } = attach(interfaces) else { unreachable!() };
    Request::Attach {
        group,
        interfaces,
        standby: false,
        test_addresses: named(tests),
        dry_run: false,
        accept_firewall: false,
    }
}

/// A member's addresses that are not link-local, as `ip` writes them.
async fn own(links: &Links, name: &str) -> BTreeSet<String> {
    let device = links.need(name).await;
    let all = links.addresses_of(device.ifindex).unwrap();
    all.iter().filter(|address| !address.is_link_local()).map(Address::to_string).collect()
}

/// All addresses of an interface are reserved for probes, and no route leads through it.
pub(super) async fn assert_kept(links: &Links, name: &str) {
    let device = links.need(name).await;
    let all = links.addresses_of(device.ifindex).unwrap();
    assert!(all.iter().all(Address::is_for_tests), "{name}: {all:?}");
    let routes = links.routes_by(device.ifindex).unwrap();
    assert!(routes.is_empty(), "{name}: {routes:?}");
}

pub(super) async fn wait(what: &str, mut wanted: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if wanted().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: not in 8 s");
}

/// Runs `ip`, as an administrator or the script of a DHCP client does.
fn ip(arguments: &str) {
    let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
    // The address may have been deleted.
    println!("ip {arguments}: {status}");
}

/// The source address that the kernel selects.
fn source(to: &str) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.connect(to).ok().and_then(|()| socket.local_addr().ok()).map(|address| address.ip())
}

/// Destinations in the subnets of members, and elsewhere.
const DESTINATIONS: [&str; 8] = [
    "192.168.178.1:9",
    "192.168.178.255:9",
    "10.9.9.1:9",
    "10.9.9.255:9",
    "224.0.0.1:9",
    "8.8.8.8:9",
    "[2001:db8::1]:9",
    "[2001:db8:99::1]:9",
];

/// The kernel selects none of these as a source address.
fn assert_not_a_source(tests: &[&str]) {
    for to in DESTINATIONS {
        let from = source(to);
        assert!(from.is_none_or(|from| !tests.contains(&from.to_string().as_str())), "{to} from {from:?}");
    }
}

fn member<'a>(group: &'a GroupReport, name: &str) -> &'a MemberReport {
    group.members.iter().find(|member| member.name == name).expect("the member")
}

pub(super) fn has(group: &GroupReport, name: &str, address: &str) -> bool {
    member(group, name).addresses.iter().any(|known| known.up && known.address.to_string() == address)
}

#[test]
fn test_address_is_added_by_attach_and_removed_by_detach() {
    on_a_host(|links| async move {
        let untouched = settings("eth1");
        with_daemon(|client| async move {
            client.attach(&["eth0"]).await;
            client.done(attach_with(&["eth1"], &["192.168.178.203/24", "2001:db8::203/64"])).await;
            let tests = ["192.168.178.203", "2001:db8::203"];
            assert_eq!(
                own(&links, "eth1").await,
                tests.iter().zip(["/24", "/64"]).map(|(a, b)| [*a, b].concat()).collect()
            );
            client
                .until("duplicate address detection is over", |group| {
                    tests.iter().all(|test| has(group, "eth1", test))
                })
                .await;
            assert_kept(&links, "eth1").await;
            assert_not_a_source(&tests);
            assert_eq!(source("192.168.178.1:9"), Some(addresses()[0].ip));
            assert_eq!(source("[2001:db8::1]:9"), Some(addresses()[1].ip));
            // Even without any data address.
            let group = links.need("production0").await;
            for address in addresses() {
                links.delete_address(group.ifindex, "production0", &address).await.unwrap();
            }
            assert_not_a_source(&tests);
            // When the interface comes up, the kernel adds routes again.
            let eth1 = links.need("eth1").await;
            links.set_up(&eth1, false).await.unwrap();
            links.set_up(&eth1, true).await.unwrap();
            assert_eq!(own(&links, "eth1").await.len(), 2);
            wait("no route", async || links.routes_by(eth1.ifindex).unwrap().is_empty()).await;
            assert_kept(&links, "eth1").await;

            client.done(detach("eth1", None)).await;
            assert_eq!(own(&links, "eth1").await, BTreeSet::new());
            assert_eq!(settings("eth1"), untouched);
        })
        .await;
    });
}

#[test]
fn present_address_becomes_test_address_and_is_restored() {
    on_a_host(|links| async move {
        let before = (global(&links, "eth0").await, routes(&links, "eth0").await);
        let (mine, was) = (&links, &before);
        with_daemon(|client| async move {
            let links = mine;
            let attach = || attach_with(&["eth0"], &["192.168.178.21/24"]);
            assert_eq!(
                client.refused(attach()).await.message,
                "cannot install route default via 192.168.178.1 metric 100: Network is unreachable (os error 101); \
                 192.168.178.21 is to be a test address: add a data address to production0 in the subnet of the gateway first"
            );
            assert_eq!((global(links, "eth0").await, routes(links, "eth0").await), *was);
            let create = || Request::Create {
                group: "production0".into(),
                groupname: None,
                addresses: vec!["192.168.178.200/24".parse().unwrap()],
            };
            client.done(create()).await;
            let notes = client.done(attach()).await;
            assert!(notes.iter().all(|note| !note.contains("192.168.178.21")), "{notes:?}");
            assert_eq!(own(links, "eth0").await, ["192.168.178.21/24".to_owned()].into());
            assert_kept(links, "eth0").await;
            let data = [("192.168.178.200".parse().unwrap(), 24), (addresses()[1].ip, 64)];
            assert_eq!(global(links, "production0").await, data.into());
            assert_not_a_source(&["192.168.178.21"]);
            client.done(detach("eth0", Some(LastMember::Restore))).await;
            let mut with_data = was.clone();
            with_data.0.insert(data[0]);
            assert_eq!((global(links, "eth0").await, routes(links, "eth0").await), with_data);
            let eth0 = links.need("eth0").await;
            let data = Address::new(data[0].0, data[0].1);
            links.delete_address(eth0.ifindex, "eth0", &data).await.unwrap();

            client.done(create()).await;
            client.done(attach()).await;
        })
        .await;
        assert_eq!(teardown().await.unwrap(), ["production0"]);
        assert_eq!((global(&links, "eth0").await, routes(&links, "eth0").await), before);
    });
}

#[test]
fn leased_address_of_other_program_is_reserved_for_probes() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0"]).await;
            client.done(attach_with(&["eth1"], &["dhcp"])).await;
            let eth1 = links.need("eth1").await;
            // A lease, as a DHCP client configures it: an address, and routes.
            let lease = Address {
                lifetime: Some((600, 300)),
                ..Address::new("192.168.178.203".parse().unwrap(), 24)
            };
            links.add_address(eth1.ifindex, "eth1", &lease).await.unwrap();
            ip("route add default via 192.168.178.1 dev eth1 metric 50");
            ip("route add 172.16.0.0/12 via 192.168.178.1 dev eth1 src 192.168.178.203");
            wait("they are reserved for probes, and the routes are deleted", async || {
                let all = links.addresses_of(eth1.ifindex).unwrap();
                all.iter().filter(|address| !address.is_link_local()).count() == 1
                    && all.iter().all(Address::is_for_tests)
                    && links.routes_by(eth1.ifindex).unwrap().is_empty()
            })
            .await;
            assert_not_a_source(&["192.168.178.203"]);
            client.until("it is shown", |group| has(group, "eth1", "192.168.178.203")).await;
            let kept = links.addresses_of(eth1.ifindex).unwrap();
            let kept = kept.into_iter().find(|address| address.ip == lease.ip).expect("the lease");
            assert!(kept.lifetime.is_some_and(|(valid, _)| valid <= 600), "{kept:?}");
            // Removed and added again.
            links.delete_address(eth1.ifindex, "eth1", &kept).await.unwrap();
            client.until("it is removed", |group| !has(group, "eth1", "192.168.178.203")).await;
            links.add_address(eth1.ifindex, "eth1", &lease).await.unwrap();
            client.until("it is back", |group| has(group, "eth1", "192.168.178.203")).await;
            wait("it is reserved", async || {
                links.addresses_of(eth1.ifindex).unwrap().iter().all(Address::is_for_tests)
            })
            .await;
            // It is restored as it was.
            client.done(detach("eth1", None)).await;
            let back = links.addresses_of(eth1.ifindex).unwrap();
            let back: Vec<_> = back.into_iter().filter(Address::is_global).collect();
            assert_eq!(back.iter().map(|address| address.ip).collect::<Vec<_>>(), [lease.ip]);
            assert!(back.iter().all(|address| !address.is_for_tests()), "{back:?}");
            let routes = routes(&links, "eth1").await;
            assert_eq!(routes, ["192.168.178.0/24"].map(str::to_owned).into());
        })
        .await;
    });
}

#[test]
fn leased_address_stays_on_nic_and_others_move() {
    on_a_host(|links| async move {
        let lease =
            Address { lifetime: Some((600, 300)), ..Address::new("192.168.178.203".parse().unwrap(), 24) };
        let eth1 = links.need("eth1").await;
        links.add_address(eth1.ifindex, "eth1", &lease).await.unwrap();
        let other = Address::new("172.16.0.1".parse().unwrap(), 24);
        links.add_address(eth1.ifindex, "eth1", &other).await.unwrap();
        with_daemon(|client| async move {
            client.done(attach_with(&["eth1"], &["dhcp"])).await;
            assert_eq!(own(&links, "eth1").await, ["192.168.178.203/24".to_owned()].into());
            assert_kept(&links, "eth1").await;
            assert_eq!(global(&links, "production0").await, [(other.ip, 24)].into());
            client.until("it is shown", |group| has(group, "eth1", "192.168.178.203")).await;
            client.done(detach("eth1", Some(LastMember::Restore))).await;
            assert_eq!(global(&links, "eth1").await, [(lease.ip, 24), (other.ip, 24)].into());
            let back = links.addresses_of(eth1.ifindex).unwrap();
            let back = back.iter().find(|address| address.ip == lease.ip).expect("the lease");
            assert!(back.lifetime.is_some_and(|(valid, preferred)| preferred < valid), "{back:?}");
        })
        .await;
    });
}

#[test]
fn test_address_in_own_subnet_has_hidden_route() {
    on_a_host(|links| async move {
        let mine = &links;
        with_daemon(|client| async move {
            let links = mine;
            client.attach(&["eth0"]).await;
            client.done(attach_with(&["eth1"], &["10.9.9.203/24"])).await;
            assert_kept(links, "eth1").await;
            assert_not_a_source(&["10.9.9.203"]);
            let led = || UdpSocket::bind(("10.9.9.203", 0)).unwrap().connect("10.9.9.1:9").is_ok();
            let eth1 = links.need("eth1").await;
            let by_itself = async || {
                let all = links.routes();
                all.iter().filter(|route| route.uses(eth1.ifindex) && route.is_ipv4()).count()
            };
            assert!(led() && by_itself().await == 1);
            // A data address in the same subnet replaces it.
            let data = Request::AddAddress {
                group: "production0".into(),
                addresses: vec!["10.9.9.9/24".parse().unwrap()],
                inbound: None,
                logical: None,
            };
            client.done(data).await;
            wait("the test route is deleted", async || by_itself().await == 0).await;
            let data = Request::RemoveAddress {
                group: "production0".into(),
                addresses: vec!["10.9.9.9/24".parse().unwrap()],
            };
            client.done(data).await;
            wait("the test route is back", async || by_itself().await == 1).await;
        })
        .await;
        // It is adopted, and teardown removes it.
        with_daemon(|client| async move {
            client.until("adopted", |group| has(group, "eth1", "10.9.9.203")).await;
            assert_kept(mine, "eth1").await;
        })
        .await;
        teardown().await.unwrap();
        assert_eq!(own(&links, "eth1").await, BTreeSet::new());
        assert_eq!(routes(&links, "eth1").await, BTreeSet::new());
        let rules = std::process::Command::new("ip").args(["-4", "rule", "show"]).output().unwrap();
        assert!(!String::from_utf8(rules.stdout).unwrap().contains("10.9.9.203"));
    });
}

#[test]
fn test_address_requests_are_checked() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            let add = |interface: &str, address: &str| Request::AddTestAddress {
                interface: interface.into(),
                address: address.parse().unwrap(),
            };
            let del = |address: &str| Request::RemoveTestAddress {
                interface: "eth1".into(),
                address: address.parse().unwrap(),
            };
            let text = async |request| client.refused(request).await.message;
            assert_eq!(
                text(attach_with(&["eth1"], &["dhcp"])).await,
                "eth1 is a member of production0 already: ipmpctl test-address add eth1 dhcp gives it a test address"
            );
            client.done(add("eth1", "192.168.178.203/24")).await;
            assert_eq!(
                text(add("eth1", "dhcp")).await,
                "eth1 has the test address 192.168.178.203/24 already: remove it first (ipmpctl test-address del eth1 \
                 192.168.178.203/24)"
            );
            assert_eq!(
                text(add("eth0", "192.168.178.203/24")).await,
                "192.168.178.203 is on eth1 already: remove it there first"
            );
            assert_eq!(
                text(add("eth0", "192.168.178.21/24")).await,
                "192.168.178.21 is on production0 already: remove it there first"
            );
            assert_eq!(
                client.done(del("dhcp")).await,
                ["eth1 does not have the test address dhcp: nothing to change"]
            );
            client.done(del("192.168.178.203/24")).await;
            assert_eq!(own(&links, "eth1").await, BTreeSet::new());
            // One that another program removed is added again, and stays declared.
            client.done(add("eth1", "192.168.178.203/24")).await;
            let eth1 = links.need("eth1").await;
            let there = links.addresses_of(eth1.ifindex).unwrap();
            let test = there.into_iter().find(|address| address.ip == Ipv4Addr::new(192, 168, 178, 203));
            links.delete_address(eth1.ifindex, "eth1", &test.expect("the test address")).await.unwrap();
            let declared = ["192.168.178.203/24".to_owned()].into();
            wait("it is added again", async || own(&links, "eth1").await == declared).await;
            assert!(text(add("eth1", "192.168.178.204/24")).await.contains("192.168.178.203/24 already"));
        })
        .await;
    });
}
