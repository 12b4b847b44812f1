use std::{collections::BTreeMap, time::Duration};

use ipmp_common::{steer::MemberSet, transition::Usable};

use crate::{
    core::{Adopted, Group, Input, Settings, group::testing::Wire},
    types::{Failback, MemberState},
};

const LIMIT: Duration = Duration::from_secs(30);
/// Each active flow has been seen.
const LEARNT: Duration = Duration::from_millis(1200);

fn set(members: &[u8]) -> MemberSet {
    members.iter().copied().collect()
}

/// The word with these sets: settled, returning, leaving, learning.
fn word(sets: [&[u8]; 4]) -> Usable {
    let [settled, returning, leaving, learning] = sets.map(set);
    Usable { settled, returning, leaving, learning }
}

/// Members without probes; these of them are standbys.
fn group(members: u8, standbys: &[u8]) -> Wire {
    let settings = Settings { failback: Failback::Idle, failback_limit: LIMIT, ..Settings::default() };
    let mut wire = Wire::new(settings);
    for member in 0..members {
        wire.join(member);
        wire.tell(Input::Standby { member, standby: standbys.contains(&member) });
    }
    wire.said();
    wire
}

fn drain(wire: &mut Wire, member: u8) {
    wire.tell(Input::Drain { member, limit: LIMIT });
}

#[test]
fn repaired_member_gets_new_flows_at_once_and_all_when_no_other_is_active_elsewhere() {
    let mut wire = group(3, &[]);
    assert_eq!(
        wire.group.usable_word(),
        word([&[0, 1, 2], &[], &[], &[]]),
        "a member that joins does not return"
    );
    wire.link(0, false);
    assert_eq!(
        wire.group.usable_word(),
        word([&[1, 2], &[], &[], &[]]),
        "the datapath must not return by itself"
    );
    wire.link(0, true);
    assert_eq!(wire.group.usable_word(), word([&[1, 2], &[0], &[], &[0]]));
    assert_eq!(wire.group.active(), [1, 2, 0], "its roles are those of a repaired member");
    wire.run(Duration::from_millis(1000));
    wire.tell(Input::Moving(set(&[])));
    assert_eq!(wire.group.usable_word(), word([&[1, 2], &[0], &[], &[0]]), "flows are not known yet");
    wire.run(Duration::from_millis(200));
    assert_eq!(wire.group.usable_word(), word([&[1, 2], &[0], &[], &[]]));
    wire.tell(Input::Moving(set(&[0])));
    assert_eq!(wire.group.usable_word(), word([&[1, 2], &[0], &[], &[]]));
    wire.tell(Input::Moving(set(&[])));
    assert_eq!(wire.group.usable_word(), word([&[0, 1, 2], &[], &[], &[]]));
    assert_eq!(
        wire.said()[4..],
        [
            "IP interface eth0 of group g gets new flows; others return to it when they are idle, after 30 s at the latest",
            "All flows of IP interface eth0 of group g have returned to it"
        ]
    );
}

#[test]
fn active_flows_return_after_the_limit() {
    let mut wire = group(2, &[]);
    wire.link(0, false);
    wire.link(0, true);
    for _ in 0..29 {
        wire.run(Duration::from_secs(1));
        wire.tell(Input::Moving(set(&[0])));
        assert_eq!(wire.group.usable_word().returning, set(&[0]));
    }
    wire.run(Duration::from_secs(1));
    assert_eq!(wire.group.usable_word(), word([&[0, 1], &[], &[], &[]]));
    let last =
        "All flows of IP interface eth0 of group g have returned to it; the time for active ones has passed";
    assert_eq!(wire.said().last().map(String::as_str), Some(last));
    assert_eq!(wire.group.deadline(), None, "nothing is due any more");
}

#[test]
fn member_that_fails_or_another_setting_ends_the_return() {
    let mut wire = group(3, &[]);
    for (up, expected) in [(false, [&[1, 2][..], &[], &[], &[]]), (true, [&[1, 2], &[0], &[], &[0]])] {
        wire.link(0, up);
        assert_eq!(wire.group.usable_word(), word(expected));
    }
    wire.link(0, false);
    assert_eq!(wire.group.usable_word(), word([&[1, 2], &[], &[], &[]]));
    wire.link(0, true);
    wire.link(1, false);
    assert_eq!(wire.group.usable_word(), word([&[2], &[0], &[], &[0]]), "others may fail meanwhile");
    wire.tell(Input::Settings(Settings::default()));
    assert_eq!(wire.group.usable_word(), word([&[0, 1, 2], &[], &[], &[]]));
}

#[test]
fn first_member_that_functions_again_has_all_flows_at_once() {
    let mut wire = group(2, &[]);
    wire.link(0, false);
    wire.link(1, false);
    wire.link(0, true);
    assert_eq!(wire.group.usable_word().settled, set(&[0]));
    wire.link(1, true);
    assert_eq!(wire.group.usable_word(), word([&[0], &[1], &[], &[1]]));
}

#[test]
fn flows_leave_a_standby_when_they_are_idle() {
    let mut wire = group(3, &[2]);
    wire.link(0, false);
    assert_eq!(wire.group.usable_word(), word([&[1, 2], &[], &[], &[]]));
    wire.link(0, true);
    assert_eq!(wire.group.usable_word(), word([&[1], &[0], &[2], &[0, 2]]));
    assert!(wire.group.member(2).is_some_and(|standby| standby.inactive()));
    wire.run(LEARNT);
    wire.tell(Input::Moving(set(&[2])));
    assert_eq!(wire.group.usable_word(), word([&[0, 1], &[], &[2], &[]]));
    wire.link(1, false);
    assert_eq!(wire.group.usable_word(), word([&[0, 2], &[], &[], &[]]), "it transmits again");
    wire.link(1, true);
    wire.run(LIMIT);
    assert_eq!(wire.group.usable_word(), word([&[0, 1], &[], &[], &[]]));
}

