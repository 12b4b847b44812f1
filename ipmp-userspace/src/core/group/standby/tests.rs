use std::{collections::BTreeMap, time::Duration};

use crate::{
    core::{Action, Input, Settings, group::testing::Wire},
    types::{GroupState, MemberState},
};

/// Members without probes; these of them are standbys.
fn group(members: u8, standbys: &[u8], failback: bool) -> Wire {
    let mut wire = Wire::new(Settings { failback: failback.into(), ..Settings::default() });
    for member in 0..members {
        let standby = standbys.contains(&member);
        wire.join(member);
        wire.tell(Input::Standby { member, standby });
    }
    wire.said();
    wire
}

fn inactive(wire: &Wire) -> Vec<u8> {
    wire.group.members().iter().filter(|member| member.inactive()).map(|member| member.number()).collect()
}

fn active(wire: &Wire) -> Vec<u8> {
    let mut active = wire.group.active().to_vec();
    active.sort();
    active
}

/// The worked examples of the reference (docs/reference.md 2.7), and consequences of its rules.
#[test]
fn active_members_match_the_reference() {
    #[derive(Clone, Copy, Debug)]
    enum Do {
        Down(u8),
        Up(u8),
        Off(u8),
        On(u8),
        Leave(u8),
        Standby(u8, bool),
        Failback,
    }
    use Do::*;
    type Step = (Do, &'static [u8], &'static [u8]);
    // Members, standbys, failback; then steps, each with the active and the inactive members after it.
    #[rustfmt::skip]
    let table: &[(u8, &[u8], bool, &[Step])] = &[
        // A and B, C in reserve.
        (3, &[2], true, &[(Down(0), &[1, 2], &[]), (Up(0), &[0, 1], &[2])]),
        (3, &[2], false, &[
            (Down(0), &[1, 2], &[]), (Up(0), &[1, 2], &[0]), (Down(1), &[0, 2], &[]), (Up(1), &[0, 2], &[1]),
            (Failback, &[0, 1], &[2]),
        ]),
        // Standbys alone: one transmits.
        (2, &[0, 1], true, &[(Down(0), &[1], &[]), (Up(0), &[1], &[0]), (Down(1), &[0], &[])]),
        // None is left: the first one back transmits, the next one is inactive.
        (2, &[], false, &[
            (Down(0), &[1], &[]), (Down(1), &[], &[]), (Up(0), &[0], &[]), (Up(1), &[0], &[1]), (Off(0), &[1], &[]),
            (On(0), &[0, 1], &[]),
        ]),
        (2, &[], true, &[(Down(0), &[1], &[]), (Up(0), &[0, 1], &[])]),
        // A member set online transmits, with or without failback.
        (3, &[2], false, &[(Off(0), &[1, 2], &[]), (On(0), &[0, 1], &[2])]),
        (3, &[2], true, &[(Off(0), &[1, 2], &[]), (On(0), &[0, 1], &[2])]),
        // The inactive member itself is offline, or fails.
        (3, &[2], true, &[(Off(2), &[0, 1], &[]), (Down(0), &[1], &[]), (On(2), &[1, 2], &[])]),
        (3, &[2], true, &[(Down(2), &[0, 1], &[]), (Up(2), &[0, 1], &[2])]),
        // Two inactive members: the one that joined last is first.
        (4, &[2, 3], true, &[(Down(0), &[1, 3], &[2]), (Down(1), &[2, 3], &[]), (Up(0), &[0, 3], &[2])]),
        // A member that leaves is not replaced, unless it was a standby, or the last.
        (3, &[2], true, &[(Leave(0), &[1], &[2]), (Leave(1), &[2], &[])]),
        (4, &[2, 3], true, &[(Down(0), &[1, 3], &[2]), (Leave(3), &[1, 2], &[])]),
        // The operator changes the standby setting.
        (2, &[], true, &[(Standby(1, true), &[0], &[1]), (Standby(0, true), &[0], &[1]), (Standby(1, false), &[0, 1], &[])]),
        (2, &[], true, &[(Down(0), &[1], &[]), (Standby(1, true), &[1], &[]), (Up(0), &[0], &[1])]),
    ];
    for (members, standbys, failback, steps) in table {
        let mut wire = group(*members, standbys, *failback);
        for (at, (what, transmit, standby)) in steps.iter().enumerate() {
            match *what {
                Down(member) => wire.link(member, false),
                Up(member) => wire.link(member, true),
                Off(member) => drop(wire.tell(Input::Offline { member })),
                On(member) => drop(wire.tell(Input::Online { member })),
                Leave(member) => drop(wire.tell(Input::Left { member })),
                Standby(member, standby) => drop(wire.tell(Input::Standby { member, standby })),
                Failback => drop(wire.tell(Input::Settings(Settings::default()))),
            }
            let case =
                format!("{members} members, standbys {standbys:?}, failback {failback}, step {at}: {what:?}");
            assert_eq!((active(&wire), inactive(&wire)), (transmit.to_vec(), standby.to_vec()), "{case}");
            for &member in *standby {
                assert_eq!(wire.state(member), MemberState::Ok, "{case}");
                assert!(!wire.usable().contains(&member), "{case}");
            }
            assert!(transmit.iter().all(|member| wire.usable().contains(member)), "{case}");
        }
    }
}

