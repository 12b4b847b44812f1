//! A group on a simulated network, and the expected texts for its member eth0.

use super::*;
use crate::{
    core::{
        Input, Settings,
        group::testing::{Wire, router},
    },
    types::{Failback, Family, LinkState},
};

const FDT: Duration = Duration::from_secs(1);

fn view(wire: &Wire) -> View<'_> {
    let member = wire.group.member(0).expect("eth0");
    View { group: &wire.group, member, up_since: None, updelay: Duration::from_millis(200), now: wire.now }
}

fn summary(wire: &Wire) -> String {
    view(wire).summary()
}

/// The reasons from the third on, which are about probes.
fn of_probes(wire: &Wire) -> Vec<String> {
    view(wire).reasons().split_off(2)
}

fn failed(wire: &mut Wire) {
    wire.silent.insert(0);
    wire.until(|wire| wire.group.member(0).is_some_and(Member::probes_failed));
}

#[test]
fn working_member() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.run(20 * FDT);
    assert_eq!(summary(&wire), "eth0 works: its link is up, and its probes are answered");
    let mut reasons = view(&wire).reasons();
    let passed = reasons.pop().unwrap();
    assert!(
        passed.starts_with("inet: packets of 1500 bytes pass to 192.168.178.1 and back, last proven "),
        "{passed}"
    );
    assert_eq!(
        reasons,
        [
            "It is active, and transmits multicast and broadcast.",
            "Link: up; up in the datapath.",
            "inet: probed every 200 ms by ICMP echo from 192.168.178.201/24; targets from the routing table: \
             192.168.178.1.",
            "inet: the last 52 probes were answered.",
            "inet: other members with replies: eth1.",
        ]
    );
    let recent = view(&wire).recent();
    let [recent] = &recent[..] else { panic!("one target") };
    assert_eq!(
        (recent.family, recent.target, recent.outcomes.as_str()),
        (Family::V4, router(1), &*"!".repeat(52))
    );
    let timers = view(&wire).timers();
    let [timer] = &timers[..] else { panic!("{timers:?}") };
    assert_eq!((timer.what.as_str(), timer.of.as_deref()), ("next-probe", Some("inet")));
    assert!(timer.in_ms <= 200, "{timer:?}");
}

#[test]
fn path_failure_and_repair_while_link_is_up() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.run(FDT);
    wire.silent.insert(0);
    wire.until(|wire| wire.group.member(0).unwrap().prober(Family::V4).unwrap().history().losses() == 2);
    assert_eq!(summary(&wire), "eth0 works: its link is up, and its last 2 probes were lost");
    assert_eq!(of_probes(&wire)[1], "inet: 2 of 5 losses in a row until a failure.");
    failed(&mut wire);
    assert_eq!(summary(&wire), "eth0 has failed: its link is up, and its probes are not answered (inet)");
    let reasons = view(&wire).reasons();
    assert_eq!(reasons[0], "It is not active: its probes have failed, and others work.");
    assert_eq!(reasons[3], "inet has failed: 0 of 10 answers in a row, over all targets or from one.");
    assert!(
        view(&wire).recent()[0].outcomes.trim_end_matches('~').ends_with("!....."),
        "{:?}",
        view(&wire).recent()
    );
    wire.silent.clear();
    wire.until(|wire| wire.group.member(0).unwrap().prober(Family::V4).unwrap().history().answers() == 3);
    assert_eq!(
        summary(&wire),
        "eth0 has failed: its link is up, and its probes have 3 of 10 answers in a row (inet)"
    );
    assert_eq!(
        of_probes(&wire)[1],
        "inet has failed: 3 of 10 answers in a row, over all targets or from one."
    );
}

