use ipmp_common::maps::MemberStatus;

use super::*;
use crate::{
    core::{
        Adopted, Group, Input,
        group::testing::{MAC, Wire, ip, router},
        member::Member,
        probe::{SETTLE, Via, burst},
        slots::Slots,
    },
    types::{Confirm, Family, GroupState, LinkState, MemberState, ProbePolicy, ProbeState, SplitPolicy},
};

const DOWN: &str = "The link has gone down on eth0";
const UP: &str = "The link has come up on eth0";
const FAILURE: &str = "IP interface failure detected on eth0 of group g";
const REPAIR: &str = "IP interface repair detected on eth0 of group g";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn column(wire: &Wire, member: u8) -> ProbeState {
    wire.group.member(member).unwrap().probe_column()
}

/// Time until a member has failed, and until it is repaired.
fn failed(wire: &mut Wire, member: u8) -> Duration {
    wire.until(|wire| wire.state(member) == MemberState::Failed)
}

fn works(wire: &mut Wire, member: u8) -> Duration {
    wire.until(|wire| wire.state(member) == MemberState::Ok)
}

/// The table of the module's documentation, for every state, peer and event. The member is `eth0`; its peer is `eth1`, with
/// replies or without a link. The letters of events are those of the documentation.
#[test]
fn every_state_peer_and_event_matches_the_table() {
    let letters = [
        ('D', DOWN),
        ('U', UP),
        ('F', FAILURE),
        ('R', REPAIR),
        ('X', "All IP interfaces in group g are now unusable"),
        ('S', "At least 1 IP interface (eth0) in group g is now usable"),
        (
            'K',
            "No target of group g replies on any interface (inet); interfaces are judged by link state until one does",
        ),
        ('O', "IP interface eth0 of group g is now offline"),
        ('I', "IP interface eth0 of group g is now online"),
        ('n', "interface eth0 is not offline"),
        ('a', "interface eth0 is already offline"),
        ('l', "cannot offline eth0: no other functioning interfaces are in its IPMP group"),
    ];
    // Link down, link up, five losses, ten answers, no targets, a target, no test address, a test address, offline,
    // online.
    #[rustfmt::skip]
    let table: [(&str, bool, [&str; 10]); 16] = [
        ("ok", true, ["failed DF", "ok", "failed F", "ok", "unknown", "ok", "ok", "ok", "offline O", "ok n"]),
        ("ok", false, ["failed DX", "ok", "ok K", "ok", "unknown", "ok", "ok", "ok", "ok l", "ok n"]),
        ("no targets", true, ["failed DF", "unknown", "unknown", "unknown", "unknown", "ok", "ok", "unknown", "offline O", "unknown n"]),
        ("no targets", false, ["failed DX", "unknown", "unknown", "unknown", "unknown", "ok", "ok", "unknown", "unknown l", "unknown n"]),
        ("failed", true, ["failed D", "failed", "failed", "ok R", "failed", "failed", "ok R", "failed", "offline O", "failed n"]),
        ("failed", false, ["failed D", "failed", "failed", "ok RS", "failed", "failed", "ok RS", "failed", "offline O", "failed n"]),
        ("failed, no targets", true, ["failed D", "failed", "failed", "failed", "failed", "failed", "ok R", "failed", "offline O", "failed n"]),
        ("failed, no targets", false, ["failed D", "failed", "failed", "failed", "failed", "failed", "ok RS", "failed", "offline O", "failed n"]),
        ("link down", true, ["failed", "failed U", "failed", "failed", "failed", "failed", "failed", "failed", "offline O", "failed n"]),
        ("link down", false, ["failed", "failed U", "failed", "failed", "failed", "failed", "failed", "failed", "offline O", "failed n"]),
        ("offline", true, ["offline DF", "offline", "offline", "offline", "offline", "offline", "offline", "offline", "offline a", "ok I"]),
        ("offline", false, ["offline D", "offline", "offline", "offline", "offline", "offline", "offline", "offline", "offline a", "ok IS"]),
        ("not probed", true, ["failed DF", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "offline O", "ok n"]),
        ("not probed", false, ["failed DX", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok l", "ok n"]),
        ("not probed, link down", true, ["failed", "ok UR", "failed", "failed", "failed", "failed", "failed", "failed", "offline O", "failed n"]),
        ("not probed, link down", false, ["failed", "ok URS", "failed", "failed", "failed", "failed", "failed", "failed", "offline O", "failed n"]),
    ];
    for (start, company, expected) in table {
        for (event, expected) in expected.into_iter().enumerate() {
            let mut wire = Wire::with_fdt(2, ms(1000));
            if start.starts_with("failed") {
                wire.silent.insert(0);
                failed(&mut wire, 0);
            }
            if start.starts_with("not probed") {
                wire.tell(Input::TestAddress { member: 0, family: Family::V4, address: TestAddress::None });
            }
            if start.ends_with("no targets") {
                wire.routers(&[]);
            }
            if start.ends_with("link down") {
                wire.link(0, false);
            }
            if start == "offline" {
                wire.tell(Input::Offline { member: 0 });
            }
            if !company {
                wire.link(1, false);
            }
            wire.said();

            let (member, family) = (0, Family::V4);
            let mut refused = None;
            match event {
                0 => wire.link(0, false),
                1 => wire.link(0, true),
                2 => {
                    wire.silent.insert(0);
                    wire.run(ms(1500));
                }
                3 => {
                    wire.silent.clear();
                    wire.run(ms(2500));
                }
                4 => wire.routers(&[]),
                5 => wire.routers(&[router(1)]),
                6 => drop(wire.tell(Input::TestAddress { member, family, address: TestAddress::None })),
                7 => wire.test_address(0, family),
                _ => {
                    let event = if event == 8 { Input::Offline { member } } else { Input::Online { member } };
                    refused = wire.ask(event).err().map(|refusal| refusal.to_string());
                }
            }
            let state = wire.state(0).as_str();
            let said: String = wire
                .said()
                .iter()
                .chain(&refused)
                .map(|line| {
                    letters.iter().find(|(_, text)| text == line).unwrap_or_else(|| panic!("{line}")).0
                })
                .collect();
            let seen = format!("{state} {said}");
            assert_eq!(seen.trim(), expected, "{start}, company {company}, event {event}");
            // Mask, flags, states and columns agree.
            let member = wire.group.member(0).unwrap();
            let none_functions = !wire.group.members().iter().any(Member::functions);
            let usable = match state {
                "offline" => false,
                "failed" => none_functions || !member.probing().enabled(),
                _ => true,
            };
            assert_eq!(member.usable(), usable, "{start}, company {company}, event {event}");
            assert_eq!(member.active(), wire.group.active().contains(&0));
            assert_eq!(
                column(&wire, 0) == ProbeState::Failed,
                state == "failed" && member.probing().enabled()
            );
        }
    }
}

#[test]
fn silent_failure_is_detected_within_fdt_and_one_deadline() {
    let times = [ms(10_000), ms(1000), burst::SHORTEST, ms(500), ms(100), ms(10)];
    for (fdt, confirm) in times.into_iter().flat_map(|fdt| Confirm::ALL.map(|confirm| (fdt, confirm))) {
        let interval = fdt / 5;
        // From the first lost probe to the last packet.
        let is_fast = confirm == Confirm::Fast && fdt >= burst::SHORTEST;
        let row = if is_fast { burst::LENGTH } else { 4 * interval };
        for phase in 0..10 {
            let mut wire = Wire::of(3, Settings { fdt, confirm, ..Settings::default() });
            wire.run(interval * phase / 10);
            wire.silent.insert(0);
            let took = failed(&mut wire, 0);
            assert!(took <= interval + row + ms(2) + wire.rtt, "{took:?} of {fdt:?}, {confirm}");
            assert!(took > row, "{took:?} of {fdt:?}, {confirm}");
            assert_eq!(wire.said(), [FAILURE]);
            assert_eq!(wire.usable(), [1, 2]);
            assert_eq!(wire.group.active(), [1, 2]);
        }
    }
}

#[test]
fn repair_takes_exactly_ten_replies() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.silent.insert(0);
    failed(&mut wire, 0);
    wire.run(ms(5000));
    wire.silent.clear();
    wire.said();
    let before = wire.group.member(0).unwrap().prober(Family::V4).unwrap().counters().answered;
    works(&mut wire, 0);
    let answers = wire.group.member(0).unwrap().prober(Family::V4).unwrap().counters().answered - before;
    assert_eq!(answers, 10);
    assert_eq!(wire.said(), [REPAIR]);
    assert_eq!(wire.group.active(), [1, 0]);
}

#[test]
fn probes_are_a_fifth_of_fdt_apart_and_members_have_different_offsets() {
    let mut wire = Wire::with_fdt(3, ms(1000));
    wire.run(ms(10_000));
    for member in 0..3 {
        let sent: Vec<Time> =
            wire.probes.iter().filter(|probe| probe.1 == member).map(|probe| probe.0).collect();
        assert!(sent.len() >= 49);
        assert!(sent.windows(2).all(|two| two[1] - two[0] == ms(200)), "{member}");
    }
    assert!(wire.probes.windows(2).all(|two| two[1].0 - two[0].0 >= ms(20)));
    let sequences = wire.group.member(0).unwrap().prober(Family::V4).unwrap().history().probes();
    let sequences: Vec<u16> = sequences.map(|probe| probe.sequence).collect();
    assert!(sequences.windows(2).all(|two| two[1] == two[0] + 1));
}

#[test]
fn link_up_on_dropping_port_does_not_repair() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.link(0, false);
    assert_eq!(wire.said(), [DOWN, FAILURE]);
    assert!(
        wire.group.member(0).unwrap().prober(Family::V4).unwrap().next().is_none(),
        "a link that is down is not probed"
    );
    wire.silent.insert(0);
    wire.link(0, true);
    assert_eq!((wire.usable(), wire.state(0)), (vec![1], MemberState::Failed));
    wire.run(ms(60_000));
    assert_eq!((wire.said(), wire.state(0)), (vec![UP.to_owned()], MemberState::Failed));
    wire.silent.clear();
    let took = works(&mut wire, 0);
    assert!(took > ms(1800) && took < ms(2200), "{took:?}");
    assert_eq!(wire.said(), [REPAIR]);
}