#[test]
fn standby_keeps_group_ok_and_its_changes_are_reported() {
    let mut wire = group(3, &[2], true);
    assert_eq!(wire.group.state(), GroupState::Ok);
    wire.link(0, false);
    assert_eq!(
        wire.said(),
        [
            "The link has gone down on eth0",
            "IP interface failure detected on eth0 of group g",
            "IP interface eth2 of group g is now active",
        ]
    );
    assert_eq!(wire.group.state(), GroupState::Degraded);
    wire.link(0, true);
    assert_eq!(
        wire.said(),
        [
            "The link has come up on eth0",
            "IP interface repair detected on eth0 of group g",
            "IP interface eth2 of group g is now inactive",
        ]
    );
}

#[test]
fn inactive_member_is_reserve_of_datapath() {
    let wire = group(3, &[2], true);
    assert_eq!(wire.group.reserve().iter().collect::<Vec<_>>(), [2]);
    assert_eq!(wire.usable(), [0, 1]);
}

#[test]
fn without_failback_restored_link_is_kept_out() {
    let mut wire = group(2, &[], false);
    wire.link(0, false);
    assert_eq!(wire.usable(), [1]);
    wire.link(0, true);
    assert_eq!((wire.usable(), inactive(&wire)), (vec![1], vec![0]));
    // Without another member, any with a link transmits.
    wire.link(1, false);
    assert_eq!(active(&wire), [0]);
    wire.link(0, false);
    assert_eq!(wire.usable(), [0, 1]);
}

#[test]
fn reserve_prefers_inactive_over_failed_members() {
    let fdt = Duration::from_secs(1);
    let mut wire = Wire::with_fdt(3, fdt);
    wire.tell(Input::Standby { member: 2, standby: true });
    wire.silent.insert(0);
    wire.run(2 * fdt);
    assert_eq!((active(&wire), wire.state(0)), (vec![1, 2], MemberState::Failed));
    assert_eq!(wire.group.reserve().iter().collect::<Vec<_>>(), [0], "when both carriers are lost");
    wire.link(1, false);
    assert_eq!(active(&wire), [2]);
    wire.link(2, false);
    assert_eq!((active(&wire), wire.group.state()), (vec![0], GroupState::Failed));
}

#[test]
fn inactive_members_are_adopted_after_restart() {
    let wire = group(3, &[2], true);
    let member = |number: u8| {
        let member = wire.group.member(number).unwrap();
        (member.attachment().clone(), member.state().into())
    };
    let adopted = crate::core::Adopted {
        members: (0..3).map(member).collect(),
        usable: wire.group.usable_word(),
        draining: BTreeMap::new(),
        reserve: wire.group.reserve(),
        live: (0..3).collect(),
        slots: wire.group.slots().clone(),
        cast: ipmp_common::steer::Preference::new(&[0, 1, 2]),
        inbound: Vec::new(),
        preferred: Vec::new(),
        probed: Default::default(),
        absent: Default::default(),
        standby: ipmp_common::steer::MemberSet::of(2),
    };
    let (group, actions) = crate::core::Group::adopt(wire.now, "g", Settings::default(), adopted);
    let changes = |action: &Action| {
        matches!(
            action,
            Action::Report(..) | Action::SetUsable(_) | Action::SetReserve(_) | Action::SetCast(_)
        )
    };
    assert!(!actions.iter().any(changes), "{actions:?}");
    assert_eq!(group.active(), [0, 1]);
    assert!(group.member(2).unwrap().inactive());
}
