//! Traffic does not need the daemon, and nothing that the daemon does is for ever: killed and started again, torn down,
//! given back.

lab::lane!(alone);

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipmp::{
    control::report::{Drops, GroupReport, Traffic},
    types::{MemberState, OfflineCause},
};
use lab::network::{DATA, DATA6, ROUTER, counterpart};
use lab::production::GROUP;
use lab::{
    Bulk, Daemon, Lab, MS, MeasurementLock, Production, SECOND, Snapshot, Stream, command, wait_until,
};

/// What the host has before there is a group: an address on e1000g0.
const PLAIN: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 201);
const PLAIN6: Ipv6Addr = counterpart(PLAIN);
/// Somebody behind the router.
const BEYOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// Bytes per second of a connection that must not be cut.
const PACE: u64 = 5_000_000;

/// How a daemon ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    Terminated,
}

impl End {
    fn of(self, daemon: &mut Daemon<'_>) {
        match self {
            Self::Killed => daemon.kill().unwrap(),
            Self::Terminated => daemon.terminate().unwrap(),
        }
    }
}

/// A report without what grows, and what grows.
fn apart(mut report: GroupReport) -> (GroupReport, Vec<Traffic>) {
    report.drops = Drops::default();
    let traffic = report.members.iter_mut().map(|member| std::mem::take(&mut member.traffic)).collect();
    (report, traffic)
}

/// Whether every counter went on from where it was.
fn went_on(before: &[Traffic], after: &[Traffic]) -> bool {
    let counts =
        |of: &Traffic| [of.out_packets, of.out_bytes, of.in_packets, of.in_bytes, of.failed_over_packets];
    before.len() == after.len()
        && before.iter().zip(after).all(|(before, after)| {
            counts(before).iter().zip(counts(after)).all(|(before, after)| *before <= after)
        })
}

/// Ends the daemon three times and starts it again, under traffic.
fn survives(end: End) {
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let mut production = Production::create(&lab).unwrap();
    let (host, peer) = (lab.host(), lab.peer(0));
    let streams = [
        ("out", Stream::new(host, peer.namespace(), peer.v4()).source(DATA).flows(32).rate(50_000)),
        ("in", Stream::new(peer.namespace(), host, DATA).flows(4).rate(2_000)),
        ("in by IPv6", Stream::new(peer.namespace(), host, DATA6).flows(4).rate(2_000)),
    ];
    let running = streams.map(|(way, stream)| (way, stream.start().unwrap()));
    for (_, stream) in &running {
        stream.wait_received(1_000, 5 * SECOND).unwrap();
    }
    let lines = production.daemon.log().len();
    for turn in 0..3 {
        let (before, counted) = apart(production.report().unwrap());
        end.of(&mut production.daemon);
        running[0].1.wait_received(10_000, 5 * SECOND).unwrap();
        production.daemon.start().unwrap();
        running[0].1.wait_received(10_000, 5 * SECOND).unwrap();
        let (after, counts) = apart(production.report().unwrap());
        assert_eq!(after, before, "{end:?}, turn {turn}");
        assert!(went_on(&counted, &counts), "{end:?}, turn {turn}: {counted:?}, then {counts:?}");
        let slowest = |of: &[Traffic]| of.iter().map(|member| member.out_packets).min();
        assert!(slowest(&counts) > slowest(&counted), "{end:?}: every member goes on sending");
    }
    for (way, stream) in running {
        let report = stream.stop().unwrap();
        println!("{end:?} three times, {way}: {report}");
        report.ensure_valid().unwrap();
        assert_eq!(
            (report.lost(), report.reordered(), report.duplicated()),
            (0, 0, 0),
            "{end:?}, {way}: {report}"
        );
    }
    let said = production.daemon.log().split_off(lines);
    let complaints: Vec<_> =
        said.iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    production.assert_clean();
}

#[test]
fn killed_and_started_again() {
    lab::needs_root!();
    survives(End::Killed);
}

#[test]
fn terminated_and_started_again() {
    lab::needs_root!();
    survives(End::Terminated);
}

