//! Random events on a network with and without replies, against invariants.

use ipmp_common::{maps::MemberStatus, steer::MemberSet};
use proptest::prelude::*;

use super::*;
use crate::{
    core::{
        Input,
        group::{
            properties::Kernel,
            testing::{Wire, ip, router},
        },
        member::Member,
        probe::{
            burst::{EVIDENCED, LENGTH, SHORTEST},
            fdt,
        },
    },
    types::{Confirm, Failback, Family, GroupState, LinkState, MemberState, ProbePolicy, ProbeState},
};

#[derive(Clone, Debug)]
enum Step {
    Join,
    Leave(u8),
    Cable(u8, bool),
    Netlink(u8, bool),
    Live(u16),
    Offline(u8),
    Online(u8),
    Mac(u8, u8),
    Standby(u8, bool),
    TestAddress(u8, bool, u8),
    Routers(u8),
    Explicit(u8),
    Host(u8),
    Data(u8, bool),
    Silent(u8, bool),
    Cut(u8, u8, bool),
    Dead(u8, bool),
    Set(u8, usize, bool, u8),
    Drain(u8),
    Moving(u16),
    Timeout(u8, u8, u64),
    Quiet(u8, u64),
    Late(u64),
    Rtt(u64),
    Run(u64),
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let yes = any::<bool>;
    prop_oneof![
        3 => Just(Join),
        1 => (0..4u8).prop_map(Leave),
        6 => (0..4u8, yes()).prop_map(|(member, up)| Cable(member, up)),
        2 => (0..4u8, yes()).prop_map(|(member, up)| Netlink(member, up)),
        2 => any::<u16>().prop_map(Live),
        2 => (0..4u8).prop_map(Offline),
        2 => (0..4u8).prop_map(Online),
        1 => (0..4u8, 0..4u8).prop_map(|(member, mac)| Mac(member, mac)),
        2 => (0..4u8, yes()).prop_map(|(member, standby)| Standby(member, standby)),
        5 => (0..4u8, yes(), 0..6u8).prop_map(|(member, v6, what)| TestAddress(member, v6, what)),
        2 => (0..8u8).prop_map(Routers),
        1 => (0..4u8).prop_map(Explicit),
        1 => (50..60u8).prop_map(Host),
        1 => (200..206u8, yes()).prop_map(|(last, there)| Data(last, there)),
        5 => (0..4u8, yes()).prop_map(|(member, silent)| Silent(member, silent)),
        5 => (0..4u8, 1..4u8, yes()).prop_map(|(member, last, cut)| Cut(member, last, cut)),
        4 => (1..4u8, yes()).prop_map(|(last, dead)| Dead(last, dead)),
        1 => (0..4u8).prop_map(Drain),
        1 => any::<u16>().prop_map(Moving),
        2 => (0..4u8, 0..3usize, yes(), 0..4u8).prop_map(|(fdt, failback, open, probe)| Set(fdt, failback, open, probe)),
        4 => (0..5u8, 0..5u8, 0..500u64).prop_map(|(sender, inbound, ago)| Timeout(sender, inbound, ago)),
        2 => (0..5u8, 0..500u64).prop_map(|(member, ago)| Quiet(member, ago)),
        1 => (0..40u64).prop_map(Late),
        1 => (0..60u64).prop_map(Rtt),
        12 => (0..4000u64).prop_map(Run),
    ]
}

/// A link is Up or Down to netlink.
fn link(up: bool) -> LinkState {
    if up { LinkState::Up } else { LinkState::Down }
}

