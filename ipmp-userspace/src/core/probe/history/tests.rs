use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_millis(100);
const SLACK: Duration = Duration::from_millis(50);

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(100_000 + ms))
}

fn router(last: u8) -> IpAddr {
    IpAddr::from([192, 168, 178, last])
}

fn echo(sequence: u16) -> Proof {
    Proof::Echo { sequence, cookie: u64::from(sequence) << 32 }
}

/// A history with a probe to each of these targets, one every 200 ms, answered or not.
fn history(probes: &[(u8, bool)]) -> History {
    let mut history = History::default();
    for (step, &(target, answered)) in (0..).zip(probes) {
        let now = at(200 * step);
        let sequence = history.want(router(target), now, now + PATIENCE);
        history.sent(sequence, Some(u64::from(sequence) << 32), now, PATIENCE);
        if answered {
            history.answer(router(target), echo(sequence), now + Duration::from_millis(1));
        }
        history.judge(now + PATIENCE, SLACK);
    }
    history
}

/// The table of the module's documentation.
#[test]
fn every_outcome_and_event_matches_the_table() {
    use Answer::{Duplicate, Forged};
    let genuine = |ms| Answer::Genuine { sequence: 1, rtt: Duration::from_millis(ms), newest: true };
    let probe = |fate| Probe {
        sequence: 1,
        target: router(1),
        sent: at(0),
        deadline: at(100),
        cookie: 1 << 32,
        fate,
        kind: ProbeKind::Round,
        size: None,
        disputed: false,
        is_taken: false,
    };
    let answered = |ms| ProbeProgress::Answered(Duration::from_millis(ms));
    // ProbeProgress; the results of sent, not sent, a reply at 200 ms, judged at 150 ms and judged at 151 ms.
    let table = [
        (
            ProbeProgress::Wanted,
            [
                ProbeProgress::Pending,
                ProbeProgress::Unsent,
                ProbeProgress::Wanted,
                ProbeProgress::Unsent,
                ProbeProgress::Unsent,
            ],
            Forged,
        ),
        (
            ProbeProgress::Pending,
            [
                ProbeProgress::Pending,
                ProbeProgress::Pending,
                answered(200),
                ProbeProgress::Lost,
                ProbeProgress::Discarded,
            ],
            genuine(200),
        ),
        (
            ProbeProgress::Lost,
            [
                ProbeProgress::Lost,
                ProbeProgress::Lost,
                answered(200),
                ProbeProgress::Lost,
                ProbeProgress::Lost,
            ],
            genuine(200),
        ),
        (
            ProbeProgress::Discarded,
            [
                ProbeProgress::Discarded,
                ProbeProgress::Discarded,
                answered(200),
                ProbeProgress::Discarded,
                ProbeProgress::Discarded,
            ],
            genuine(200),
        ),
        (answered(7), [answered(7); 5], Duplicate),
        (ProbeProgress::Unsent, [ProbeProgress::Unsent; 5], Forged),
    ];
    for (fate, expected, answer) in table {
        let start = History { probes: [probe(fate)].into(), sequence: 1 };
        let mut seen = Vec::new();
        let mut answers = Vec::new();
        for event in 0..5 {
            let mut history = start.clone();
            match event {
                0 => history.sent(1, Some(1 << 32), at(0), PATIENCE),
                1 => history.sent(1, None, at(0), PATIENCE),
                2 => answers.push(history.answer(router(1), echo(1), at(200))),
                3 => drop(history.judge(at(150), SLACK)),
                _ => drop(history.judge(at(151), SLACK)),
            }
            seen.push(history.probes[0].fate);
        }
        assert_eq!((seen.as_slice(), answers.as_slice()), (&expected[..], &[answer][..]), "{fate:?}");
    }
}

#[test]
fn numbers_start_with_one_and_wrap() {
    let mut history = History::default();
    assert_eq!(history.want(router(1), at(0), at(1)), 1);
    history.clear();
    assert_eq!(history.want(router(1), at(0), at(1)), 2);
    history.sequence = u16::MAX;
    assert_eq!(history.want(router(1), at(0), at(1)), 0);
}

#[test]
fn forged_replies_are_detected() {
    let mut history = history(&[(1, false), (2, false)]);
    let before = history.clone();
    for (target, sequence, cookie) in [
        (1, 1, 2 << 32), // another probe's cookie
        (1, 1, 0),       // none
        (2, 1, 1 << 32), // another target
        (1, 3, 3 << 32), // a number that was not sent yet
        (9, 2, 2 << 32), // of no probe
    ] {
        let proof = Proof::Echo { sequence, cookie };
        assert_eq!(history.answer(router(target), proof, at(300)), Answer::Forged, "{target} {proof:?}");
        assert_eq!(history, before);
    }
    assert!(matches!(history.answer(router(1), echo(1), at(300)), Answer::Genuine { .. }));
    assert_eq!(history.answer(router(1), echo(1), at(301)), Answer::Duplicate);
}