#[test]
fn probed_flapping_link_is_dampened_by_probes_alone() {
    let mut wire = Wire::with_fdt(2, ms(100));
    for _ in 0..5 {
        wire.link(0, false);
        wire.link(0, true);
        works(&mut wire, 0);
    }
    assert_eq!(wire.said().concat(), [DOWN, FAILURE, UP, REPAIR].concat().repeat(5));
}

#[test]
fn unresponsive_router_fails_no_member() {
    for answering in [0, 1] {
        let mut wire = Wire::with_fdt(2, ms(1000));
        wire.dead.insert(router(1));
        wire.run(ms(30_000));
        assert_eq!(
            wire.said(),
            [
                "No target of group g replies on any interface (inet); interfaces are judged by link state until one does"
            ]
        );
        assert!(wire.group.targets_unreachable(Family::V4));
        assert_eq!((wire.usable(), wire.group.state(), wire.carrier), (vec![0, 1], GroupState::Ok, true));
        // Its first reply fails no member.
        wire.dead.clear();
        wire.run(ms(40 * answering));
        wire.run(ms(30_000));
        assert_eq!(wire.said(), ["Targets of group g reply again (inet)"]);
        assert_eq!(wire.usable(), [0, 1]);
    }
}

#[test]
fn single_member_is_judged_by_its_link() {
    let mut wire = Wire::with_fdt(1, ms(1000));
    wire.silent.insert(0);
    wire.run(ms(30_000));
    assert_eq!((wire.usable(), wire.state(0), wire.carrier), (vec![0], MemberState::Ok, true));
    assert!(wire.group.targets_unreachable(Family::V4));
}

