use super::{
    iptables::{V4, V6},
    nftables::{NEW_CHAIN, NEW_ELEMENT, NEW_FLOWTABLE, NEW_RULE, Reader},
    *,
};

fn attribute(kind: u16, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, value.to_be_bytes())
}

/// An expression of a rule.
fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    attribute(1, [attribute(1, format!("{name}\0")), attribute(2, data.concat())].concat())
}

fn meta(register: u32, key: u32) -> Vec<u8> {
    expression("meta", &[number(1, register), number(2, key)])
}

fn cmp(register: u32, operation: u32, value: &[u8]) -> Vec<u8> {
    expression("cmp", &[number(1, register), number(2, operation), attribute(3, attribute(1, value))])
}

fn lookup(register: u32) -> Vec<u8> {
    expression("lookup", &[attribute(1, "s\0"), number(2, register)])
}

fn goto(chain: &str) -> Vec<u8> {
    let verdict = [number(1, 0), attribute(2, format!("{chain}\0"))].concat();
    expression("immediate", &[number(1, 0), attribute(2, attribute(2, verdict))])
}

fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
    // The family inet
    [vec![1, 0, 0, 0], attributes.concat()].concat()
}

fn rule(table: &str, expressions: &[Vec<u8>]) -> Vec<u8> {
    message(&[
        attribute(1, format!("{table}\0")),
        attribute(2, "c\0"),
        attribute(3, 7_u64.to_be_bytes()),
        attribute(4, expressions.concat()),
    ])
}

fn element(key: &[u8], flags: u32, last: Option<&[u8]>) -> Vec<u8> {
    let last = last.map(|last| attribute(10, attribute(1, last))).unwrap_or_default();
    attribute(1, [attribute(1, attribute(1, key)), number(3, flags), last].concat())
}

fn elements(elements: &[Vec<u8>]) -> Vec<u8> {
    message(&[attribute(1, "t\0"), attribute(2, "s\0"), attribute(3, elements.concat())])
}

/// What messages name of eth0 (index 2) and eth1 (index 3), which join ipmp0.
fn found(messages: &[(u8, Vec<u8>)]) -> Vec<String> {
    let interface = |name: &str, ifindex| Interface { name: name.into(), ifindex };
    let interfaces = [interface("eth0", 2), interface("eth1", 3)];
    let joining = Joining { interfaces: &interfaces, group: "ipmp0" };
    let mut reader = Reader::new(&joining);
    for (kind, message) in messages {
        reader.read(*kind, message).unwrap();
    }
    reader.finish().into_iter().map(|rule| format!("{}: {}", rule.interface, rule.place)).collect()
}

const IIF: u32 = 4;
const IIFNAME: u32 = 6;
const ETH0: &str = "eth0: nftables inet t c handle 7";
const ETH1: &str = "eth1: nftables inet t c handle 7";

#[test]
fn comparison_names_interface_by_name_beginning_or_index() {
    let payload = |register| expression("payload", &[number(1, register)]);
    let cases: [(&[Vec<u8>], &[&str]); 11] = [
        (&[meta(1, IIFNAME), cmp(1, 0, &padded("eth0"))], &[ETH0]),
        (&[meta(1, IIFNAME), cmp(1, 1, &padded("eth0"))], &[ETH0]),
        // As iptables writes it.
        (&[meta(1, IIFNAME), cmp(1, 0, b"eth0\0")], &[ETH0]),
        (&[meta(1, IIFNAME), cmp(1, 0, b"eth")], &[ETH0, ETH1]),
        (&[meta(1, IIFNAME), cmp(1, 0, &padded("eth"))], &[]),
        (&[meta(1, IIFNAME), cmp(1, 0, &padded("ipmp0"))], &[]),
        (&[meta(1, IIF), cmp(1, 0, &3_u32.to_ne_bytes())], &[ETH1]),
        // Of another field: the number of an address, a name that another value has replaced.
        (&[payload(1), cmp(1, 0, b"eth0")], &[]),
        (&[meta(1, IIFNAME), payload(1), cmp(1, 0, b"eth0")], &[]),
        (&[meta(1, 16), cmp(1, 0, &2_u32.to_ne_bytes())], &[]),
        // Register 9 is the second quarter of register 1.
        (&[meta(8, IIF), payload(9), cmp(8, 0, &2_u32.to_ne_bytes())], &[ETH0]),
    ];
    for (expressions, expected) in cases {
        assert_eq!(found(&[(NEW_RULE, rule("t", expressions))]), expected, "{expressions:?}");
    }
}