/// What happened while no daemon was there is found out, and what was decided before is kept.
#[test]
fn verdicts_are_taken_over() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let mut production = Production::create(&lab).unwrap();
    let peer = lab.peer(0);
    let stream = Stream::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).flows(8).rate(20_000);
    let running = stream.start().unwrap();
    running.wait_received(2_000, 5 * SECOND).unwrap();
    production.daemon.ctl("offline e1000g1").unwrap();
    production.daemon.kill().unwrap();
    let port = || lab.cable(1).port().unwrap().rx_dropped;
    let before = port();
    lab.cable(1).pull().unwrap();
    running.wait_received(5_000, 5 * SECOND).unwrap();
    production.daemon.start().unwrap();
    production.wait_usable(1).unwrap();
    let state = |name| production.member(name).unwrap().state;
    assert_eq!(state("e1000g0"), MemberState::Failed);
    assert_eq!(state("e1000g1"), MemberState::Offline);
    assert_eq!(production.member("e1000g1").unwrap().offline, Some(OfflineCause::Operator));
    assert_eq!(state("rge0"), MemberState::Ok);
    for address in [IpAddr::from(DATA), DATA6.into()] {
        assert_eq!(production.inbound(address).unwrap(), "rge0");
    }
    running.wait_received(5_000, 5 * SECOND).unwrap();
    lab.cable(1).replug().unwrap();
    production.daemon.ctl("online e1000g1").unwrap();
    production.wait_usable(3).unwrap();
    let died = port() - before;
    let report = running.stop().unwrap();
    println!("pulled while no daemon was there: {report}; died in the port: {died}");
    report.ensure_valid().unwrap();
    assert_eq!((report.reordered(), report.duplicated()), (0, 0), "{report}");
    assert!(report.lost() <= died, "{report}; died in the port: {died}");
    production.assert_clean();
}

/// The host before there is a group: in use, with addresses, a default route and one that is not the kernel's; and one
/// interface that is down.
fn in_use(lab: &Lab) {
    let host = lab.host();
    let router6 = counterpart(ROUTER);
    for line in [
        format!("addr add {PLAIN}/24 brd + dev e1000g0"),
        format!("addr add {PLAIN6}/64 dev e1000g0 nodad"),
        format!("route add default via {ROUTER} dev e1000g0 src {PLAIN} metric 100"),
        format!("-6 route add default via {router6} dev e1000g0 metric 100"),
        format!("route add 198.51.100.0/24 via {} dev e1000g0", lab.peer(0).v4()),
    ] {
        host.ip(&line).unwrap();
    }
    lab.router().namespace().ip(&format!("addr add {BEYOND}/32 dev lo")).unwrap();
}

/// Everything of the host, the tc filters and programs of its interfaces included.
fn snapshot(lab: &Lab) -> Snapshot {
    let mut all = Snapshot::settled(lab).unwrap();
    for member in lab.members() {
        for way in ["ingress", "egress"] {
            let filters = ["-j", "filter", "show", "dev", member.name(), way];
            let filters = command::run(lab.host().command("tc").args(filters)).unwrap();
            all = all.with(format!("tc filters, {} {way}: {}", member.name(), filters.trim()));
        }
        // Programs of tcx are in no listing of tc.
        let programs = lab.host().run(|| {
            use aya::programs::{SchedClassifier, TcAttachType};
            [TcAttachType::Ingress, TcAttachType::Egress].map(|hook| {
                SchedClassifier::query_tcx(member.name(), hook).map_or(0, |(_, programs)| programs.len())
            })
        });
        all = all.with(format!("tcx programs, {}: {programs:?}", member.name()));
    }
    all
}

fn assert_same(lab: &Lab, before: &Snapshot, what: &str) {
    let mut left = Vec::new();
    // What the kernel does by itself, as links come up and are found to be unique, takes its time.
    wait_until(5 * SECOND, || {
        left = snapshot(lab).differences(before);
        left.is_empty()
    });
    assert!(left.is_empty(), "{what}: not as before:\n{}", left.join("\n"));
    println!("{what}: {} things as before the first attach", before.len());
}