fn apply(wire: &mut Wire, step: &Step) {
    match *step {
        Step::Join => {
            if let Some(member) = wire.group.free_number().filter(|member| *member < 4) {
                wire.join(member);
            }
        }
        Step::Leave(member) => drop(wire.tell(Input::Left { member })),
        Step::Cable(member, up) => wire.link(member, up),
        Step::Netlink(member, up) => drop(wire.tell(Input::Link { member, link: link(up) })),
        Step::Live(set) => drop(wire.tell(Input::Live(MemberSet::from_bits(set.into())))),
        Step::Offline(member) => drop(wire.ask(Input::Offline { member })),
        Step::Drain(member) => drop(wire.ask(Input::Drain { member, limit: Duration::from_secs(5) })),
        Step::Moving(moving) => drop(wire.tell(Input::Moving(MemberSet::from_bits(moving.into())))),
        Step::Online(member) => drop(wire.ask(Input::Online { member })),
        Step::Mac(member, mac) => drop(wire.tell(Input::Mac { member, mac: [2, 0, 0, 0, 0, mac] })),
        Step::Standby(member, standby) => drop(wire.tell(Input::Standby { member, standby })),
        Step::TestAddress(member, v6, what) => {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let address = match what {
                0 => TestAddress::None,
                1 => TestAddress::Awaited,
                // From another sender.
                2 => TestAddress::Is { address: router(201), prefix: 24 },
                _ => return wire.test_address(member, family),
            };
            wire.tell(Input::TestAddress { member, family, address });
        }
        Step::Routers(which) => {
            let all = [router(1), router(2), ip("fe80::1")];
            let some: Vec<IpAddr> = (0..3).filter(|bit| which >> bit & 1 == 1).map(|bit| all[bit]).collect();
            wire.routers(&some);
        }
        Step::Explicit(0) => drop(wire.tell(Input::Targets(Vec::new()))),
        Step::Explicit(last) => drop(wire.tell(Input::Targets(vec![router(last), ip("fe80::1")]))),
        Step::Host(last) => drop(wire.tell(Input::Host(router(last)))),
        Step::Data(last, true) => drop(wire.tell(Input::AddressAdded(router(last)))),
        Step::Data(last, false) => drop(wire.tell(Input::AddressRemoved(router(last)))),
        Step::Silent(member, true) => _ = wire.silent.insert(member),
        Step::Silent(member, false) => _ = wire.silent.remove(&member),
        Step::Cut(member, last, true) => _ = wire.cut.insert((member, router(last))),
        Step::Cut(member, last, false) => _ = wire.cut.remove(&(member, router(last))),
        Step::Dead(last, dead) => {
            let target = if last == 3 { ip("fe80::1") } else { router(last) };
            _ = if dead { wire.dead.insert(target) } else { wire.dead.remove(&target) };
        }
        Step::Set(fdt, failback, fail_open, probe) => {
            let fdt = Duration::from_millis([100, 500, 1000, 3000][usize::from(fdt)]);
            let probe =
                [ProbePolicy::Off, ProbePolicy::Auto, ProbePolicy::Arp, ProbePolicy::Nd][usize::from(probe)];
            let failback = Failback::ALL[failback];
            wire.tell(Input::Settings(Settings { fdt, failback, fail_open, probe, ..Settings::default() }));
        }
        Step::Timeout(sender, inbound, ago) => wire.tcp_timeout(sender, inbound, ago),
        Step::Quiet(member, ago) => wire.silent_inbound(member, ago),
        Step::Late(ms) => {
            wire.late = Duration::from_millis(ms);
            // Less late than before: handle what is due by then.
            wire.run(Duration::ZERO);
        }
        Step::Rtt(ms) => wire.rtt = Duration::from_millis(ms),
        Step::Run(ms) => wire.run(Duration::from_millis(ms)),
    }
}

