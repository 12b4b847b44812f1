//! A router that is the only target and stops answering echo requests, while everything else works.

use lab::network::DATA;
use lab::{MS, MeasurementLock, Stream, TIMEOUT};

use super::*;
use ipmp::types::MemberState;

/// Packets a second through the group meanwhile.
const RATE: u64 = 2_000;
/// Six times the failure detection time: long enough for any wrong verdict.
const LONG: Duration = Duration::from_millis(600);

const DARK: &str = "No target of group production0 replies on any interface (inet)";
const LIGHT: &str = "Targets of group production0 reply again (inet)";

/// The group, which finds its only target by its default route.
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

fn dark(production: &Production<'_>) -> Value {
    production.report_json().unwrap()["detection"]["dark"].clone()
}

#[test]
fn a_router_that_stops_answering_darkens_nothing_unless_asked_to() {
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
    let line = production.daemon.wait_line(DARK, since, TIMEOUT).unwrap();
    println!("{line}");
    std::thread::sleep(LONG);
    assert_eq!(dark(&production), serde_json::json!(["inet"]));
    for member in production.report().unwrap().members {
        assert!(member.usable && member.live && member.state == MemberState::Ok, "{member:?}");
    }
    lab.router().set_echo_replies(true).unwrap();
    println!("{}", production.daemon.wait_line(LIGHT, since, TIMEOUT).unwrap());
    assert_eq!(dark(&production), serde_json::json!([]));
    let failures = said(&production, "failure detected", since);
    assert!(failures.is_empty(), "{failures:?}");

    let report = stream.stop().unwrap();
    println!("meanwhile: {report}");
    assert_eq!((report.lost(), report.duplicated(), report.send_errors), (0, 0, 0), "{report}");

    // Without fail-open it takes the group down, as in the reference.
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
    assert_eq!(ping.answered, 0, "a group that is unusable answers");

    lab.router().set_echo_replies(true).unwrap();
    let line = production.daemon.wait_line("At least 1 IP interface", since, TIMEOUT).unwrap();
    println!("{line}");
    production.wait_usable(3).unwrap();
    for member in lab.members() {
        production.wait_state(member.name(), MemberState::Ok, TIMEOUT).unwrap();
    }
    // Of a failure of all the reference has one line, and none of each.
    assert_eq!(said(&production, "failure detected", since), [""; 0]);
    production.assert_clean();
}
