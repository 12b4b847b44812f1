//! A group on a network for tests, and what somebody should read of its member eth0, written by hand.

use super::*;
use crate::{
    core::{
        Input, Settings,
        group::testing::{Wire, router},
    },
    types::{Family, LinkState},
};

const FDT: Duration = Duration::from_secs(1);

fn view(wire: &Wire) -> View<'_> {
    let member = wire.group.member(0).expect("eth0");
    View { group: &wire.group, member, up_since: None, now: wire.now }
}

fn summary(wire: &Wire) -> String {
    view(wire).summary()
}

/// The reasons from the third on: what probes have to do with it.
fn of_probes(wire: &Wire) -> Vec<String> {
    view(wire).reasons().split_off(2)
}

fn failed(wire: &mut Wire) {
    wire.silent.insert(0);
    wire.until(|wire| wire.group.member(0).is_some_and(Member::probes_failed));
}

#[test]
fn a_member_that_works() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.run(20 * FDT);
    assert_eq!(summary(&wire), "eth0 works: its link is up, and its probes are answered");
    assert_eq!(
        view(&wire).reasons(),
        [
            "It carries traffic, multicast and broadcast, too.",
            "Link: up; the datapath trusts it.",
            "inet: probed every 200 ms by ICMP echo from 192.168.178.201/24; targets from the routing table: 192.168.178.1.",
            "inet: the last 52 probes were answered.",
            "inet: others that are answered: eth1.",
        ]
    );
    let recent = view(&wire).recent();
    let [recent] = &recent[..] else { panic!("one target") };
    assert_eq!(
        (recent.family, recent.target, recent.fates.as_str()),
        (Family::V4, router(1), &*"!".repeat(52))
    );
    let timers = view(&wire).timers();
    let [timer] = &timers[..] else { panic!("{timers:?}") };
    assert_eq!((timer.what.as_str(), timer.of.as_deref()), ("next-probe", Some("inet")));
    assert!(timer.in_ms <= 200, "{timer:?}");
}

#[test]
fn a_member_whose_path_is_dead_and_comes_back() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.run(FDT);
    wire.silent.insert(0);
    wire.until(|wire| wire.group.member(0).unwrap().prober(Family::V4).unwrap().history().losses() == 2);
    assert_eq!(summary(&wire), "eth0 works: its link is up, and its last 2 probes were lost");
    assert_eq!(of_probes(&wire)[1], "inet: 2 of 5 losses in a row that would be a failure.");
    failed(&mut wire);
    assert_eq!(summary(&wire), "eth0 has failed: its link is up, and its probes are not answered (inet)");
    let reasons = view(&wire).reasons();
    assert_eq!(reasons[0], "It carries no traffic: its probes have failed, and others work.");
    assert_eq!(
        reasons[3],
        "inet has failed: 0 of 10 answers in a row are there, over all targets or of one."
    );
    assert!(
        view(&wire).recent()[0].fates.trim_end_matches('~').ends_with("!....."),
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
        "inet has failed: 3 of 10 answers in a row are there, over all targets or of one."
    );
}

#[test]
fn targets_that_answer_nobody_are_not_its_fault() {
    let mut wire = Wire::with_fdt(3, FDT);
    wire.dead.insert(router(1));
    wire.run(2 * FDT);
    assert_eq!(
        summary(&wire),
        "eth0 works: its link is up, and it is judged by that alone: no target answers on any member"
    );
    let reasons = of_probes(&wire);
    let losses = wire.group.member(0).unwrap().prober(Family::V4).unwrap().history().losses();
    assert_eq!(
        reasons[1],
        format!(
            "inet: {losses} losses in a row are not held against it, since they are not its own: see who else is \
             answered."
        )
    );
    assert_eq!(
        reasons[2],
        "inet: no other member is answered: eth1 eth2 are not. No target answers on any member."
    );
}

#[test]
fn who_joins_without_an_answer_is_given_time() {
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
            "inet: {losses} losses in a row do not count yet, since it has just joined and was never answered; they do in \
             5 s."
        )
    );
    let timers = newcomer.timers();
    assert!(
        timers.iter().any(|timer| (timer.what.as_str(), timer.in_ms) == ("losses-count", 5000)),
        "{timers:?}"
    );
}