#[test]
fn failed_members_transmit_when_last_link_is_lost() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.silent.insert(0);
    failed(&mut wire, 0);
    wire.said();
    wire.link(1, false);
    assert_eq!(
        wire.said(),
        ["The link has gone down on eth1", "All IP interfaces in group g are now unusable"]
    );
    assert_eq!((wire.group.active(), wire.carrier, wire.group.state()), (&[0][..], true, GroupState::Failed));
    assert_eq!(wire.usable(), [0, 1], "the datapath selects the one with a carrier");
    wire.link(1, true);
    assert_eq!(wire.group.active(), [0, 1]);
    works(&mut wire, 1);
    assert_eq!((wire.group.active(), wire.usable()), (&[1][..], vec![1]));
    assert_eq!(
        wire.said(),
        [
            "The link has come up on eth1",
            "IP interface repair detected on eth1 of group g",
            "At least 1 IP interface (eth1) in group g is now usable",
        ]
    );
}

#[test]
fn all_links_lost_and_one_restored_logs_as_in_reference() {
    let mut wire = Wire::with_fdt(3, ms(10_000));
    for member in [1, 2, 0] {
        wire.link(member, false);
    }
    assert_eq!(
        wire.said(),
        [
            "The link has gone down on eth1",
            "IP interface failure detected on eth1 of group g",
            "The link has gone down on eth2",
            "IP interface failure detected on eth2 of group g",
            DOWN,
            "All IP interfaces in group g are now unusable",
        ]
    );
    assert!(!wire.carrier);
    wire.link(0, true);
    let took = works(&mut wire, 0);
    assert!(took > ms(18_000) && took < ms(22_000), "{took:?}");
    assert_eq!(wire.said(), [UP, REPAIR, "At least 1 IP interface (eth0) in group g is now usable"]);
}

#[test]
fn without_fail_open_unresponsive_router_fails_group_with_one_event() {
    let fdt = ms(1000);
    let mut wire = Wire::of(2, Settings { fdt, fail_open: false, ..Settings::default() });
    wire.dead.insert(router(1));
    wire.run(ms(3000));
    assert_eq!(wire.said(), ["All IP interfaces in group g are now unusable"]);
    assert_eq!((wire.usable(), wire.carrier, wire.group.state()), (vec![], false, GroupState::Failed));
    assert!(wire.group.active().is_empty());
    wire.dead.clear();
    wire.run(ms(3000));
    assert_eq!(wire.usable(), [0, 1]);
    let said = wire.said();
    assert_eq!(said.iter().filter(|line| line.contains("repair detected")).count(), 2);
    assert_eq!(said.iter().filter(|line| line.starts_with("At least 1 IP interface")).count(), 1);
}

#[test]
fn without_fail_open_unprobed_member_counts_like_one_with_replies() {
    let fdt = ms(1000);
    let mut wire = Wire::of(1, Settings { fdt, fail_open: false, ..Settings::default() });
    wire.join(1);
    wire.said();
    wire.silent.insert(0);
    failed(&mut wire, 0);
    assert_eq!(wire.said(), [FAILURE]);
    assert_eq!(wire.usable(), [1]);
}

#[test]
fn member_without_targets_transmits_and_is_unknown() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.routers(&[]);
    assert_eq!((wire.state(0), column(&wire, 0)), (MemberState::Unknown, ProbeState::Unknown));
    assert_eq!((wire.usable(), wire.group.state()), (vec![0, 1], GroupState::Ok));
    wire.run(ms(10_000));
    assert_eq!(wire.said(), Vec::<String>::new());
    // Each member runs discovery meanwhile.
    let searches = wire.searches.iter().filter(|(_, action)| matches!(action, Action::FindHosts { .. }));
    assert!((18..=22).contains(&searches.count()), "one a second: {:?}", wire.searches);
    wire.tell(Input::Host(router(77)));
    assert_eq!((wire.state(0), column(&wire, 0)), (MemberState::Ok, ProbeState::Ok));
    wire.run(ms(1000));
    assert_eq!(wire.probes.last().unwrap().2, router(77));
    // A router takes the place of all hosts.
    wire.routers(&[router(1)]);
    wire.run(ms(1000));
    assert_eq!(wire.probes.last().unwrap().2, router(1));
    wire.routers(&[]);
    wire.link(0, false);
    assert_eq!((wire.state(0), column(&wire, 0)), (MemberState::Failed, ProbeState::Failed));
}

#[test]
fn failed_member_without_targets_stays_failed_until_new_ones_reply() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.silent.insert(0);
    failed(&mut wire, 0);
    wire.routers(&[]);
    wire.run(ms(10_000));
    assert_eq!((wire.state(0), wire.usable()), (MemberState::Failed, vec![1]));
    wire.silent.clear();
    wire.routers(&[router(3)]);
    works(&mut wire, 0);
}

#[test]
fn targets_are_in_test_subnet_and_no_address_of_group() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.tell(Input::Targets(vec![ip("10.0.0.1"), router(200), router(202), router(50), router(51)]));
    wire.run(ms(2000));
    let targets = |wire: &Wire, member| {
        let targets = wire.group.member(member).unwrap().prober(Family::V4).unwrap().targets();
        targets.all().iter().map(|target| target.address).collect::<Vec<_>>()
    };
    assert_eq!(
        (targets(&wire, 0), targets(&wire, 1)),
        (vec![router(50), router(51)], vec![router(50), router(51)])
    );
    // A subnet of its own for tests.
    let address = TestAddress::Is { address: ip("10.0.0.201"), prefix: 8 };
    wire.tell(Input::TestAddress { member: 0, family: Family::V4, address });
    assert_eq!((targets(&wire, 0), targets(&wire, 1)), (vec![ip("10.0.0.1")], vec![router(50), router(51)]));
    wire.run(ms(1000));
    let probe = wire.probes.iter().rfind(|probe| probe.1 == 0).unwrap();
    assert_eq!((probe.2, probe.3), (ip("10.0.0.1"), Via::Echo(ip("10.0.0.201"))));
}

