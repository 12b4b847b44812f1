use std::time::Duration;

use proptest::prelude::*;

use crate::{
    core::{
        Input, Settings,
        group::testing::{Wire, router},
        member::Hole,
        probe::{FAILURES, TestAddress, fdt, size},
    },
    types::{Family, GroupState, MemberState},
};

const MINUTE: Duration = Duration::from_secs(60);
const ENDED: &str = "No loss of large packets on eth0 of group g (MTU 1500) is known any more";

fn hole(wire: &Wire, member: u8) -> Option<Hole> {
    wire.group.member(member).unwrap().hole()
}

/// The text of the event of a hole on eth0.
fn lost(passes: u32, mtu: u32, elsewhere: u32) -> String {
    format!(
        "Packets larger than {passes} bytes are lost on eth0 of group g (MTU {mtu}); on other interfaces {elsewhere} bytes pass \
         to 192.168.178.1; eth0 does not transmit while large packets pass on another one; check the MTU of the switch ports \
         behind eth0"
    )
}

fn limited(passes: u32, mtu: u32) -> String {
    format!(
        "Target 192.168.178.1: answers echo requests of at most {passes} bytes on every interface of group g (MTU {mtu}); \
         larger packets are not tested with it"
    )
}

/// Members with this MTU, whose sizes are known.
fn with_mtu(members: u8, mtu: u32) -> Wire {
    let mut wire = Wire::of(members, Settings::default());
    (0..members).for_each(|member| drop(wire.tell(Input::Mtu { member, mtu })));
    wire.run(MINUTE);
    wire.said();
    wire
}

#[test]
fn hole_is_named_with_its_size_and_traffic_avoids_it_until_it_ends() {
    for (mtu, passes) in [(1500, 1400), (9000, 1500), (9000, 8999)] {
        let mut wire = with_mtu(3, mtu);
        assert_eq!(wire.usable(), [0, 1, 2]);
        wire.holes.insert(0, passes);
        let took = wire.until(|wire| hole(wire, 0).is_some());
        assert!(took < Duration::from_secs(30), "{took:?}");
        let expected = Hole { target: router(1), passes, elsewhere: mtu };
        assert_eq!((hole(&wire, 0), wire.said()), (Some(expected), vec![lost(passes, mtu, mtu)]));
        assert_eq!((wire.usable(), wire.group.reserve().iter().collect()), (vec![1, 2], vec![0]));
        assert_eq!((wire.state(0), wire.group.state()), (MemberState::Ok, GroupState::Degraded));
        wire.run(10 * MINUTE);
        assert_eq!((wire.said(), wire.usable()), (vec![], vec![1, 2]), "it is reported once");
        wire.holes.clear();
        let took = wire.until(|wire| hole(wire, 0).is_none());
        assert!(took > 2 * size::RETRY && took < MINUTE, "{took:?}");
        assert_eq!((wire.usable(), wire.group.state()), (vec![0, 1, 2], GroupState::Ok));
        assert_eq!(wire.said(), [ENDED.replace("1500", &mtu.to_string())]);
    }
}

#[test]
fn target_without_large_replies_is_named_once_and_no_member_has_a_hole() {
    let mut wire = Wire::of(3, Settings::default());
    wire.limits.insert(router(1), 1500);
    (0..3).for_each(|member| drop(wire.tell(Input::Mtu { member, mtu: 9000 })));
    wire.run(10 * MINUTE);
    assert_eq!(wire.said(), [limited(1500, 9000)]);
    assert_eq!(wire.usable(), [0, 1, 2]);
    // A hole below its limit is found as well.
    wire.holes.insert(0, 1400);
    wire.run(MINUTE);
    assert_eq!(wire.said(), [lost(1400, 9000, 1500)]);
    assert_eq!(wire.usable(), [1, 2]);
    wire.holes.clear();
    wire.run(2 * MINUTE);
    assert_eq!(wire.said(), [ENDED.replace("1500", "9000")]);
    // When it answers larger requests, the members that test that later have no hole.
    wire.limits.clear();
    wire.run(20 * MINUTE);
    assert_eq!((wire.said(), wire.usable()), (vec![], vec![0, 1, 2]));
    let of =
        |member| wire.group.member(member).unwrap().prober(Family::V4).unwrap().sizes().paths()[0].passes;
    assert_eq!((0..3).map(of).collect::<Vec<_>>(), [9000; 3]);
}

#[test]
fn hole_of_all_members_takes_none_out_of_use() {
    let mut wire = with_mtu(2, 1500);
    wire.holes.extend([(0, 1400), (1, 1400)]);
    wire.run(5 * MINUTE);
    assert_eq!(wire.usable(), [0, 1]);
    assert!(wire.said().contains(&limited(1400, 1500)));
    assert_eq!((hole(&wire, 0), hole(&wire, 1)), (None, None));
}

