use super::*;

const INTERVAL: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(100_000 + ms))
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 168, 178, last])
}

fn prober(targets: &[u8]) -> Prober {
    let mut prober = Prober::new(at(0), false);
    prober.set_means(Some(ProbeSource::Echo { source: ip(201), prefix: 24 }));
    prober.set_targets(at(0), TargetMode::Routes, &targets.iter().copied().map(ip).collect::<Vec<_>>());
    prober.wake(at(0), INTERVAL, 0, 0);
    prober
}

fn round(prober: &mut Prober, now: u64) -> Option<(Round, u32)> {
    prober.round(at(now), INTERVAL, IDLE, Duration::ZERO, |_| true)
}

/// A round at `now`, answered after a millisecond or judged after an interval.
fn probe(prober: &mut Prober, now: u64, answered: bool) {
    let Some((Round::Probe { sequence, target }, _)) = round(prober, now) else {
        panic!("no probe at {now}")
    };
    prober.sent(sequence, Some(5), at(now), INTERVAL);
    if answered {
        let rtt = Duration::from_millis(1);
        let proof = Proof::Echo { sequence, cookie: 5 };
        assert!(matches!(prober.answer(target, proof, at(now) + rtt), Answer::Genuine { .. }));
        prober.targets.sample(target, rtt, INTERVAL);
    }
    prober.judge(at(now + 20), INTERVAL);
}

#[test]
fn rounds_are_an_interval_apart() {
    let mut prober = prober(&[1]);
    for now in (0..200).step_by(20) {
        assert_eq!(prober.next(), Some(at(now)));
        assert_eq!(round(&mut prober, now + 20 - 11).unwrap().1, 0, "a small delay moves nothing");
    }
    assert_eq!(round(&mut prober, 199), None);
}

#[test]
fn late_rounds_are_skipped_and_never_bunch() {
    for (late, next, missed) in [(9, 20, 0), (10, 40, 1), (29, 40, 1), (30, 60, 2), (1000, 1020, 50)] {
        let mut prober = prober(&[1]);
        assert_eq!(round(&mut prober, late).unwrap().1, missed, "{late}");
        assert_eq!(prober.next(), Some(at(next)), "{late}");
        assert_eq!(prober.counters().missed, u64::from(missed));
    }
}

#[test]
fn missed_rounds_are_reported_once_a_minute() {
    let mut prober = prober(&[1]);
    let said: Vec<Option<u32>> =
        [0, 20, 59_999, 60_000, 60_020].map(|now| prober.report_missed(at(now), 2)).into();
    assert_eq!(said, [Some(2), None, None, Some(6), None]);
}

#[test]
fn members_and_families_have_different_offsets() {
    let mut places: Vec<Duration> = (0..32)
        .map(|place| {
            let mut prober = prober(&[1]);
            prober.rest();
            prober.wake(at(160), Duration::from_millis(320), place, 0);
            prober.next().unwrap() - at(160)
        })
        .collect();
    assert_eq!(places[..4], [0, 160, 80, 240].map(Duration::from_millis));
    places.sort();
    assert!(places.windows(2).all(|two| two[1] - two[0] == Duration::from_millis(10)));
}

#[test]
fn deadline_is_rtt_at_least_2_ms_at_most_an_interval() {
    let mut prober = prober(&[1]);
    let patience = |prober: &mut Prober, now| {
        let Some((Round::Probe { sequence, .. }, _)) = round(prober, now) else { panic!("no probe") };
        prober.sent(sequence, Some(5), at(now), INTERVAL);
        prober.history.deadline().unwrap() - at(now)
    };
    assert_eq!(patience(&mut prober, 0), INTERVAL, "no sample yet");
    prober.judge(at(20), INTERVAL);
    for (now, rtt, expected) in [(20, 100, 2000), (40, 3000, 9000), (60, 30_000, 20_000)] {
        prober.targets.forget_times();
        prober.targets.sample(ip(1), Duration::from_micros(rtt), Duration::MAX);
        assert_eq!(patience(&mut prober, now), Duration::from_micros(expected));
        prober.judge(at(now + 20), INTERVAL);
    }
    prober.failed = true;
    assert_eq!(patience(&mut prober, 80), INTERVAL, "as long as it has failed");
}

#[test]
fn losses_count_after_first_reply_or_ten_seconds() {
    let mut prober = prober(&[1]);
    assert!(!prober.settled(at(9999)) && prober.settled(at(10_000)));
    probe(&mut prober, 0, true);
    assert!(prober.settled(at(1)));
}

#[test]
fn unresponsive_target_is_excluded_while_others_reply() {
    let mut prober = prober(&[1, 2]);
    for step in 0..10 {
        assert_eq!(prober.set_dead_target_aside(at(20 * step), INTERVAL), None);
        probe(&mut prober, 20 * step, step % 2 == 0);
    }
    assert_eq!(prober.set_dead_target_aside(at(200), INTERVAL), Some(ip(2)));
    assert_eq!(prober.set_dead_target_aside(at(200), INTERVAL), None, "once");
    assert_eq!(prober.targets.active().map(|target| target.address).collect::<Vec<_>>(), [ip(1)]);
}

#[test]
fn no_target_is_excluded_while_none_replies() {
    let mut prober = prober(&[1, 2]);
    (0..20).for_each(|step| probe(&mut prober, 20 * step, false));
    assert_eq!(prober.set_dead_target_aside(at(400), INTERVAL), None);
}

#[test]
fn ten_replies_in_a_row_of_all_targets_or_of_one_are_a_repair() {
    let mut one = prober(&[1]);
    probe(&mut one, 0, false);
    for step in 1..=10 {
        assert!(!one.repaired());
        probe(&mut one, 20 * step, true);
    }
    assert!(one.repaired());
    let mut two = prober(&[1, 2]);
    for step in 0..19 {
        assert!(!two.repaired());
        probe(&mut two, 20 * step, step % 2 == 0);
    }
    assert!(two.repaired(), "ten of the first, whatever the second does");
}

#[test]
fn without_targets_rounds_are_idle_and_new_ones_are_probed_at_once() {
    let mut prober = prober(&[]);
    assert_eq!(round(&mut prober, 0), Some((Round::Idle, 0)));
    assert_eq!(prober.next(), Some(at(1000)));
    prober.set_targets(at(5), TargetMode::Multicast, &[ip(7)]);
    prober.wake(at(5), INTERVAL, 0, 0);
    assert_eq!(prober.next(), Some(at(20)));
}

#[test]
fn resting_prober_has_no_deadline() {
    let mut prober = prober(&[1]);
    round(&mut prober, 0);
    prober.rest();
    assert_eq!(prober.deadline(), None);
    prober.set_means(None);
    prober.wake(at(0), INTERVAL, 0, 0);
    assert_eq!(prober.deadline(), None, "no method");
}

#[test]
fn round_without_probeable_target_is_stuck() {
    let mut prober = prober(&[1]);
    assert_eq!(prober.round(at(0), INTERVAL, IDLE, Duration::ZERO, |_| false), Some((Round::Stuck, 0)));
    assert_eq!((prober.next(), prober.history.deadline()), (Some(at(20)), None));
}
