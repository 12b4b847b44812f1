//! Standby members, members that are not taken back, and members that are offline, with probes.

use ipmp::types::MemberState;
use lab::probe_capture::Message;
use lab::{MeasurementLock, ProbeCapture, SECOND, TIMEOUT, wait_until};

use super::*;

/// Members that carry traffic.
fn carrying(production: &Production<'_>) -> Vec<String> {
    let members = production.report().unwrap().members;
    let mut carrying: Vec<String> =
        members.into_iter().filter(|member| member.active && member.live).map(|member| member.name).collect();
    carrying.sort();
    carrying
}

fn wait_usable(production: &Production<'_>, names: &[&str]) {
    let right = wait_until(TIMEOUT, || carrying(production) == names);
    assert!(right, "{names:?} should carry:\n{}", production.daemon.ctl("show").unwrap());
}

#[test]
fn a_standby_steps_in_for_a_dead_path_and_an_offline_member_is_not_probed() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = with_test_addresses(&lab, &format!("fdt=100ms targets={ROUTER}"));
    let daemon = &production.daemon;
    daemon.ctl("set rge0 standby=on").unwrap();
    wait_usable(&production, &["e1000g0", "e1000g1"]);

    // A dead path, and the standby carries; it is repaired, and rests again.
    let cut = lab.member("e1000g0");
    cut.cable().cut().unwrap();
    production.wait_state("e1000g0", MemberState::Failed, TIMEOUT).unwrap();
    wait_usable(&production, &["e1000g1", "rge0"]);
    cut.cable().restore().unwrap();
    production.wait_state("e1000g0", MemberState::Ok, TIMEOUT).unwrap();
    wait_usable(&production, &["e1000g0", "e1000g1"]);

    // Without failback it is the repaired one that rests.
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

    // Offline, it is left alone; online, it carries at once.
    let capture = ProbeCapture::on(lab.host(), "e1000g0").unwrap();
    let requests = |time| {
        let heard = capture.read(time).unwrap();
        let asks = |message| matches!(message, Message::Echo { reply: false, .. });
        heard.iter().filter(|heard| heard.outgoing && asks(heard.message)).count()
    };
    assert!(requests(SECOND) > 10, "e1000g0 is not probed");
    daemon.ctl("offline e1000g0").unwrap();
    production.wait_state("e1000g0", MemberState::Offline, TIMEOUT).unwrap();
    wait_usable(&production, &["e1000g1", "rge0"]);
    requests(Duration::ZERO);
    assert_eq!(requests(SECOND), 0, "e1000g0 is offline and probed");
    daemon.ctl("online e1000g0").unwrap();
    production.wait_state("e1000g0", MemberState::Ok, TIMEOUT).unwrap();
    wait_usable(&production, &["e1000g0", "e1000g1"]);
    assert!(requests(SECOND) > 10, "e1000g0 is online and not probed");
    production.assert_clean();
}
