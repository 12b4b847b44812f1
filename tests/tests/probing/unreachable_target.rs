//! The router is the only target and stops replying to echo requests, while everything else works.

use lab::network::DATA;
use lab::{MS, MeasurementLock, Stream, TIMEOUT};

use super::*;
use ipmp::types::{MemberState, ProbeState};

/// Packets per second through the group during the test.
const RATE: u64 = 2_000;
/// Six times the failure detection time: long enough to detect a false failure.
const SETTLE: Duration = Duration::from_millis(600);

/// No host of the lab has this address.
const ABSENT: Ipv4Addr = Ipv4Addr::new(192, 168, 178, 99);

const UNREACHABLE: &str = "No target of group production0 replies on any interface (inet)";
const REACHABLE: &str = "Targets of group production0 reply again (inet)";

/// Creates the group, whose only target is the next hop of its default route.
fn with_a_router(lab: &Lab) -> Production<'_> {
    let production = Production::create_probed(lab, &[Family::V4], "fdt=100ms").unwrap();
    lab.host().ip(&format!("route add default via {ROUTER} dev {GROUP}")).unwrap();
    production.wait_answered().unwrap();
    let group = production.report_json().unwrap();
    for member in group["members"].as_array().unwrap() {
        let targets: Vec<&Value> = member["probing"][0]["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| &target["address"])
            .collect();
        assert_eq!(targets, [&Value::from(ROUTER.to_string())], "{member:#}");
    }
    production
}

fn unreachable_families(production: &Production<'_>) -> Value {
    production.report_json().unwrap()["detection"]["unreachable_families"].clone()
}

#[test]
fn unreachable_target_fails_members_only_with_fail_open_no() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = with_a_router(&lab);
    let peer = lab.peer(0);
    let stream = Stream::new(lab.host(), peer.namespace(), peer.v4()).source(DATA).flows(8).rate(RATE);
    let stream = stream.start().unwrap();
    stream.wait_received(RATE / 4, TIMEOUT).unwrap();
    let since = production.daemon.log().len();

    lab.router().set_echo_replies(false).unwrap();
    let line = production.daemon.wait_line(UNREACHABLE, since, TIMEOUT).unwrap();
    println!("{line}");
    std::thread::sleep(SETTLE);
    assert_eq!(unreachable_families(&production), serde_json::json!(["inet"]));
    for member in production.report().unwrap().members {
        assert!(member.usable && member.live && member.state == MemberState::Ok, "{member:?}");
    }
    lab.router().set_echo_replies(true).unwrap();
    println!("{}", production.daemon.wait_line(REACHABLE, since, TIMEOUT).unwrap());
    assert_eq!(unreachable_families(&production), serde_json::json!([]));
    let failures = production.daemon.log_matches("failure detected", since);
    assert!(failures.is_empty(), "{failures:?}");

    let report = stream.stop().unwrap();
    println!("during the test: {report}");
    assert_eq!((report.lost(), report.duplicated(), report.send_errors), (0, 0, 0), "{report}");

    // With fail-open=no the group fails, as in docs/reference.md.
    production.daemon.ctl(&format!("set {GROUP} fail-open=no")).unwrap();
    let since = production.daemon.log().len();

    lab.router().set_echo_replies(false).unwrap();
    let unusable = format!("All IP interfaces in group {GROUP} are now unusable");
    println!("{}", production.daemon.wait_line(&unusable, since, TIMEOUT).unwrap());
    for member in lab.members() {
        production.wait_state(member.name(), MemberState::Failed, TIMEOUT).unwrap();
    }
    production.wait_usable(0).unwrap();
    let ping = lab.peer(0).ping(DATA.into(), 3, 10 * MS, 300 * MS).unwrap();
    assert_eq!(ping.answered, 0, "an unusable group replies");

    lab.router().set_echo_replies(true).unwrap();
    let line = production.daemon.wait_line("At least 1 IP interface", since, TIMEOUT).unwrap();
    println!("{line}");
    production.wait_usable(3).unwrap();
    for member in lab.members() {
        production.wait_state(member.name(), MemberState::Ok, TIMEOUT).unwrap();
    }
    // When all members fail, the reference has one message for the group and none for the members.
    assert_eq!(production.daemon.log_matches("failure detected", since), [""; 0]);
    production.assert_clean();
}

#[test]
fn absent_target_of_arp_probes_is_reported_and_probe_column_is_unknown() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = without_test_addresses(&lab, &format!("fdt=500ms probe=arp targets={ROUTER}"));
    let columns = || -> Vec<ProbeState> {
        production.report().unwrap().members.iter().map(|member| member.probe).collect()
    };
    assert_eq!(columns(), [ProbeState::Ok; 3]);
    let sent = |production: &Production<'_>| {
        production.report_json().unwrap()["members"][0]["probing"][0]["counters"]["sent"].as_u64().unwrap()
    };
    let (since, before) = (production.daemon.log().len(), sent(&production));
    production.daemon.ctl(&format!("set {GROUP} targets={ABSENT}")).unwrap();
    println!("{}", production.daemon.wait_line(UNREACHABLE, since, TIMEOUT).unwrap());
    assert!(sent(&production) > before, "its probes do not count as sent");
    assert_eq!(columns(), [ProbeState::Unknown; 3]);
    for member in production.report().unwrap().members {
        assert!(member.usable && member.state == MemberState::Ok, "{member:?}");
    }
    let explained = production.daemon.ctl("explain e1000g0").unwrap();
    println!("{explained}");
    assert!(explained.contains("No target replies on any member."), "{explained}");

    production.daemon.ctl(&format!("set {GROUP} targets={ROUTER}")).unwrap();
    println!("{}", production.daemon.wait_line(REACHABLE, since, TIMEOUT).unwrap());
    assert_eq!(columns(), [ProbeState::Ok; 3]);
    assert!(production.daemon.log_matches("failure detected", since).is_empty());
    production.assert_clean();
}
