//! Answers that are none, to the probes of a member whose cable is cut: it fails all the same, and every one is counted.
//!
//! Whoever sits on the cable hears each probe, and could answer it rightly; that it then lives shows that the others do
//! not fail for want of arriving.

use ipmp::types::MemberState;
use lab::probe_capture::Message;
use lab::spoofer::{Spoofer, reply_to, with_destination, with_wrong_cookie};
use lab::{Mac, MeasurementLock, Member, ProbeCapture, TIMEOUT};

use super::*;

/// Six times the failure detection time: long enough for a member that is dead to be found so.
const LONG: Duration = Duration::from_millis(600);
const STRANGER: Mac = [0x02, 0xbb, 0, 0, 0, 0x66];

/// Cuts the cable of a member while somebody answers its probes with `forge`, into the cable of `into`. Gives how many
/// forgeries were said after the member had failed, and lets the cable be good again.
fn cut_under_a_forger(
    production: &Production<'_>,
    (member, into): (&Member, &Member),
    (what, counters): (&str, &[&str]),
    forge: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
) {
    let count = || -> u64 {
        counters.iter().map(|counter| production.count(Some(into.name()), counter).unwrap()).sum()
    };
    member.cable().cut().unwrap();
    let before = count();
    let forger = Spoofer::start(member.cable(), into.cable(), forge).unwrap();
    production.wait_state(member.name(), MemberState::Failed, TIMEOUT).unwrap();
    std::thread::sleep(LONG);
    let state = production.member(member.name()).unwrap().state;
    assert_eq!(state, MemberState::Failed, "{what} repair {}", member.name());
    let said = forger.stop().unwrap();
    let counted = count() - before;
    println!("{what}: {said} said, {counted} counted as {counters:?} on {}", into.name());
    assert!(said > 10, "only {said} {what}");
    // One of each is heard by nobody when the member is silent, or is still on its way.
    assert!(counted + 2 >= said && counted <= said, "{said} {what} were said, and {counted} counted");
    for other in production.report().unwrap().members.iter().filter(|other| other.name != member.name()) {
        assert_eq!(other.state, MemberState::Ok, "{what} harm {}", other.name);
    }
    member.cable().restore().unwrap();
    production.wait_state(member.name(), MemberState::Ok, TIMEOUT).unwrap();
}

/// The right answers keep it alive.
fn answer_rightly(production: &Production<'_>, member: &Member, target: Mac) {
    let forger =
        Spoofer::start(member.cable(), member.cable(), move |probe| reply_to(probe, target)).unwrap();
    let since = production.daemon.log().len();
    member.cable().cut().unwrap();
    std::thread::sleep(LONG);
    let failures = said(production, "failure detected", since);
    assert!(failures.is_empty() && forger.sent() > 10, "{} right answers: {failures:?}", forger.sent());
    println!("{} right answers keep {} alive", forger.stop().unwrap(), member.name());
    member.cable().restore().unwrap();
}

#[test]
fn no_forged_echo_reply_keeps_a_dead_member_alive() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = with_test_addresses(&lab, &format!("fdt=100ms targets={ROUTER}"));
    let (member, other, router) = (&lab.members()[2], &lab.members()[0], lab.router().mac());

    answer_rightly(&production, member, router);
    cut_under_a_forger(
        &production,
        (member, member),
        ("answers with a wrong cookie", &["forged"]),
        move |probe| reply_to(probe, router).map(with_wrong_cookie),
    );
    let mac = other.mac();
    cut_under_a_forger(
        &production,
        (member, other),
        ("answers to another member", &["forged"]),
        move |probe| reply_to(probe, router).map(|reply| with_destination(reply, mac)),
    );
    let capture = ProbeCapture::on(lab.host(), member.name()).unwrap();
    let heard = capture.read(LONG).unwrap();
    let replies =
        heard.into_iter().filter(|heard| matches!(heard.message, Message::Echo { reply: true, .. }));
    let recorded: Vec<Vec<u8>> = replies.map(|heard| heard.frame).collect();
    assert!(recorded.len() > 10, "only {} replies were recorded", recorded.len());
    let mut again = recorded.into_iter().cycle();
    let counters = ["forged", "duplicate"];
    cut_under_a_forger(&production, (member, member), ("replayed answers", &counters), move |_| again.next());
    production.assert_clean();
}

#[test]
fn no_arp_reply_of_somebody_else_keeps_a_dead_member_alive() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let production = without_test_addresses(&lab, &format!("fdt=100ms probe=arp targets={ROUTER}"));
    let (member, router) = (&lab.members()[2], lab.router().mac());

    answer_rightly(&production, member, router);
    cut_under_a_forger(
        &production,
        (member, member),
        ("answers from a wrong MAC", &["forged"]),
        move |probe| reply_to(probe, STRANGER),
    );
    production.assert_clean();
}
