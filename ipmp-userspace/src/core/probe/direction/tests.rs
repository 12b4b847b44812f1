use super::*;

const NOW: Time = Time(Duration::from_secs(1000));
const MS: Duration = Duration::from_millis(1);

/// Sends all frames of an exchange of members 3 and 5 with number 7; when each was due.
fn sent(exchange: &mut Exchange) -> Vec<Duration> {
    let mut due = Vec::new();
    loop {
        let now = exchange.next();
        if !exchange.sends(now) {
            return due;
        }
        assert!(!exchange.sends(now), "twice");
        due.push(now - NOW);
    }
}

fn exchange() -> Exchange {
    Exchange::new(NOW, [3, 5], 7)
}

#[test]
fn three_frames_are_sent_and_lost_300_ms_after_the_last() {
    let mut exchange = exchange();
    assert_eq!(sent(&mut exchange), [Duration::ZERO, 100 * MS, 200 * MS]);
    assert_eq!(exchange.result(NOW + 499 * MS), None);
    assert_eq!(exchange.result(NOW + 500 * MS), Some([false, false]));
}

#[test]
fn last_frame_of_one_direction_is_enough() {
    for (from, to, expected) in [(3, 5, [true, false]), (5, 3, [false, true])] {
        let mut exchange = exchange();
        sent(&mut exchange);
        assert!(exchange.received(from, to, 7));
        assert_eq!(exchange.result(NOW + 499 * MS), None, "the other one may still arrive");
        assert_eq!(exchange.result(NOW + 500 * MS), Some(expected));
    }
}

#[test]
fn exchange_ends_once_both_directions_have_passed() {
    let mut exchange = exchange();
    assert!(exchange.sends(NOW));
    assert!(exchange.received(3, 5, 7));
    assert_eq!(exchange.result(NOW), None);
    assert!(exchange.received(5, 3, 7));
    assert_eq!(exchange.result(NOW), Some([true, true]));
}

#[test]
fn frames_of_other_pairs_and_exchanges_do_not_count() {
    let mut exchange = exchange();
    assert!(!exchange.received(3, 5, 7), "before it was sent");
    sent(&mut exchange);
    for (from, to, sequence) in [(3, 5, 6), (3, 5, 8), (3, 3, 7), (5, 5, 7), (4, 5, 7), (3, 4, 7)] {
        assert!(!exchange.received(from, to, sequence), "{from} {to} {sequence}");
    }
    assert_eq!(exchange.result(NOW + 500 * MS), Some([false, false]));
}

/// Concludes with results of tests one after another; what is reported, and what is found then.
fn concluded(results: &[FailedDirection]) -> Vec<(Option<FailedDirection>, Option<FailedDirection>)> {
    let mut diagnosis = Diagnosis::new(NOW);
    let mut conclude = |direction: &FailedDirection| {
        let finding = Finding { direction: *direction, peer: 1, at: NOW };
        let reported = diagnosis.conclude(finding, NOW);
        (reported, diagnosis.finding.map(|finding| finding.direction))
    };
    results.iter().map(&mut conclude).collect()
}

#[test]
fn first_result_counts_and_another_one_twice_in_a_row() {
    use FailedDirection::*;
    assert_eq!(
        concluded(&[Receive, Receive, Both, Receive, Both, Both, Both]),
        [
            (Some(Receive), Some(Receive)),
            (None, Some(Receive)),
            (None, Some(Receive)),
            (None, Some(Receive)),
            (None, Some(Receive)),
            (Some(Both), Some(Both)),
            (None, Some(Both)),
        ]
    );
}

#[test]
fn beyond_counts_twice_in_a_row_and_unknown_is_not_reported() {
    use FailedDirection::*;
    assert_eq!(
        concluded(&[Beyond, Beyond, Unknown, Unknown, Beyond, Beyond]),
        [
            (None, None),
            (Some(Beyond), Some(Beyond)),
            (None, Some(Beyond)),
            (None, Some(Unknown)),
            (None, Some(Unknown)),
            (None, Some(Beyond)),
        ]
    );
}

#[test]
fn discarded_test_does_not_confirm() {
    let mut diagnosis = Diagnosis::new(NOW);
    let finding = Finding { direction: FailedDirection::Beyond, peer: 1, at: NOW };
    diagnosis.conclude(finding, NOW);
    diagnosis.discard(NOW + MS);
    assert_eq!((diagnosis.conclude(finding, NOW), diagnosis.finding), (None, None));
}
