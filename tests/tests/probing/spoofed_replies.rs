//! Spoofed replies to the probes of a member whose cable is cut: the member fails, and every spoofed reply is counted.
//!
//! As a control, the spoofer sends correct replies, which keep the member alive. So the spoofed replies do arrive.

use ipmp::types::MemberState;
use lab::neighbour::arp_request;
use lab::probe_capture::Message;
use lab::spoofer::{Spoofer, reply_to, with_destination, with_wrong_cookie};
use lab::{Mac, MeasurementLock, Member, ProbeCapture, SECOND, TIMEOUT, wait_until};

use super::*;

/// Six times the failure detection time: long enough to detect a failure.
const SETTLE: Duration = Duration::from_millis(600);
const OTHER_MAC: Mac = [0x02, 0xbb, 0, 0, 0, 0x66];

/// Cuts the cable of a member while replies made by `spoof` are sent into the cable of `into`. The member must stay failed,
/// and all replies must be counted. Then restores the cable.
fn cut_with_spoofer(
    production: &Production<'_>,
    (member, into): (&Member, &Member),
    (what, counters): (&str, &[&str]),
    spoof: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
) {
    let count = || -> u64 {
        counters.iter().map(|counter| production.count(Some(into.name()), counter).unwrap()).sum()
    };
    member.cable().cut().unwrap();
    let before = count();
    let spoofer = Spoofer::start(member.cable(), into.cable(), spoof).unwrap();
    production.wait_state(member.name(), MemberState::Failed, TIMEOUT).unwrap();
    std::thread::sleep(SETTLE);
    wait_until(2 * SECOND, || spoofer.sent() > 30);
    let state = production.member(member.name()).unwrap().state;
    assert_eq!(state, MemberState::Failed, "{what} repair {}", member.name());
    let sent = spoofer.stop().unwrap();
    let counted = count() - before;
    println!("{what}: {sent} sent, {counted} counted as {counters:?} on {}", into.name());
    assert!(sent > 5, "only {sent} {what}");
    // Up to two replies may not be counted: one without an open probe, and one still on its way.
    assert!(counted + 2 >= sent && counted <= sent, "{sent} {what} sent, {counted} counted");
    for other in production.report().unwrap().members.iter().filter(|other| other.name != member.name()) {
        assert_eq!(other.state, MemberState::Ok, "{what} affect {}", other.name);
    }
    member.cable().restore().unwrap();
    production.wait_state(member.name(), MemberState::Ok, TIMEOUT).unwrap();
}

/// Correct replies keep a member with a cut cable alive.
fn reply_correctly(production: &Production<'_>, member: &Member, target: Mac) {
    let spoofer =
        Spoofer::start(member.cable(), member.cable(), move |probe| reply_to(probe, target)).unwrap();
    let since = production.daemon.log().len();
    member.cable().cut().unwrap();
    std::thread::sleep(SETTLE);
    let failures = production.daemon.log_matches("failure detected", since);
    assert!(failures.is_empty() && spoofer.sent() > 10, "{} correct replies: {failures:?}", spoofer.sent());
    println!("{} correct replies keep {} alive", spoofer.stop().unwrap(), member.name());
    member.cable().restore().unwrap();
}

#[test]
fn spoofed_echo_replies_do_not_keep_failed_member_alive() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = with_test_addresses(&lab, &format!("fdt=100ms targets={ROUTER}"));
    let (member, other, router) = (&lab.members()[2], &lab.members()[0], lab.router().mac());

    reply_correctly(&production, member, router);
    cut_with_spoofer(
        &production,
        (member, member),
        ("replies with a wrong cookie", &["unexpected"]),
        move |probe| reply_to(probe, router).map(with_wrong_cookie),
    );
    let mac = other.mac();
    cut_with_spoofer(
        &production,
        (member, other),
        ("replies to another member", &["unexpected"]),
        move |probe| reply_to(probe, router).map(|reply| with_destination(reply, mac)),
    );
    // They would prove only a MAC, and none was requested.
    let request = arp_request(member.mac(), Ipv4Addr::UNSPECIFIED, ROUTER).unwrap();
    cut_with_spoofer(
        &production,
        (member, member),
        ("ARP replies without a request", &["unexpected"]),
        move |_| reply_to(&request, router),
    );
    let capture = ProbeCapture::on(lab.host(), member.name()).unwrap();
    let frames = capture.read(SETTLE).unwrap();
    let replies =
        frames.into_iter().filter(|frame| matches!(frame.message, Message::Echo { reply: true, .. }));
    let recorded: Vec<Vec<u8>> = replies.map(|frame| frame.frame).collect();
    assert!(recorded.len() > 10, "only {} replies were recorded", recorded.len());
    let mut again = recorded.into_iter().cycle();
    let counters = ["unexpected", "duplicate"];
    cut_with_spoofer(&production, (member, member), ("replayed replies", &counters), move |_| again.next());
    production.assert_clean();
}

#[test]
fn arp_replies_from_wrong_mac_do_not_keep_failed_member_alive() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = without_test_addresses(&lab, &format!("fdt=100ms probe=arp targets={ROUTER}"));
    let (member, router) = (&lab.members()[2], lab.router().mac());

    reply_correctly(&production, member, router);
    cut_with_spoofer(
        &production,
        (member, member),
        ("replies from a wrong MAC", &["unexpected"]),
        move |probe| reply_to(probe, OTHER_MAC),
    );
    production.assert_clean();
}