#[test]
fn links() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.link(0, false);
    assert_eq!(
        summary(&wire),
        "eth0 has failed: it has no link; look at its cable, its switch port, and who set it down"
    );
    assert_eq!(
        view(&wire).reasons()[..2],
        [
            "It carries no traffic: the datapath does not trust its link.",
            "Link: down; the datapath does not see it good."
        ]
    );
    assert_eq!(
        of_probes(&wire)[0],
        "inet: at rest now, and else probed every 200 ms by ICMP echo from 192.168.178.201/24; targets from the routing \
         table: 192.168.178.1."
    );
    wire.tell(Input::Link { member: 0, link: LinkState::Up });
    assert_eq!(
        summary(&wire),
        "eth0 has failed, and its link is back: it is trusted when it has been good for a while"
    );
    let returning =
        View { up_since: Some(wire.now), now: wire.now + Duration::from_millis(50), ..view(&wire) };
    assert_eq!(
        returning.link(),
        "Link: up; the datapath has seen it good for 50 ms, and trusts it after 200 ms."
    );
    let timers = returning.timers();
    assert!(
        timers.iter().any(|timer| (timer.what.as_str(), timer.in_ms) == ("link-trusted", 150)),
        "{timers:?}"
    );
    wire.tell(Input::Live([0, 1].into_iter().collect()));
    assert_eq!(summary(&wire), "eth0 has failed: its link is up, and its probes are not answered (inet)");
    wire.until(|wire| wire.group.member(0).unwrap().functions());
    wire.tell(Input::Live([1].into_iter().collect()));
    assert_eq!(summary(&wire), "eth0 has failed: the datapath has seen its carrier go");
}

#[test]
fn a_link_that_flaps() {
    let mut wire = Wire::new(Settings::default());
    wire.join(0);
    wire.join(1);
    for _ in 0..3 {
        wire.link(0, false);
        wire.link(0, true);
    }
    assert_eq!(
        summary(&wire),
        "eth0 is held down by flap protection: its link has come and gone too often; `ipmpctl offline eth0` and `ipmpctl \
         online eth0` end that"
    );
    assert_eq!(
        view(&wire).reasons(),
        [
            "It carries no traffic: flap protection holds it down.",
            "Link: up; the datapath trusts it; it came up too often, and is not believed for another 60 s.",
            "It is not probed: it has no test address, and g has probe=off; what fails behind its switch is not seen.",
        ]
    );
    let timers = view(&wire).timers();
    assert_eq!((timers[0].what.as_str(), timers[0].in_ms), ("hold-down-over", 60_000));
}

#[test]
fn who_was_taken_out() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.tell(Input::Offline { member: 0 });
    assert_eq!(summary(&wire), "eth0 is offline: somebody took it out; `ipmpctl online eth0` puts it back");
    assert_eq!(view(&wire).reasons()[0], "It carries no traffic: it is offline.");
    wire.tell(Input::Online { member: 0 });
    wire.tell(Input::Mac { member: 0, mac: [2, 0, 0, 0, 0, 1] });
    assert_eq!(
        summary(&wire),
        "eth0 is offline: eth1 has its hardware address, too; give one of them another, and eth0 comes back by itself"
    );
}

#[test]
fn spares() {
    let mut wire = Wire::with_fdt(3, FDT);
    wire.tell(Input::Standby { member: 0, standby: true });
    assert_eq!(
        summary(&wire),
        "eth0 works, and waits: it is a standby, and the members of g that are none carry"
    );
    assert_eq!(
        view(&wire).reasons()[0],
        "It carries no traffic: it is kept as a spare, which the datapath takes as soon as nobody else can carry. It is a \
         standby."
    );
    wire.link(1, false);
    assert_eq!(view(&wire).reasons()[0], "It carries traffic. It is a standby.");

    let settings = Settings { fdt: FDT, failback: false, ..Settings::default() };
    let mut wire = Wire::of(2, settings);
    failed(&mut wire);
    wire.silent.clear();
    wire.until(|wire| wire.group.member(0).unwrap().inactive());
    assert_eq!(
        summary(&wire),
        "eth0 works, and waits: it was repaired while others carried, and g has failback=no; `ipmpctl set g failback=yes` \
         brings it back"
    );
}