#[test]
fn unresponsive_target_among_others_is_excluded_and_fails_no_member() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.routers(&[router(1), router(2), router(3)]);
    wire.dead.insert(router(2));
    wire.run(ms(10_000));
    let mut said = wire.said();
    said.sort();
    assert_eq!(
        said,
        [
            "Target 192.168.178.2: no replies on eth0 (5 lost in a row); excluded for 60 s",
            "Target 192.168.178.2: no replies on eth1 (5 lost in a row); excluded for 60 s",
        ]
    );
    wire.probes.clear();
    wire.run(ms(10_000));
    assert!(wire.probes.iter().all(|probe| probe.2 != router(2)));
    wire.dead.clear();
    wire.run(ms(50_000));
    assert!(wire.probes.iter().any(|probe| probe.2 == router(2)));
    assert_eq!(wire.usable(), [0, 1]);
}

#[test]
fn one_failed_family_fails_member_and_repair_needs_both() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.routers(&[router(1), ip("fe80::1")]);
    for member in [0, 1] {
        wire.test_address(member, Family::V6);
    }
    wire.run(ms(3000));
    // IPv6 alone has failed on eth0: it discovers another target there.
    let address = TestAddress::Is { address: ip("fe80:0:0:1::5"), prefix: 64 };
    wire.tell(Input::TestAddress { member: 0, family: Family::V6, address });
    wire.routers(&[router(1), ip("fe80::1"), ip("fe80:0:0:1::1")]);
    wire.dead.insert(ip("fe80:0:0:1::1"));
    let took = failed(&mut wire, 0);
    assert!(took < ms(1300), "{took:?}");
    assert_eq!(wire.said(), [FAILURE]);
    wire.run(ms(20_000));
    assert_eq!(wire.state(0), MemberState::Failed, "replies in IPv4 are not enough");
    wire.dead.clear();
    works(&mut wire, 0);
    assert_eq!(wire.said(), [REPAIR]);
}

#[test]
fn losses_before_first_reply_count_after_ten_seconds() {
    let mut wire = Wire::with_fdt(1, ms(100));
    wire.silent.insert(1);
    wire.join(1);
    wire.test_address(1, Family::V4);
    let took = failed(&mut wire, 1);
    assert!(took >= SETTLE && took < SETTLE + ms(30), "{took:?}");
}

#[test]
fn late_rounds_are_void_and_fail_no_member() {
    let mut wire = Wire::with_fdt(2, ms(100));
    wire.late = ms(50);
    // A host that is paused again and again: replies on one of its members never arrive in time.
    wire.silent.insert(0);
    wire.run(ms(60_000));
    assert_eq!(wire.usable(), [0, 1]);
    let counters = wire.group.member(0).unwrap().prober(Family::V4).unwrap().counters();
    assert!(counters.void > 500 && counters.missed > 500, "{counters:?}");
    assert!(counters.lost <= 1, "{counters:?}");
    assert!(wire.said().iter().all(|line| line.starts_with("missed sending ")));
}

#[test]
fn late_daemon_detects_failure_once_in_time() {
    let mut wire = Wire::with_fdt(2, ms(100));
    wire.late = ms(50);
    wire.silent.insert(0);
    wire.run(ms(1000));
    assert_eq!(wire.state(0), MemberState::Ok);
    wire.late = Duration::ZERO;
    assert!(failed(&mut wire, 0) < ms(125));
}

#[test]
fn forged_replies_do_not_prevent_failure_and_are_counted() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.run(ms(1000));
    let received =
        wire.group.member(1).unwrap().prober(Family::V4).unwrap().history().probes().last().copied().unwrap();
    wire.silent.insert(0);
    let mut forged = 0;
    while wire.state(0) == MemberState::Ok {
        let sequence = wire
            .group
            .member(0)
            .unwrap()
            .prober(Family::V4)
            .unwrap()
            .history()
            .probes()
            .last()
            .unwrap()
            .sequence;
        for proof in [
            Proof::Echo { sequence, cookie: 0 },
            Proof::Echo { sequence: sequence.wrapping_add(7), cookie: received.cookie },
            Proof::Echo { sequence: received.sequence, cookie: received.cookie },
            Proof::Mac(MAC),
        ] {
            let at = wire.now;
            wire.tell(Input::Answer { member: 0, target: router(1), proof, at });
            forged += 1;
        }
        wire.run(ms(100));
        assert!(forged < 100, "forged replies prevent the failure");
    }
    assert_eq!(wire.group.member(0).unwrap().prober(Family::V4).unwrap().counters().forged, forged);
    // The same reply on the right member.
    let before = wire.group.member(1).unwrap().prober(Family::V4).unwrap().counters().duplicate;
    let proof = Proof::Echo { sequence: received.sequence, cookie: received.cookie };
    let at = wire.now;
    wire.tell(Input::Answer { member: 1, target: router(1), proof, at });
    assert_eq!(wire.group.member(1).unwrap().prober(Family::V4).unwrap().counters().duplicate, before + 1);
}

#[test]
fn unsent_probe_is_no_loss() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.run(ms(10));
    for _ in 0..20 {
        let deadline = wire.group.deadline().unwrap();
        wire.now = deadline;
        for action in wire.group.handle(deadline, Input::Deadline).unwrap() {
            if let Action::Probe { member, sequence, .. } = action {
                let cookie = (member == 1).then_some(7);
                let sent = Input::Sent { member, family: Family::V4, sequence, cookie };
                wire.group.handle(deadline, sent).unwrap();
                let proof = Proof::Echo { sequence, cookie: 7 };
                let answer = Input::Answer { member, target: router(1), proof, at: deadline };
                wire.group.handle(deadline, answer).unwrap();
            }
        }
    }
    let counters = wire.group.member(0).unwrap().prober(Family::V4).unwrap().counters();
    assert!(counters.unsent >= 5 && counters.lost == 0, "{counters:?}");
    assert_eq!(wire.usable(), [0, 1]);
}

