use super::*;
use crate::{
    core::{
        Input, Settings,
        group::testing::{Wire, mac, router},
        member::FullFrame,
    },
    types::ProbePolicy,
};

const MINUTE: Duration = Duration::from_secs(60);

fn passed(wire: &Wire, member: u8) -> Option<FullFrame> {
    wire.group.member(member).unwrap().probing().full_frame()
}

/// Members whose frames to each other pass, probed by echo from test addresses if `addresses`.
fn connected(members: u8, settings: Settings, addresses: bool) -> Wire {
    let mut wire = if addresses {
        Wire::of(members, settings)
    } else {
        let mut wire = Wire::new(settings);
        (0..members).for_each(|member| wire.join(member));
        wire.routers(&[router(1)]);
        wire
    };
    wire.isolated = false;
    wire
}

/// Settings with which the probes do not show which sizes pass, and whether members have test addresses.
fn settings() -> [(Settings, bool); 2] {
    let arp = Settings { probe: ProbePolicy::Arp, ..Settings::default() };
    let fast = Settings { fdt: Duration::from_millis(500), ..Settings::default() };
    [(arp, false), (fast, true)]
}

#[test]
fn all_members_and_standbys_too_exchange_full_frames_in_turn() {
    for (settings, addresses) in settings() {
        for members in [2, 3, 5] {
            let mut wire = connected(members, settings, addresses);
            wire.tell(Input::Standby { member: 1, standby: true });
            wire.run(2 * MINUTE);
            let start = wire.now;
            wire.full_frames.clear();
            wire.run(INTERVAL * u32::from(members));
            for member in 0..members {
                let frame = passed(&wire, member).expect("frames in both directions");
                assert_eq!(frame.bytes, 1500);
                assert!(wire.now - frame.at <= INTERVAL * u32::from(members), "member {member}: {frame:?}");
                assert!(wire.full_frames.iter().any(|frame| frame.1 == member && frame.0 > start));
            }
            assert_eq!(wire.full_frames.len(), 2 * usize::from(members), "two in each interval");
            assert_eq!(wire.group.unexpected_test_frames(), 0);
        }
    }
}

#[test]
fn lost_frames_leave_what_was_known_and_fail_no_member() {
    for (settings, addresses) in settings() {
        let mut wire = connected(3, settings, addresses);
        wire.run(2 * MINUTE);
        wire.said();
        let before = passed(&wire, 0).unwrap();
        wire.holes.insert(0, 1400);
        wire.run(5 * MINUTE);
        let after = passed(&wire, 0).unwrap();
        assert!(after.at <= before.at + 3 * INTERVAL && wire.now - after.at > 4 * MINUTE, "{after:?}");
        for member in [1, 2] {
            assert!(wire.now - passed(&wire, member).unwrap().at <= 3 * INTERVAL, "members {member}");
        }
        assert_eq!((wire.usable(), wire.said()), (vec![0, 1, 2], vec![]));
    }
}

#[test]
fn frames_are_as_large_as_both_members_permit() {
    let (settings, addresses) = settings()[0];
    let mut wire = connected(3, settings, addresses);
    for (member, mtu) in [(0, 9000), (1, 9000), (2, 9000)] {
        wire.tell(Input::Mtu { member, mtu });
    }
    wire.run(MINUTE);
    assert_eq!(passed(&wire, 0).map(|frame| frame.bytes), Some(9000));
}

#[test]
fn no_frame_is_sent_where_probes_show_sizes_or_are_off_or_no_other_member_functions() {
    let off = Settings { probe: ProbePolicy::Off, ..Settings::default() };
    for (settings, addresses, members) in
        [(Settings::default(), true, 3), (off, false, 3), (self::settings()[0].0, false, 1)]
    {
        let mut wire = connected(members, settings, addresses);
        wire.run(MINUTE);
        assert_eq!(wire.full_frames, [], "{settings:?}");
    }
    let (settings, addresses) = self::settings()[1];
    let mut wire = connected(2, settings, addresses);
    wire.run(MINUTE);
    wire.link(1, false);
    wire.full_frames.clear();
    wire.run(MINUTE);
    assert_eq!(wire.full_frames, []);
    wire.link(1, true);
    wire.run(MINUTE);
    assert!(!wire.full_frames.is_empty());
}

#[test]
fn other_frames_prove_nothing() {
    let (settings, addresses) = settings()[0];
    let mut wire = connected(2, settings, addresses);
    wire.isolated = true;
    wire.run(MINUTE);
    let sequence = wire.group.probing.directions.next_sequence() - 1;
    let mut unexpected = 0;
    let mut tell = |from: u8, member, to, bytes, sequence| {
        let source = mac(from);
        wire.tell(Input::TestFrame { member, source, from, to, sequence, bytes });
        let before = std::mem::replace(&mut unexpected, wire.group.unexpected_test_frames());
        (unexpected == before, passed(&wire, 0).map(|frame| frame.bytes))
    };
    for (from, member, to, bytes, sequence) in [
        (1, 0, 0, 1499, sequence),
        (1, 0, 0, 1500, sequence + 1),
        (1, 1, 0, 1500, sequence),
        (0, 0, 0, 1500, sequence),
        (2, 0, 0, 1500, sequence),
    ] {
        assert_eq!(tell(from, member, to, bytes, sequence), (false, None), "{from} {member} {to} {bytes}");
    }
    assert_eq!(tell(1, 0, 0, 1500, sequence), (true, None), "one direction");
    assert_eq!(tell(0, 1, 1, 1500, sequence), (true, Some(1500)), "both");
}
