//! What the schedule announces, and when.

use std::time::Duration;

use super::{
    port::{FEW, RATE_TIME},
    *,
};

fn at(milliseconds: u64) -> Time {
    Time(Duration::from_secs(1000) + Duration::from_millis(milliseconds))
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 168, 178, last])
}

fn announcement(address: IpAddr, ifindex: u32) -> Announcement {
    Announcement {
        group: 1,
        vlan: None,
        address,
        ifindex,
        mac: [2, 0, 0, 0, 0, ifindex as u8],
        router: false,
        probe: false,
    }
}

/// Lets the schedule run until `end`, and says when it sent what.
fn run(schedule: &mut Schedule, end: Time) -> Vec<(Time, Announcement)> {
    let mut sent = Vec::new();
    while let Some(next) = schedule.next().filter(|next| *next <= end) {
        let taken = schedule.take(next);
        assert!(!taken.is_empty(), "woken at {next:?} for nothing");
        sent.extend(taken.into_iter().map(|one| (next, one)));
    }
    sent
}

fn times(sent: &[(Time, Announcement)]) -> Vec<u128> {
    sent.iter().map(|(time, _)| (*time - at(0)).as_millis()).collect()
}

#[test]
fn arp_probes_share_the_rate_with_announcements() {
    let mut schedule = Schedule::default();
    assert!(
        (0..50).all(|round| schedule.count_arp(1, 3, false, at(20 * round))),
        "rounds are never held back"
    );
    let extra = |schedule: &mut Schedule| (0..20).filter(|_| schedule.count_arp(1, 3, true, at(990))).count();
    assert_eq!(extra(&mut schedule), FEW / 2, "rounds leave half of it");
    schedule.announce(announcement(address(200), 3), at(990));
    assert_eq!(times(&run(&mut schedule, at(1999))), [1000], "when the first round was a second ago");
    let mut schedule = Schedule::default();
    (0..8).for_each(|last| schedule.announce(announcement(address(last), 3), at(0)));
    assert_eq!(run(&mut schedule, at(0)).len(), 8);
    assert_eq!((0..5).filter(|_| schedule.count_arp(1, 3, true, at(1))).count(), 2);
    assert_eq!((0..5).filter(|_| schedule.count_arp(1, 4, true, at(1))).count(), 5, "another member");
}

#[test]
fn as_the_reference_spaces_them() {
    let mut schedule = Schedule::default();
    schedule.announce(announcement(address(200), 3), at(0));
    assert_eq!(times(&run(&mut schedule, at(12_999))), [0, 2000, 4000, 6000, 8000]);
    let mut schedule = Schedule::default();
    schedule.announce(announcement("2001:db8::1".parse().unwrap(), 3), at(0));
    assert_eq!(times(&run(&mut schedule, at(8999))), [0, 2000, 4000]);
}

#[test]
fn an_address_that_moves_is_announced_by_its_new_member_alone() {
    let mut schedule = Schedule::default();
    schedule.announce(announcement(address(200), 3), at(0));
    run(&mut schedule, at(3000));
    schedule.announce(announcement(address(200), 4), at(3000));
    let sent = run(&mut schedule, at(15_999));
    assert_eq!(times(&sent), [3000, 5000, 7000, 9000, 11_000]);
    assert!(sent.iter().all(|(_, one)| one.ifindex == 4));
}

#[test]
fn an_address_that_goes_is_silent() {
    for stop in [
        |schedule: &mut Schedule| schedule.stop(1, address(200)),
        |schedule: &mut Schedule| schedule.stop_group(1),
        |schedule: &mut Schedule| schedule.stop_member(3),
    ] {
        let mut schedule = Schedule::default();
        schedule.announce(announcement(address(200), 3), at(0));
        run(&mut schedule, at(1000));
        stop(&mut schedule);
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.take(at(100_000)), []);
    }
}

#[test]
fn many_addresses_are_paced_and_each_comes_first_within_milliseconds() {
    let mut schedule = Schedule::default();
    for last in 0..=255 {
        schedule.announce(announcement(address(last), 3), at(0));
    }
    let sent = run(&mut schedule, at(100));
    assert_eq!(sent.len(), 256);
    assert_eq!(sent.last().unwrap().0, at(7));
    for window in 0..8 {
        assert_eq!(sent.iter().filter(|(time, _)| *time == at(window)).count(), BURST);
    }
}

