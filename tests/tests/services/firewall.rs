//! nftables rules for the group interface match all traffic; rules for members match none.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use lab::network::{DATA, DATA6};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{Bulk, Lab, Production, Stream, TIMEOUT, command, filter, show_mac};
use serde_json::Value;

/// Packets per second of each stream.
const RATE: u64 = 1_000;
/// Bytes per second of a connection.
const PACE: u64 = 1_000_000;

/// A stream, with a port and a rule of its own.
struct Way {
    name: &'static str,
    port: u16,
    inbound: bool,
}

const WAYS: [Way; 4] = [
    Way { name: "out4", port: 7001, inbound: false },
    Way { name: "out6", port: 7002, inbound: false },
    Way { name: "in4", port: 7003, inbound: true },
    Way { name: "in6", port: 7004, inbound: true },
];

/// A firewall that accepts traffic only by rules for the group interface, and counters for every path to and from members.
/// `ip_…` are counters at the IP hooks, `wire_…` at the device hooks. A frame for the MAC of an unplugged member is flooded to
/// the other members, which see it as `pkttype other`, like any promiscuous NIC.
fn rules(lab: &Lab) -> String {
    let members: Vec<_> = lab.members().iter().map(|member| member.name()).collect();
    let (members, any) = (members.join(", "), "udp dport 7001-7004");
    let counters = |places: &[&str]| -> String {
        let every = places.iter().flat_map(|place| WAYS.map(|way| format!("{place}_{}", way.name)));
        every.chain(["members".into()]).map(|name| format!("counter {name} {{}}\n")).collect()
    };
    let mac = show_mac(lab.host().link(GROUP).unwrap().mac);
    let seen = |place: &str, inbound: bool, condition: &str, verdict: &str| -> String {
        let ways = WAYS.iter().filter(|way| way.inbound == inbound);
        let rule = |way: &Way| {
            format!("{condition} udp dport {} counter name {place}_{} {verdict}\n", way.port, way.name)
        };
        ways.map(rule).collect()
    };
    format!(
        "table inet firewall {{
            {ip_counters}
            chain prerouting {{
                type filter hook prerouting priority raw
                iifname {{ {members} }} {any} counter name members
            }}
            chain group {{ {input} }}
            chain input {{
                type filter hook input priority filter; policy drop
                iifname {GROUP} jump group
                iifname {GROUP} ct state established accept
                iifname {GROUP} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
            }}
            chain sent {{ {output} }}
            chain output {{
                type filter hook output priority filter
                oifname {GROUP} jump sent
                oifname {{ {members} }} {any} counter name members
            }}
            chain postrouting {{
                type filter hook postrouting priority srcnat
                oifname {{ {members} }} {any} counter name members
            }}
        }}
        table netdev wires {{
            {device_counters}
            chain group_in {{ type filter hook ingress device {GROUP} priority 0; {wire_in} }}
            chain group_out {{ type filter hook egress device {GROUP} priority 0; {wire_out} }}
            chain members_in {{
                type filter hook ingress devices = {{ {members} }} priority 0
                meta pkttype != other {any} counter name members
            }}
            chain members_out {{
                type filter hook egress devices = {{ {members} }} priority 0; {any} counter name members
            }}
        }}\n",
        ip_counters = counters(&["ip"]),
        input = seen("ip", true, "", "accept"),
        output = seen("ip", false, "", ""),
        device_counters = counters(&["wire"]),
        wire_in = seen("wire", true, &format!("ether daddr {mac}"), ""),
        wire_out = seen("wire", false, &format!("ether saddr {mac}"), ""),
    )
}

/// Packets of every counter. The counters `members` of both tables are added.
fn counted(lab: &Lab) -> BTreeMap<String, u64> {
    let text = command::run(lab.host().command("nft").args(["--json", "list", "counters"])).unwrap();
    let listed: Value = serde_json::from_str(&text).unwrap();
    let mut counted = BTreeMap::new();
    for counter in listed["nftables"].as_array().unwrap().iter().filter_map(|entry| entry.get("counter")) {
        let name = counter["name"].as_str().unwrap().to_owned();
        *counted.entry(name).or_default() += counter["packets"].as_u64().unwrap();
    }
    counted
}

#[test]
fn firewall_rules_match_group_and_not_members() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let (host, peer) = (lab.host(), lab.peer(0));
    let file = lab.directory().join("firewall.nft");
    fs::write(&file, rules(&lab)).unwrap();
    command::run(host.command("nft").arg("-f").arg(&file)).unwrap();

    let running = WAYS.map(|way| {
        let four = way.name.ends_with('4');
        let ours: IpAddr = if four { DATA.into() } else { DATA6.into() };
        let theirs: IpAddr = if four { peer.v4().into() } else { peer.v6().into() };
        let (from, to) = if way.inbound { (peer.namespace(), host) } else { (host, peer.namespace()) };
        let (source, destination) = if way.inbound { (theirs, ours) } else { (ours, theirs) };
        let stream = Stream::new(from, to, destination).source(source).port(way.port).rate(RATE);
        (way, stream.start().unwrap())
    });
    // Its replies are accepted by connection tracking.
    let bulk = Bulk::new(host, peer.namespace(), peer.v4()).source(DATA).pace(PACE).start().unwrap();
    let mut watching = None;
    for number in 1..=lab.members().len() {
        for (_, stream) in &running {
            stream.wait_received(RATE / 5, TIMEOUT).unwrap();
        }
        lab.cable(number).pull().unwrap();
        for (_, stream) in &running {
            stream.wait_received(RATE / 5, TIMEOUT).unwrap();
        }
        lab.cable(number).replug().unwrap();
        production.clear_flap_history(&lab.members()[number - 1]).unwrap();
        // From the second cable on there is a capture; its copies must not be counted.
        watching.get_or_insert_with(|| PacketSocket::open(host, Some(GROUP), &filter::broadcast()).unwrap());
    }
    let copies = production.report().unwrap().capture.copies;
    assert!(copies > RATE, "only {copies} copies for the capture");
    let bulk = bulk.stop().unwrap();
    println!("a connection accepted as established: {bulk}");
    assert!(bulk.error.is_none() && bulk.intact && bulk.bytes > 0, "{bulk}");
    let reports = running.map(|(way, stream)| (way, stream.stop().unwrap()));
    let counted = counted(&lab);
    println!("counted: {counted:?}; {copies} copies for the capture");
    for (way, report) in reports {
        println!("{}: {report}", way.name);
        // Inbound packets are counted when received, outbound packets before they can be lost.
        let expected = if way.inbound { report.received() + report.duplicated() } else { report.sent() };
        assert_eq!((report.buffer_drops, report.duplicated()), (0, 0), "{}: {report}", way.name);
        for place in ["ip", "wire"] {
            assert_eq!(counted[&format!("{place}_{}", way.name)], expected, "{place} {}: {report}", way.name);
        }
    }
    drop(watching);
    assert_eq!(counted["members"], 0, "rules for members count the group's traffic");
    production.assert_clean();
}
