use std::time::Duration;

use super::*;
use crate::{
    core::{Input, Settings, group::testing::Wire},
    types::GroupState,
};

mod connections;

const FDT: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Of a soak.
const RUNS: u64 = 200;
/// Of the default tests.
const FEW_RUNS: u64 = 50;
const NONE: [u8; 0] = [];

fn percent(text: &str) -> Option<Percent> {
    Some(text.parse().expect("a share"))
}

/// A group in which probes are lost at random, by this seed.
fn wire(members: u8, seed: u64, settings: Settings) -> Wire {
    let mut wire = Wire::of(members, settings);
    wire.group.set_jitter(seed);
    wire.loss = (0.0, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    wire
}

fn degraded(wire: &Wire) -> Vec<u8> {
    let degraded = wire.group.members().iter().filter(|member| member.loss().is_some());
    degraded.map(Member::number).collect()
}

/// Time until any member is degraded, at most `limit`. What happens meanwhile is forgotten.
fn until_degraded(wire: &mut Wire, limit: Duration) -> Option<Duration> {
    let start = wire.now;
    while wire.now - start < limit {
        wire.run(Duration::from_secs(6));
        wire.actions.clear();
        wire.probes.clear();
        wire.large.clear();
        if !degraded(wire).is_empty() {
            return Some(wire.now - start);
        }
    }
    None
}

/// One member of three loses this share, at the default failure detection time: it is degraded, and no other one ever.
fn name_lossy_member(share: f64, loss_warn: &str, limit: Duration, count: u64) {
    let runs = |seeds: std::ops::Range<u64>| {
        seeds
            .map(|seed| {
                let settings = Settings { loss_warn: percent(loss_warn), ..Settings::default() };
                let (mut wire, lossy) = (wire(3, seed, settings), (seed % 3) as u8);
                wire.losses.insert(lossy, share);
                let took = until_degraded(&mut wire, limit);
                assert_eq!(degraded(&wire), [lossy], "seed {seed}");
                assert_eq!(wire.group.state(), GroupState::Degraded);
                wire.run(MINUTE);
                assert!(degraded(&wire).iter().all(|member| *member == lossy), "seed {seed}");
                took.expect("it is degraded")
            })
            .collect::<Vec<Duration>>()
    };
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let halves = [0..count / 2, count / 2..count].map(|seeds| scope.spawn(move || runs(seeds)));
        halves.into_iter().flat_map(|half| half.join().expect("each run names the member")).collect()
    });
    times.sort();
    let at = |percentile: usize| times[(times.len() - 1) * percentile / 100].as_secs();
    println!(
        "{}% loss on one of three members, loss-warn={loss_warn}: the right one in {} of {count} runs, after {} s (p50), {} s (p99), {} s (max)",
        share * 100.0,
        times.len(),
        at(50),
        at(99),
        at(100)
    );
}

#[test]
fn member_that_loses_30_percent_is_named() {
    name_lossy_member(0.30, "1%", 20 * MINUTE, FEW_RUNS);
}

#[test]
#[ignore = "soak: more runs"]
fn soak_member_that_loses_30_percent_is_named() {
    name_lossy_member(0.30, "1%", 20 * MINUTE, RUNS);
}

#[test]
#[ignore = "soak: takes minutes"]
fn soak_member_that_loses_5_percent_is_named() {
    name_lossy_member(0.05, "1%", 4 * HOUR, RUNS);
}

#[test]
#[ignore = "soak: takes minutes"]
fn soak_member_that_loses_1_percent_is_named() {
    name_lossy_member(0.01, "0.1%", 12 * HOUR, RUNS);
}

/// Whatever the share, in groups of different sizes.
fn lose_on_all_members(seeds: std::ops::Range<u64>, time: Duration) {
    for (members, share) in [(2, 0.3), (3, 0.01), (3, 0.05), (3, 0.3), (3, 0.6), (8, 0.3)] {
        for seed in seeds.clone() {
            let mut wire = wire(members, seed, Settings::default());
            wire.loss.0 = share;
            let named = until_degraded(&mut wire, time);
            assert_eq!((named, degraded(&wire)), (None, vec![]), "{members} members, {share}, seed {seed}");
        }
    }
}

#[test]
fn loss_on_all_members_degrades_none() {
    lose_on_all_members(0..1, HOUR / 2);
}

#[test]
#[ignore = "soak: takes minutes"]
fn soak_loss_on_all_members_degrades_none() {
    lose_on_all_members(0..5, 4 * HOUR);
}

/// It drops requests of all members; which ones depends on when they arrive.
fn limit_target(seeds: std::ops::Range<u64>, time: Duration) {
    for limit in [0.5, 1.0, 1.3, 1.45] {
        for seed in seeds.clone() {
            let mut wire = wire(3, seed, Settings::default());
            wire.limit = Some(limit);
            let named = until_degraded(&mut wire, time);
            assert_eq!((named, degraded(&wire)), (None, vec![]), "{limit} replies/s, seed {seed}");
        }
    }
}

#[test]
fn limited_target_degrades_none() {
    limit_target(15..16, HOUR / 2);
}

#[test]
#[ignore = "soak: takes minutes"]
fn soak_limited_target_degrades_none() {
    limit_target(0..20, 2 * HOUR);
}