#[test]
fn drained_member_is_offline_when_it_is_idle() {
    let mut wire = group(3, &[]);
    drain(&mut wire, 0);
    assert_eq!(wire.group.usable_word(), word([&[1, 2], &[], &[0], &[0]]));
    assert_eq!((wire.state(0), wire.group.active()), (MemberState::Ok, &[0, 1, 2][..]), "its roles stay");
    wire.run(LEARNT);
    wire.tell(Input::Moving(set(&[0])));
    assert_eq!(wire.group.usable_word(), word([&[1, 2], &[], &[0], &[]]));
    wire.tell(Input::Moving(set(&[])));
    assert_eq!(
        (wire.state(0), wire.group.usable_word()),
        (MemberState::Offline, word([&[1, 2], &[], &[], &[]]))
    );
    let refused = wire.ask(Input::Drain { member: 0, limit: LIMIT }).unwrap_err();
    assert_eq!(refused.to_string(), "interface eth0 is already offline");
    assert_eq!(
        wire.said()[..2],
        [
            "IP interface eth0 of group g gets no new flows; it is set offline when no flow is active on it, after 30 s at \
             the latest",
            "IP interface eth0 of group g is now offline"
        ]
    );
}

#[test]
fn drain_ends_at_its_limit_and_when_the_member_fails() {
    let mut wire = group(3, &[]);
    drain(&mut wire, 0);
    wire.run(LIMIT - Duration::from_secs(1));
    assert_eq!(wire.state(0), MemberState::Ok);
    wire.run(Duration::from_secs(1));
    assert_eq!(wire.state(0), MemberState::Offline);
    drain(&mut wire, 1);
    let refused = wire.ask(Input::Offline { member: 2 }).unwrap_err();
    let last = "cannot offline eth2: no other functioning interfaces are in its IPMP group";
    assert_eq!(refused.to_string(), last, "the other one will be offline, too");
    wire.link(1, false);
    assert_eq!((wire.state(1), wire.group.usable_word().all()), (MemberState::Offline, set(&[2])));
}

#[test]
fn last_member_that_functions_stays_until_another_one_does() {
    let mut wire = group(2, &[]);
    drain(&mut wire, 0);
    wire.link(1, false);
    wire.run(2 * LIMIT);
    assert_eq!((wire.state(0), wire.group.usable_word().leaving), (MemberState::Ok, set(&[0])));
    wire.link(1, true);
    assert_eq!((wire.state(0), wire.group.usable_word().all()), (MemberState::Offline, set(&[1])));
}

#[test]
fn online_ends_a_drain_and_offline_completes_it() {
    let mut wire = group(3, &[2]);
    drain(&mut wire, 0);
    assert_eq!(wire.group.usable_word(), word([&[1, 2], &[], &[0], &[0]]), "the standby replaces it");
    wire.tell(Input::Online { member: 0 });
    assert_eq!(wire.group.usable_word(), word([&[1], &[0], &[2], &[0, 2]]));
    assert!(wire.ask(Input::Online { member: 0 }).is_err(), "it is not offline");
    drain(&mut wire, 0);
    wire.tell(Input::Offline { member: 0 });
    assert_eq!(wire.state(0), MemberState::Offline);
    wire.tell(Input::Online { member: 0 });
    assert_eq!(wire.group.usable_word(), word([&[1], &[0], &[2], &[0, 2]]), "online is a return as well");
}

#[test]
fn next_daemon_continues_transitions() {
    let mut wire = group(4, &[]);
    wire.link(0, false);
    wire.link(0, true);
    wire.run(Duration::from_secs(2));
    drain(&mut wire, 1);
    wire.run(Duration::from_secs(2));
    let before = word([&[2, 3], &[0], &[1], &[]]);
    assert_eq!(wire.group.usable_word(), before);
    let member = |number: u8| {
        let member = wire.group.member(number).unwrap();
        (member.attachment().clone(), member.state().into())
    };
    let adopted = Adopted {
        members: (0..4).map(member).collect(),
        usable: before,
        draining: BTreeMap::from([(1, wire.group.member(1).unwrap().transition().unwrap().limit)]),
        reserve: wire.group.reserve(),
        live: (0..4).collect(),
        slots: wire.group.slots().clone(),
        cast: wire.group.cast_list(),
        inbound: vec![],
        preferred: vec![],
        probed: [MemberSet::EMPTY; 2],
        absent: MemberSet::EMPTY,
        standby: MemberSet::EMPTY,
    };
    wire.now = wire.now + Duration::from_secs(5);
    (wire.group, _) = Group::adopt(wire.now, "g", *wire.group.settings(), adopted);
    assert_eq!(wire.group.usable_word(), word([&[2, 3], &[0], &[1], &[0, 1]]));
    wire.run(Duration::from_secs(24));
    assert_eq!(wire.group.usable_word(), word([&[2, 3], &[0], &[], &[]]), "the drain ended by its own time");
    assert_eq!(wire.state(1), MemberState::Offline);
    wire.run(Duration::from_secs(6));
    assert_eq!(wire.group.usable_word(), word([&[0, 2, 3], &[], &[], &[]]), "the limit began again");
}