#[test]
fn path_failure_names_its_direction_until_probes_are_answered() {
    let mut wire = Wire::with_fdt(3, FDT);
    wire.isolated = false;
    wire.run(FDT);
    wire.deaf.insert(0);
    wire.until(|wire| wire.group.failed_direction(0).is_some());
    let peer = wire.group.member(wire.group.failed_direction(0).unwrap().peer).unwrap().name().to_owned();
    wire.run(Duration::from_millis(1200));
    assert_eq!(
        summary(&wire),
        "eth0 has failed: its link is up, and its probes are not answered (inet); it does not receive; check the \
         transmitter of its switch port"
    );
    assert_eq!(
        view(&wire).reasons()[2],
        format!(
            "It does not receive: frames from {peer} to it are lost, and its own arrive there; found 1.2 s ago."
        )
    );
    wire.tell(Input::TestFrame { member: 0, source: [6; 6], from: 1, to: 0, sequence: 1, bytes: 46 });
    assert!(view(&wire).reasons()[2].ends_with(" ago. In g, 1 unexpected frames were discarded."));
    wire.deaf.clear();
    wire.until(|wire| wire.group.member(0).unwrap().prober(Family::V4).unwrap().history().answers() == 3);
    assert_eq!(
        summary(&wire),
        "eth0 has failed: its link is up, and its probes have 3 of 10 answers in a row (inet)"
    );
}

#[test]
fn frames_of_full_size_to_other_members_are_explained() {
    let mut wire = Wire::with_fdt(3, FDT / 2);
    wire.isolated = false;
    wire.run(Duration::from_secs(31));
    let expected = "Frames with 1500 bytes pass to other members and back, last proven ";
    assert!(
        view(&wire).reasons().iter().any(|reason| reason.starts_with(expected)),
        "{:?}",
        view(&wire).reasons()
    );
}

#[test]
fn losses_on_all_members_do_not_count() {
    let mut wire = Wire::with_fdt(3, FDT);
    wire.dead.insert(router(1));
    wire.run(2 * FDT);
    assert_eq!(
        summary(&wire),
        "eth0 works: its link is up, and only that counts: no target replies on any member"
    );
    let reasons = of_probes(&wire);
    let losses = wire.group.member(0).unwrap().prober(Family::V4).unwrap().history().losses();
    assert_eq!(
        reasons[1],
        format!("inet: {losses} losses in a row do not count: no other member receives replies either.")
    );
    assert_eq!(
        reasons[2],
        "inet: no other member receives replies: eth1 eth2. No target replies on any member."
    );
}

#[test]
fn losses_of_new_member_count_later() {
    let mut wire = Wire::with_fdt(1, FDT);
    wire.silent.insert(1);
    wire.join(1);
    wire.test_address(1, Family::V4);
    wire.run(5 * FDT);
    let newcomer = View { member: wire.group.member(1).unwrap(), ..view(&wire) };
    let losses = newcomer.member.prober(Family::V4).unwrap().history().losses();
    assert!(losses > 5);
    assert_eq!(
        newcomer.reasons()[3],
        format!(
            "inet: {losses} losses in a row do not count yet: it has just joined and received no reply; they count \
             in 5 s."
        )
    );
    let timers = newcomer.timers();
    assert!(
        timers.iter().any(|timer| (timer.what.as_str(), timer.in_ms) == ("losses-count", 5000)),
        "{timers:?}"
    );
}

#[test]
fn link_failure_and_repair() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.link(0, false);
    assert_eq!(
        summary(&wire),
        "eth0 has failed: its link is down; check the cable, the switch port and whether the interface is up"
    );
    assert_eq!(
        view(&wire).reasons()[..2],
        ["It is not active: the datapath reports its link down.", "Link: down; down in the datapath."]
    );
    assert_eq!(
        of_probes(&wire)[0],
        "inet: not probed now, else probed every 200 ms by ICMP echo from 192.168.178.201/24; targets from the \
         routing table: 192.168.178.1."
    );
    wire.tell(Input::Link { member: 0, link: LinkState::Up });
    assert_eq!(summary(&wire), "eth0 has failed, and its link is up again: it is used after the updelay");
    let returning =
        View { up_since: Some(wire.now), now: wire.now + Duration::from_millis(50), ..view(&wire) };
    assert_eq!(returning.link(), "Link: up; up in the datapath for 50 ms, used in 150 ms (updelay 200 ms).");
    let timers = returning.timers();
    assert!(
        timers.iter().any(|timer| (timer.what.as_str(), timer.in_ms) == ("link-trusted", 150)),
        "{timers:?}"
    );
    wire.tell(Input::Live([0, 1].into_iter().collect()));
    assert_eq!(summary(&wire), "eth0 has failed: its link is up, and its probes are not answered (inet)");
    wire.until(|wire| wire.group.member(0).unwrap().functions());
    wire.tell(Input::Live([1].into_iter().collect()));
    assert_eq!(summary(&wire), "eth0 has failed: the datapath has detected loss of carrier");
}