#[test]
fn what_may_soon_be_elsewhere_is_announced_last_and_then_no_more() {
    let mut schedule = Schedule::default();
    schedule.announce_briefly(announcement(address(100), 3), at(0));
    for last in 200..=232 {
        schedule.announce(announcement(address(last), 3), at(0));
    }
    assert_eq!(schedule.take(at(0)).len(), BURST);
    let last: Vec<_> = schedule.take(at(1)).iter().map(|one| one.address).collect();
    assert_eq!(last, [address(232), address(100)]);
    let sent = run(&mut schedule, at(60_000));
    assert_eq!(sent.iter().filter(|(_, one)| one.address == address(100)).count(), 4);
    schedule.stop_group(1);
    // Alone it lets its member stop: this host does not know which member has the address a minute later.
    schedule.announce_briefly(announcement(address(100), 3), at(100_000));
    assert_eq!(times(&run(&mut schedule, at(300_000))), [100_000, 102_000, 104_000, 106_000, 108_000]);
    assert_eq!(schedule.next(), None);
}

#[test]
fn what_is_elsewhere_now_is_silent() {
    let mut schedule = Schedule::default();
    schedule.announce(announcement(address(200), 3), at(0));
    for last in [100, 101] {
        schedule.announce_briefly(announcement(address(last), 3), at(0));
    }
    run(&mut schedule, at(0));
    schedule.keep_brief(1, |known| known == address(101));
    let sent = run(&mut schedule, at(9000));
    assert!(sent.iter().all(|(_, one)| one.address != address(100)));
    assert_eq!(sent.iter().filter(|(_, one)| one.address == address(101)).count(), 4);
    assert_eq!(sent.iter().filter(|(_, one)| one.address == address(200)).count(), 4);
}

#[test]
fn an_address_in_a_vlan_is_another_than_the_same_without() {
    let mut schedule = Schedule::default();
    schedule.announce(announcement(address(200), 3), at(0));
    schedule.announce(Announcement { vlan: Some(20), ..announcement(address(200), 4) }, at(0));
    assert_eq!(schedule.take(at(0)).len(), 2);
    schedule.stop_in_vlan(1, 20, address(200));
    assert!(run(&mut schedule, at(3000)).iter().all(|(_, one)| one.vlan.is_none()));
    schedule.announce(Announcement { vlan: Some(20), ..announcement(address(200), 4) }, at(3000));
    schedule.stop_following(1);
    assert!(run(&mut schedule, at(6000)).iter().any(|(_, one)| one.vlan.is_some()));
}

#[test]
fn a_first_announcement_does_not_wait_for_repeats() {
    let mut schedule = Schedule::default();
    for last in 0..100 {
        schedule.announce(announcement(address(last), 3), at(0));
    }
    run(&mut schedule, at(1000));
    schedule.announce(announcement(address(200), 4), at(2010));
    assert_eq!(schedule.take(at(2010))[0].address, address(200));
}

#[test]
fn every_address_has_its_turn_and_no_member_is_silent_for_a_third_of_15_s() {
    let mut schedule = Schedule::default();
    for last in 200..203 {
        schedule.announce(announcement(address(last), 3), at(0));
    }
    schedule.announce(announcement(address(100), 4), at(0));
    run(&mut schedule, at(30_000));
    let sent = run(&mut schedule, at(60_000));
    let of = |ifindex: u32| sent.iter().filter(move |(_, one)| one.ifindex == ifindex).copied();
    assert_eq!(times(&of(3).collect::<Vec<_>>()), [33_000, 38_000, 43_000, 48_000, 53_000, 58_000]);
    assert_eq!(of(4).count(), 6);
    for last in 200..203 {
        assert_eq!(of(3).filter(|(_, one)| one.address == address(last)).count(), 2, "{last}");
    }
}

#[test]
fn many_addresses_of_one_member_are_all_announced_within_a_minute() {
    let mut schedule = Schedule::default();
    for last in 0..=255 {
        schedule.announce(announcement(address(last), 3), at(0));
    }
    run(&mut schedule, at(10_000));
    let sent = run(&mut schedule, at(70_500));
    for last in 0..=255 {
        assert!(sent.iter().any(|(_, one)| one.address == address(last)), "{last}");
    }
    assert!(sent.len() < 300, "{}", sent.len());
}

