//! Traffic continues without the daemon, a restarted daemon adopts its groups, and teardown and detach restore the host.

lab::lane!(alone);

mod changes;
mod chaos;
mod confirm;
#[cfg(target_arch = "x86_64")]
mod faults;
mod kills;
mod leftovers;
mod random_kills;
mod sound;
mod ssh;
mod state;
#[cfg(target_arch = "x86_64")]
mod trace;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipmp::{
    control::report::{Drops, GroupReport, MemberReport, Traffic},
    types::{MemberState, OfflineCause},
};
use ipmp_common::LAYOUT;
use lab::daemon::binary;
use lab::network::{DATA, DATA6, ROUTER, counterpart};
use lab::production::GROUP;
use lab::{
    Bulk, Daemon, Lab, MS, MeasurementLock, MemberKind, Namespace, Production, SECOND, Snapshot, Stream,
    TIMEOUT, command, wait_until,
};

/// Addresses of e1000g0 before there is a group.
const PLAIN: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 201);
const PLAIN6: Ipv6Addr = counterpart(PLAIN);
/// A host behind the router.
const BEYOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// Bytes per second of a connection that must survive.
const PACE: u64 = 5_000_000;

/// How the daemon ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    Terminated,
}

impl End {
    fn apply(self, daemon: &mut Daemon<'_>) {
        match self {
            Self::Killed => daemon.kill().unwrap(),
            Self::Terminated => daemon.terminate().unwrap(),
        }
    }
}

/// Splits a report into its constant part and its counters.
fn split(mut report: GroupReport) -> (GroupReport, Vec<Traffic>) {
    report.drops = Drops::default();
    let traffic = report.members.iter_mut().map(|member| std::mem::take(&mut member.traffic)).collect();
    (report, traffic)
}

/// Whether no counter has decreased.
fn continues(before: &[Traffic], after: &[Traffic]) -> bool {
    let counts =
        |of: &Traffic| [of.out_packets, of.out_bytes, of.in_packets, of.in_bytes, of.failed_over_packets];
    before.len() == after.len()
        && before.iter().zip(after).all(|(before, after)| {
            counts(before).iter().zip(counts(after)).all(|(before, after)| *before <= after)
        })
}

/// Ends and restarts the daemon three times, with traffic.
fn restart_keeps_traffic(end: End) {
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
        let (before, counted) = split(production.report().unwrap());
        end.apply(&mut production.daemon);
        running[0].1.wait_received(10_000, 5 * SECOND).unwrap();
        production.daemon.start().unwrap();
        running[0].1.wait_received(10_000, 5 * SECOND).unwrap();
        let (after, counts) = split(production.report().unwrap());
        assert_eq!(after, before, "{end:?}, turn {turn}");
        assert!(continues(&counted, &counts), "{end:?}, turn {turn}: {counted:?}, then {counts:?}");
        let slowest = |of: &[Traffic]| of.iter().map(|member| member.out_packets).min();
        assert!(slowest(&counts) > slowest(&counted), "{end:?}: a member has stopped sending");
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
    let problems = production.daemon.problems(lines);
    assert!(problems.is_empty(), "{problems:?}");
    production.assert_clean();
}

#[test]
fn killed_daemon_adopts_group_without_loss() {
    lab::needs_root!();
    restart_keeps_traffic(End::Killed);
}

#[test]
fn terminated_daemon_adopts_group_without_loss() {
    lab::needs_root!();
    restart_keeps_traffic(End::Terminated);
}

/// A restarted daemon detects failures that happened while it was not running, and keeps earlier settings.
#[test]
fn restarted_daemon_keeps_offline_and_detects_failure() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let mut production = Production::create(&lab).unwrap();
    let stream = Stream::outbound(&lab).flows(8).rate(20_000);
    let running = stream.start().unwrap();
    running.wait_received(2_000, 5 * SECOND).unwrap();
    production.daemon.ctl("offline e1000g1").unwrap();
    production.daemon.kill().unwrap();
    let port = || lab.cable(1).port().unwrap().rx_dropped;
    let before = port();
    lab.cable(1).pull().unwrap();
    running.wait_received(5_000, 5 * SECOND).unwrap();
    production.daemon.spawn().unwrap();
    // Signals that arrive during its start are handled after it.
    let listens = || UnixStream::connect(production.daemon.socket()).is_ok();
    assert!(wait_until(TIMEOUT, listens), "ipmpd does not listen");
    for signal in [nix::sys::signal::Signal::SIGHUP, nix::sys::signal::Signal::SIGUSR1] {
        production.daemon.signal(signal).unwrap();
    }
    let is_started = wait_until(TIMEOUT, || {
        assert!(production.daemon.exit_status().is_none(), "ended by a signal during its start");
        production.report().is_ok()
    });
    assert!(is_started, "{}", production.daemon.log().join("\n"));
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
    let dropped = port() - before;
    let report = running.stop().unwrap();
    println!("pulled without a daemon: {report}; dropped by the port: {dropped}");
    report.ensure_valid().unwrap();
    assert_eq!((report.reordered(), report.duplicated()), (0, 0), "{report}");
    assert!(report.lost() <= dropped, "{report}; dropped by the port: {dropped}");
    production.assert_clean();
}

