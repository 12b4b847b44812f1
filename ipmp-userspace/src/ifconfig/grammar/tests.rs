use super::*;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| if word == "\"\"" { String::new() } else { word.to_owned() }).collect()
}

fn read(line: &str) -> Change {
    match parse(&words(line)) {
        Ok(Line::Change(change)) => change,
        other => panic!("{line}: {other:?}"),
    }
}

/// The error of a line.
fn refused(line: &str) -> String {
    match parse(&words(line)) {
        Ok(line) => panic!("{line:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn lines_of_the_tutorial_are_read() {
    let group = read("production0 ipmp hivemind-prod up");
    assert!(group.ipmp && group.base.up == Some(true));
    assert_eq!(group.base.address.as_deref(), Some("hivemind-prod"));
    let member = read("e1000g0 plumb hivemind-prod-e1000g0 -failover group production0 up");
    assert!(member.plumb && member.base.is_test());
    assert_eq!(member.group.as_deref(), Some("production0"));
    assert_eq!(member.base.address.as_deref(), Some("hivemind-prod-e1000g0"));
    let order = read("e1000g0 -failover group production0 up");
    assert_eq!((order.base.address, order.group.as_deref()), (None, Some("production0")));
    assert!(read("e1000g0 unplumb").unplumb && read("e1000g0 down unplumb").unplumb);
    let classic = read(
        "e1000g0 vhivemind-e1000g0 deprecated -failover netmask + broadcast + group production0 up \
         addif vhivemind-prod netmask + broadcast + up",
    );
    assert_eq!(classic.base.netmask, Some(Mask::Default));
    assert_eq!(classic.base.broadcast, Some(Broadcast::Default));
    assert!(classic.base.is_test() && classic.base.deprecated == Some(true));
    assert_eq!(classic.added.len(), 1);
    assert_eq!(classic.added[0].address.as_deref(), Some("vhivemind-prod"));
    assert!(!classic.added[0].is_test() && classic.added[0].up == Some(true));
    assert_eq!(read("e1000g0 group \"\"").group.as_deref(), Some(""));
}

#[test]
fn shown_interfaces_are_selected() {
    let show = |line: &str| match parse(&words(line)) {
        Ok(Line::Show(show)) => show,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(show("-a"), Show::default());
    assert_eq!(show("-a4u"), Show { interface: None, v6: Some(false), up: Some(true), classic: false });
    assert_eq!(show("-a inet6"), Show { interface: None, v6: Some(true), up: None, classic: false });
    assert_eq!(show("-a --classic"), Show { classic: true, ..Show::default() });
    let logical = Interface { name: "e1000g0".into(), logical: 1 };
    assert_eq!(show("e1000g0:1"), Show { interface: Some(logical), v6: None, up: None, classic: false });
}

#[test]
fn netmasks_are_read_in_each_notation() {
    for text in ["255.255.255.0", "0xffffff00", "ffffff00", "FFFFFF00"] {
        assert_eq!(mask(text), Ok(Mask::Prefix(24)), "{text}");
    }
    assert_eq!(mask("255.255.255.255"), Ok(Mask::Prefix(32)));
}

#[test]
fn malformed_lines_are_refused_in_one_line() {
    for (line, text) in MALFORMED {
        let refused = refused(line);
        assert_eq!(&refused, text, "{line}");
        assert!(!refused.contains('\n'));
    }
    assert!(MALFORMED.len() >= 30);
}

/// Malformed lines, with their errors.
const MALFORMED: &[(&str, &str)] = &[
    ("", "usage: ifconfig -a[4][6][u][d] [--classic] | INTERFACE [inet|inet6] [--classic | WORDS]"),
    ("-x", "unknown option \"-x\": -a shows all interfaces; 4, 6, u and d after it select some of them"),
    ("e1000g0 up --classic", "--classic shows interfaces and changes none: leave out the other words"),
    ("-a46", "6 contradicts or repeats an earlier word: give one of them"),
    ("-a plumb", "\"plumb\" after -a: -a shows interfaces and changes none; name one interface instead"),
    ("e1000g0:x up", "\"e1000g0:x\" is no logical interface: write INTERFACE:NUMBER, for example eth0:1"),
    ("e1000g0:1:2 up", "\"e1000g0:1:2\" is no logical interface: write INTERFACE:NUMBER, for example eth0:1"),
    ("\"\" up", "an interface has an empty name: give it 1 to 15 bytes"),
    (
        "a-very-long-interface up",
        "\"a-very-long-interface\" is too long for an interface: 21 bytes, and the limit is 15",
    ),
    ("e1000g0 netmask", "netmask needs a value: +, 255.255.255.0 or 0xffffff00"),
    ("e1000g0 group", "group needs a value: a group name, or \"\" to leave the group"),
    ("e1000g0 addif", "addif needs a value: an address"),
    ("e1000g0 removeif", "removeif needs a value: an address"),
    (
        "e1000g0 10.0.0.1 netmask 255.0.255.0",
        "\"255.0.255.0\" is no netmask: write +, 255.255.255.0 or 0xffffff00, with all ones before all zeros",
    ),
    (
        "e1000g0 10.0.0.1 netmask 24",
        "\"24\" is no netmask: write +, 255.255.255.0 or 0xffffff00, with all ones before all zeros",
    ),
    (
        "e1000g0 10.0.0.1 netmask 0.0.0.0",
        "\"0.0.0.0\" is no netmask: write +, 255.255.255.0 or 0xffffff00, with all ones before all zeros",
    ),
    (
        "e1000g0 10.0.0.1 broadcast x",
        "\"x\" is no broadcast address: write + for the last address of the network",
    ),
    ("e1000g0 up down", "down contradicts or repeats an earlier word: give one of them"),
    (
        "e1000g0 -failover failover group production0",
        "failover contradicts or repeats an earlier word: give one of them",
    ),
    ("e1000g0 group a group b", "group contradicts or repeats an earlier word: give one of them"),
    ("e1000g0 plumb plumb", "plumb contradicts or repeats an earlier word: give one of them"),
    (
        "e1000g0 10.0.0.1 10.0.0.2 group production0",
        "second address \"10.0.0.2\": a line has one address; write addif 10.0.0.2 for an additional one",
    ),
    (
        "e1000g0 -fallover",
        "unknown word \"-fallover\": expected an address, a host name or a word of the manual",
    ),
    ("e1000g0 $HOST", "unknown word \"$HOST\": expected an address, a host name or a word of the manual"),
    (
        "e1000g0 mtu 1400",
        "mtu is not supported: use ip link set INTERFACE mtu; the MTU of a group is the smallest of its members",
    ),
    ("e1000g0 ether 8:0:27:11:34:43", "ether is not supported: use ip link set INTERFACE address"),
    ("e1000g0 netmask +", "netmask needs an address before it in the line"),
    ("e1000g0 broadcast + up", "broadcast needs an address before it in the line"),
    ("e1000g0 unplumb up", "unplumb must be the only word, except for down: use two lines"),
    ("e1000g0 group production0 unplumb", "unplumb must be the only word, except for down: use two lines"),
    ("production0 ipmp standby", "standby is not possible on an IPMP interface: it is for members"),
    ("production0 ipmp -failover", "failover is not possible on an IPMP interface: it is for members"),
    (
        "e1000g0 10.0.0.1 -failover -deprecated group production0",
        "-deprecated is not possible with -failover: a test address is always deprecated",
    ),
    (
        "e1000g0 10.0.0.1 deprecated group production0",
        "deprecated needs -failover: only test addresses are excluded from source address selection",
    ),
    (
        "production0:1 group production0",
        "group is not possible on a logical interface: use it on the interface itself",
    ),
    (
        "e1000g0 10.0.0.1 group \"\"",
        "an empty group name leaves the group, which is not possible with an address: use two lines",
    ),
    (
        "e1000g0 10.0.0.1/24 netmask + group production0",
        "the prefix length of \"10.0.0.1/24\" contradicts netmask: give one of them",
    ),
    (
        "e1000g0 inet6 2001:db8::1 netmask +",
        "netmask and broadcast are for IPv4: write the IPv6 address as ADDRESS/PREFIX",
    ),
    ("e1000g0 inet inet6 up inet", "inet contradicts or repeats an earlier word: give one of them"),
];