#[test]
fn pace_of_a_group_sets_rate_count_and_interval() {
    let pace = Pace { rate: Some(2), count: Some(1), interval: Duration::from_secs(30), ..Pace::default() };
    let mut schedule = Schedule::default();
    schedule.set_pace(1, pace);
    for last in 0..5 {
        schedule.announce(announcement(address(last), 3), at(0));
    }
    // The other family and the other member have limits of their own.
    schedule.announce(announcement("2001:db8::1".parse().unwrap(), 3), at(0));
    schedule.announce(announcement(address(9), 4), at(0));
    assert_eq!(times(&run(&mut schedule, at(9000))), [0, 0, 0, 0, 1000, 1000, 2000]);
    let sent = run(&mut schedule, at(31_000));
    assert_eq!(times(&sent), [12_000, 22_000, 30_000], "in turn within a minute, and after 30 s of silence");
    schedule.stop_group(1);
    assert!(schedule.groups.is_empty() && schedule.ports.values().all(Port::is_unused));
}

#[test]
fn few_addresses_stay_within_the_limit_of_arp_inspection() {
    let mut schedule = Schedule::default();
    for last in 0..10 {
        schedule.announce(announcement(address(last), 3), at(0));
    }
    run(&mut schedule, at(100));
    // Another member fails, and its addresses move here and away again.
    schedule.announce_again(1, at(200));
    let mut sent = run(&mut schedule, at(700));
    schedule.stop_member(3);
    schedule.announce(announcement(address(0), 3), at(800));
    sent.extend(run(&mut schedule, at(60_000)));
    for (start, _) in &sent {
        let within = sent.iter().filter(|(time, _)| time >= start && *time - *start < RATE_TIME).count();
        assert!(within <= FEW, "{within} in the second after {start:?}");
    }
}

#[test]
fn new_address_is_announced_first_after_probes_without_conflict() {
    let new = |address| Announcement { probe: true, ..announcement(address, 3) };
    let detecting = Pace { detect: true, ..Pace::default() };
    let mut schedule = Schedule::default();
    schedule.set_pace(1, detecting);
    schedule.announce(new(address(200)), at(0));
    schedule.announce(announcement(address(201), 3), at(0));
    let sent = run(&mut schedule, at(8000));
    let of_new: Vec<_> = sent.iter().filter(|(_, one)| one.address == address(200)).copied().collect();
    assert_eq!(times(&of_new), [0, 1000, 2000, 4000, 6000, 8000]);
    let probes: Vec<bool> = of_new.iter().map(|(_, one)| one.probe).collect();
    assert_eq!(probes, [true, true, true, false, false, false]);
    assert!(!schedule.is_detecting(1, None, address(200)));
    // It moves: no detection.
    schedule.announce(announcement(address(200), 4), at(9000));
    assert!(schedule.take(at(9000)).iter().all(|one| !one.probe));

    schedule.announce(new(address(202)), at(9000));
    assert!(schedule.take(at(9000)).iter().any(|one| one.probe));
    schedule.announce(announcement(address(202), 4), at(9100));
    assert!(schedule.take(at(9100)).iter().all(|one| !one.probe), "a failover does not wait");

    schedule.set_pace(1, Pace::default());
    schedule.announce(new(address(203)), at(10_000));
    assert!(schedule.take(at(10_000)).iter().all(|one| !one.probe));
}

#[test]
fn address_of_another_host_is_not_announced_until_it_is_free() {
    let mut schedule = Schedule::default();
    schedule.set_pace(1, Pace { detect: true, ..Pace::default() });
    schedule.announce(Announcement { probe: true, ..announcement(address(200), 3) }, at(0));
    run(&mut schedule, at(1500));
    assert!(schedule.conflict(1, None, address(200), at(1500)));
    assert!(!schedule.conflict(1, None, address(200), at(1500)), "once");
    assert!(schedule.has_conflict(1, address(200)));
    // Its member fails: the other one does not announce it either.
    schedule.announce(announcement(address(200), 4), at(2000));
    assert!(schedule.take(at(2000))[0].probe);
    schedule.conflict(1, None, address(200), at(2010));
    schedule.announce_again(1, at(3000));
    assert_eq!(schedule.next(), Some(at(12_010)));
    let sent = run(&mut schedule, at(16_500));
    assert_eq!(times(&sent), [12_010, 13_010, 14_010, 16_010]);
    assert!(!sent[3].1.probe && !schedule.has_conflict(1, address(200)));
    assert!(!schedule.conflict(1, None, address(200), at(17_000)), "it is announced, and defended");
    schedule.defend(1, None, address(200), at(17_000));
    assert_eq!(schedule.take(at(17_000)).len(), 1);
}