#[test]
fn member_with_a_hole_transmits_when_no_other_functions() {
    let mut wire = with_mtu(2, 1500);
    wire.holes.insert(0, 1400);
    wire.until(|wire| hole(wire, 0).is_some());
    assert_eq!(wire.usable(), [1]);
    wire.link(1, false);
    assert_eq!((wire.usable(), wire.group.active()), (vec![0], &[0][..]));
    wire.link(1, true);
    wire.until(|wire| wire.state(1) == MemberState::Ok);
    assert_eq!(wire.usable(), [1], "it is still known");
}

#[test]
fn standby_replaces_member_with_a_hole_and_is_tested_itself() {
    let mut wire = with_mtu(3, 1500);
    wire.tell(Input::Standby { member: 2, standby: true });
    wire.run(MINUTE);
    assert_eq!(wire.usable(), [0, 1]);
    wire.holes.insert(0, 1400);
    wire.until(|wire| hole(wire, 0).is_some());
    assert_eq!(wire.usable(), [1, 2]);
    wire.holes.clear();
    wire.until(|wire| hole(wire, 0).is_none());
    assert_eq!(wire.usable(), [0, 1]);
    // A standby with a hole replaces none.
    wire.holes.insert(2, 1400);
    wire.until(|wire| hole(wire, 2).is_some());
    wire.link(0, false);
    assert_eq!(wire.group.active(), [1]);
}

#[test]
fn target_that_limits_its_replies_shows_no_hole() {
    let mut wire = Wire::with_fdt(3, Duration::from_secs(1));
    wire.group.set_jitter(1);
    wire.limit = Some(10.0);
    wire.run(5 * MINUTE);
    let lines = wire.said();
    assert!(!lines.iter().any(|line| line.contains("larger")), "{lines:?}");
    assert_eq!(wire.usable(), [0, 1, 2]);
}

#[test]
fn hole_is_forgotten_where_sizes_are_not_tested_any_more() {
    let fast = Settings { fdt: size::INTERVAL * FAILURES - Duration::from_millis(1), ..Settings::default() };
    let removed = Input::TestAddress { member: 0, family: Family::V4, address: TestAddress::None };
    for change in [Input::Settings(fast), removed] {
        let mut wire = with_mtu(2, 1500);
        wire.holes.insert(0, 1400);
        wire.until(|wire| hole(wire, 0).is_some());
        wire.said();
        wire.tell(change);
        assert!(wire.said().contains(&ENDED.to_owned()), "{:?}", wire.said());
        wire.run(MINUTE);
        assert_eq!((hole(&wire, 0), wire.usable()), (None, vec![0, 1]));
    }
}

#[test]
fn as_many_probes_as_without_large_ones() {
    let mut wire = with_mtu(3, 1500);
    wire.probes.clear();
    wire.large.clear();
    wire.run(10 * MINUTE);
    assert_eq!(wire.probes.len(), 3 * 300, "one in two seconds on each member");
    assert!((125..=129).contains(&wire.large.len()), "every seventh: {}", wire.large.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// On good paths no hole is found and no member is out of use, with 1 % loss in each direction as well.
    #[test]
    fn good_paths_have_no_hole(seed in any::<u64>(), targets in 1..4u8, loss in 0..3u8, fdt in 0..2usize) {
        let fdt = [Duration::from_secs(1), fdt::DEFAULT][fdt];
        let mut wire = Wire::of(3, Settings { fdt, ..Settings::default() });
        wire.group.set_jitter(seed);
        wire.routers(&(1..=targets).map(router).collect::<Vec<_>>());
        wire.loss = (f64::from(loss) / 100.0, seed);
        wire.run(10 * MINUTE);
        let lines = wire.said();
        prop_assert!(!lines.iter().any(|line| line.contains("larger")), "{:?}", lines);
        prop_assert_eq!(wire.usable(), [0, 1, 2]);
    }

    /// A hole is found in bounded time, for any number of targets and any size, also while probes are lost at random.
    #[test]
    fn hole_is_found(
        seed in any::<u64>(), targets in 1..6u8, passes in 100..1499u32, member in 0..3u8, phase in 0..20_000u64, loses in any::<bool>(),
    ) {
        let mut wire = Wire::of(3, Settings::default());
        wire.group.set_jitter(seed);
        wire.routers(&(1..=targets).map(router).collect::<Vec<_>>());
        wire.run(MINUTE + Duration::from_millis(phase));
        wire.said();
        wire.loss = (if loses { 0.01 } else { 0.0 }, seed);
        wire.holes.insert(member, passes);
        let took = wire.until(|wire| hole(wire, member).is_some());
        prop_assert!(took < Duration::from_secs(if loses { 300 } else { 90 }), "{:?}", took);
        prop_assert_eq!(hole(&wire, member).map(|hole| hole.passes), Some(passes));
        prop_assert_eq!(wire.usable().len(), 2);
        prop_assert_eq!(wire.lines.len(), 1, "{:?}", wire.lines);
    }
}