#[test]
fn flapping_link_is_in_hold_down() {
    let mut wire = Wire::new(Settings::default());
    wire.join(0);
    wire.join(1);
    for _ in 0..3 {
        wire.link(0, false);
        wire.link(0, true);
    }
    assert_eq!(
        summary(&wire),
        "eth0 is in hold-down: its link was flapping; `ipmpctl offline eth0` and `ipmpctl online eth0` end that"
    );
    assert_eq!(
        view(&wire).reasons(),
        [
            "It is not active: it is in hold-down after flapping.",
            "Link: up; up in the datapath; hold-down after flapping for another 60 s.",
            "It is not probed: it has no test address, and g has probe=off; path failures while the link is up are \
             not detected.",
        ]
    );
    let timers = view(&wire).timers();
    assert_eq!((timers[0].what.as_str(), timers[0].in_ms), ("hold-down-over", 60_000));
}

#[test]
fn offline_member() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.tell(Input::Offline { member: 0 });
    assert_eq!(summary(&wire), "eth0 is offline by the operator; `ipmpctl online eth0` ends that");
    assert_eq!(view(&wire).reasons()[0], "It is not active: it is offline.");
    wire.tell(Input::Online { member: 0 });
    wire.tell(Input::Mac { member: 0, mac: [2, 0, 0, 0, 0, 1] });
    assert_eq!(
        summary(&wire),
        "eth0 is offline: eth1 has the same hardware address; change one of them, and eth0 returns to service"
    );
}

#[test]
fn inactive_member() {
    let mut wire = Wire::with_fdt(3, FDT);
    wire.tell(Input::Standby { member: 0, standby: true });
    assert_eq!(
        summary(&wire),
        "eth0 works and is inactive: it is a standby, and the other members of g are active"
    );
    assert_eq!(
        view(&wire).reasons()[0],
        "It is not active: it is inactive, and used only if no other member can transmit. It is a standby."
    );
    wire.link(1, false);
    assert_eq!(view(&wire).reasons()[0], "It is active. It is a standby.");

    let settings = Settings { fdt: FDT, failback: Failback::No, ..Settings::default() };
    let mut wire = Wire::of(2, settings);
    failed(&mut wire);
    wire.silent.clear();
    wire.until(|wire| wire.group.member(0).unwrap().inactive());
    assert_eq!(
        summary(&wire),
        "eth0 works and is inactive: it was repaired while others were active, and g has failback=no; `ipmpctl set \
         g failback=yes` activates it"
    );
}

#[test]
fn failed_member_is_active_only_with_fail_open() {
    let mut wire = Wire::with_fdt(2, FDT);
    failed(&mut wire);
    wire.link(1, false);
    assert_eq!(
        summary(&wire),
        "eth0 has failed: its link is up, and its probes are not answered (inet); it is still active, since \
         no other member works"
    );
    let mut wire = Wire::of(2, Settings { fdt: FDT, fail_open: false, ..Settings::default() });
    wire.dead.insert(router(1));
    wire.until(|wire| wire.group.active().is_empty());
    assert_eq!(
        view(&wire).reasons()[0],
        "It is not active: its probes have failed, and the group has fail-open=no."
    );
}