#[test]
fn corrections_follow_an_announcement_and_leave_room_for_others() {
    let mut schedule = Schedule::default();
    for last in 200..209 {
        schedule.announce(announcement(address(last), 3), at(0));
    }
    let announced = |schedule: &Schedule, time| schedule.announced(1, None, address(200), time).copied();
    assert_eq!(announced(&schedule, at(0)), None, "not announced yet");
    schedule.take(at(0));
    assert_eq!(announced(&schedule, at(119_999)), Some(announcement(address(200), 3)));
    assert_eq!(announced(&schedule, at(120_000)), None);
    let one = announcement(address(200), 3);
    let sent: Vec<bool> = [0, 1, 1000, 1001, 1002, 1003].map(|time| schedule.correct(&one, at(time))).into();
    // Ten frames in a second, three of them corrections.
    assert_eq!(sent, [true, false, true, true, true, false]);
    assert!(schedule.correct(&announcement("2001:db8::1".parse().unwrap(), 3), at(2001)));
}

#[test]
fn addresses_are_announced_again_after_those_that_moved() {
    let mut schedule = Schedule::default();
    for last in 200..203 {
        schedule.announce(announcement(address(last), 3), at(0));
    }
    run(&mut schedule, at(20_000));
    schedule.announce(announcement(address(202), 4), at(21_000));
    schedule.announce_again(1, at(21_000));
    let addresses: Vec<_> = schedule.take(at(21_000)).iter().map(|one| one.address).collect();
    assert_eq!(addresses, [address(202), address(200), address(201)]);
    let sent = run(&mut schedule, at(29_500));
    for last in 200..203 {
        assert_eq!(sent.iter().filter(|(_, one)| one.address == address(last)).count(), 4, "{last}");
    }
}

fn of_group(group: u32, address: IpAddr, ifindex: u32) -> Announcement {
    Announcement { group, ..announcement(address, ifindex) }
}

#[test]
fn groups_share_the_burst_and_first_announcements_of_all_precede_repeats() {
    let mut schedule = Schedule::default();
    for last in 0..30 {
        schedule.announce(of_group(1, address(last), 3), at(0));
    }
    assert_eq!(schedule.take(at(0)).len(), 30);
    schedule.announce_again(1, at(100));
    for last in 100..130 {
        schedule.announce(of_group(2, address(last), 4), at(100));
    }
    let taken = schedule.take(at(100));
    assert_eq!(taken.len(), BURST);
    assert!(taken[..30].iter().all(|one| one.group == 2) && taken[30..].iter().all(|one| one.group == 1));
    assert_eq!(schedule.next(), Some(at(101)));
    schedule.stop_group(1);
    assert_eq!(run(&mut schedule, at(1999)), [], "those of group 1 are forgotten");
}

#[test]
fn change_of_one_group_does_not_delay_another() {
    let mut schedule = Schedule::default();
    schedule.announce(of_group(1, address(1), 3), at(0));
    schedule.announce(of_group(2, address(2), 4), at(500));
    schedule.take(at(500));
    schedule.announce(of_group(3, address(3), 5), at(600));
    assert_eq!(times(&run(&mut schedule, at(2600))), [600, 2500, 2500, 2600]);
    schedule.stop_member(4);
    assert_eq!(schedule.next(), Some(at(4500)));
}

#[test]
fn groups_are_refreshed_at_the_same_times() {
    let mut schedule = Schedule::default();
    for group in 0..20 {
        let start = at(13 * u64::from(group));
        schedule.announce(of_group(group, address(group as u8), 100 + group), start);
        run(&mut schedule, start);
    }
    run(&mut schedule, at(20_000));
    let sent = run(&mut schedule, at(120_000));
    let mut wakeups = times(&sent);
    wakeups.dedup();
    assert!(wakeups.len() <= 2 * 20 && sent.len() >= 20 * 20, "{} for {}", wakeups.len(), sent.len());
    for group in 0..20 {
        let of: Vec<_> = sent.iter().filter(|(_, one)| one.group == group).copied().collect();
        let silences = times(&of).windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
        assert!(silences.iter().all(|silence| (4750..=5000).contains(silence)), "{silences:?}");
    }
}