/// An outage is a failure, and no loss of some packets.
#[test]
fn outages_degrade_none() {
    let mut wire = wire(3, 1, Settings::default());
    for _ in 0..20 {
        wire.run(2 * MINUTE);
        wire.silent.insert(0);
        wire.run(Duration::from_secs(30));
        wire.silent.clear();
        assert_eq!(degraded(&wire), NONE);
    }
    // Shorter than it takes to detect: at most one round is lost.
    for _ in 0..20 {
        wire.run(2 * MINUTE);
        wire.silent.insert(0);
        wire.run(Duration::from_millis(300));
        wire.silent.clear();
        assert_eq!(degraded(&wire), NONE);
    }
}

#[test]
fn degraded_member_is_reported_and_returns_after_replies() {
    let mut wire = wire(3, 7, Settings::default());
    wire.losses.insert(1, 0.4);
    until_degraded(&mut wire, 20 * MINUTE).expect("it is degraded");
    let lines = wire.said();
    let text = "IP interface eth1 of group g is degraded: it loses ";
    let named: Vec<&String> = lines.iter().filter(|line| line.contains("degraded")).collect();
    assert!(matches!(named[..], [line] if line.starts_with(text)), "{lines:?}");
    assert_eq!(wire.usable(), [0, 1, 2], "without loss-fail it transmits");
    let loss = wire.group.member(1).and_then(Member::loss).expect("a loss");
    assert!((0.2..0.6).contains(&loss.lost.ratio()) && loss.others == Percent::default(), "{loss:?}");

    wire.losses.clear();
    let took = wire.until(|wire| degraded(wire).is_empty());
    assert!((MINUTE..10 * MINUTE).contains(&took), "{took:?}");
    assert!(wire.said().contains(&"IP interface eth1 of group g is no longer degraded".to_owned()));
    wire.run(HOUR);
    assert!(!wire.said().iter().any(|line| line.contains("degraded")));
}

#[test]
fn member_above_loss_fail_transmits_only_while_no_better_one_functions() {
    let settings = Settings { loss_fail: percent("5%"), ..Settings::default() };
    let mut wire = wire(3, 3, settings);
    wire.losses.insert(2, 0.4);
    until_degraded(&mut wire, 20 * MINUTE).expect("it is degraded");
    assert_eq!(wire.usable(), [0, 1]);
    assert_eq!(wire.group.reserve().iter().collect::<Vec<_>>(), [2]);
    assert!(wire.said().iter().any(|line| line.contains("eth2 does not transmit")));
    wire.link(0, false);
    wire.link(1, false);
    assert!(wire.usable().contains(&2), "a bad path is better than none");
    wire.link(0, true);
    wire.link(1, true);
    wire.run(MINUTE);
    assert_eq!(wire.usable(), [0, 1]);
    wire.tell(Input::Settings(Settings { loss_fail: None, ..settings }));
    assert_eq!(wire.usable(), [0, 1, 2]);
    wire.tell(Input::Settings(settings));
    assert_eq!(wire.usable(), [0, 1]);
    wire.tell(Input::Settings(Settings { loss_warn: None, ..settings }));
    wire.run(FDT);
    assert_eq!((degraded(&wire), wire.usable()), (vec![], vec![0, 1, 2]));
}

/// One that loses in turns of two minutes is in use less and less often.
#[test]
fn member_that_loses_now_and_then_does_not_move_traffic_to_and_fro() {
    let settings = Settings { loss_fail: percent("5%"), ..Settings::default() };
    let mut wire = wire(3, 5, settings);
    for _ in 0..60 {
        wire.losses.insert(0, 0.25);
        wire.run(2 * MINUTE);
        wire.losses.clear();
        wire.run(2 * MINUTE);
    }
    let changes = wire.said().iter().filter(|line| line.contains("degraded")).count();
    println!("loss of 25% in turns of two minutes for four hours: {changes} changes");
    assert!((1..=10).contains(&changes), "{changes}");
}

/// Two of three, and in the end all.
#[test]
fn two_bad_members_are_named_until_all_are_as_bad() {
    let mut wire = wire(3, 11, Settings::default());
    wire.losses.extend([(0, 0.4), (1, 0.4)]);
    wire.until(|wire| degraded(wire) == [0, 1]);
    wire.losses.insert(2, 0.4);
    wire.run(2 * HOUR);
    assert_eq!(degraded(&wire), NONE);
}

#[test]
fn lost_link_and_offline_end_it() {
    let bad = || {
        let mut wire = wire(3, 13, Settings::default());
        wire.losses.insert(0, 0.4);
        until_degraded(&mut wire, 20 * MINUTE).expect("it is degraded");
        wire
    };
    let mut wire = bad();
    wire.link(0, false);
    assert_eq!(degraded(&wire), NONE);
    let mut wire = bad();
    wire.tell(Input::Offline { member: 0 });
    wire.tell(Input::Online { member: 0 });
    assert_eq!(degraded(&wire), NONE);
    assert_eq!(wire.group.lost_probes(wire.now, 0)[2], Count::default());
}

/// Counters in rings: as many after a day as after an hour, whatever the number of targets.
#[test]
fn memory_is_bounded() {
    let mut losses = MemberLosses::default();
    for second in 0..100_000u64 {
        let target = IpAddr::from([10, 0, (second % 40) as u8, 1]);
        losses.count(Time(Duration::from_secs(second)), target, Count { sent: 1.0, lost: 0.0 });
    }
    assert_eq!(losses.targets.len(), TARGETS);
}
