//! The sentinel with the real daemon: its interval, stacked members, and operation without it.

lab::lane!(alone);

use aya::maps::{Array, Map, MapData};
use ipmp_common::{LAYOUT, maps::Clock};
use lab::network::{DATA, DATA6};
use lab::packet::PacketSocket;
use lab::production::GROUP;
use lab::{Daemon, Lab, MeasurementLock, MemberKind, Production, Stream, TIMEOUT, filter, wait_until};

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

/// Writes the map that contains the timer, as any program could: the kernel frees the timer.
fn end_timer(lab: &Lab) {
    let cookie = lab.host().cookie().unwrap();
    let path = format!("/sys/fs/bpf/ipmp/v{LAYOUT}/{cookie}/sentinel-of-all-groups/clock");
    let map = Map::Array(MapData::from_pin(path).unwrap());
    let mut clock: Array<_, Clock> = map.try_into().unwrap();
    let value = clock.get(&0, 0).unwrap();
    clock.set(0, value, 0).unwrap();
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
