//! Standby members, failback=no, and offline members, with probes.

use ipmp::types::MemberState;
use lab::probe_capture::Message;
use lab::{LinkFailure, MeasurementLock, ProbeCapture, SECOND, TIMEOUT, wait_until};

use super::*;

/// Names of the active and live members.
fn active(production: &Production<'_>) -> Vec<String> {
    let members = production.report().unwrap().members;
    let mut names: Vec<String> =
        members.into_iter().filter(|member| member.active && member.live).map(|member| member.name).collect();
    names.sort();
    names
}

fn wait_usable(production: &Production<'_>, names: &[&str]) {
    let reached = wait_until(TIMEOUT, || active(production) == names);
    assert!(reached, "active members are not {names:?}:\n{}", production.daemon.ctl("show").unwrap());
}

#[test]
fn standby_replaces_failed_member_and_offline_member_is_not_probed() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = with_test_addresses(&lab, &format!("fdt=100ms targets={ROUTER}"));
    let daemon = &production.daemon;
    daemon.ctl("set rge0 standby=on").unwrap();
    wait_usable(&production, &["e1000g0", "e1000g1"]);

    // After a path failure the standby is active; after the repair it is inactive again.
    let cut = lab.member("e1000g0");
    cut.cable().cut().unwrap();
    production.wait_state("e1000g0", MemberState::Failed, TIMEOUT).unwrap();
    wait_usable(&production, &["e1000g1", "rge0"]);
    cut.cable().restore().unwrap();
    production.wait_state("e1000g0", MemberState::Ok, TIMEOUT).unwrap();
    wait_usable(&production, &["e1000g0", "e1000g1"]);

    // With failback=no the repaired member stays inactive.
    daemon.ctl(&format!("set {GROUP} failback=no")).unwrap();
    cut.cable().cut().unwrap();
    production.wait_state("e1000g0", MemberState::Failed, TIMEOUT).unwrap();
    wait_usable(&production, &["e1000g1", "rge0"]);
    cut.cable().restore().unwrap();
    production.wait_state("e1000g0", MemberState::Ok, TIMEOUT).unwrap();
    std::thread::sleep(SECOND);
    wait_usable(&production, &["e1000g1", "rge0"]);
    daemon.ctl(&format!("set {GROUP} failback=yes")).unwrap();
    wait_usable(&production, &["e1000g0", "e1000g1"]);

    // An offline member is not probed; an online member is active at once.
    let capture = ProbeCapture::on(lab.host(), "e1000g0").unwrap();
    let requests = |time| {
        let frames = capture.read(time).unwrap();
        let is_request = |message| matches!(message, Message::Echo { reply: false, .. });
        frames.iter().filter(|frame| frame.outgoing && is_request(frame.message)).count()
    };
    assert!(requests(SECOND) > 10, "e1000g0 is not probed");
    daemon.ctl("offline e1000g0").unwrap();
    production.wait_state("e1000g0", MemberState::Offline, TIMEOUT).unwrap();
    wait_usable(&production, &["e1000g1", "rge0"]);
    requests(Duration::ZERO);
    assert_eq!(requests(SECOND), 0, "e1000g0 is probed while offline");
    daemon.ctl("online e1000g0").unwrap();
    production.wait_state("e1000g0", MemberState::Ok, TIMEOUT).unwrap();
    wait_usable(&production, &["e1000g0", "e1000g1"]);
    assert!(requests(SECOND) > 10, "e1000g0 is not probed while online");
    production.assert_clean();
}

/// A standby without traffic of its own is probed by ARP: it stays ok, replaces a member, and is inactive again.
fn assert_idle_standby_replaces_member(failure: LinkFailure) {
    let lab = Lab::builder().kind(failure.kind()).build().unwrap();
    let production = Production::builder(&lab)
        .settings(&format!("fdt=500ms probe=arp targets={ROUTER}"))
        .create()
        .unwrap();
    production.daemon.ctl("set rge0 standby=on").unwrap();
    production.wait_answered().unwrap();
    wait_usable(&production, &["e1000g0", "e1000g1"]);
    let since = production.daemon.log().len();
    let replies = || {
        let group = production.report_json().unwrap();
        let members = group["members"].as_array().unwrap();
        let standby = members.iter().find(|member| member["name"] == "rge0").unwrap();
        standby["probing"][0]["replies"].as_u64().unwrap()
    };
    let before = replies();
    assert!(wait_until(TIMEOUT, || replies() >= before + 30), "{failure:?}: the standby receives no replies");
    assert_eq!(production.member("rge0").unwrap().state, MemberState::Ok);
    failure.fail(&lab, "e1000g0").unwrap();
    wait_usable(&production, &["e1000g1", "rge0"]);
    failure.repair(&lab, "e1000g0").unwrap();
    wait_usable(&production, &["e1000g0", "e1000g1"]);
    let failures = production.daemon.log_matches("failure detected", since);
    println!("{failure:?}: {failures:?}");
    assert_eq!(failures.len(), 1, "{failure:?}: {failures:?}");
    production.assert_clean();
}

#[test]
fn idle_standby_probed_by_arp_stays_ok_and_replaces_failed_member() {
    lab::needs_root!();
    std::thread::scope(|scope| {
        for failure in LinkFailure::ALL {
            scope.spawn(move || assert_idle_standby_replaces_member(failure));
        }
    });
}