#[test]
fn slow_targets_raise_fdt_and_fast_ones_lower_it() {
    let mut wire = Wire::with_fdt(2, ms(100));
    wire.rtt = ms(60);
    wire.run(ms(5000));
    let fdt = wire.group.fdt().unwrap();
    assert!(fdt.current() > ms(600), "{fdt:?}");
    let said = wire.said();
    assert!(
        said[0].starts_with("Cannot meet requested failure detection time of 100 ms on (inet eth")
            && said[0].contains(") new failure detection time for group \"g\" is "),
        "{said:?}"
    );
    assert!(said[0].ends_with(" ms"));
    assert_eq!(wire.usable(), [0, 1]);
    wire.rtt = ms(1);
    wire.run(ms(70_000));
    assert_eq!(wire.group.fdt().unwrap().current(), ms(100));
    let said = wire.said();
    assert!(
        said.iter().any(|line| line.starts_with("Improved failure detection time 100 ms on (inet eth")),
        "{said:?}"
    );
    assert!(said.last().unwrap().ends_with(") for group \"g\""));
}

#[test]
fn new_settings_keep_verdicts_and_new_fdt_applies_at_once() {
    let mut wire = Wire::with_fdt(3, ms(10_000));
    wire.silent.insert(0);
    failed(&mut wire, 0);
    wire.said();
    let fdt = ms(50);
    wire.tell(Input::Settings(Settings { fdt, ..Settings::default() }));
    assert_eq!(
        wire.said(),
        ["Failure detection time of 50 ms in group g sends up to 300 probes per second to each target"]
    );
    assert_eq!((wire.state(0), wire.usable()), (MemberState::Failed, vec![1, 2]));
    wire.silent.insert(1);
    assert!(failed(&mut wire, 1) <= ms(53));
}

#[test]
fn missing_test_address_is_reported_after_twenty_seconds() {
    let mut wire = Wire::with_fdt(1, ms(1000));
    wire.join(1);
    wire.run(ms(19_900));
    assert_eq!(wire.said(), Vec::<String>::new());
    wire.run(ms(200));
    assert_eq!(
        wire.said(),
        ["No test address configured on interface eth1; disabling probe-based failure detection on it"]
    );
    assert_eq!((column(&wire, 1), wire.state(1)), (ProbeState::Disabled, MemberState::Ok));
    wire.run(ms(60_000));
    assert_eq!(wire.said(), Vec::<String>::new(), "once");
    wire.test_address(1, Family::V4);
    assert_eq!(
        wire.said(),
        ["Test address now configured on interface eth1; enabling probe-based failure detection on it"]
    );
}

#[test]
fn missing_test_address_is_reported_once_per_member_in_service() {
    let mut wire = Wire::new(Settings::default());
    (0..3).for_each(|member| wire.join(member));
    wire.tell(Input::Offline { member: 1 });
    wire.routers(&[router(1)]);
    wire.tell(Input::Targets(vec![router(2)]));
    wire.said();
    assert_eq!(wire.group.fdt(), None);
    let line = |member| {
        format!(
            "No test address configured on interface {member}; disabling probe-based failure detection on it"
        )
    };
    wire.run(ms(20_100));
    assert_eq!(wire.said(), ["eth0", "eth2"].map(line));
    wire.tell(Input::Online { member: 1 });
    wire.said();
    wire.run(ms(20_100));
    assert_eq!(wire.said(), ["eth1"].map(line));
    assert_eq!(wire.group.deadline(), None);
    wire.tell(Input::Settings(Settings { probe: ProbePolicy::Arp, ..Settings::default() }));
    assert_eq!(wire.said(), Vec::<String>::new(), "probed without a test address");
}

#[test]
fn duplicate_test_address_is_not_used() {
    let mut wire = Wire::with_fdt(1, ms(1000));
    let address = TestAddress::Is { address: router(201), prefix: 24 };
    wire.join(1);
    wire.tell(Input::TestAddress { member: 1, family: Family::V4, address });
    let mut said = wire.said();
    said.sort();
    assert_eq!(
        said,
        [
            "Test address 192.168.178.201 is not unique in group; disabling probe-based failure detection on eth0",
            "Test address 192.168.178.201 is not unique in group; disabling probe-based failure detection on eth1",
        ]
    );
    assert_eq!(column(&wire, 0), ProbeState::Disabled);
    wire.probes.clear();
    wire.run(ms(5000));
    assert!(wire.probes.is_empty());
    wire.test_address(1, Family::V4);
    assert_eq!(wire.said().len(), 2);
    assert_eq!((column(&wire, 0), column(&wire, 1)), (ProbeState::Ok, ProbeState::Ok));
    wire.tell(Input::AddressAdded(router(201)));
    assert_eq!(
        wire.said(),
        [
            "Test address 192.168.178.201 is not unique in group; disabling probe-based failure detection on eth0"
        ]
    );
}

#[test]
fn removed_test_address_leaves_link_and_expired_one_keeps_verdict() {
    for (address, state) in
        [(TestAddress::None, MemberState::Ok), (TestAddress::Awaited, MemberState::Failed)]
    {
        let mut wire = Wire::with_fdt(2, ms(1000));
        wire.silent.insert(0);
        failed(&mut wire, 0);
        wire.said();
        wire.tell(Input::TestAddress { member: 0, family: Family::V4, address });
        assert_eq!(wire.state(0), state, "{address:?}");
        assert_eq!(wire.said().contains(&REPAIR.to_owned()), state == MemberState::Ok);
        assert_eq!(column(&wire, 0), ProbeState::Disabled);
    }
}

#[test]
fn offline_member_is_not_probed_and_keeps_verdict() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.tell(Input::Offline { member: 0 });
    wire.probes.clear();
    wire.run(ms(3000));
    assert!(wire.probes.iter().all(|probe| probe.1 == 1) && !wire.probes.is_empty());
    wire.tell(Input::Online { member: 0 });
    assert_eq!((wire.state(0), wire.usable()), (MemberState::Ok, vec![0, 1]));
    wire.silent.insert(0);
    failed(&mut wire, 0);
    wire.tell(Input::Offline { member: 0 });
    wire.tell(Input::Online { member: 0 });
    assert_eq!((wire.state(0), wire.usable()), (MemberState::Failed, vec![1]));
}

