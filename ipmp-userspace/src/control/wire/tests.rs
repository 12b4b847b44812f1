//! Calls and replies as JSON.

use super::{
    super::{path, request::LastMember, test_address::TestAddressSpec},
    *,
};

fn call(method: &str, parameters: Value) -> Result<ParsedCall, Failure> {
    serde_json::from_value::<MethodCall>(json!({ "method": method, "parameters": parameters }))
        .expect("a call")
        .parse()
}

fn manager(method: &str, parameters: Value) -> Result<ParsedCall, Failure> {
    call(&format!("{INTERFACE}.{method}"), parameters)
}

#[test]
fn requests_are_decoded_as_encoded() {
    let addresses: Vec<DataAddress> =
        vec!["192.168.178.200/24".parse().unwrap(), "2001:db8::200/64".parse().unwrap()];
    let group = || "production0".to_owned();
    let interface = || "eth0.100".to_owned();
    let targets: Vec<IpAddr> = vec!["192.168.178.1".parse().unwrap(), "fe80::1".parse().unwrap()];
    let mut requests = vec![
        Request::Create { group: group(), groupname: None, addresses: vec![] },
        Request::Create { group: group(), groupname: Some("The.Group".into()), addresses: addresses.clone() },
        Request::Destroy { group: group() },
        Request::Attach {
            group: group(),
            interfaces: vec!["eth1".into(), "eth0".into()],
            standby: false,
            test_addresses: vec![TestAddressSpec::Dhcp],
            dry_run: true,
            accept_firewall: false,
        },
        Request::Attach {
            group: group(),
            interfaces: vec!["eth2".into()],
            standby: true,
            test_addresses: vec![],
            dry_run: false,
            accept_firewall: false,
        },
        Request::AddTarget { group: group(), addresses: targets.clone() },
        Request::RemoveTarget { group: group(), addresses: targets.clone() },
        Request::EnableTarget { group: group(), addresses: targets.clone() },
        Request::DisableTarget { group: group(), addresses: targets.clone() },
        Request::AddTargetRoute { group: None, addresses: targets.clone() },
        Request::RemoveTargetRoute { group: Some(group()), addresses: targets.clone() },
        Request::DiscoverTargets { group: group() },
        Request::ListTargets { group: group() },
        Request::Set { name: group(), settings: vec![Setting::Targets(targets)] },
        Request::Attach {
            group: group(),
            interfaces: vec!["eth1".into()],
            standby: false,
            test_addresses: vec![TestAddressSpec::Is(addresses[1]), TestAddressSpec::Dhcp],
            dry_run: false,
            accept_firewall: false,
        },
        Request::AddTestAddress { interface: interface(), address: TestAddressSpec::Is(addresses[0]) },
        Request::RemoveTestAddress { interface: interface(), address: TestAddressSpec::Dhcp },
        Request::AddAddress { group: group(), addresses: addresses.clone(), inbound: None, logical: None },
        Request::AddAddress {
            group: group(),
            addresses: addresses[..1].to_vec(),
            inbound: Some("eth0".into()),
            logical: Some(1),
        },
        Request::RemoveAddress { group: group(), addresses },
        Request::plan(Request::Set { name: interface(), settings: vec![Setting::Weight(10)] }),
        Request::plan(Request::DetachAll { group: None }),
        Request::Offline { interface: interface() },
        Request::Drain { interface: interface(), seconds: 36_000 },
        Request::Online { interface: interface() },
        Request::Set {
            name: group(),
            settings: Setting::all_of(&["capture=on".into(), "hash=flow".into()]).unwrap(),
        },
        Request::Set { name: interface(), settings: vec![Setting::Weight(10)] },
        Request::Show { name: None },
        Request::Show { name: Some("The.Group".into()) },
        Request::Monitor { name: None },
        Request::Monitor { name: Some("The.Group".into()) },
        Request::Probes { name: None },
        Request::Probes { name: Some("The.Group".into()) },
        Request::Explain { member: interface() },
        Request::Path { group: group(), packet: path::sample_packet(), lost: vec![] },
        Request::Path {
            group: group(),
            packet: Packet {
                protocol: None,
                source_port: None,
                destination_port: None,
                ..path::sample_packet()
            },
            lost: vec![interface()],
        },
        Request::Simulate { group: group(), lost: vec![interface()] },
        Request::Timeline { name: None, last: None },
        Request::Timeline { name: Some(group()), last: Some(3) },
    ];
    for last in [
        None,
        Some(LastMember::Restore),
        Some(LastMember::KeepGroup),
        Some(LastMember::Force),
        Some(LastMember::MoveBack),
    ] {
        requests.push(Request::Detach { interface: interface(), last });
    }
    for request in requests {
        let bytes = serde_json::to_vec(&MethodCall::new(&request)).unwrap();
        let call: MethodCall = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(call.parse(), Ok(ParsedCall::Request(request)));
    }
}