pub(super) fn check(wire: &Wire, kernel: &Kernel) {
    let group = &wire.group;
    let of = |is: &dyn Fn(&Member) -> bool| -> MemberSet {
        group.members().iter().filter(|member| is(member)).map(Member::number).collect()
    };
    let functioning = of(&Member::functions);
    let active: MemberSet = group.active().iter().copied().collect();

    // The kernel matches the members.
    assert_eq!((kernel.usable, kernel.reserve), (group.usable_word(), group.reserve()));
    assert_eq!(kernel.carrier, !active.is_empty());
    assert_eq!(active, of(&Member::active));
    let usable = group.usable();
    // Beside standbys that flows still leave.
    assert_eq!(kernel.usable.all().and(usable), usable);
    assert!(usable.and(kernel.reserve).is_empty(), "no member is usable and in reserve");
    for member in group.members() {
        assert_eq!(kernel.states[usize::from(member.number())], member.state().into());
        // States, flags and columns agree with each other.
        let failed = member.state() == MemberState::Failed;
        assert_eq!(
            failed,
            member.offline().is_none() && member.condition() != Condition::New && !member.functions()
        );
        assert_eq!(member.probe_column() == ProbeState::Disabled, !member.probing().enabled());
        assert_eq!(member.probe_column() == ProbeState::Failed, failed && member.probing().enabled());
        assert!(!member.inactive() || (member.functions() && !member.usable()));
        assert!(
            !member.functions()
                || member.probing().probers().all(|prober| !prober.capable() || !prober.failed())
        );
        for prober in member.probing().probers() {
            assert!(prober.next().is_none() || member.in_service(), "a member out of service is not probed");
            assert_eq!(prober.next().is_some(), member.in_service() && prober.enabled());
        }
    }
    let state = match functioning.len() as usize {
        0 => GroupState::Failed,
        _ if Family::ALL.iter().any(|family| !group.split(wire.now, *family).is_empty()) => GroupState::Split,
        all if all == group.members().len() && of(&|member| !member.is_in_order()).is_empty() => {
            GroupState::Ok
        }
        _ => GroupState::Degraded,
    };
    // The time alone does not end what was reported.
    assert!(group.state() == state || group.state() == GroupState::Split, "{} {state}", group.state());

    // Never to a failed member while a good one exists.
    if !functioning.is_empty() {
        assert_eq!(active.and(functioning), active, "{:?}", group.members());
        assert!(of(&|member| member.probes_failed()).and(kernel.usable.all()).is_empty());
        // Nor to one that loses more than another.
        let least = group.members().iter().filter(|member| member.functions()).map(Member::flaw).min();
        assert!(of(&|member| least < Some(member.flaw())).and(usable).is_empty());
    }
    let inactive = of(&Member::inactive);
    assert!(inactive.is_empty() || kernel.reserve == inactive);
    // At least one while one has a carrier, unless the group does not fail open.
    let carrier =
        of(&|member| member.offline().is_none() && member.live() && member.link() != LinkState::Down);
    let shut = of(&|member| member.probes_failed() && !group.settings().fail_open);
    assert!(!active.is_empty() || carrier.and(shut) == carrier, "{:?}", group.members());

    // No timer leaks.
    match group.deadline() {
        Some(deadline) => {
            assert!(!group.members().is_empty());
            assert!(deadline + wire.late >= wire.now && deadline <= wire.now + Duration::from_secs(3600));
        }
        None => {
            assert!(
                group.members().iter().all(|member| member.probing().probers().all(|p| p.next().is_none()))
            )
        }
    }
    if let Some(fdt) = group.fdt() {
        assert!(fdt.current() >= fdt.configured() && fdt.current() <= fdt::LONGEST);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn random_network_events_keep_group_sound(steps in proptest::collection::vec(step(), 1..80)) {
        let mut wire = Wire::new(Settings { fdt: Duration::from_millis(500), ..Settings::default() });
        let mut kernel = Kernel::default();
        for member in 0..2 {
            wire.join(member);
            wire.test_address(member, Family::V4);
        }
        wire.routers(&[router(1)]);
        for step in &steps {
            apply(&mut wire, step);
            for action in std::mem::take(&mut wire.actions) {
                prop_assert!(kernel.apply(&action), "{:?} changes nothing, after {:?}", action, step);
            }
            if let Step::Leave(member) = step {
                kernel.states[usize::from(*member)] = MemberStatus::Vacant;
            }
            check(&wire, &kernel);
        }
    }

    /// While paths are good, no member fails, for any delay of targets and of the daemon, any order and times in which the
    /// targets stop and start to reply, and any evidence.
    #[test]
    fn good_paths_fail_no_member(
        steps in proptest::collection::vec((0..8u8, 0..2000u64, 0..50u64), 1..30), fdt in 0..4usize, seed in any::<u64>(),
    ) {
        let fdt = [Duration::from_millis(100), SHORTEST, Duration::from_millis(1000), Duration::from_millis(3000)][fdt];
        let mut wire = Wire::of(3, Settings { fdt, ..Settings::default() });
        wire.group.set_jitter(seed);
        wire.routers(&[router(1), router(2), router(3)]);
        for (what, wait, amount) in steps {
            match what {
                // All at the same time, as behind one router.
                0 => wire.dead.extend((1..=3).map(router)),
                1 => wire.dead.clear(),
                2 => wire.late = Duration::from_millis(amount),
                4..7 => wire.tcp_timeout_of(amount as u16, what - 4, (amount % 4) as u8, 10 * amount),
                7 => wire.silent_inbound((amount % 3) as u8, 10 * amount),
                _ => wire.rtt = Duration::from_millis(amount / 5),
            }
            wire.run(Duration::from_millis(wait));
            prop_assert_eq!(wire.usable(), [0, 1, 2], "{:?}", wire.lines);
        }
    }

    /// Targets that all reply for moments only, however often, fail no member.
    #[test]
    fn moments_of_replies_fail_no_member(
        moments in proptest::collection::vec((1..700u64, 1..700u64), 1..60), fdt in 0..3usize, targets in 1..4u8,
        seed in any::<u64>(),
    ) {
        let fdt = [SHORTEST, Duration::from_secs(1), fdt::DEFAULT][fdt];
        let mut wire = Wire::of(3, Settings { fdt, ..Settings::default() });
        wire.group.set_jitter(seed);
        let routers: Vec<IpAddr> = (1..=targets).map(router).collect();
        wire.routers(&routers);
        for (silent, replying) in moments {
            wire.dead.extend(&routers);
            wire.tcp_timeout_of(silent as u16, (silent % 4) as u8, (replying % 4) as u8, replying);
            wire.tcp_timeout_of(replying as u16, (silent % 4) as u8, (replying % 4) as u8, silent);
            wire.run(Duration::from_millis(silent));
            wire.dead.clear();
            wire.run(Duration::from_millis(replying));
            prop_assert_eq!(wire.usable(), [0, 1, 2], "{:?}", wire.lines);
        }
    }

    /// A path that has failed for long enough is detected while another is good, for any number of targets.
    #[test]
    fn failed_paths_are_detected(targets in 1..5u8, fdt in 0..3usize, phase in 0..2000u64, member in 0..3u8) {
        let fdt = Duration::from_millis([50, 1000, 10_000][fdt]);
        let mut wire = Wire::with_fdt(3, fdt);
        let routers: Vec<IpAddr> = (1..=targets).map(router).collect();
        wire.routers(&routers);
        wire.run(2 * fdt + Duration::from_millis(phase));
        wire.silent.insert(member);
        wire.run(fdt + Duration::from_millis(3));
        prop_assert_eq!(wire.state(member), MemberState::Failed);
        prop_assert_eq!(wire.usable().len(), 2);
    }

    /// At the default settings a failure of one path or of two is detected within a probe interval and the confirmation time,
    /// and an outage that is shorter than the confirmation time fails no member.
    #[test]
    fn failure_is_confirmed_at_once_and_short_outage_is_not(
        phase in 0..20_000u64, outage in 1..400u64, first in 0..3u8, second in 0..3u8, targets in 1..5u8, seed in any::<u64>(),
    ) {
        let mut wire = Wire::with_fdt(3, fdt::DEFAULT);
        let routers: Vec<IpAddr> = (1..=targets).map(router).collect();
        wire.routers(&routers);
        wire.group.set_jitter(seed);
        wire.run(2 * fdt::DEFAULT + Duration::from_millis(phase));
        wire.silent.extend([first, second]);
        wire.run(Duration::from_millis(outage));
        wire.silent.clear();
        wire.run(fdt::DEFAULT);
        prop_assert_eq!(wire.usable(), [0, 1, 2], "{:?}", wire.lines);
        wire.silent.extend([first, second]);
        wire.run(Duration::from_millis(2500));
        for member in [first, second] {
            prop_assert_eq!(wire.state(member), MemberState::Failed, "{:?}", wire.lines);
        }
        prop_assert_eq!(wire.usable().len(), if first == second { 2 } else { 1 });
    }

    /// A connection shows a failure of one path or of two in time, and an outage that is shorter than a burst by evidence fails no
    /// member, whatever timed out before it.
    #[test]
    fn evidence_confirms_failure_at_once_and_short_outage_is_not(
        phase in 0..20_000u64, outage in 1..=EVIDENCED.as_millis() as u64, first in 0..3u8, second in 0..3u8,
        timeouts in proptest::collection::vec((0..3u8, 0..3u8, 0..100u64, 0..500u64), 0..10), seed in any::<u64>(),
    ) {
        let mut wire = Wire::with_fdt(3, fdt::DEFAULT);
        wire.group.set_jitter(seed);
        wire.run(2 * fdt::DEFAULT + Duration::from_millis(phase));
        wire.silent.extend([first, second]);
        let mut left = Duration::from_millis(outage);
        for (sender, inbound, wait, ago) in timeouts {
            let wait = left.min(Duration::from_millis(wait));
            wire.run(wait);
            left -= wait;
            wire.tcp_timeout(sender, inbound, ago);
        }
        wire.run(left);
        wire.silent.clear();
        wire.run(fdt::DEFAULT);
        prop_assert_eq!(wire.usable(), [0, 1, 2], "{:?}", wire.lines);
        wire.silent.extend([first, second]);
        // Minimum of TCP's timeout.
        wire.run(Duration::from_millis(200));
        for member in [first, second] {
            wire.tcp_timeout(member, member, 200);
        }
        // A probe of a round may have been lost already.
        wire.run(LENGTH + Duration::from_millis(3));
        for member in [first, second] {
            prop_assert_eq!(wire.state(member), MemberState::Failed, "{:?}", wire.lines);
        }
    }

    /// Several connections that time out by the same failure show it. An outage of 320 ms fails no member, if they were acknowledged
    /// until 80 ms before it at least.
    #[test]
    fn connections_that_agree_confirm_failure_and_short_outage_is_not(
        phase in 0..20_000u64, first in 0..3u8, second in 0..3u8,
        connections in proptest::collection::vec((0..80u64, 0..20u64), 2..12), seed in any::<u64>(),
    ) {
        for is_failure in [false, true] {
            let mut wire = Wire::with_fdt(3, fdt::DEFAULT);
            wire.group.set_jitter(seed);
            wire.run(2 * fdt::DEFAULT + Duration::from_millis(phase));
            wire.silent.extend([first, second]);
            // A probe of a round may have been lost shortly before the first timeout.
            let length = if is_failure { Duration::from_millis(203) + LENGTH } else { EVIDENCED };
            let (start, mut left) = (wire.now, length);
            for (port, (before, later)) in (1..).zip(&connections) {
                let wait = left.min(Duration::from_millis(if port == 1 { 200 } else { *later }));
                wire.run(wait);
                left -= wait;
                for member in [first, second] {
                    wire.tcp_timeout_of(port, member, member, (wire.now - start).as_millis() as u64 + before);
                }
            }
            wire.run(left);
            if is_failure {
                for member in [first, second] {
                    prop_assert_eq!(wire.state(member), MemberState::Failed, "{:?}", wire.lines);
                }
            } else {
                wire.silent.clear();
                wire.run(fdt::DEFAULT);
                prop_assert_eq!(wire.usable(), [0, 1, 2], "{:?}", wire.lines);
            }
        }
    }

    /// Whatever timeouts there are, a member is sent at most one burst by evidence in an interval.
    #[test]
    fn evidence_costs_few_probes(
        timeouts in proptest::collection::vec((0..3u8, 0..3u8, 0..300u64), 0..200), seed in any::<u64>(),
    ) {
        let mut wire = Wire::with_fdt(3, fdt::DEFAULT);
        wire.group.set_jitter(seed);
        wire.run(fdt::DEFAULT);
        wire.probes.clear();
        let start = wire.now;
        for (sender, inbound, wait) in timeouts {
            wire.tcp_timeout_of(wait as u16, sender, inbound, 200);
            wire.run(Duration::from_millis(wait));
        }
        let intervals = ((wire.now - start).as_millis() / 1750 + 2) as usize;
        // A round and an answered probe of each member, with a control probe before the reply at most.
        prop_assert!(wire.probes.len() <= 3 * 3 * intervals, "{} in {intervals} intervals", wire.probes.len());
        prop_assert_eq!(wire.usable(), [0, 1, 2]);
    }

    /// Without losses no burst is sent.
    #[test]
    fn healthy_network_gets_the_same_probes(seed in any::<u64>()) {
        let probes = |confirm| {
            let mut wire = Wire::of(3, Settings { confirm, ..Settings::default() });
            wire.group.set_jitter(seed);
            wire.run(Duration::from_secs(120));
            wire.probes
        };
        prop_assert_eq!(probes(Confirm::Fast), probes(Confirm::Even));
    }
}

proptest! {
    // Each of them simulates minutes.
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// In a split network the members that reach the default router are in use, and only these, for any sides of members and
    /// targets; the others are not used before it is whole again.
    #[test]
    fn split_network_uses_exactly_members_that_reach_router(
        with_router in 1..15u8, others in 2..5u8, fdt in 0..3usize, seed in any::<u64>(),
    ) {
        let fdt = Duration::from_millis([500, 1000, 10_000][fdt]);
        let mut wire = Wire::of(4, Settings { fdt, ..Settings::default() });
        wire.group.set_jitter(seed);
        let targets: Vec<IpAddr> = (1..=others).map(router).collect();
        wire.routers(&targets);
        wire.run(6 * fdt);
        let has_router = |member: &u8| with_router >> member & 1 == 1;
        for member in 0..4u8 {
            // Target 1 is the router; all others are on the other side.
            let cut = targets.iter().filter(|target| (**target == router(1)) != has_router(&member));
            wire.cut.extend(cut.map(|target| (member, *target)));
        }
        let expected: Vec<u8> = (0..4).filter(has_router).collect();
        // Each target has its turn; and the members of the other side have to lose the router five times.
        let mut used = Vec::new();
        let deadline = wire.now + fdt * 3 * u32::from(others);
        while wire.now < deadline {
            wire.run(fdt / 10);
            prop_assert!(!wire.group.active().is_empty());
            used.push(wire.usable());
        }
        prop_assert_eq!(wire.usable(), expected.clone(), "{:?}", wire.lines);
        used.dedup();
        prop_assert!(used.len() <= 4, "each member changes once at most: {:?}, {:?}", used, wire.lines);
        wire.run(20 * fdt);
        prop_assert_eq!(wire.usable(), expected);
        wire.cut.clear();
        wire.run(fdt * 8 * u32::from(others));
        prop_assert_eq!(wire.usable(), [0, 1, 2, 3], "{:?}", wire.lines);
    }

    /// Random losses on all members are no split, and in a split network they move no traffic to and fro.
    #[test]
    fn random_losses_move_no_traffic_by_split(share in 0..30u32, targets in 2..5u8, split in any::<bool>(), seed in any::<u64>()) {
        let fdt = Duration::from_secs(1);
        let mut wire = Wire::of(3, Settings { fdt, ..Settings::default() });
        wire.group.set_jitter(seed);
        let routers: Vec<IpAddr> = (1..=targets).map(router).collect();
        wire.routers(&routers);
        wire.run(10 * fdt);
        if split {
            wire.cut.extend([(0, router(1)), (1, router(1)), (2, router(2))]);
            wire.run(20 * fdt);
            prop_assert_eq!(wire.usable(), [2], "{:?}", wire.lines);
        }
        wire.loss = (f64::from(share) / 100.0, seed);
        wire.lines.clear();
        // Whether the router is unreached on a member, 200 seconds long.
        let missing = |wire: &Wire| -> Vec<bool> {
            wire.group.members().iter().map(|member| member.unreached_router().is_some()).collect()
        };
        let (mut before, mut changes) = (missing(&wire), 0);
        for _ in 0..400 {
            wire.run(fdt / 2);
            let now = missing(&wire);
            changes += usize::from(now != before);
            before = now;
            prop_assert!(!wire.group.active().is_empty());
        }
        // A row of five of them is as rare as a failure of the member by the same losses.
        prop_assert!(changes <= if share <= 10 { 1 } else { 8 }, "{changes} changes at {share} %: {:?}", wire.lines);
    }
}
