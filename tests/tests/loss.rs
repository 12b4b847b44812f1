//! Paths that lose some packets: a member that loses far more than the others is degraded, and no other one. The frames are dropped
//! by the switch port of the member, at random.

lab::lane!(side_by_side, seconds = 150, threads = 3);

use std::time::{Duration, Instant};

use ipmp::types::{Family, GroupState, LossEvidence};
use lab::network::{DATA, ROUTER};
use lab::{Bulk, Cable, Lab, Monitor, Production, SECOND, TIMEOUT, bulk, command, of_lane, wait_until};

/// The member whose path loses frames.
const LOSSY: &str = "e1000g1";
/// Longest time until it is degraded or in order again, with an FDT of 1 s.
const LIMIT: Duration = Duration::from_secs(100);
const CONNECTIONS: usize = 60;
/// Bytes of a connection in a second.
const PACE: u64 = 60_000;

/// Drops this percentage of the frames that a switch port receives from a cable.
fn lose_at_random(cable: &Cable, percent: u32) {
    let port = cable.far();
    let rules = format!(
        "table netdev {0} {{ chain in {{ type filter hook ingress device \"{0}\" priority 0; \
         numgen random mod 100 < {percent} drop; }}; }}",
        port.interface
    );
    command::run(port.namespace.command("nft").arg(rules)).unwrap();
}

fn lose_none(cable: &Cable) {
    let port = cable.far();
    command::run(port.namespace.command("nft").args(["delete", "table", "netdev", &port.interface])).unwrap();
}

fn build<'lab>(lab: &'lab Lab, settings: &str) -> Production<'lab> {
    let settings = format!("targets={ROUTER} {settings}");
    let production = Production::create_probed(lab, &[Family::V4], &settings).unwrap();
    production.wait_answered().unwrap();
    production
}

fn degraded(production: &Production<'_>) -> Vec<String> {
    let members = production.report().unwrap().members;
    members.into_iter().filter(|member| member.degraded.is_some()).map(|member| member.name).collect()
}

/// Waits for an event of this kind; the caller checks the state.
fn wait_for(monitor: &Monitor, kind: &str, limit: Duration) {
    wait_until(limit, || monitor.events().iter().any(|event| event["kind"] == kind));
}

#[test]
fn lossy_member_is_degraded_and_avoided_until_its_path_is_good() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = build(&lab, "fdt=1s loss-fail=5%");
    let monitor = Monitor::start(&production.daemon, "--json").unwrap();
    let cable = lab.member(LOSSY).cable();
    lose_at_random(cable, 30);
    let start = Instant::now();
    wait_for(&monitor, "degraded", LIMIT);
    println!("30 % of the frames lost on {LOSSY}, FDT 1 s: degraded after {:?}", start.elapsed());
    assert_eq!(degraded(&production), [LOSSY], "{}", production.show());
    let (group, member) = (production.report().unwrap(), production.member(LOSSY).unwrap());
    assert_eq!(group.state, GroupState::Degraded);
    assert!(
        member.degraded.is_some_and(|degraded| degraded.avoided) && !member.usable,
        "{}",
        production.show()
    );
    let text = production.show();
    assert!(text.contains("% of the probes in ") && text.contains("probes lost: "), "{text}");
    let explained = production.daemon.ctl(&format!("explain {LOSSY}")).unwrap();
    assert!(explained.contains("is degraded") || explained.contains("has failed"), "{explained}");

    lose_none(cable);
    let start = Instant::now();
    wait_for(&monitor, "degraded-ended", LIMIT);
    wait_until(LIMIT, || production.member(LOSSY).unwrap().usable);
    println!("without loss: in use again after {:?}", start.elapsed());
    assert!(
        degraded(&production).is_empty() && production.member(LOSSY).unwrap().usable,
        "{}",
        production.show()
    );
    let events = monitor.events();
    for kind in ["degraded", "degraded-ended"] {
        let members: Vec<&str> = events
            .iter()
            .filter(|event| event["kind"] == kind)
            .filter_map(|event| event["member"].as_str())
            .collect();
        assert_eq!(members, [LOSSY], "{kind}");
    }
    drop(monitor);
    production.assert_clean();
}

/// Loses frames of all members alike.
fn lose_behind_all(settings: &str, percent: u32, time: Duration) {
    let lab = Lab::tutorial().unwrap();
    let production = build(&lab, settings);
    lose_at_random(lab.router().cable(), percent);
    let start = Instant::now();
    while start.elapsed() < time {
        std::thread::sleep(SECOND);
        assert!(degraded(&production).is_empty(), "{}", production.show());
    }
    let lost = production.count(None, "lost").unwrap();
    println!(
        "{percent} % of the frames of the router lost, {settings}, {time:?}: {lost} probes lost, no member degraded"
    );
    assert!(lost > 0);
    production.assert_clean();
}