/// With no daemon alive, however it ended, and with a member that is pulled.
#[test]
fn torn_down_with_no_daemon() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    in_use(&lab);
    lab.host().ip("link set rge0 down").unwrap();
    let before = snapshot(&lab);
    for pulled in [false, true] {
        let mut daemon = Daemon::start_in(&lab).unwrap();
        daemon.ctl(&format!("create {GROUP} --address {DATA}/24 --address {DATA6}/64")).unwrap();
        daemon.ctl(&format!("attach e1000g0 e1000g1 rge0 --group {GROUP}")).unwrap();
        let during = Snapshot::settled(&lab).unwrap();
        assert!(during.differences(&before).len() > 10, "the group is there");
        assert_eq!(lab.peer(0).ping(PLAIN.into(), 3, MS, SECOND).unwrap().answered, 3);
        assert_eq!(lab.peer(0).ping(PLAIN6.into(), 3, MS, SECOND).unwrap().answered, 3);
        if pulled {
            lab.cable(2).pull().unwrap();
        }
        daemon.kill().unwrap();
        let output = daemon.teardown().unwrap();
        assert!(output.is_empty(), "{output}");
        lab.cable(2).replug().unwrap();
        lab.cable(2).wait_carrier(true, 5 * SECOND).unwrap();
        assert_same(&lab, &before, "ipmpd --teardown");
        assert_eq!(lab.peer(0).ping(PLAIN.into(), 3, MS, SECOND).unwrap().answered, 3);
        // Once more: there is nothing to do, which is no error.
        daemon.teardown().unwrap();
    }
}

/// A NIC that connections go through joins a group, gets company, loses it again, and gets everything back: no
/// connection is cut, in either direction, and everything is as it was.
#[test]
fn a_nic_in_use_joins_and_leaves() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    in_use(&lab);
    let before = snapshot(&lab);
    let (host, peer, router) = (lab.host(), lab.peer(0), lab.router().namespace());
    let bulks = [
        ("to a peer", Bulk::new(host, peer.namespace(), peer.v4()).source(PLAIN)),
        ("from a peer by IPv6", Bulk::new(peer.namespace(), host, PLAIN6)),
        ("by the default route", Bulk::new(host, router, BEYOND).source(PLAIN)),
    ];
    let running = bulks.map(|(way, bulk)| (way, bulk.pace(PACE).start().unwrap()));
    let flowing = |what: &str| {
        for (way, bulk) in &running {
            bulk.wait_received(1 << 20, 5 * SECOND).unwrap_or_else(|error| panic!("{what}, {way}: {error}"));
        }
    };
    flowing("before");
    let mut daemon = Daemon::start_in(&lab).unwrap();
    println!("{}", daemon.ctl(&format!("attach e1000g0 --group {GROUP}")).unwrap().trim());
    flowing("attached");
    let addresses = host.ip("-br addr show dev e1000g0").unwrap();
    assert!(
        !addresses.contains(&PLAIN.to_string()) && !addresses.contains(&PLAIN6.to_string()),
        "{addresses}"
    );
    let addresses = host.ip(&format!("-br addr show dev {GROUP}")).unwrap();
    assert!(addresses.contains(&PLAIN.to_string()) && addresses.contains(&PLAIN6.to_string()), "{addresses}");
    for family in ["-4", "-6"] {
        let routes = host.ip(&format!("{family} route show default")).unwrap();
        assert!(routes.contains(GROUP) && !routes.contains("e1000g0"), "{routes}");
    }
    daemon.ctl(&format!("attach e1000g1 rge0 --group {GROUP}")).unwrap();
    flowing("three members");
    for name in ["e1000g1", "rge0"] {
        daemon.ctl(&format!("detach {name}")).unwrap();
    }
    flowing("one member");
    println!("{}", daemon.ctl("detach e1000g0 --restore").unwrap().trim());
    flowing("given back");
    assert!(host.link(GROUP).is_err());
    for (way, bulk) in running {
        let report = bulk.stop().unwrap();
        println!("in use, {way}: {report}");
        assert!(report.error.is_none() && report.intact, "{way}: {report}");
        // One retransmission timeout is 200 ms at least; a second one would double it.
        assert!(report.longest_stall < 500 * MS, "{way}: {report}");
    }
    daemon.terminate().unwrap();
    assert_same(&lab, &before, "detach --restore");
}

/// A group that comes and goes leaves nothing.
#[test]
fn destroyed() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let before = snapshot(&lab);
    let mut production = Production::create(&lab).unwrap();
    let refused = production.daemon.ctl_error(&format!("destroy {GROUP}")).unwrap();
    assert!(refused.contains("IPMP group is not empty"), "{refused}");
    for name in ["e1000g0", "e1000g1"] {
        production.daemon.ctl(&format!("detach {name}")).unwrap();
    }
    production.daemon.ctl("detach rge0 --keep-group").unwrap();
    production.daemon.ctl(&format!("destroy {GROUP}")).unwrap();
    assert!(lab.host().link(GROUP).is_err());
    production.daemon.terminate().unwrap();
    assert_same(&lab, &before, "destroy");
    production.assert_clean();
}