#[test]
fn optional_parameters_may_be_missing() {
    assert_eq!(
        manager("Create", json!({ "group": "g0", "addresses": [] })),
        Ok(ParsedCall::Request(Request::Create { group: "g0".into(), groupname: None, addresses: vec![] }))
    );
    assert_eq!(
        manager("Attach", json!({ "group": "g0", "interfaces": ["eth0"] })),
        Ok(ParsedCall::Request(Request::Attach {
            group: "g0".into(),
            interfaces: vec!["eth0".into()],
            standby: false,
            test_addresses: vec![],
            dry_run: false,
            accept_firewall: false,
        }))
    );
    let call: MethodCall = serde_json::from_str(r#"{"method":"net.ipmp.Manager.Show"}"#).unwrap();
    assert_eq!(call.parse(), Ok(ParsedCall::Request(Request::Show { name: None })));
}

#[test]
fn unknown_methods_and_interfaces_are_named() {
    let method = |method: &str| Err(Failure::MethodNotFound { method: method.into() });
    let interface = |interface: &str| Err(Failure::InterfaceNotFound { interface: interface.into() });
    assert_eq!(manager("Explode", json!({})), method("net.ipmp.Manager.Explode"));
    assert_eq!(call("org.varlink.service.Explode", json!({})), method("org.varlink.service.Explode"));
    assert_eq!(call("Explode", json!({})), method("Explode"));
    assert_eq!(call("", json!({})), method(""));
    assert_eq!(call("com.example.Show", json!({})), interface("com.example"));
    assert_eq!(
        call("org.varlink.service.GetInterfaceDescription", json!({ "interface": "com.example" })),
        interface("com.example")
    );
}

#[test]
fn wrong_parameters_are_named() {
    for (method, parameters, parameter) in [
        ("Destroy", json!({}), "group"),
        ("Destroy", json!({ "group": 7 }), "group"),
        ("Destroy", json!({ "group": "g0", "force": true }), "force"),
        ("Attach", json!({ "group": "g0" }), "interfaces"),
        ("Attach", json!({ "group": "g0", "interfaces": [] }), "interfaces"),
        ("Attach", json!({ "group": "g0", "interfaces": "eth0" }), "interfaces"),
        ("Set", json!({ "name": "g0", "settings": [] }), "settings"),
        ("Set", json!({ "name": "g0", "settings": [1] }), "settings"),
        ("Detach", json!({ "interface": "eth0", "last": "explode" }), "last"),
        ("Plan", json!({ "method": "Show", "parameters": { "name": null } }), "method"),
        ("Plan", json!({ "method": "Plan", "parameters": {} }), "method"),
        ("Plan", json!({ "method": "Offline", "parameters": {} }), "interface"),
        ("Plan", json!({ "method": "Offline", "parameters": { "interface": "eth0", "color": 1 } }), "color"),
        ("AddAddress", json!({ "group": "g0", "addresses": [] }), "addresses"),
        ("AddTarget", json!({ "group": "g0", "addresses": [] }), "addresses"),
        ("DiscoverTargets", json!({}), "group"),
        ("Attach", json!({ "group": "g0", "interfaces": ["eth0"], "standby": "yes" }), "standby"),
        ("Show", json!({ "name": ["g0"] }), "name"),
        ("Explain", json!({}), "member"),
        ("Path", json!({ "group": "g0", "source": "10.0.0.1" }), "destination"),
        ("Path", json!({ "group": "g0", "source": "10.0.0.1", "destination": "x" }), "destination"),
        (
            "Path",
            json!({ "group": "g0", "source": "10.0.0.1", "destination": "10.0.0.2", "protocol": "tpc" }),
            "protocol",
        ),
        ("Simulate", json!({ "group": "g0", "lost": [] }), "lost"),
    ] {
        assert_eq!(manager(method, parameters), Err(invalid(parameter)), "{method}");
    }
}

#[test]
fn wrong_names_and_addresses_are_refused_in_one_line() {
    for (method, parameters, reason, message) in [
        (
            "Create",
            json!({ "group": "a/b", "addresses": [] }),
            reason::BAD_NAME,
            r#""a/b" cannot name a group: choose one without '/'"#,
        ),
        (
            "Create",
            json!({ "group": "g0", "groupname": "", "addresses": [] }),
            reason::BAD_NAME,
            "a group has an empty name: give it 1 to 31 bytes",
        ),
        (
            "Create",
            json!({ "group": "g0", "addresses": ["10.0.0.1/24", "10.0.0.1/16"] }),
            reason::BAD_ADDRESS,
            "10.0.0.1 is given twice: give each address once",
        ),
        (
            "AddAddress",
            json!({ "group": "g0", "addresses": ["10.0.0.1"] }),
            reason::BAD_ADDRESS,
            "10.0.0.1 has no prefix length: write 10.0.0.1/24, or the prefix length of its network",
        ),
        (
            "AddTarget",
            json!({ "group": "g0", "addresses": ["ff02::1"] }),
            reason::BAD_ADDRESS,
            "ff02::1 is a multicast address, which cannot be a target: name a host on the link of the group",
        ),
        (
            "Attach",
            json!({ "group": "g0", "interfaces": ["eth0", "eth1", "eth0"] }),
            reason::BAD_NAME,
            "eth0 is named twice: name each interface once",
        ),
        (
            "Attach",
            json!({ "group": "g0", "interfaces": ["eth0", "eth1"], "test_addresses": ["10.0.0.1/24"] }),
            reason::BAD_ADDRESS,
            "10.0.0.1/24 can be on one interface only, not on eth0 and eth1: attach each with its own \
             --test-address",
        ),
        (
            "AddTestAddress",
            json!({ "interface": "eth0", "address": "10.0.0.1" }),
            reason::BAD_ADDRESS,
            "10.0.0.1 has no prefix length: write 10.0.0.1/24, or the prefix length of its network",
        ),
        (
            "Path",
            json!({ "group": "g0", "source": "10.0.0.1", "destination": "2001:db8::1" }),
            reason::BAD_PACKET,
            "10.0.0.1 and 2001:db8::1 are of different families: name two addresses of one family",
        ),
        (
            "Path",
            json!({ "group": "g0", "source": "10.0.0.1", "destination": "10.0.0.2", "protocol": "tcp", "source_port": 1 }),
            reason::BAD_PACKET,
            "a packet has two ports or none: name the source port and the destination port",
        ),
        (
            "Path",
            json!({ "group": "g0", "source": "10.0.0.1", "destination": "10.0.0.2", "protocol": "icmp",
                    "source_port": 1, "destination_port": 2 }),
            reason::BAD_PACKET,
            "a packet of icmp has no ports: name none, or tcp, udp or sctp",
        ),
        (
            "Simulate",
            json!({ "group": "g0", "lost": ["eth0", "eth0"] }),
            reason::BAD_NAME,
            "eth0 is named twice: name each interface once",
        ),
        (
            "Drain",
            json!({ "interface": "eth0", "seconds": 36_001 }),
            reason::BAD_SETTING,
            "a drain cannot take 36001 s: name 1 to 36000 seconds",
        ),
        (
            "Offline",
            json!({ "interface": "sixteen-bytes-00" }),
            reason::BAD_NAME,
            r#""sixteen-bytes-00" is too long for an interface: 16 bytes, and the limit is 15"#,
        ),
    ] {
        let refused = Failure::Refused { reason: reason.into(), message: message.into() };
        assert_eq!(manager(method, parameters), Err(refused), "{method}");
    }
}

#[test]
fn replies_are_varlink_messages() {
    assert_eq!(
        reply(Ok(Response::done(vec!["a note".into()]).into())),
        b"{\"parameters\":{\"notes\":[\"a note\"],\"changed\":true}}\0"
    );
    assert_eq!(reply(Ok(Response::Show(vec![]).into())), b"{\"parameters\":{\"version\":1,\"groups\":[]}}\0");
    assert_eq!(
        reply(Ok(Response::Targets(vec![]).into())),
        b"{\"parameters\":{\"version\":1,\"targets\":[]}}\0"
    );
    assert_eq!(
        reply(Err(invalid("group"))),
        b"{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":{\"parameter\":\"group\"}}\0"
    );
}
