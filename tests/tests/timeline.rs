//! The timeline of a pulled cable and of a silent failure, against a stream to the data address.

lab::lane!(alone);

use std::fs;
use std::time::Duration;

use ipmp::{
    control::timeline::Transition,
    types::{Family, MemberState, Passage, Phase},
};
use lab::network::DATA;
use lab::stream::Running;
use lab::{Lab, MS, MeasurementLock, MemberKind, Production, SECOND, Stream, TIMEOUT, clock, wait_until};

const FDT: Duration = Duration::from_secs(1);
/// Packets in a second of each stream.
const RATE: u32 = 5_000;
/// Flows of the outbound one: each member has some.
const FLOWS: usize = 32;
/// Attempts, if a measurement is not valid because the machine was busy.
const ATTEMPTS: usize = 3;

fn transitions(production: &Production<'_>, options: &str) -> Vec<Transition> {
    let printed = production.daemon.ctl(&format!("timeline production0 --json{options}")).unwrap();
    let mut printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    serde_json::from_value(printed["transitions"].take()).unwrap()
}

/// The last transition of a member, once it is of this kind and has these phases.
fn wait_transition(
    production: &Production<'_>,
    member: &str,
    passage: Passage,
    phases: &[Phase],
) -> Transition {
    let mut last = None;
    let is_complete = wait_until(TIMEOUT, || {
        last = transitions(production, "").into_iter().rev().find(|transition| transition.member == member);
        last.as_ref().is_some_and(|last| {
            last.passage == passage && phases.iter().all(|&phase| last.at(phase).is_some())
        })
    });
    assert!(is_complete, "{member}: {passage} {phases:?}, not {last:?}");
    last.unwrap()
}

/// A stream from a peer to the data address.
fn inbound(lab: &Lab) -> Running {
    // A pull may cost less than 2 ms.
    let stream = Stream::inbound(lab).source(lab.peer(0).v4()).rate(RATE.into()).gaps(MS);
    let running = stream.start().unwrap();
    running.wait_received(u64::from(RATE) / 2, TIMEOUT).unwrap();
    running
}

/// The time of a phase.
fn at(transition: &Transition, phase: Phase) -> std::time::Instant {
    clock::monotonic(transition.at(phase).unwrap())
}

/// Whether the time from a failure to the first packet that another member received is the outage of the stream, within 20 % and the
/// time between its packets.
fn agrees(failure: &Transition, since: std::time::Instant, outage: Duration) -> bool {
    let received = at(failure, Phase::Received) - since;
    received.abs_diff(outage) <= outage.mul_f64(0.2) + 2 * SECOND / RATE
}

/// Pulls the cable of the inbound member; `None`: the machine was too busy to measure.
fn pull(lab: &Lab, production: &Production<'_>) -> Option<Transition> {
    let member = lab.member(&production.inbound(DATA).unwrap());
    let outbound = Stream::outbound(lab).flows(FLOWS).rate(RATE.into()).start().unwrap();
    outbound.wait_received(u64::from(RATE) / 2, TIMEOUT).unwrap();
    let running = inbound(lab);
    let change = member.cable().pull().unwrap();
    let phases = [Phase::Decided, Phase::Announced, Phase::Rerouted, Phase::Received];
    let failure = wait_transition(production, member.name(), Passage::Failure, &phases);
    let report = running.stop().unwrap();
    let outage = report.outage(change.before, SECOND);
    println!(
        "pull of {}: outage {outage:?}; by the timeline, from the pull to the first packet that left {:?}, and that was received {:?}; \
         {report}",
        member.name(),
        at(&failure, Phase::Rerouted) - change.before,
        at(&failure, Phase::Received) - change.before,
    );
    assert_eq!(failure.cause, "carrier-lost");
    // While the cable is pulled, the flows of the member leave through others.
    outbound.wait_received(outbound.received() + u64::from(RATE) / 2, TIMEOUT).unwrap();
    let later = wait_transition(production, member.name(), Passage::Failure, &phases);
    assert!(later.failed_over_packets > failure.failed_over_packets, "{later:?} after {failure:?}");
    assert!(later.failed_over_packets <= outbound.sent(), "{later:?}");
    assert_eq!(later.dropped_packets, 0);
    outbound.stop().unwrap();
    // Whichever the daemon read first.
    assert!(failure.at(Phase::Sentinel).or(failure.at(Phase::Netlink)).is_some(), "{failure:?}");
    for stamp in &failure.stamps {
        let at = at(&failure, stamp.phase);
        assert!(change.before <= at && at < change.after + SECOND, "{}: {failure:?}", stamp.phase);
    }
    assert!(failure.at(Phase::Decided) <= failure.at(Phase::Announced), "{failure:?}");

    member.cable().replug().unwrap();
    let repair =
        wait_transition(production, member.name(), Passage::Repair, &[Phase::LinkUp, Phase::Decided]);
    assert!(repair.at(Phase::LinkUp) < repair.at(Phase::Decided), "{repair:?}");
    agrees(&failure, change.before, outage).then_some(failure)
}