#[test]
fn set_names_interface_by_element_interval_or_range() {
    let by_name = || (NEW_RULE, rule("t", &[meta(1, IIFNAME), lookup(1)]));
    // The name is the second part of the key.
    let second = || (NEW_RULE, rule("t", &[meta(2, IIFNAME), lookup(1)]));
    let by_index = (NEW_RULE, rule("t", &[meta(1, IIF), lookup(1)]));
    let of = |list: &[Vec<u8>]| (NEW_ELEMENT, elements(list));
    let key = |name: &str| padded(name).to_vec();
    let pair = |name: &str| [vec![9; 16], key(name)].concat();
    assert_eq!(
        found(&[by_name(), of(&[element(&key("eth0"), 0, None), element(&key("lo"), 0, None)])]),
        [ETH0]
    );
    assert_eq!(found(&[by_name(), of(&[element(&key("eth"), 0, None)])]), [""; 0]);
    assert_eq!(found(&[by_index, of(&[element(&3_u32.to_ne_bytes(), 0, None)])]), [ETH1]);
    // Also for the group.
    assert_eq!(
        found(&[by_name(), of(&[element(&key("eth0"), 0, None), element(&key("ipmp0"), 0, None)])]),
        [""; 0]
    );
    let interval = [element(&[0; 16], 1, None), element(&key("eth"), 0, None), element(&key("eti"), 1, None)];
    assert_eq!(found(&[by_name(), of(&interval)]), [ETH0, ETH1]);
    let before = [element(&key("es"), 0, None), element(&key("eth0"), 1, None)];
    assert_eq!(found(&[by_name(), of(&before)]), [""; 0]);
    assert_eq!(found(&[second(), of(&[element(&pair("eth1"), 0, Some(&pair("eth1")))])]), [ETH1]);
    // Not by what another rule has there.
    assert_eq!(found(&[second(), of(&[element(&key("eth1"), 0, None)])]), [""; 0]);
}

#[test]
fn chain_and_flowtable_name_devices() {
    let devices = |names: &[&str]| -> Vec<u8> {
        names.iter().flat_map(|name| attribute(1, format!("{name}\0"))).collect()
    };
    let chain = |hook: Vec<u8>| message(&[attribute(1, "t\0"), attribute(3, "c\0"), attribute(4, hook)]);
    let flowtable =
        message(&[attribute(1, "t\0"), attribute(2, "f\0"), attribute(3, attribute(3, devices(&["eth0"])))]);
    for (kind, message, expected) in [
        (NEW_CHAIN, chain(attribute(3, "eth0\0")), vec!["eth0: nftables inet t c (device)"]),
        (NEW_CHAIN, chain(attribute(4, devices(&["lo", "eth1"]))), vec!["eth1: nftables inet t c (device)"]),
        (NEW_CHAIN, chain(attribute(4, devices(&["ipmp0", "eth1"]))), vec![]),
        (NEW_CHAIN, chain(number(1, 1)), vec![]),
        (NEW_FLOWTABLE, flowtable, vec!["eth0: nftables inet t flowtable f"]),
    ] {
        assert_eq!(found(&[(kind, message)]), expected);
    }
}

#[test]
fn firewalld_is_named_by_zone_unless_it_is_that_of_every_interface() {
    let of = |name: &str, zone: &str| {
        (NEW_RULE, rule("firewalld", &[meta(1, IIFNAME), cmp(1, 0, &padded(name)), goto(zone)]))
    };
    let default = (NEW_RULE, rule("firewalld", &[goto("filter_IN_public")]));
    assert_eq!(
        found(&[of("eth0", "filter_IN_public"), of("eth1", "filter_IN_my_dmz"), default]),
        ["eth1: firewalld zone my_dmz"]
    );
    assert_eq!(found(&[of("eth0", "filter_IN_public")]), ["eth0: firewalld zone public"]);
}

#[test]
fn rule_of_legacy_iptables_is_named_by_chain_and_number() {
    let interface = |name: &str, ifindex| Interface { name: name.into(), ifindex };
    let interfaces = [interface("eth0", 2), interface("eth1", 3)];
    let joining = Joining { interfaces: &interfaces, group: "ipmp0" };
    for (layout, names, offsets, length) in [(V4, 16, 88, 112), (V6, 64, 140, 168)] {
        // Name and mask of the interface that receives; target and its text.
        let entry = |name: &[u8], target: &str, text: &str| {
            let mut entry = vec![0; length + 64];
            entry[names..names + name.len()].copy_from_slice(name);
            entry[names + 32..names + 32 + name.len()].fill(0xff);
            entry[offsets..offsets + 2].copy_from_slice(&(length as u16).to_ne_bytes());
            entry[offsets + 2..offsets + 4].copy_from_slice(&(length as u16 + 64).to_ne_bytes());
            entry[length + 2..length + 2 + target.len()].copy_from_slice(target.as_bytes());
            entry[length + 32..length + 32 + text.len()].copy_from_slice(text.as_bytes());
            entry
        };
        let table = [
            entry(b"eth0\0", "", ""),
            entry(b"", "", ""),
            entry(b"", "ERROR", "mine"),
            entry(b"ipmp0\0", "", ""),
            entry(b"eth", "", ""),
        ];
        let found = iptables::rules(layout, "filter", &[(1, 0)], &table.concat(), &joining);
        let found: Vec<_> =
            found.into_iter().map(|rule| format!("{}: {}", rule.interface, rule.place)).collect();
        let program = layout.program;
        assert_eq!(
            found,
            [
                format!("eth0: {program} filter INPUT rule 1 (legacy)"),
                format!("eth0: {program} filter mine rule 2 (legacy)"),
                format!("eth1: {program} filter mine rule 2 (legacy)"),
            ]
        );
    }
}
