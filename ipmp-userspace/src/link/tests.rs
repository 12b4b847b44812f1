//! What the modules here do to a kernel.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use rtnetlink::{
    LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder, RouteNextHopBuilder,
    packet_route::link::MacVlanMode,
};
use tokio::time::timeout;

use super::{testing::in_namespace, *};
use crate::types::LinkState;

fn setting(family: &str, interface: &str, name: &str) -> String {
    let path = format!("/proc/sys/net/{family}/conf/{interface}/{name}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

async fn link_becomes(links: &Links, ifindex: u32, wanted: LinkState) {
    for _ in 0..200 {
        if links.device(ifindex).await.unwrap().unwrap().link() == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("interface {ifindex} does not become {wanted:?}");
}

#[test]
fn deleted_interface_has_no_name() {
    in_namespace(|links| async move {
        let (eth0, _) = links.add_pair("eth0", "sw0").await;
        assert_eq!(Ioctl::open().unwrap().name(eth0.ifindex).as_deref(), Some("eth0"));
        links.delete(eth0.ifindex, "eth0").await.unwrap();
        assert_eq!(Ioctl::open().unwrap().name(eth0.ifindex), None);
    });
}

#[test]
fn group_interface_is_up_and_has_a_carrier_when_set() {
    in_namespace(|links| async move {
        let group = GroupInterface::create(&links, "production0", "a second name", "").await.unwrap();
        let device = links.need("production0").await;
        assert_eq!(device.mac, group.mac);
        assert_eq!(device.altnames, ["a second name"]);
        assert!(device.flags.contains(rtnetlink::packet_route::link::LinkFlags::Up));
        link_becomes(&links, group.ifindex, LinkState::Down).await;
        group.set_carrier(&links, true).await.unwrap();
        for _ in 0..200 {
            if links.device(group.ifindex).await.unwrap().unwrap().link() != LinkState::Down {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_ne!(links.device(group.ifindex).await.unwrap().unwrap().link(), LinkState::Down);
        group.set_carrier(&links, false).await.unwrap();
        link_becomes(&links, group.ifindex, LinkState::Down).await;
        // The next daemon finds it as it is.
        assert_eq!(GroupInterface::existing(&links, "production0").await.unwrap(), Some(group.clone()));
        links.delete(group.ifindex, "production0").await.unwrap();
        assert_eq!(links.devices().unwrap().len(), 1, "something but lo is left");
    });
}

#[test]
fn group_interface_of_name_that_another_had_has_mac_and_far_end_of_its_own() {
    in_namespace(|links| async move {
        let first = GroupInterface::create(&links, "production0", "production0", "").await.unwrap();
        let rename = LinkMessageBuilder::<LinkUnspec>::new().index(first.ifindex).name("prod1").build();
        links.set(rename, || "rename production0".into()).await.unwrap();
        let second = GroupInterface::create(&links, "production0", "production0", "").await.unwrap();
        assert_ne!(first.mac, second.mac);
        let renamed = GroupInterface::existing(&links, "prod1").await.unwrap().unwrap();
        assert_eq!((renamed.ifindex, renamed.far_end()), (first.ifindex, first.far_end()));
        if let Some((far, _)) = second.far_end() {
            assert_ne!(Some(far), first.far_end().map(|(far, _)| far));
        }
    });
}

#[test]
fn the_settings_of_a_group_interface_are_those_of_the_design() {
    in_namespace(|links| async move {
        GroupInterface::create(&links, "production0", "production0", "").await.unwrap();
        assert_eq!(setting("ipv4", "production0", "arp_announce"), "2");
        assert_eq!(setting("ipv4", "production0", "arp_evict_nocarrier"), "0");
        assert_eq!(setting("ipv4", "production0", "promote_secondaries"), "1");
        assert_eq!(setting("ipv6", "production0", "ndisc_evict_nocarrier"), "0");
    });
}

#[test]
fn a_group_interface_that_cannot_be_finished_leaves_nothing() {
    in_namespace(|links| async move {
        links.add_pair("taken", "peer").await;
        let error = GroupInterface::create(&links, "production0", "taken", "").await.unwrap_err();
        assert!(error.to_string().starts_with("cannot give production0 the second name taken"), "{error}");
        assert_eq!(links.device_named("production0").await.unwrap(), None);
        assert_eq!(links.devices().unwrap().len(), 3);
    });
}

#[test]
fn member_settings_are_restored_except_those_changed_by_others() {
    in_namespace(|links| async move {
        links.add_pair("eth0", "sw0").await;
        let before: Vec<_> = ["arp_ignore", "rp_filter"].map(|name| setting("ipv4", "eth0", name)).into();
        let saved = sysctl::plan("eth0", sysctl::Role::Member).unwrap();
        sysctl::apply("eth0", &saved).unwrap();
        assert_eq!(sysctl::plan("eth0", sysctl::Role::Member).unwrap(), []);
        assert_eq!(setting("ipv4", "eth0", "arp_ignore"), "1");
        assert_eq!(setting("ipv4", "eth0", "rp_filter"), "2");
        assert_eq!(setting("ipv6", "eth0", "accept_ra"), "0");
        assert_eq!(setting("ipv6", "eth0", "addr_gen_mode"), "1");
        fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "2").unwrap();
        sysctl::restore("eth0", &saved);
        let after: Vec<_> = ["arp_ignore", "rp_filter"].map(|name| setting("ipv4", "eth0", name)).into();
        assert_eq!(before, after);
        assert_eq!(setting("ipv6", "eth0", "accept_ra"), "2");
        assert_eq!(setting("ipv6", "eth0", "addr_gen_mode"), "0");
    });
}

#[test]
fn changes_are_reported() {
    in_namespace(|links| async move {
        let mut watch = Watch::open().unwrap();
        let (eth0, sw0) = links.add_pair("eth0", "sw0").await;
        let address = Address::new("192.168.178.21".parse().unwrap(), 24);
        links.add_address(eth0.ifindex, "eth0", &address).await.unwrap();
        wait(&mut watch, |change| match change {
            Change::Address { ifindex, address: reported } => {
                *ifindex == eth0.ifindex && reported.ip == address.ip
            }
            _ => false,
        })
        .await;
        links.set_up(&sw0, false).await.unwrap();
        wait(&mut watch, |change| match change {
            Change::Device(device) => device.ifindex == eth0.ifindex && device.link() == LinkState::Down,
            _ => false,
        })
        .await;
        links.delete(eth0.ifindex, "eth0").await.unwrap();
        wait(&mut watch, |change| *change == Change::Removed { ifindex: eth0.ifindex }).await;
        assert_eq!(links.device(eth0.ifindex).await.unwrap(), None);
    });
}

async fn wait(watch: &mut Watch, mut wanted: impl FnMut(&Change) -> bool) {
    let found = async { while !wanted(&watch.next().await.unwrap()) {} };
    timeout(Duration::from_secs(5), found).await.expect("no report of the change in 5 s");
}

#[test]
fn masters_and_devices_below_are_seen() {
    in_namespace(|links| async move {
        let (eth0, sw0) = links.add_pair("eth0", "sw0").await;
        links.handle.link().add(LinkBridge::new("br0").build()).execute().await.unwrap();
        let bridge = links.need("br0").await;
        assert_eq!(bridge.kind, "bridge");
        links.put_under(&sw0, &bridge).await;
        assert_eq!(links.need("sw0").await.master, Some(bridge.ifindex));
        links.leave_master(sw0.ifindex, "sw0").await.unwrap();
        assert_eq!(links.need("sw0").await.master, None);
        let macvlan = LinkMacVlan::new("mv0", eth0.ifindex, MacVlanMode::Private).build();
        links.handle.link().add(macvlan).execute().await.unwrap();
        let macvlan = links.need("mv0").await;
        assert_eq!(links.below(&macvlan).await.unwrap(), [eth0.ifindex]);
        assert_eq!(links.below(&eth0).await.unwrap(), [0; 0]);
    });
}

#[test]
fn a_veth_has_the_speed_that_its_driver_says() {
    in_namespace(|links| async move {
        links.add_pair("eth0", "sw0").await;
        assert_eq!(speed("eth0"), Some(10_000));
        assert_eq!(speed("lo"), None);
        assert_eq!(speed("no-such"), None);
    });
}

/// Groups that no program joins.
const GROUPS: [Mac; 2] = [[0x01, 0, 0x5e, 0x7f, 1, 2], [0x33, 0x33, 0, 0, 0x12, 0x34]];

#[test]
fn multicast_is_let_in_until_it_is_taken_back_once() {
    in_namespace(|links| async move {
        let (eth0, _) = links.add_pair("eth0", "sw0").await;
        links
            .handle
            .link()
            .add(LinkMacVlan::new("mv0", eth0.ifindex, MacVlanMode::Private).up().build())
            .execute()
            .await
            .unwrap();
        let macvlan = links.need("mv0").await;
        let has = |ifindex, mac: Mac| {
            multicast::lists().unwrap().get(&ifindex).is_some_and(|list| list.requested.contains(&mac))
        };
        for device in [&eth0, &macvlan] {
            // What the kernel asks for itself is there, and is not counted as requested.
            let all = multicast::lists().unwrap()[&device.ifindex].clone();
            assert!(all.all.contains(&[0x33, 0x33, 0, 0, 0, 1]) && all.requested.is_empty(), "{all:?}");
            for mac in GROUPS {
                // Twice is once.
                multicast::accept(device.ifindex, mac).unwrap();
                multicast::accept(device.ifindex, mac).unwrap();
                assert!(has(device.ifindex, mac), "{}", device.name);
                multicast::refuse(device.ifindex, mac).unwrap();
                assert!(!has(device.ifindex, mac), "{}", device.name);
                multicast::refuse(device.ifindex, mac).unwrap();
            }
            assert!(GROUPS.iter().all(|mac| !multicast::lists().unwrap()[&device.ifindex].all.contains(mac)));
        }
        // A stacked device passes its filter entries to the device below: both list them.
        multicast::accept(macvlan.ifindex, GROUPS[0]).unwrap();
        assert!(multicast::lists().unwrap()[&eth0.ifindex].all.contains(&GROUPS[0]));
        let error = multicast::accept(99, GROUPS[0]).unwrap_err();
        assert!(error.is_missing() && error.to_string().contains("interface 99"), "{error}");
        multicast::refuse(99, GROUPS[0]).unwrap();
    });
}

#[test]
fn lists_are_those_of_the_thread_that_asks() {
    in_namespace(|links| async move {
        let (eth0, _) = links.add_pair("eth0", "sw0").await;
        multicast::accept(eth0.ifindex, GROUPS[0]).unwrap();
        let here = |lists: &std::collections::BTreeMap<u32, multicast::Multicast>| {
            lists.values().any(|list| list.all.contains(&GROUPS[0]))
        };
        assert!(here(&multicast::lists().unwrap()));
        // The namespace of the process is another.
        let others = std::fs::read_to_string(format!("/proc/{}/net/dev_mcast", std::process::id())).unwrap();
        assert!(!others.contains("01005e7f0102"), "{others}");
    });
}

#[test]
fn a_further_mac_is_let_in_until_it_is_taken_back() {
    in_namespace(|links| async move {
        let (eth0, _) = links.add_pair("eth0", "sw0").await;
        let mac = [2, 0, 0, 0, 0x12, 0x34];
        let table = || {
            let shown =
                std::process::Command::new("bridge").args(["fdb", "show", "dev", "eth0"]).output().unwrap();
            String::from_utf8(shown.stdout).unwrap()
        };
        for _ in 0..2 {
            links.accept_mac(eth0.ifindex, "eth0", mac).await.unwrap();
            assert!(table().contains("02:00:00:00:12:34 self permanent"), "{}", table());
        }
        for _ in 0..2 {
            links.refuse_mac(eth0.ifindex, "eth0", mac).await.unwrap();
            assert!(!table().contains("02:00:00:00:12:34"), "{}", table());
        }
        // A macvlan takes frames for its own MAC and no other.
        links
            .handle
            .link()
            .add(LinkMacVlan::new("mv0", eth0.ifindex, MacVlanMode::Private).build())
            .execute()
            .await
            .unwrap();
        let macvlan = links.need("mv0").await;
        let error = links.accept_mac(macvlan.ifindex, "mv0", mac).await.unwrap_err();
        assert!(
            error.to_string().starts_with("cannot give mv0 the further MAC 02:00:00:00:12:34"),
            "{error}"
        );
        links.refuse_mac(macvlan.ifindex, "mv0", mac).await.unwrap();
    });
}

#[test]
fn all_multicast_is_let_in_and_no_longer() {
    use rtnetlink::packet_route::link::LinkFlags;
    in_namespace(|links| async move {
        let (eth0, _) = links.add_pair("eth0", "sw0").await;
        for all in [true, false] {
            links.set_all_multicast(eth0.ifindex, "eth0", all).await.unwrap();
            assert_eq!(links.need("eth0").await.flags.contains(LinkFlags::Allmulti), all);
        }
    });
}

#[test]
fn addresses_are_those_of_the_interface() {
    in_namespace(|links| async move {
        let mut all = Vec::new();
        for number in 0..3u8 {
            let name = format!("eth{number}");
            let (device, _) = links.add_pair(&name, &format!("sw{number}")).await;
            let own: Vec<IpAddr> =
                vec![[192, 0, 2, number].into(), format!("2001:db8::{number}").parse().unwrap()];
            for ip in &own {
                let address = Address::new(*ip, if ip.is_ipv4() { 24 } else { 64 }).without_detection();
                links.add_address(device.ifindex, &name, &address).await.unwrap();
            }
            all.push((device.ifindex, own));
        }
        for (ifindex, own) in all {
            let found = links.addresses_of(ifindex).unwrap();
            let ips: Vec<IpAddr> = found.iter().map(|address| address.ip).collect();
            assert!(own.iter().all(|ip| ips.contains(ip)), "{ips:?}");
            // Its link-local address is the third.
            assert!(ips.len() <= 3, "{ips:?}");
        }
        assert_eq!(links.addresses_of(9999).unwrap(), []);
    });
}

/// Few interfaces are read one by one, for many all routes are read: both find the same, each route once.
#[test]
fn routes_through_many_interfaces_are_those_through_each() {
    in_namespace(|links| async move {
        let mut ours = BTreeSet::new();
        for number in 0..3 {
            let (device, _) = links.add_pair(&format!("eth{number}"), &format!("sw{number}")).await;
            let address = Address::new([10, 0, number, 1].into(), 24);
            links.add_address(device.ifindex, &device.name, &address).await.unwrap();
            links.set_up(&device, true).await.unwrap();
            if number < 2 {
                ours.insert(device.ifindex);
            }
        }
        let hops = ours.iter().zip(0u8..).map(|(ifindex, number)| {
            let via = RouteNextHopBuilder::new_ipv4().via([10, 0, number, 9].into()).unwrap();
            via.interface(*ifindex).build()
        });
        let several = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix([10, 9, 0, 0].into(), 16)
            .multipath(hops.collect())
            .build();
        links.handle.route().add(several).execute().await.unwrap();
        let read = |interfaces: &BTreeSet<u32>| {
            let mut found = Vec::new();
            read_routes_through(interfaces, |route| found.push(route.to_string())).unwrap();
            found.sort();
            found
        };
        let many = ours.iter().copied().chain(9000..9100).collect();
        let found = read(&ours);
        assert_eq!(found, read(&many));
        let of_several = found.iter().filter(|route| route.contains("10.9.0.0/16")).count();
        assert_eq!(of_several, 1, "{found:?}");
        assert!(found.iter().all(|route| !route.contains("10.0.2.")), "{found:?}");
    });
}

#[test]
fn existing_or_missing_object_is_no_error() {
    in_namespace(|links| async move {
        let (eth0, _) = links.add_pair("eth0", "sw0").await;
        let address = Address::new("2001:db8::1".parse().unwrap(), 64).without_detection();
        for _ in 0..2 {
            links.add_address(eth0.ifindex, "eth0", &address).await.unwrap();
        }
        assert!(links.addresses_of(eth0.ifindex).unwrap().iter().any(|there| there.ip == address.ip));
        for _ in 0..2 {
            links.delete_address(eth0.ifindex, "eth0", &address).await.unwrap();
        }
        assert!(links.addresses_of(eth0.ifindex).unwrap().iter().all(|there| there.ip != address.ip));
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(99).up().build();
        assert!(links.set(message, || "set 99 up".into()).await.unwrap_err().is_missing());
    });
}
