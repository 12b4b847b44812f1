//! Refusals of data addresses: invalid, existing, unknown.

use lab::network::DATA;

use crate::{REFUSED, Scene, USAGE, quiet_lab};

/// Invalid addresses, each with its message.
const BAD: [(&str, &str); 20] = [
    (
        "192.168.178.300/24",
        r#""192.168.178.300" is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"#,
    ),
    (
        "192.168.178/24",
        r#""192.168.178" is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"#,
    ),
    (
        "2001:db8::g/64",
        r#""2001:db8::g" is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"#,
    ),
    (
        "fe80::1%eth0/64",
        r#""fe80::1%eth0" is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"#,
    ),
    ("/24", r#""" is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"#),
    ("", r#""" is not an IP address: write one like 192.168.178.200/24 or 2001:db8::200/64"#),
    (
        "192.168.178.210",
        "192.168.178.210 has no prefix length: write 192.168.178.210/24, or the prefix length of its network",
    ),
    (
        "2001:db8::1",
        "2001:db8::1 has no prefix length: write 2001:db8::1/64, or the prefix length of its network",
    ),
    (
        "hivemind-prod",
        r#"expected ADDRESS/PREFIX, got "hivemind-prod"; append the prefix length, for example hivemind-prod/24"#,
    ),
    ("192.168.178.210/33", "192.168.178.210/33: the prefix length of an IPv4 address is 1 to 32"),
    ("192.168.178.210/0", "192.168.178.210/0: the prefix length of an IPv4 address is 1 to 32"),
    (
        "192.168.178.210/255.255.255.0",
        "192.168.178.210/255.255.255.0: the prefix length of an IPv4 address is 1 to 32",
    ),
    ("2001:db8::1/129", "2001:db8::1/129: the prefix length of an IPv6 address is 1 to 128"),
    (
        "192.168.178.0/24",
        "192.168.178.0/24 is the network address of its network: give it an address of a host",
    ),
    (
        "192.168.178.255/24",
        "192.168.178.255/24 is the broadcast address of its network: give it an address of a host",
    ),
    (
        "224.0.0.5/24",
        "224.0.0.5 is a multicast address, which no group can have as data address: give it an address of a host",
    ),
    (
        "127.0.0.1/8",
        "127.0.0.1 is a loopback address, which no group can have as data address: give it an address of a host",
    ),
    ("::/64", ":: is unspecified, which no group can have as data address: give it an address of a host"),
    (
        "::ffff:10.1.2.3/128",
        "::ffff:10.1.2.3 is an IPv4 address in IPv6 form, which no group can have as data address: give it an address of a host",
    ),
    (
        "255.255.255.255/32",
        "255.255.255.255 is the broadcast address, which no group can have as data address: give it an address of a host",
    ),
];

#[test]
fn invalid_addresses_are_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    for (address, line) in BAD {
        scene.refused_words(&["create", "other0", "--address", address], USAGE, "bad-address", line);
        for verb in ["add", "del"] {
            // With a valid one: all or none.
            let words = ["address", verb, "192.168.178.211/24", address, "--group", "production0"];
            scene.refused_words(&words, USAGE, "bad-address", line);
        }
    }
}

#[test]
fn address_given_twice_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    let line = "192.168.178.210 is given twice: give each address once";
    for twice in ["192.168.178.210/24 192.168.178.210/24", "192.168.178.210/24 192.168.178.210/25"] {
        scene.refused(&format!("address add {twice} --group production0"), USAGE, "bad-address", line);
    }
    let command = "create other0 --address 192.168.178.210/24 --address 192.168.178.210/24";
    scene.refused(command, USAGE, "bad-address", line);
}

#[test]
fn existing_data_address_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    let line = format!("{DATA} is on production0 already: remove it there first");
    for command in [
        format!("address add {DATA}/25 --group production0"),
        format!("address add 192.168.178.211/24 {DATA}/25 --group production0"),
        format!("create other0 --address {DATA}/24"),
        format!("create other0 --address 192.168.178.211/24 --address {DATA}/24"),
    ] {
        scene.refused(&command, REFUSED, "address-exists", &line);
    }
}

#[test]
fn address_of_another_interface_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    scene.ip("addr add 192.168.178.203/24 brd + dev rge0");
    scene.ip("addr add fd00:178::203/64 dev rge0 nodad");
    for address in ["192.168.178.203/24", "fd00:178::203/64"] {
        let (ip, _) = address.split_once('/').unwrap();
        let line = format!("{ip} is on rge0 already: remove it there first");
        for command in [
            format!("address add {address} --group production0"),
            format!("address add 192.168.178.211/24 {address} --group production0"),
            format!("create other0 --address {address}"),
        ] {
            scene.refused(&command, REFUSED, "address-exists", &line);
        }
    }
}

#[test]
fn address_for_unknown_group_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    // A member is not a group.
    for group in ["other0", "e1000g0"] {
        let line = format!("there is no group {group}; `ipmpctl show` lists those that exist");
        let command = format!("address add 192.168.178.210/24 --group {group}");
        scene.refused(&command, REFUSED, "no-such-group", &line);
    }
}