#[test]
fn arp_reply_counts_for_newest_probe_of_its_sender() {
    let mut history = history(&[(1, false), (2, false), (1, false)]);
    let rtt = Duration::from_millis(30);
    let reply = Proof::Mac([2; 6]);
    let answer = history.answer(router(1), reply, at(400) + rtt);
    assert_eq!(answer, Answer::Genuine { sequence: 3, rtt, newest: true });
    assert_eq!(history.answer(router(1), reply, at(431)), Answer::Duplicate);
    assert_eq!(history.answer(router(3), reply, at(431)), Answer::Forged);
    // One that had been seen before the newest was sent answers the one before.
    assert!(matches!(
        history.answer(router(1), reply, at(399)),
        Answer::Genuine { sequence: 1, newest: false, .. }
    ));
}

#[test]
fn rows_are_counted_from_newest_and_by_target() {
    let history = history(&[(1, true), (2, false), (1, true), (2, false), (1, true)]);
    assert_eq!((history.losses(), history.answers()), (0, 1));
    assert_eq!((history.losses_of(router(2)), history.answers_of(router(1))), (2, 3));
    assert_eq!(history.last_target(), Some(router(1)));
    assert!(history.answered() && !History::default().answered());
}

#[test]
fn void_unsent_or_undecided_probe_does_not_end_a_row() {
    let mut history =
        history(&[(1, true), (1, false), (1, false), (1, false), (1, false), (1, false), (1, false)]);
    history.probes[3].fate = ProbeProgress::Discarded;
    history.probes[5].fate = ProbeProgress::Unsent;
    history.probes[6].fate = ProbeProgress::Pending;
    assert_eq!((history.losses(), history.losing()), (3, None));
}

#[test]
fn five_losses_in_a_row_are_a_failure() {
    let mut probes = vec![(1, true), (1, false), (2, false), (1, false), (2, false)];
    assert_eq!(history(&probes).losing(), None);
    probes.push((1, false));
    let losing = history(&probes).losing().unwrap();
    assert_eq!(losing.map(|loss| loss.sent), [1000, 800, 600, 400, 200].map(at));
    assert_eq!(losing.map(|loss| loss.target), [1, 2, 1, 2, 1].map(router));
    probes.push((1, false));
    assert_eq!(history(&probes).losing().unwrap()[0].sent, at(1200), "the newest five");
}

#[test]
fn answered_around_finds_by_time_and_target() {
    let history = history(&[(1, true), (1, false), (2, true)]);
    let apart = Duration::from_millis(200);
    for (moment, target, found) in [
        (0, None, true),
        (199, Some(1), true),
        (200, None, false),
        (201, Some(2), true),
        (201, Some(1), false),
        (599, None, true),
        (600, None, false),
    ] {
        assert_eq!(
            history
                .answered_around(at(moment), apart, target.map(router), &[ProbeKind::Round])
                .next()
                .is_some(),
            found,
            "{moment} {target:?}"
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Probe(u8, bool),
    Answer(u16),
    Judge(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u8, any::<bool>()).prop_map(|(target, sent)| Step::Probe(target, sent)),
        (0..70u16).prop_map(Step::Answer),
        (0..400u64).prop_map(Step::Judge),
    ]
}

proptest! {
    #[test]
    fn rows_and_deadlines_match_the_outcomes(steps in proptest::collection::vec(step(), 1..150)) {
        let (mut history, mut now) = (History::default(), 0);
        for step in steps {
            match step {
                Step::Probe(target, sent) => {
                    let sequence = history.want(router(target), at(now), at(now) + PATIENCE);
                    history.sent(sequence, sent.then_some(u64::from(sequence) << 32), at(now), PATIENCE);
                }
                Step::Answer(sequence) => {
                    let target = history.probe(sequence).map_or(router(0), |probe| probe.target);
                    let genuine = matches!(history.answer(target, echo(sequence), at(now)), Answer::Genuine { .. });
                    prop_assert!(!genuine || history.answered());
                }
                Step::Judge(wait) => {
                    now += wait;
                    history.judge(at(now), SLACK);
                    prop_assert!(history.deadline().is_none_or(|deadline| deadline > at(now)));
                }
            }
            prop_assert!(history.probes.len() <= LENGTH);
            prop_assert!(history.losses() == 0 || history.answers() == 0);
            prop_assert_eq!(history.losing().is_some(), history.losses() >= FAILURES);
        }
    }
}