#[test]
fn left_member_has_no_deadline() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.run(ms(150));
    wire.tell(Input::Left { member: 0 });
    wire.tell(Input::Left { member: 1 });
    assert_eq!((wire.group.deadline(), wire.group.fdt()), (None, None));
}

#[test]
fn members_without_test_addresses_are_probed_by_arp_and_nd() {
    let mut wire = Wire::new(Settings { fdt: ms(1000), probe: ProbePolicy::Auto, ..Settings::default() });
    wire.routers(&[router(1), ip("fe80::1")]);
    wire.join(0);
    wire.join(1);
    wire.run(ms(2000));
    let found = [Action::FindNeighbour(router(1)), Action::FindNeighbour(ip("fe80::1"))];
    assert_eq!(wire.searches.iter().map(|search| search.1.clone()).collect::<Vec<_>>(), found, "each once");
    let kinds = |via: Via| wire.probes.iter().filter(|probe| probe.3 == via).count();
    assert!(kinds(Via::Arp(MAC)) >= 16 && kinds(Via::Nd(MAC)) >= 16, "{:?}", wire.probes);
    assert_eq!((column(&wire, 0), wire.state(0)), (ProbeState::Ok, MemberState::Ok));
    wire.run(ms(10_000));
    wire.silent.insert(0);
    assert!(failed(&mut wire, 0) <= ms(1003));
    wire.silent.clear();
    works(&mut wire, 0);
}

#[test]
fn reply_from_another_mac_is_forged() {
    let mut wire = Wire::new(Settings { fdt: ms(1000), probe: ProbePolicy::Arp, ..Settings::default() });
    wire.routers(&[router(1)]);
    wire.join(0);
    wire.run(ms(1000));
    let answered = |wire: &Wire| wire.group.member(0).unwrap().prober(Family::V4).unwrap().counters();
    let before = answered(&wire);
    let at = wire.now;
    wire.tell(Input::Answer { member: 0, target: router(1), proof: Proof::Mac([6; 6]), at });
    assert_eq!(answered(&wire).answered, before.answered);
    assert_eq!(answered(&wire).forged, before.forged + 1);
}

#[test]
fn arp_probes_to_unresponsive_target_stop() {
    let mut wire = Wire::new(Settings { fdt: ms(100), probe: ProbePolicy::Arp, ..Settings::default() });
    wire.routers(&[router(1)]);
    wire.join(0);
    wire.join(1);
    wire.run(ms(5000));
    wire.dead.insert(router(1));
    wire.run(ms(200));
    wire.probes.clear();
    wire.searches.clear();
    wire.run(ms(60_000));
    assert!(wire.probes.is_empty(), "a target that starts up would detect an address conflict");
    assert!((11..=13).contains(&wire.searches.len()), "every five seconds: {:?}", wire.searches.len());
    assert_eq!(wire.usable(), [0, 1]);
    wire.dead.clear();
    wire.run(ms(6000));
    assert!(wire.probes.len() > 50);
    assert!(!wire.group.targets_unreachable(Family::V4));
    assert_eq!(wire.usable(), [0, 1]);
}

#[test]
fn absent_arp_target_loses_probes_after_a_second_and_column_is_unknown() {
    let mut wire = Wire::new(Settings { fdt: ms(500), probe: ProbePolicy::Arp, ..Settings::default() });
    wire.dead.insert(router(99));
    wire.tell(Input::Targets(vec![router(99)]));
    wire.join(0);
    wire.join(1);
    let counters = |wire: &Wire| wire.group.member(0).unwrap().prober(Family::V4).unwrap().counters();
    wire.run(ms(900));
    assert_eq!(counters(&wire).sent, 0, "it is resolved");
    wire.run(ms(1300));
    assert!((7..=13).contains(&counters(&wire).sent), "{:?}", counters(&wire));
    wire.run(ms(10_000));
    assert!(wire.probes.is_empty(), "no packet has a destination");
    assert!(counters(&wire).lost > 90, "{:?}", counters(&wire));
    assert!(wire.said().iter().any(|line| line.starts_with("No target of group g replies")));
    let columns =
        |wire: &Wire| [0, 1].map(|number| wire.group.probe_column(wire.group.member(number).unwrap()));
    assert_eq!((columns(&wire), wire.usable()), ([ProbeState::Unknown; 2], vec![0, 1]));
    wire.dead.clear();
    wire.run(ms(6000));
    assert_eq!((columns(&wire), wire.usable()), ([ProbeState::Ok; 2], vec![0, 1]));
}

#[test]
fn rate_limited_target_fails_no_member_and_is_named() {
    for seed in 1..=8 {
        let mut wire = Wire::with_fdt(3, ms(1000));
        wire.group.set_jitter(seed);
        wire.limit = Some(10.0);
        wire.run(ms(100_000));
        assert_eq!(wire.usable(), [0, 1, 2], "{seed}: {:?}", wire.lines);
        let lines = wire.said();
        assert!(
            lines.iter().any(|line| line.starts_with("Target 192.168.178.1 is unreliable")),
            "{seed} {lines:?}"
        );
        assert!(lines.len() <= 3, "once a minute at most: {lines:?}");
        assert_eq!(wire.group.unreliable_targets(wire.now).count(), 1);
        let controls = |wire: &Wire| {
            wire.actions.iter().filter(|action| matches!(action, Action::Control { .. })).count() as u64
        };
        let probed = |wire: &Wire, member: u8| {
            wire.group.member(member).unwrap().prober(Family::V4).unwrap().counters()
        };
        let lost: u64 = (0..3).map(|member| probed(&wire, member)).map(|of| of.lost + of.void).sum();
        assert!(controls(&wire) <= lost, "{seed}: {} controls, {lost} lost", controls(&wire));
        // A path failure is detected as ever, and repaired.
        wire.silent.insert(1);
        assert!(failed(&mut wire, 1) <= ms(2000), "{seed}");
        wire.silent.clear();
        assert!(works(&mut wire, 1) <= ms(30_000), "{seed}");
    }
}