#[test]
fn who_carries_although_it_has_failed_and_who_does_not() {
    let mut wire = Wire::with_fdt(2, FDT);
    failed(&mut wire);
    wire.link(1, false);
    assert_eq!(
        summary(&wire),
        "eth0 has failed: its link is up, and its probes are not answered (inet); it carries traffic all the same, since \
         no other member works"
    );
    let mut wire = Wire::of(2, Settings { fdt: FDT, fail_open: false, ..Settings::default() });
    wire.dead.insert(router(1));
    wire.until(|wire| wire.group.active().is_empty());
    assert_eq!(
        view(&wire).reasons()[0],
        "It carries no traffic: its probes have failed, and the group has fail-open=no."
    );
}

#[test]
fn who_is_not_probed_and_whom_there_is_nobody_to_probe() {
    let mut wire = Wire::new(Settings { fdt: FDT, ..Settings::default() });
    wire.tell(Input::AddressAdded(router(200)));
    wire.join(0);
    assert_eq!(
        summary(&wire),
        "eth0 works: its link is up, and nothing else is known of it: it is not probed"
    );
    let family = Family::V4;
    wire.tell(Input::TestAddress { member: 0, family, address: TestAddress::Awaited });
    assert_eq!(of_probes(&wire), ["inet: not probed until a DHCP client has brought its test address."]);
    let twin = TestAddress::Is { address: router(200), prefix: 24 };
    wire.tell(Input::TestAddress { member: 0, family, address: twin });
    assert_eq!(
        of_probes(&wire),
        ["inet: not probed, since another member, or the group, has its test address 192.168.178.200, too."]
    );
    wire.test_address(0, family);
    assert_eq!(
        summary(&wire),
        "eth0 works: its link is up, and nothing else is known of it: it is probed, and has no target"
    );
    assert_eq!(
        of_probes(&wire),
        [
            "inet: probed every 200 ms by ICMP echo from 192.168.178.201/24; no target is known, and hosts are looked for \
             by multicast."
        ]
    );
    wire.routers(&[router(1)]);
    assert_eq!(summary(&wire), "eth0 works: its link is up, and its first probe is on its way");
    assert_eq!(of_probes(&wire)[2], "inet: no other member is probed to compare it with.");
}

#[test]
fn a_target_that_is_set_aside_comes_back_later() {
    let mut wire = Wire::with_fdt(2, FDT);
    wire.routers(&[router(1), router(2)]);
    wire.dead.insert(router(2));
    wire.until(|wire| {
        let prober = wire.group.member(0).unwrap().prober(Family::V4).unwrap();
        prober.targets().all().iter().any(|target| matches!(target.status, TargetUse::Excluded(..)))
    });
    assert_eq!(
        of_probes(&wire)[0],
        "inet: probed every 200 ms by ICMP echo from 192.168.178.201/24; targets from the routing table: 192.168.178.1, 1 \
         more set aside."
    );
    let timers = view(&wire).timers();
    let last = timers.last().unwrap();
    assert_eq!((last.what.as_str(), last.of.as_deref()), ("target-again", Some("192.168.178.2")));
    assert!((59_000..=60_000).contains(&last.in_ms), "{last:?}");
    let fates: Vec<String> = view(&wire).recent().into_iter().map(|recent| recent.fates).collect();
    assert!(fates[1].trim_end_matches('~').ends_with("....."), "{fates:?}");
}

#[test]
fn a_detection_time_that_was_raised() {
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
            "The failure detection time of g is {fdt} instead of 1 s: 192.168.178.1 took up to {took} on {member} 1 ms ago."
        )
    );
    assert!(view(&wire).timers().iter().any(|timer| timer.what == "fdt-may-fall" && timer.in_ms == 59_999));
}

#[test]
fn every_fate_has_its_letter() {
    let ms = Duration::from_millis;
    let probe = |fate| Probe {
        sequence: 1,
        target: router(1),
        sent: Time(ms(1000)),
        deadline: Time(ms(1200)),
        cookie: 7,
        fate,
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