/// Cuts the cable of the inbound member while its carrier stays; `None`: the machine was too busy to measure.
fn cut(lab: &Lab, production: &Production<'_>) -> Option<Transition> {
    let member = lab.member(&production.inbound(DATA).unwrap());
    let running = inbound(lab);
    let change = member.cable().cut().unwrap();
    let phases = [Phase::LastReply, Phase::FirstLoss, Phase::Decided, Phase::Masks, Phase::Announced];
    let failure = wait_transition(
        production,
        member.name(),
        Passage::Failure,
        &[&phases[..], &[Phase::Received]].concat(),
    );
    let before = running.received();
    running.wait_received(before + 1_000, TIMEOUT).unwrap();
    let report = running.stop().unwrap();
    let outage = report.outage(change.before, 2 * FDT);
    member.cable().restore().unwrap();
    production.wait_state(member.name(), MemberState::Ok, 10 * FDT + TIMEOUT).unwrap();

    let [replied, lost, decided, masks, announced] = phases.map(|phase| at(&failure, phase));
    println!(
        "silent cut of {}: outage {outage:?}; by the timeline, from the cut to the announcement {:?}, from the last reply {:?}, from \
         the first loss {:?}; {report}",
        member.name(),
        announced - change.before,
        announced - replied,
        announced - lost
    );
    assert_eq!(failure.cause, "probes-lost");
    assert!(replied <= lost && lost <= decided && decided <= masks && masks <= announced, "{failure:?}");
    assert!(replied <= change.after + 50 * MS && lost + FDT >= change.before, "{failure:?}");
    let is_within = announced - replied >= outage.mul_f64(0.8) && announced - lost <= outage.mul_f64(1.2);
    (is_within && agrees(&failure, change.before, outage)).then_some(failure)
}

#[test]
fn timeline_of_pull_and_of_silent_cut_agrees_with_outage_of_stream_and_survives_daemon() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let mut production =
        Production::create_probed(&lab, &[Family::V4], "fdt=1s targets=192.168.178.1").unwrap();
    production.wait_answered().unwrap();
    assert_eq!(transitions(&production, ""), [], "a new group");
    let pulled = (0..ATTEMPTS).find_map(|_| pull(&lab, &production));
    let pulled = pulled.expect("the timeline of a pull agrees with the outage within 20 %");
    production.wait_answered().unwrap();
    let silent = (0..ATTEMPTS).find_map(|_| cut(&lab, &production));
    let silent = silent.expect("the timeline of a silent cut agrees with the outage within 20 %");

    let picture = lab.directory().join("timeline.svg");
    let printed = production.daemon.ctl(&format!("timeline --svg {}", picture.display())).unwrap();
    println!("{printed}");
    let all = transitions(&production, "");
    let stamps: usize = all.iter().map(|transition| transition.stamps.len()).sum();
    assert_eq!(fs::read_to_string(&picture).unwrap().matches("<rect x=").count(), stamps);
    assert_eq!(printed.lines().count(), all.len() + stamps);
    assert!(
        [&pulled, &silent].iter().all(|one| all.iter().any(|transition| transition.stamps == one.stamps)),
        "{all:?}"
    );
    assert_eq!(transitions(&production, " --last 2"), all[all.len() - 2..]);

    production.daemon.kill().unwrap();
    production.daemon.start().unwrap();
    production.wait_usable(3).unwrap();
    let later = transitions(&production, "");
    assert_eq!(later[..all.len()], all[..], "after a restart of the daemon");
    production.assert_clean();
}