#[test]
fn member_without_probes_or_targets() {
    let mut wire = Wire::new(Settings { fdt: FDT, ..Settings::default() });
    wire.tell(Input::AddressAdded(router(200)));
    wire.join(0);
    assert_eq!(summary(&wire), "eth0 works: its link is up, and it is not probed");
    let family = Family::V4;
    wire.tell(Input::TestAddress { member: 0, family, address: TestAddress::Awaited });
    assert_eq!(of_probes(&wire), ["inet: not probed until a DHCP client adds its test address."]);
    let twin = TestAddress::Is { address: router(200), prefix: 24 };
    wire.tell(Input::TestAddress { member: 0, family, address: twin });
    assert_eq!(
        of_probes(&wire),
        ["inet: not probed: its test address 192.168.178.200 is not unique in the group."]
    );
    wire.test_address(0, family);
    assert_eq!(summary(&wire), "eth0 works: its link is up, and it has no probe target");
    assert_eq!(
        of_probes(&wire),
        [
            "inet: probed every 200 ms by ICMP echo from 192.168.178.201/24; no target is known; multicast probes \
             search for one."
        ]
    );
    wire.routers(&[router(1)]);
    assert_eq!(summary(&wire), "eth0 works: its link is up, and its first probe is pending");
    assert_eq!(of_probes(&wire)[2], "inet: no other member is probed to compare with.");
}

#[test]
fn excluded_target_has_a_timer() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.routers(&[router(1), router(2)]);
    wire.dead.insert(router(2));
    wire.until(|wire| {
        let prober = wire.group.member(0).unwrap().prober(Family::V4).unwrap();
        prober.targets().all().iter().any(|target| matches!(target.status, TargetUse::Excluded(..)))
    });
    assert_eq!(
        of_probes(&wire)[0],
        "inet: probed every 200 ms by ICMP echo from 192.168.178.201/24; targets from the routing table: \
         192.168.178.1, 1 more excluded."
    );
    let timers = view(&wire).timers();
    let last = timers.last().unwrap();
    assert_eq!((last.what.as_str(), last.of.as_deref()), ("target-again", Some("192.168.178.2")));
    assert!((59_000..=60_000).contains(&last.in_ms), "{last:?}");
    let fates: Vec<String> = view(&wire).recent().into_iter().map(|recent| recent.outcomes).collect();
    assert!(fates[1].trim_end_matches('~').ends_with("....."), "{fates:?}");
}

#[test]
fn raised_detection_time() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.rtt = Duration::from_millis(150);
    wire.until(|wire| wire.group.slowest().is_some());
    let fdt = short(wire.group.fdt().unwrap().current());
    let took = short(wire.group.slowest().unwrap().took);
    let member = wire.group.slowest().unwrap().member.clone();
    wire.run(Duration::from_millis(1));
    assert_eq!(
        of_probes(&wire).last().unwrap(),
        &format!(
            "The failure detection time of g is {fdt} instead of 1 s: 192.168.178.1 took up to {took} on {member} 1 \
             ms ago."
        )
    );
    assert!(view(&wire).timers().iter().any(|timer| timer.what == "fdt-may-fall" && timer.in_ms == 59_999));
}

#[test]
fn every_outcome_has_its_letter() {
    let ms = Duration::from_millis;
    let probe = |fate| Probe {
        sequence: 1,
        target: router(1),
        sent: Time(ms(1000)),
        deadline: Time(ms(1200)),
        cookie: 7,
        fate,
        kind: crate::core::probe::history::ProbeKind::Round,
        size: None,
        disputed: false,
        is_taken: false,
    };
    let fates = [
        ProbeProgress::Answered(ms(3)),
        ProbeProgress::Lost,
        ProbeProgress::Discarded,
        ProbeProgress::Unsent,
        ProbeProgress::Wanted,
        ProbeProgress::Pending,
    ];
    assert_eq!(fates.map(|fate| letter(&probe(fate))), ['!', '.', '?', '-', '~', '~']);
}
