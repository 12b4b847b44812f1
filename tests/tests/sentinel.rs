//! The sentinel with the real daemon: its interval, stacked members, and operation without it.

lab::lane!(alone);

use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use ipmp_common::{
    LAYOUT,
    maps::{CAPTURED, Clock},
    steer::MemberSet,
};
use lab::network::{DATA, DATA6};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{
    Daemon, Lab, MS, MeasurementLock, MemberKind, Production, Stream, TIMEOUT, filter, percentile, wait_until,
};

/// Carrier losses to measure.
const LOSSES: usize = 15;

/// A group with this daemon and these members.
fn create<'lab>(lab: &'lab Lab, daemon: Daemon<'lab>, members: &[&str]) -> Production<'lab> {
    daemon.ctl(&format!("create {GROUP} --address {DATA}/24 --address {DATA6}/64")).unwrap();
    daemon.ctl(&format!("attach {} --group {GROUP}", members.join(" "))).unwrap();
    let production = Production::with_daemon(lab, daemon).unwrap();
    production.wait_usable(members.len()).unwrap();
    production
}

fn names(lab: &Lab) -> Vec<&str> {
    lab.members().iter().map(|member| member.name()).collect()
}

/// The check in the report that begins with this text.
fn check(production: &Production<'_>, beginning: &str) -> Option<String> {
    production.report().unwrap().checks.into_iter().find(|check| check.starts_with(beginning))
}

#[track_caller]
fn wait_live(production: &Production<'_>, member: &str, live: bool) {
    let reached = wait_until(TIMEOUT, || production.member(member).unwrap().live == live);
    assert!(reached, "{member} did not become live: {live}:\n{}", production.daemon.ctl("show").unwrap());
}

/// As on a kernel with PREEMPT_RT, which refuses timers in programs.
#[test]
fn daemon_watches_links_without_sentinel() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let daemon = Daemon::builder(&lab).environment("IPMP_SENTINEL", "off").start().unwrap();
    let mut production = create(&lab, daemon, &names(&lab));
    println!("{:#?}", production.report().unwrap().checks);
    assert!(
        check(&production, "no sentinel (IPMP_SENTINEL=off disables it): the daemon monitors links")
            .is_some()
    );

    let (host, peer) = (lab.host(), lab.peer(0));
    let running = Stream::new(host, peer.namespace(), peer.v4()).source(DATA).flows(8).rate(5_000);
    let running = running.start().unwrap();
    running.wait_received(1_000, TIMEOUT).unwrap();
    for name in ["e1000g1", "rge0"] {
        lab.member(name).cable().pull().unwrap();
        wait_live(&production, name, false);
        running.wait_received(500, TIMEOUT).unwrap();
        lab.member(name).cable().replug().unwrap();
        wait_live(&production, name, true);
        production.wait_usable(3).unwrap();
    }
    let lines = production.daemon.log().len();
    production.daemon.kill().unwrap();
    production.daemon.start().unwrap();
    production.wait_usable(3).unwrap();
    running.wait_received(500, TIMEOUT).unwrap();
    let messages = production.daemon.log().split_off(lines);
    let alarms: Vec<_> =
        messages.iter().filter(|line| line.contains("unusable") || line.contains("failure")).collect();
    assert!(alarms.is_empty(), "a restart is no failure: {alarms:?}");
    let report = running.stop().unwrap();
    println!("no sentinel, two cables pulled and replugged: {report}");
    report.ensure_valid().unwrap();
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");

    // Without the sentinel a capture is not detected; capture=on shows all packets nevertheless.
    let _capture = PacketSocket::open(host, Some(GROUP), &filter::ethertype(0x0800)).unwrap();
    let ping = || assert!(peer.ping(DATA.into(), 3, TIMEOUT / 100, TIMEOUT).unwrap().answered > 0);
    ping();
    let capture = production.report().unwrap().capture;
    assert_eq!((capture.active, capture.copies), (false, 0));
    production.daemon.ctl(&format!("set {GROUP} capture=on")).unwrap();
    ping();
    assert!(production.report().unwrap().capture.copies > 0);
    // A member that stops being live does not end it.
    lab.member("rge0").cable().pull().unwrap();
    wait_live(&production, "rge0", false);
    assert!(production.report().unwrap().capture.active);
    lab.member("rge0").cable().replug().unwrap();
    wait_live(&production, "rge0", true);

    // The next daemon uses the sentinel again, and adopts the group without an announcement.
    production.daemon.terminate().unwrap();
    let daemon = Daemon::start_in(&lab).unwrap();
    production.daemon = daemon;
    assert!(check(&production, "the sentinel checks links every 500 µs").is_some());
    production.wait_usable(3).unwrap();
    lab.member("rge0").cable().pull().unwrap();
    wait_live(&production, "rge0", false);
    production.assert_clean();
}

