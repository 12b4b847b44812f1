use super::*;
use crate::core::{
    Input, Settings,
    group::testing::{Wire, mac, router},
};
use FailedDirection::*;

const SECOND: Duration = Duration::from_secs(1);

/// Members with test addresses, whose frames to each other pass.
fn connected(members: u8) -> Wire {
    let mut wire = Wire::of(members, Settings::default());
    wire.run(20 * SECOND);
    wire.isolated = false;
    wire
}

fn direction(wire: &Wire, member: u8) -> Option<FailedDirection> {
    wire.group.failed_direction(member).map(|finding| finding.direction)
}

/// What happens to member 0.
type Fault = fn(&mut Wire) -> bool;

const DEAF: Fault = |wire| wire.deaf.insert(0);
const MUTE: Fault = |wire| wire.mute.insert(0);
const SILENT: Fault = |wire| wire.silent.insert(0);
const TARGET: Fault = |wire| wire.cut.insert((0, router(1)));

#[test]
fn every_direction_is_named_and_logged_once() {
    for (name, fault, expected, text) in [
        ("deaf", DEAF, Receive, Some("does not receive")),
        ("mute", MUTE, Transmit, Some("does not transmit")),
        ("silent", SILENT, Both, Some("neither receives nor transmits")),
        ("target", TARGET, Beyond, Some("receives and transmits")),
    ] {
        for isolated in [false, true] {
            let mut wire = connected(3);
            wire.isolated = isolated;
            fault(&mut wire);
            wire.until(|wire| direction(wire, 0).is_some());
            wire.run(60 * SECOND);
            assert_eq!(direction(&wire, 0), Some(if isolated { Unknown } else { expected }), "{name}");
            assert_eq!(wire.group.unexpected_test_frames(), 0, "{name}");
            let lines = wire.said().into_iter().filter(|line| line.contains("eth0 of group g "));
            let lines: Vec<String> = lines.filter(|line| line.contains("frame")).collect();
            let text = text.filter(|_| !isolated);
            assert_eq!(lines.len(), usize::from(text.is_some()), "{name}: {lines:?}");
            assert!(text.is_none_or(|text| lines[0].contains(text)), "{name}: {lines:?}");
        }
    }
}

#[test]
fn of_two_members_one_direction_is_named_and_both_are_unknown() {
    for (name, fault, expected) in [
        ("deaf", DEAF, Receive),
        ("mute", MUTE, Transmit),
        ("silent", SILENT, Unknown),
        ("target", TARGET, Beyond),
    ] {
        let mut wire = connected(2);
        fault(&mut wire);
        wire.run(60 * SECOND);
        assert_eq!(direction(&wire, 0), Some(expected), "{name}");
    }
}

#[test]
fn members_behind_the_same_failure_reach_each_other() {
    for isolated in [false, true] {
        let mut wire = connected(3);
        wire.isolated = isolated;
        wire.parted.extend([0, 1]);
        wire.run(60 * SECOND);
        let findings = [0, 1].map(|member| wire.group.failed_direction(member).unwrap());
        let expected = if isolated { [(Unknown, 2), (Unknown, 2)] } else { [(Beyond, 1), (Beyond, 0)] };
        assert_eq!(findings.map(|finding| (finding.direction, finding.peer)), expected);
        assert_eq!(direction(&wire, 2), None);
    }
    // With two members on the side of the targets, these show that the ports are not isolated.
    let mut wire = connected(4);
    wire.parted.extend([0, 1]);
    wire.run(60 * SECOND);
    assert_eq!([0, 1].map(|member| direction(&wire, member)), [Some(Both); 2]);
}

#[test]
fn direction_is_known_within_a_probe_interval_of_the_failure() {
    for fault in [DEAF, MUTE, SILENT] {
        let mut wire = connected(3);
        fault(&mut wire);
        wire.until(|wire| !wire.group.member(0).unwrap().functions());
        let took = wire.until(|wire| direction(wire, 0).is_some());
        assert!(took <= 2 * SECOND + Duration::from_millis(500), "{took:?}");
    }
}

#[test]
fn no_frame_is_sent_unless_a_member_has_failed_by_its_probes() {
    let mut wire = connected(3);
    wire.run(60 * SECOND);
    wire.link(1, false);
    wire.run(60 * SECOND);
    wire.link(1, true);
    wire.run(60 * SECOND);
    wire.dead.insert(router(1));
    wire.run(60 * SECOND);
    assert_eq!(wire.exchanged, [], "a link, and a target");
    wire.dead.clear();
    wire.run(60 * SECOND);
    wire.silent.insert(0);
    wire.run(60 * SECOND);
    assert_ne!(wire.exchanged, []);
    wire.silent.clear();
    wire.until(|wire| wire.group.member(0).unwrap().functions());
    assert_eq!(direction(&wire, 0), None);
    wire.exchanged.clear();
    wire.run(60 * SECOND);
    assert_eq!(wire.exchanged, []);
}

#[test]
fn failed_member_out_of_service_is_not_tested() {
    let mut wire = connected(3);
    wire.deaf.insert(0);
    wire.until(|wire| direction(wire, 0).is_some());
    wire.tell(Input::Offline { member: 0 });
    assert_eq!(direction(&wire, 0), None);
    wire.exchanged.clear();
    wire.run(60 * SECOND);
    wire.tell(Input::Left { member: 0 });
    wire.run(60 * SECOND);
    assert_eq!(wire.exchanged, []);
}