#[test]
fn forged_control_answers_do_not_keep_member_alive() {
    // Every target replies always: no control request is sent.
    let mut wire = Wire::with_fdt(3, ms(1000));
    wire.group.set_jitter(1);
    wire.forged.insert(1);
    wire.silent.insert(1);
    assert!(failed(&mut wire, 1) <= ms(1003));
    assert!(!wire.actions.iter().any(|action| matches!(action, Action::Control { .. })));
    // Some of its replies are dropped on all members: one of the last 20 must be received.
    for seed in 1..=4 {
        let mut wire = Wire::with_fdt(3, ms(1000));
        wire.group.set_jitter(seed);
        wire.limit = Some(10.0);
        wire.run(ms(30_000));
        wire.forged.insert(1);
        wire.silent.insert(1);
        assert!(failed(&mut wire, 1) <= ms(200 * 30), "{seed}");
        wire.run(ms(60_000));
        assert_eq!(wire.state(1), MemberState::Failed, "{seed}");
        assert_eq!(wire.usable(), [0, 2], "{seed}");
    }
}

#[test]
fn split_network_is_reported_with_targets_of_each_member_until_it_is_whole() {
    let mut wire = Wire::of(3, Settings { fdt: ms(1000), split: SplitPolicy::Keep, ..Settings::default() });
    wire.group.set_jitter(1);
    wire.routers(&[router(1), router(2)]);
    wire.run(ms(3000));
    wire.cut.extend([(0, router(1)), (1, router(1)), (2, router(2))]);
    let is_split = |wire: &Wire| !wire.group.split(wire.now, Family::V4).is_empty();
    assert!(wire.until(is_split) <= ms(3000));
    wire.run(ms(3000));
    let targets = |wire: &Wire| {
        let split = wire.group.split(wire.now, Family::V4);
        split.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let both = [
        "192.168.178.1 replies on eth2, not on eth0 eth1",
        "192.168.178.2 replies on eth0 eth1, not on eth2",
    ];
    assert_eq!(targets(&wire), both);
    // As long as it lasts: excluded targets are known, and no target is reported again and again.
    for _ in 0..300 {
        wire.run(ms(1000));
        assert_eq!(targets(&wire), both);
    }
    let lines = wire.said();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("Network of group g is split (inet): 192.168.178."), "{lines:?}");
    assert_eq!((wire.usable(), wire.group.state()), (vec![0, 1, 2], GroupState::Split));
    wire.cut.clear();
    // An excluded target is probed again after two seconds, and must reply ten times, every 0.4 s.
    assert!(wire.until(|wire| !is_split(wire)) <= ms(8000));
    wire.run(ms(100_000));
    assert_eq!(wire.said(), ["Network of group g is no longer split (inet)"]);
    assert_eq!(wire.group.state(), GroupState::Ok);
}

#[test]
fn split_network_is_left_to_members_that_reach_default_router() {
    let mut wire = Wire::of(3, Settings { fdt: ms(1000), ..Settings::default() });
    wire.group.set_jitter(1);
    wire.routers(&[router(1), router(2)]);
    wire.run(ms(5000));
    wire.cut.extend([(0, router(1)), (1, router(1)), (2, router(2))]);
    assert!(wire.until(|wire| wire.usable() == [2]) <= ms(4000));
    assert_eq!(wire.group.reserve().iter().collect::<Vec<_>>(), [0, 1], "one that fails is replaced at once");
    for member in [0, 1, 2] {
        assert_eq!(wire.state(member), MemberState::Ok, "{member}");
    }
    wire.run(ms(300_000));
    let lines = wire.said();
    let of = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        (of("is split"), of("does not reach the default router"), lines.len()),
        (1, 2, 3),
        "{lines:?}"
    );
    // The last one fails: the others are used.
    wire.link(2, false);
    assert_eq!((wire.usable(), wire.group.active()), (vec![0, 1], &[0, 1][..]));
    wire.link(2, true);
    wire.until(|wire| wire.usable() == [2]);
    wire.said();
    // The operator decides otherwise, and back.
    let settings = *wire.group.settings();
    wire.tell(Input::Settings(Settings { split: SplitPolicy::Keep, ..settings }));
    assert_eq!((wire.usable(), wire.group.state()), (vec![0, 1, 2], GroupState::Split));
    wire.tell(Input::Settings(settings));
    assert_eq!(wire.usable(), [2]);
    // The router is another one, on the other side; then there is none.
    let mut route = |default| {
        let routers = vec![router(1), router(2)];
        wire.tell(Input::Routes { family: Family::V4, hosts: Vec::new(), routers, default });
        wire.usable()
    };
    assert_eq!(route(Some(router(2))), [0, 1]);
    assert_eq!(route(None), [0, 1, 2]);
    assert_eq!(route(Some(router(1))), [2]);
    wire.cut.clear();
    assert!(wire.until(|wire| wire.usable() == [0, 1, 2]) <= ms(8000));
}

#[test]
fn member_without_router_is_used_when_no_member_reaches_it() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.group.set_jitter(1);
    wire.routers(&[router(1), router(2)]);
    wire.run(ms(5000));
    wire.cut.extend([(0, router(1)), (1, router(2))]);
    wire.until(|wire| wire.usable() == [1]);
    wire.dead.insert(router(1));
    // Member 1 receives no reply of any target and fails; the other one is all there is.
    assert!(wire.until(|wire| wire.usable() == [0]) <= ms(2000));
    wire.run(ms(90_000));
    assert_eq!((wire.usable(), wire.group.member(0).unwrap().unreached_router()), (vec![0], None));
    // A member with a hole is better than one without the router.
    wire.dead.clear();
    wire.until(|wire| wire.usable() == [1]);
    wire.holes.insert(1, 1400);
    wire.run(ms(120_000));
    assert_eq!(wire.usable(), [1], "{:?}", wire.said());
}