/// The kernel reports carriers once in a second: the message about the second loss is late, and packets that meet it are the reason that
/// the daemon reads the link before.
#[test]
fn packet_that_meets_lost_carrier_makes_daemon_read_links_without_sentinel() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let daemon = Daemon::builder(&lab).environment("IPMP_SENTINEL", "off").start().unwrap();
    let production = create(&lab, daemon, &names(&lab));
    let peer = lab.peer(0);
    let running = Stream::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).flows(64).rate(1_000);
    let running = running.start().unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        running.wait_received(200, TIMEOUT).unwrap();
        lab.member("e1000g1").cable().pull().unwrap();
        wait_live(&production, "e1000g1", false);
        let pulled = lab.member("rge0").cable().pull().unwrap();
        wait_live(&production, "rge0", false);
        times.push(pulled.after.elapsed());
        production.replug(lab.member("e1000g1")).unwrap();
        production.replug(lab.member("rge0")).unwrap();
    }
    let report = running.stop().unwrap();
    times.sort();
    println!("no sentinel: the second of two losses is detected after {times:?}; {report}");
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    // The message of the kernel alone takes up to a second.
    assert!(times[2] < 300 * MS, "{times:?}");
    production.assert_clean();
}

/// A map of the sentinel.
fn map<V: aya::Pod>(lab: &Lab, name: &str) -> Array<MapData, V> {
    let cookie = lab.host().cookie().unwrap();
    let path = format!("/sys/fs/bpf/ipmp/v{LAYOUT}/{cookie}/sentinel-of-all-groups/{name}");
    Map::Array(MapData::from_pin(path).unwrap()).try_into().unwrap()
}

/// Writes the map that contains the timer, as any program could: the kernel frees the timer.
fn end_timer(lab: &Lab) {
    let mut clock = map::<Clock>(lab, "clock");
    let value = clock.get(&0, 0).unwrap();
    clock.set(0, value, 0).unwrap();
}

/// Pulls cables while nothing happens on the host and the daemon is stopped. Returns whether the kernel reports changes of carriers
/// to the sentinel, and the times from the loss of the carrier until the sentinel has detected it.
fn detect_with_daemon_stopped(mode: &str) -> (bool, Vec<Duration>) {
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let daemon = Daemon::builder(&lab).environment("IPMP_SENTINEL", mode).start().unwrap();
    let production = create(&lab, daemon, &names(&lab));
    let has_events =
        check(&production, "the sentinel").unwrap().contains("when the kernel changes a carrier");
    let (clock, live) = (map::<Clock>(&lab, "clock"), map::<MemberSet>(&lab, "live"));
    let is_idle = || {
        let settings = clock.get(&0, 0).unwrap().settings;
        settings.due_ns.saturating_sub(settings.last_ns) >= settings.idle_interval_ns
    };
    let live_members = || (live.get(&0, 0).unwrap().bits & !CAPTURED.bits).count_ones() as usize;
    let mut times = Vec::new();
    for number in 0..LOSSES {
        let member = &lab.members()[number % lab.members().len()];
        assert!(
            wait_until(TIMEOUT, is_idle),
            "the sentinel still ticks frequently: {:?}\n{}",
            clock.get(&0, 0).unwrap(),
            production.show()
        );
        production.daemon.stop().unwrap();
        let pulled = member.cable().pull().unwrap();
        let is_detected = || live_members() < lab.members().len();
        assert!(wait_until(TIMEOUT, is_detected), "{} is still live", member.name());
        times.push(pulled.after.elapsed());
        production.daemon.resume().unwrap();
        production.replug(member).unwrap();
        production.wait_usable(lab.members().len()).unwrap();
    }
    production.assert_clean();
    (has_events, times)
}