#[test]
fn forged_frames_are_counted_and_change_nothing() {
    let mut wire = connected(3);
    wire.silent.insert(0);
    wire.until(|wire| !wire.exchanged.is_empty());
    let (_, from, to, sequence) = wire.exchanged[0];
    assert_eq!(from, 0);
    for (at, (member, source, from, to, sequence)) in (1..).zip([
        // Sent by another host, received on another member, with another number, to and from others.
        (to, [6; 6], from, to, sequence),
        (to, mac(to), from, to, sequence),
        (from, mac(from), from, to, sequence),
        (3 - to, mac(from), from, to, sequence),
        (to, mac(from), from, to, sequence.wrapping_sub(1)),
        (to, mac(from), from, to, sequence + 1),
        (3 - to, mac(from), from, 3 - to, sequence),
        (255, mac(from), from, 255, sequence),
        (to, mac(from), 255, to, sequence),
        (from, mac(from), from, from, sequence),
    ]) {
        wire.tell(Input::TestFrame { member, source, from, to, sequence, bytes: SMALL });
        assert_eq!(wire.group.unexpected_test_frames(), at);
    }
    wire.until(|wire| direction(wire, 0).is_some());
    assert_eq!(direction(&wire, 0), Some(Both));
    // A late one.
    wire.tell(Input::TestFrame { member: to, source: mac(from), from, to, sequence, bytes: SMALL });
    assert_eq!(wire.group.unexpected_test_frames(), 11);
    wire.run(60 * SECOND);
    assert_eq!(direction(&wire, 0), Some(Both));
}

/// The peer does not receive either, and has not lost a probe yet when the test begins.
#[test]
fn peer_that_fails_as_well_does_not_mislead() {
    const PEER_DEAF: Fault = |wire| wire.deaf.insert(1);
    const PEER_MUTE: Fault = |wire| wire.mute.insert(1);
    for peer_fault in [PEER_DEAF, PEER_MUTE] {
        for fault in [DEAF, MUTE] {
            for after_ms in (0..4000).step_by(350) {
                let mut wire = connected(3);
                wire.run(Duration::from_millis(after_ms));
                fault(&mut wire);
                let expected = if wire.deaf.is_empty() { Transmit } else { Receive };
                peer_fault(&mut wire);
                let mut found = BTreeMap::new();
                for _ in 0..300 {
                    wire.run(SECOND / 10);
                    if let Some(direction) = direction(&wire, 0) {
                        *found.entry(direction).or_insert(0) += 1;
                    }
                }
                assert_eq!(found.keys().collect::<Vec<_>>(), [&expected], "{after_ms} ms: {:?}", wire.lines);
            }
        }
    }
}

#[test]
fn direction_that_changes_is_named_again() {
    let mut wire = connected(3);
    wire.silent.insert(0);
    wire.until(|wire| direction(wire, 0) == Some(Both));
    wire.silent.clear();
    wire.mute.insert(0);
    let took = wire.until(|wire| direction(wire, 0) == Some(Transmit));
    assert!(took <= 3 * REPEAT, "{took:?}");
}

#[test]
fn no_port_transmits_more_than_six_frames_in_a_second() {
    for fault in [0, 1, 2, 3] {
        let mut wire = connected(8);
        for member in 0..6 {
            match fault {
                0 => wire.deaf.insert(member),
                1 => wire.mute.insert(member),
                2 => wire.silent.insert(member),
                _ => wire.cut.insert((member, router(1))),
            };
        }
        wire.run(120 * SECOND);
        assert!((0..6).all(|member| direction(&wire, member).is_some()), "{fault}");
        for port in 0..8 {
            let times = wire.exchanged.iter().filter(|(_, from, ..)| *from == port).map(|(at, ..)| *at);
            let times: Vec<Time> = times.collect();
            assert!(times.windows(7).all(|seven| seven[6] - seven[0] >= SECOND), "{fault}: {port}");
        }
    }
}

/// The results explain only: with or without them every member is in the same state at the same time.
#[test]
fn verdicts_do_not_depend_on_directions() {
    for (fault, again) in [(DEAF, TARGET), (SILENT, MUTE), (TARGET, SILENT)] {
        let mut wires = [false, true].map(|isolated| {
            let mut wire = connected(3);
            wire.isolated = isolated;
            wire
        });
        let mut run = |time: Duration, change: &dyn Fn(&mut Wire)| {
            wires.iter_mut().for_each(change);
            for _ in 0..time.as_millis() / 100 {
                wires.iter_mut().for_each(|wire| wire.run(SECOND / 10));
                let [connected, isolated] = &wires;
                let states = |wire: &Wire| [0, 1, 2].map(|member| (wire.state(member), wire.usable()));
                assert_eq!(states(connected), states(isolated));
            }
        };
        run(20 * SECOND, &|wire| {
            fault(wire);
        });
        run(60 * SECOND, &|wire| {
            (wire.deaf, wire.mute, wire.silent, wire.cut) = Default::default();
        });
        run(20 * SECOND, &|wire| {
            again(wire);
        });
    }
}