#[test]
fn inactive_member_that_reaches_router_replaces_active_ones_that_do_not() {
    for split in SplitPolicy::ALL {
        let mut wire = Wire::of(3, Settings { fdt: ms(1000), split, ..Settings::default() });
        wire.group.set_jitter(1);
        wire.tell(Input::Standby { member: 2, standby: true });
        wire.routers(&[router(1), router(2)]);
        wire.run(ms(5000));
        assert_eq!(wire.usable(), [0, 1]);
        wire.cut.extend([(0, router(1)), (1, router(1)), (2, router(2))]);
        wire.run(ms(20_000));
        assert_eq!(wire.usable(), if split == SplitPolicy::Keep { vec![0, 1] } else { vec![2] }, "{split}");
        wire.cut.clear();
        wire.run(ms(20_000));
        assert_eq!(wire.usable(), [0, 1], "{split}");
    }
}

#[test]
fn silent_target_or_path_is_no_split() {
    let mut wire = Wire::with_fdt(3, ms(1000));
    wire.routers(&[router(1), router(2), router(3)]);
    wire.run(ms(3000));
    let is_split = |wire: &Wire| !wire.group.split(wire.now, Family::V4).is_empty();
    for wait in [500, 2800, 3000, 3200, 10_000] {
        wire.dead.insert(router(1));
        wire.run(ms(wait));
        wire.dead.clear();
        wire.run(ms(70_000));
        assert!(!wire.said().iter().any(|line| line.contains("split")), "{wait}");
    }
    wire.silent.insert(1);
    failed(&mut wire, 1);
    wire.run(ms(10_000));
    assert!(!is_split(&wire) && !wire.said().iter().any(|line| line.contains("split")));
}

#[test]
fn jitter_makes_rounds_early_but_never_late() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.group.set_jitter(7);
    wire.run(ms(1000));
    wire.probes.clear();
    wire.run(ms(60_000));
    for member in [0, 1] {
        let times: Vec<Time> =
            wire.probes.iter().filter(|probe| probe.1 == member).map(|probe| probe.0).collect();
        let gaps: Vec<Duration> = times.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(gaps.iter().all(|gap| (ms(175)..=ms(200)).contains(gap)), "{gaps:?}");
        let distinct: std::collections::BTreeSet<_> = gaps.iter().collect();
        assert!(distinct.len() > 50, "{gaps:?}");
    }
    wire.silent.insert(0);
    assert!(failed(&mut wire, 0) <= ms(1003));
}

#[test]
fn restart_keeps_verdicts_that_it_cannot_disprove() {
    let attachment = |member: u8| crate::core::Attachment {
        member,
        name: format!("eth{member}"),
        mac: [2, 0, 0, 0, 0, member],
        mtu: 1500,
        weight: 1,
        link: LinkState::Up,
    };
    let both = [0, 1].into_iter().collect();
    let slots = Slots::new().rebuild(&[(0, 1), (1, 1)]);
    let adopted = |probed: bool| Adopted {
        members: vec![(attachment(0), MemberStatus::Failed), (attachment(1), MemberStatus::Ok)],
        usable: ipmp_common::steer::MemberSet::of(1).into(),
        draining: Default::default(),
        reserve: ipmp_common::steer::MemberSet::of(0),
        live: both,
        slots: slots.clone(),
        cast: ipmp_common::steer::Preference::new(&[1, 0]),
        inbound: Vec::new(),
        preferred: Vec::new(),
        probed: [if probed { both } else { Default::default() }, Default::default()],
        absent: Default::default(),
        standby: Default::default(),
    };
    let mut wire = Wire::new(Settings::default());
    let settings = Settings { fdt: ms(1000), ..Settings::default() };
    let (group, actions) = Group::adopt(wire.now, "g", settings, adopted(true));
    wire.group = group;
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Report(..) | Action::SetUsable(_))),
        "{actions:?}"
    );
    assert_eq!((wire.state(0), wire.usable()), (MemberState::Failed, vec![1]));
    wire.run(ms(3_600_000));
    assert_eq!(wire.state(0), MemberState::Failed, "time alone does not disprove it");
    wire.routers(&[router(1)]);
    wire.test_address(0, Family::V4);
    wire.test_address(1, Family::V4);
    assert_eq!((wire.state(0), wire.said()), (MemberState::Failed, Vec::new()));
    works(&mut wire, 0);
    assert_eq!(wire.said(), [REPAIR]);
    assert!(
        Group::adopt(wire.now, "g", settings, adopted(false)).0.deadline().is_some(),
        "one that flapped waits"
    );
}

#[test]
fn new_settings_and_targets_keep_verdicts() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.silent.insert(0);
    failed(&mut wire, 0);
    wire.said();
    let settings = Settings { fdt: ms(2000), failback: Failback::No, ..*wire.group.settings() };
    wire.tell(Input::Settings(settings));
    wire.tell(Input::Targets(vec![router(2)]));
    wire.run(ms(10_000));
    assert_eq!((wire.state(0), wire.said()), (MemberState::Failed, Vec::new()));
    wire.silent.clear();
    works(&mut wire, 0);
    assert_eq!(wire.said(), [REPAIR, "IP interface eth0 of group g is now inactive"]);
}

#[test]
fn disabled_target_is_not_probed_until_enabled() {
    let mut wire = Wire::with_fdt(2, ms(1000));
    wire.tell(Input::Targets(vec![router(1), router(2)]));
    wire.tell(Input::DisabledTargets(vec![router(1)]));
    wire.probes.clear();
    wire.run(ms(2000));
    assert!(wire.probes.len() > 15 && wire.probes.iter().all(|probe| probe.2 == router(2)));
    wire.tell(Input::DisabledTargets(Vec::new()));
    wire.probes.clear();
    wire.run(ms(2000));
    assert!(wire.probes.iter().any(|probe| probe.2 == router(1)));
}

#[test]
fn discover_starts_at_once_on_members_with_test_address() {
    let mut wire = Wire::with_fdt(3, ms(1000));
    wire.tell(Input::TestAddress { member: 2, family: Family::V4, address: TestAddress::None });
    wire.tell(Input::Host(router(7)));
    let find = |member| Action::FindHosts { member, source: router(201 + member) };
    assert_eq!(wire.tell(Input::Discover), [find(0), find(1)]);
    assert!(wire.group.known_targets().answering.is_empty());
}