/// Configures the host before there is a group: addresses, a default route and a static route.
fn configure_host(lab: &Lab) {
    let host = lab.host();
    let router6 = counterpart(ROUTER);
    for line in [
        format!("addr add {PLAIN}/24 brd + dev e1000g0"),
        format!("addr add {PLAIN6}/64 dev e1000g0 nodad"),
        // `onlink`: as ifupdown adds them.
        format!("route add default via {ROUTER} dev e1000g0 onlink src {PLAIN} metric 100"),
        format!("-6 route add default via {router6} dev e1000g0 onlink metric 100"),
        format!("route add 198.51.100.0/24 via {} dev e1000g0", lab.peer(0).v4()),
    ] {
        host.ip(&line).unwrap();
    }
    lab.router().namespace().ip(&format!("addr add {BEYOND}/32 dev lo")).unwrap();
}

/// The configuration of the host, with the tc filters and programs of its interfaces.
fn snapshot(lab: &Lab) -> Snapshot {
    let mut all = Snapshot::settled(lab).unwrap();
    for member in lab.members() {
        for way in ["ingress", "egress"] {
            let filters = ["-j", "filter", "show", "dev", member.name(), way];
            let filters = command::run(lab.host().command("tc").args(filters)).unwrap();
            all = all.with(format!("tc filters, {} {way}: {}", member.name(), filters.trim()));
        }
        // tc does not list tcx programs.
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
    // The kernel needs some time to set links up and to complete duplicate address detection.
    wait_until(5 * SECOND, || {
        left = snapshot(lab).differences(before);
        left.is_empty()
    });
    assert!(left.is_empty(), "{what}: not restored:\n{}", left.join("\n"));
    println!("{what}: {} properties as before the first attach", before.len());
}

/// Also with a member whose cable is pulled.
#[test]
fn teardown_without_daemon_restores_host() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    configure_host(&lab);
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
        // A second teardown has nothing to do and succeeds.
        daemon.teardown().unwrap();
    }
}

/// A NIC with connections is attached, further members are attached and detached, and the NIC is detached. All connections
/// survive, and the configuration is restored.
#[test]
fn connections_survive_attach_and_detach() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    configure_host(&lab);
    // A member that is down is set up, and restored by its detach.
    lab.host().ip("link set rge0 down").unwrap();
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
    // From here on no ARP request is answered: a host that has to ask for the gateway's MAC waits until the end.
    for namespace in [peer.namespace(), router] {
        namespace.sysctl("net.ipv4.conf.all.arp_ignore", "8").unwrap();
    }
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
    assert!(host.ip("-br link show dev rge0 up").unwrap().contains("rge0"), "rge0 is down");
    flowing("three members");
    for name in ["e1000g1", "rge0"] {
        daemon.ctl(&format!("detach {name}")).unwrap();
    }
    assert!(!host.ip("-br link show dev rge0 up").unwrap().contains("rge0"), "rge0 was not set down again");
    flowing("one member");
    println!("{}", daemon.ctl("detach e1000g0 --restore").unwrap().trim());
    flowing("restored");
    assert!(host.link(GROUP).is_err());
    for (way, bulk) in running {
        let report = bulk.stop().unwrap();
        println!("in use, {way}: {report}");
        assert!(report.error.is_none() && report.intact, "{way}: {report}");
        // One retransmission timeout is at least 200 ms; a second one takes twice as long.
        assert!(report.longest_stall < 500 * MS, "{way}: {report}");
    }
    daemon.terminate().unwrap();
    assert_same(&lab, &before, "detach --restore");
}

/// Creating and destroying a group leaves nothing behind.
#[test]
fn destroy_restores_host() {
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