#[test]
fn sentinel_that_has_stopped_is_started_again() {
    lab::needs_root!();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let production = Production::create(&lab).unwrap();
    production.wait_usable(3).unwrap();
    let since = production.daemon.log().len();
    end_timer(&lab);
    lab.member("e1000g1").cable().pull().unwrap();
    wait_live(&production, "e1000g1", false);
    let line = "The sentinel has stopped; it has been started again";
    println!("{}", production.daemon.wait_line(line, since, TIMEOUT).unwrap());
    let message = check(&production, "the sentinel has stopped and was started again once").unwrap();
    let explained = production.daemon.ctl("explain rge0").unwrap();
    assert!(explained.contains("started again once"), "{message}: {explained}");
    lab.member("e1000g1").cable().replug().unwrap();
    wait_live(&production, "e1000g1", true);
    // An attach starts it again as well, and does not count it as stopped.
    production.daemon.ctl("detach rge0").unwrap();
    production.daemon.ctl(&format!("attach rge0 --group {GROUP}")).unwrap();
    wait_live(&production, "rge0", true);
    assert!(check(&production, "the sentinel has stopped and was started again once").is_some());
    production.assert_clean();
}

/// While nothing changes, the sentinel ticks rarely: a carrier that is lost then is detected at the next tick, or at once where the kernel
/// reports it to the sentinel.
#[test]
fn carrier_lost_while_idle_is_detected_with_the_daemon_stopped() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    for mode in ["", "timer"] {
        let (has_events, times) = detect_with_daemon_stopped(mode);
        let [p50, most] = [50.0, 100.0].map(|percent| percentile(&times, percent));
        println!(
            "IPMP_SENTINEL={mode:?}: carrier events: {has_events}; detected after p50 {p50:?}, max {most:?}: {times:?}"
        );
        assert!(mode.is_empty() || !has_events, "{mode} has no effect");
        if has_events {
            // By the timer alone it is about 64 ms.
            assert!(p50 < 32 * MS, "the median is {p50:?}");
        }
        // A busy machine may be late once.
        let late = times.iter().filter(|time| **time > 150 * MS).count();
        assert!(late <= 1, "the interval is 128 ms: {times:?}");
    }
}

#[test]
fn sentinel_interval_is_set_by_argument() {
    lab::needs_root!();
    let lab = Lab::builder().members(2).build().unwrap();
    for (wrong, error) in [
        ("5", "expected a whole number and a unit (us, ms, s), such as 500us or 1ms, got \"5\""),
        ("50us", "50us is out of range: the sentinel interval is 100us to 100ms"),
    ] {
        let refused =
            Daemon::builder(&lab).argument("--sentinel-interval").argument(wrong).start().unwrap_err();
        assert!(refused.to_string().contains(error), "{refused}");
    }
    let daemon = Daemon::builder(&lab).argument("--sentinel-interval").argument("20ms").start().unwrap();
    let mut production = create(&lab, daemon, &names(&lab));
    assert!(check(&production, "the sentinel checks links every 20 ms").is_some());
    lab.member("rge0").cable().pull().unwrap();
    wait_live(&production, "rge0", false);
    production.daemon.kill().unwrap();
    production.daemon = Daemon::start_in(&lab).unwrap();
    assert!(check(&production, "the sentinel checks links every 500 µs").is_some());
    lab.member("rge0").cable().replug().unwrap();
    wait_live(&production, "rge0", true);
    production.assert_clean();
}

/// A macvlan has the carrier of its lower device.
#[test]
fn stacked_member_follows_carrier_of_lower_device() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let host = lab.host();
    // A macvlan on a macvlan is stacked on the lower device of that: there is always one level.
    host.ip("link add link e1000g0 name above0 type macvlan mode private").unwrap();
    host.ip("link set above0 up").unwrap();
    let daemon = Daemon::start_in(&lab).unwrap();
    let production = create(&lab, daemon, &["above0", "rge0"]);
    let peer = lab.peer(0);
    let running = Stream::new(host, peer.namespace(), peer.v4()).source(DATA).flows(16).rate(20_000);
    let running = running.start().unwrap();
    running.wait_received(1_000, TIMEOUT).unwrap();
    for _ in 0..3 {
        let before = production.member("rge0").unwrap().traffic.failed_over_packets;
        lab.member("e1000g0").cable().pull().unwrap();
        wait_live(&production, "above0", false);
        running.wait_received(1_000, TIMEOUT).unwrap();
        assert!(production.member("rge0").unwrap().traffic.failed_over_packets > before);
        lab.member("e1000g0").cable().replug().unwrap();
        wait_live(&production, "above0", true);
        running.wait_received(1_000, TIMEOUT).unwrap();
    }
    let report = running.stop().unwrap();
    println!("a macvlan as a member, cable of its lower device pulled three times: {report}");
    report.ensure_valid().unwrap();
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    production.assert_clean();
}
