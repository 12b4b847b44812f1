use super::*;
use crate::{
    control::report,
    ifconfig::grammar::{self, Line},
    link::Address,
};

fn device(name: &str, ifindex: u32, flags: LinkFlags) -> Device {
    Device {
        ethernet: !flags.contains(LinkFlags::Loopback),
        flags,
        mac: [8, 0, 0x27, 0x6d, 9, 0xbe],
        ..Device::sample(name, ifindex)
    }
}

/// The group of `report::sample`, a loopback interface, a NIC in no group, and one that is down.
fn host() -> Host {
    let nic = LinkFlags::Up | LinkFlags::Broadcast | LinkFlags::Multicast | LinkFlags::Running;
    let loopback = LinkFlags::Up | LinkFlags::Loopback | LinkFlags::Running;
    let address = |text: &str, prefix| Address::new(text.parse().unwrap(), prefix);
    Host {
        groups: vec![report::sample()],
        devices: vec![
            device("lo", 1, loopback),
            device("production0", 2, nic),
            device("e1000g0", 3, nic),
            device("e1000g1", 4, nic),
            device("other0", 9, nic),
            device("down0", 10, LinkFlags::Broadcast | LinkFlags::Multicast),
        ],
        addresses: vec![
            (1, address("127.0.0.1", 8)),
            (1, address("::1", 128)),
            (9, address("10.0.0.1", 8)),
            (9, address("10.0.0.2", 8)),
        ],
    }
}

fn shown(line: &str) -> Result<String, Missing> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let Ok(Line::Show(what)) = grammar::parse(&words) else { panic!("{line}") };
    show(&what, &host(), true)
}

/// The names in order of 1.2.2, 1.6, 1.6.3 and 1.7.2 of the tutorial, and their numbers there.
#[test]
fn numbers_of_flags_are_those_of_the_tutorial() {
    for (names, number) in [
        ("UP,BROADCAST,MULTICAST,IPv4,FAILED,IPMP", 0x80_1100_0803_u64),
        ("UP,BROADCAST,RUNNING,MULTICAST,DEPRECATED,IPv4,NOFAILOVER", 0x904_0843),
        ("UP,BROADCAST,RUNNING,MULTICAST,IPv4,IPMP", 0x80_0100_0843),
        ("UP,LOOPBACK,RUNNING,MULTICAST,IPv4,VIRTUAL", 0x20_0100_0849),
        ("UP,LOOPBACK,RUNNING,MULTICAST,IPv6,VIRTUAL", 0x20_0200_0849),
        ("UP,BROADCAST,MULTICAST,DEPRECATED,IPv4,NOFAILOVER,FAILED", 0x1904_0803),
    ] {
        let bits = names.split(',').map(|name| FLAGS.iter().find(|(flag, _)| *flag == name).unwrap().1);
        assert_eq!(bits.sum::<u64>(), number, "{names}");
        let order: Vec<&str> = FLAGS
            .iter()
            .map(|(flag, _)| *flag)
            .filter(|flag| names.split(',').any(|name| name == *flag))
            .collect();
        assert_eq!(order.join(","), names);
    }
}

#[test]
fn group_member_and_other_interfaces_have_blocks_of_the_reference() {
    assert_eq!(
        shown("production0").unwrap(),
        "production0: flags=8001000843<UP,BROADCAST,RUNNING,MULTICAST,IPv4,IPMP> mtu 1500 index 2\n\
         \tinet 192.168.178.200 netmask ffffff00 broadcast 192.168.178.255\n\
         \tgroupname Production\n\
         production0: flags=8002000843<UP,BROADCAST,RUNNING,MULTICAST,IPv6,IPMP> mtu 1500 index 2\n\
         \tinet6 2001:db8::200/64\n\
         \tgroupname Production\n"
    );
    assert_eq!(
        shown("e1000g1").unwrap(),
        "e1000g1: flags=19040803<UP,BROADCAST,MULTICAST,DEPRECATED,IPv4,NOFAILOVER,FAILED> mtu 1500 index 4\n\
         \tinet 0.0.0.0 netmask ff000000 broadcast 0.255.255.255\n\
         \tgroupname Production\n\
         \tether 8:0:27:6d:9:be\n"
    );
    assert_eq!(
        shown("other0").unwrap(),
        "other0: flags=1000843<UP,BROADCAST,RUNNING,MULTICAST,IPv4> mtu 1500 index 9\n\
         \tinet 10.0.0.1 netmask ff000000 broadcast 10.255.255.255\n\
         \tether 8:0:27:6d:9:be\n\
         other0:1: flags=1000843<UP,BROADCAST,RUNNING,MULTICAST,IPv4> mtu 1500 index 9\n\
         \tinet 10.0.0.2 netmask ff000000 broadcast 10.255.255.255\n"
    );
    assert_eq!(
        shown("lo").unwrap(),
        "lo: flags=2001000049<UP,LOOPBACK,RUNNING,IPv4,VIRTUAL> mtu 1500 index 1\n\tinet 127.0.0.1 netmask ff000000\n\
         lo: flags=2002000049<UP,LOOPBACK,RUNNING,IPv6,VIRTUAL> mtu 1500 index 1\n\tinet6 ::1/128\n"
    );
}

#[test]
fn all_are_those_that_are_up_or_have_an_address_ipv4_first() {
    let names = |line: &str| {
        let text = shown(line).unwrap();
        let heads = text.lines().filter(|line| !line.starts_with('\t'));
        heads.map(|line| line.split(": ").next().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("-a"), "lo production0 e1000g0 e1000g1 other0 other0:1 lo production0");
    assert_eq!(names("-a6"), "lo production0");
    assert_eq!(names("-ad"), "");
    assert_eq!(names("down0"), "down0");
    assert_eq!(names("other0:1"), "other0:1");
}

#[test]
fn missing_interface_is_an_error() {
    for (line, name) in [("missing0", "missing0"), ("other0:7", "other0:7"), ("missing0 inet6", "missing0")] {
        assert_eq!(
            shown(line).unwrap_err().to_string(),
            format!("status: SIOCGLIFFLAGS: {name}: no such interface")
        );
    }
}

#[test]
fn users_see_no_hardware_addresses() {
    let what = Show::default();
    assert!(!show(&what, &host(), false).unwrap().contains("ether"));
}