#[test]
fn loss_behind_all_members_degrades_none() {
    lab::needs_root!();
    lose_behind_all("fdt=1s", 15, 40 * SECOND);
}

#[test]
#[ignore = "soak: ten minutes"]
fn soak_loss_behind_all_members_degrades_none() {
    lab::needs_root!();
    std::thread::scope(|scope| {
        scope.spawn(|| lose_behind_all("fdt=10s", 5, 600 * SECOND));
        scope.spawn(|| lose_behind_all("fdt=10s", 30, 600 * SECOND));
    });
}

/// Connections of the host to one other host, which send for as long as the test runs.
fn connect(lab: &Lab) -> Vec<bulk::Running> {
    let peer = &lab.peers()[0];
    let connect = |_| {
        let bulk = Bulk::new(lab.host(), peer.namespace(), peer.v4()).source(DATA);
        bulk.pace(PACE).send_buffer(PACE as usize).start().unwrap()
    };
    let connections: Vec<_> = (0..CONNECTIONS).map(connect).collect();
    connections.iter().for_each(|bulk| bulk.wait_received(4096, TIMEOUT).unwrap());
    connections
}

/// Ends them at once, and returns how many segments they sent again.
fn end(connections: Vec<bulk::Running>) -> u32 {
    let ends = connections.into_iter().map(|bulk| std::thread::spawn(|| bulk.stop().unwrap()));
    let ends: Vec<_> = ends.collect();
    let again = ends.into_iter().map(|end| {
        let report = end.join().unwrap();
        assert!(report.intact && report.error.is_none(), "{report}");
        report.retransmissions
    });
    again.sum()
}

/// At the default failure detection time, its probes would show that after nine minutes.
#[test]
fn member_whose_tcp_segments_are_lost_is_degraded() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = build(&lab, "fdt=10s");
    let monitor = Monitor::start(&production.daemon, "--json").unwrap();
    let connections = connect(&lab);
    // Two sweeps without loss.
    std::thread::sleep(20 * SECOND);
    assert!(degraded(&production).is_empty(), "{}", production.show());
    lose_at_random(lab.member(LOSSY).cable(), 5);
    let start = Instant::now();
    wait_for(&monitor, "degraded", LIMIT);
    println!(
        "5 % of the frames lost on {LOSSY}, {CONNECTIONS} TCP connections outbound, FDT 10 s: degraded after {:?}",
        start.elapsed()
    );
    assert_eq!(degraded(&production), [LOSSY], "{}", production.show());
    let by = production.member(LOSSY).unwrap().degraded.unwrap();
    assert_eq!(by.of, LossEvidence::Segments, "{by:?}");
    assert!(production.show().contains("% of the TCP segments in "), "{}", production.show());
    lose_none(lab.member(LOSSY).cable());
    let retransmissions = end(connections);
    println!("{retransmissions} segments were sent again");
    drop(monitor);
    production.assert_clean();
}

#[test]
fn tcp_segments_that_all_members_lose_degrade_none() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = build(&lab, "fdt=10s");
    let connections = connect(&lab);
    lab.members().iter().for_each(|member| lose_at_random(member.cable(), 5));
    let (start, time) = (Instant::now(), of_lane(60, 600) * SECOND);
    while start.elapsed() < time {
        std::thread::sleep(SECOND);
        assert!(degraded(&production).is_empty(), "{}", production.show());
    }
    lab.members().iter().for_each(|member| lose_none(member.cable()));
    let retransmissions = end(connections);
    println!(
        "5 % of the frames of all members lost, {CONNECTIONS} TCP connections outbound, {time:?}: {retransmissions} segments sent again, no \
         member degraded"
    );
    assert!(retransmissions > 0);
    production.assert_clean();
}

/// At the default failure detection time.
#[test]
#[ignore = "soak: up to half an hour"]
fn soak_lossy_member_is_degraded_at_the_default_fdt() {
    lab::needs_root!();
    let lose = |percent: u32, limit: Duration| {
        let lab = Lab::tutorial().unwrap();
        let production = build(&lab, "fdt=10s");
        let monitor = Monitor::start(&production.daemon, "--json").unwrap();
        lose_at_random(lab.member(LOSSY).cable(), percent);
        let start = Instant::now();
        wait_for(&monitor, "degraded", limit);
        println!("{percent} % of the frames lost on {LOSSY}, FDT 10 s: degraded after {:?}", start.elapsed());
        assert_eq!(degraded(&production), [LOSSY], "{}", production.show());
        drop(monitor);
        production.assert_clean();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| lose(30, 900 * SECOND));
        scope.spawn(|| lose(5, 1800 * SECOND));
    });
}
