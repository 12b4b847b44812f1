//! The report on probing.

use std::time::Duration;

use crate::{
    control::report::{
        Loss,
        probing::{Counters, Detection, MOST_TARGETS, Passed, ProbedTarget, Probing, Raised, SplitTarget},
    },
    core::{
        self, Time,
        member::Member,
        probe::{
            self, ProbeSource, TestAddress,
            history::History,
            loss::{CONFIDENCE, Count, WINDOWS},
            prober::Prober,
            targets::{self, TargetUse},
        },
    },
    types::{Failback, Family, Percent, ProbeObstacle, TargetFault, TargetMode},
};

/// How a group's failures are detected.
pub fn detection(group: &core::Group, now: Time) -> Detection {
    let settings = group.settings();
    let fdt = group.fdt().unwrap_or_else(|| probe::fdt::Fdt::new(settings.fdt));
    Detection {
        configured_ms: milliseconds(fdt.configured()),
        interval_us: microseconds(fdt.interval()),
        raised: group.slowest().map(|slow| Raised {
            member: slow.member.clone(),
            target: slow.target,
            took_us: microseconds(slow.took),
            ago_ms: milliseconds(now - slow.at),
        }),
        failback: settings.failback != Failback::No,
        failback_policy: settings.failback,
        failback_limit_ms: milliseconds(settings.failback_limit),
        fail_open: settings.fail_open,
        confirm: settings.confirm,
        evidence: settings.evidence,
        probe: settings.probe,
        split_policy: settings.split,
        loss_warn_percent: settings.loss_warn.map(Percent::number),
        loss_fail_percent: settings.loss_fail.map(Percent::number),
        targets: group.known_targets().explicit.clone(),
        unreachable_families: Family::ALL
            .into_iter()
            .filter(|&family| group.targets_unreachable(family))
            .collect(),
        split: Family::ALL
            .into_iter()
            .flat_map(|family| group.split(now, family))
            .map(|probe::split::SplitTarget { target, reached_by, not_reached_by }| SplitTarget {
                target,
                reached_by,
                not_reached_by,
            })
            .collect(),
    }
}

/// The present failure detection time in milliseconds; `None`: no member is probed.
pub fn fdt_ms(group: &core::Group) -> Option<u64> {
    group.fdt().map(|fdt| milliseconds(fdt.current()))
}

/// How a member is probed, family by family.
pub fn probing(member: &Member, now: Time) -> Vec<Probing> {
    let of = |family| Some(of_family(member, family, member.prober(family)?, now));
    Family::ALL.into_iter().filter_map(of).collect()
}

/// Lost probes of a member over several times, if it is probed.
pub fn loss(group: &core::Group, member: &Member, now: Time) -> Vec<Loss> {
    if !member.is_probed() {
        return Vec::new();
    }
    let of = |(window, count): (Duration, Count)| {
        let (least, most) = count.bounds(CONFIDENCE);
        Loss {
            minutes: (window.as_secs() / 60) as u32,
            probes: count.sent as u64,
            lost: count.lost as u64,
            least_percent: Percent::of(least).number(),
            most_percent: Percent::of(most).number(),
        }
    };
    WINDOWS.into_iter().zip(group.lost_probes(now, member.number())).map(of).collect()
}

fn of_family(member: &Member, family: Family, prober: &Prober, now: Time) -> Probing {
    let (means, history) = (prober.means(), prober.history());
    let (test_address, prefix) = match member.test_address(family) {
        TestAddress::Is { address, prefix } => (Some(address), Some(prefix)),
        TestAddress::None | TestAddress::Awaited => (None, None),
    };
    let counters = prober.counters();
    let (mut listed, inactive_targets) = targets_of(prober, now);
    listed.truncate(MOST_TARGETS);
    Probing {
        family,
        method: means.map(ProbeSource::method),
        obstacle: match (means, test_address) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(ProbeObstacle::NotUnique),
            (None, None) => Some(ProbeObstacle::Awaited),
        },
        test_address,
        prefix,
        mode: if means.is_some() { prober.targets().mode() } else { TargetMode::Disabled },
        failed: prober.failed(),
        losses: history.losses(),
        replies: history.answers(),
        targets: listed,
        inactive_targets,
        passed: passed(prober, now),
        counters: Counters {
            sent: counters.sent,
            answered: counters.answered,
            lost: counters.lost,
            discarded: counters.void,
            unsent: counters.unsent,
            missed: counters.missed,
            unexpected: counters.forged,
            duplicate: counters.duplicate,
        },
    }
}

/// The largest packet that passed both ways to any target, and when last.
pub fn passed(prober: &Prober, now: Time) -> Option<Passed> {
    let proven =
        prober.sizes().paths().iter().filter_map(|path| Some((path.passes, path.proven?, path.target)));
    let (bytes, sent, target) = proven.max()?;
    Some(Passed { bytes, target, ago_ms: milliseconds(now - sent) })
}

/// The active targets, the next one first, then the excluded ones, the last one first; and the number of others.
fn targets_of(prober: &Prober, now: Time) -> (Vec<ProbedTarget>, u32) {
    let history = prober.history();
    let mut listed: Vec<ProbedTarget> =
        prober.targets().active().map(|target| target_report(target, history, None, now)).collect();
    let mut excluded: Vec<(Time, ProbedTarget)> = Vec::new();
    let mut inactive_targets = 0;
    for target in prober.targets().all() {
        match target.status {
            TargetUse::Active => {}
            TargetUse::Inactive => inactive_targets += 1,
            TargetUse::Excluded(fault, since) => {
                excluded.push((since, target_report(target, history, Some((fault, since)), now)));
            }
        }
    }
    excluded.sort_by_key(|(since, _)| std::cmp::Reverse(*since));
    listed.extend(excluded.into_iter().map(|(_, target)| target));
    (listed, inactive_targets)
}

fn target_report(
    target: &targets::Target,
    history: &History,
    excluded: Option<(TargetFault, Time)>,
    now: Time,
) -> ProbedTarget {
    ProbedTarget {
        address: target.address,
        excluded: excluded.map(|(fault, _)| fault),
        retry_ms: excluded.map(|(_, since)| milliseconds(since + targets::ASIDE - now)),
        average_us: target.rtt.average().map(microseconds),
        deviation_us: target.rtt.deviation().map(microseconds),
        losses: history.losses_of(target.address),
        replies: history.answers_of(target.address),
    }
}

/// Whole milliseconds of a time.
pub fn milliseconds(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

/// Whole microseconds of a time.
fn microseconds(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            Input, Settings,
            group::testing::{Wire, router},
        },
        types::{ProbeMethod, ProbePolicy},
    };

    const FDT: Duration = Duration::from_secs(1);

    fn of(wire: &Wire, member: u8) -> Vec<Probing> {
        probing(wire.group.member(member).expect("a member"), wire.now)
    }

    #[test]
    fn member_that_receives_replies() {
        let mut wire = Wire::with_fdt(2, FDT);
        wire.run(FDT);
        let [inet] = &of(&wire, 0)[..] else { panic!("one family") };
        assert_eq!((inet.family, inet.method, inet.obstacle), (Family::V4, Some(ProbeMethod::Echo), None));
        assert_eq!((inet.test_address, inet.prefix), (Some(router(201)), Some(24)));
        assert_eq!((inet.mode, inet.failed, inet.losses), (TargetMode::Routes, false, 0));
        let [target] = &inet.targets[..] else { panic!("one router") };
        assert_eq!((target.address, target.excluded, target.retry_ms), (router(1), None, None));
        assert_eq!(target.average_us, Some(300));
        assert!(target.deviation_us.is_some());
        assert_eq!((target.losses, target.replies), (0, inet.replies));
        assert!(inet.replies >= 10, "{inet:?}");
        assert_eq!(inet.counters.sent, inet.counters.answered);
        assert_eq!(inet.inactive_targets, 0);
        let group = detection(&wire.group, wire.now);
        assert_eq!((group.configured_ms, group.interval_us, group.raised), (1000, 200_000, None));
        assert_eq!(fdt_ms(&wire.group), Some(1000));
        assert!(
            group.failback
                && group.fail_open
                && group.unreachable_families.is_empty()
                && group.targets.is_empty()
        );
        assert_eq!(group.probe, ProbePolicy::Off);
    }

    #[test]
    fn member_without_probing_and_with_obstacle() {
        let mut wire = Wire::new(Settings::default());
        wire.tell(Input::AddressAdded(router(200)));
        wire.join(0);
        assert_eq!(of(&wire, 0), []);
        assert_eq!(fdt_ms(&wire.group), None);
        let family = Family::V4;
        wire.tell(Input::TestAddress { member: 0, family, address: TestAddress::Awaited });
        let awaited = of(&wire, 0).remove(0);
        assert_eq!(
            (awaited.method, awaited.obstacle, awaited.test_address, awaited.mode),
            (None, Some(ProbeObstacle::Awaited), None, TargetMode::Disabled)
        );
        let address = TestAddress::Is { address: router(200), prefix: 24 };
        wire.tell(Input::TestAddress { member: 0, family, address });
        let twin = of(&wire, 0).remove(0);
        assert_eq!((twin.method, twin.obstacle), (None, Some(ProbeObstacle::NotUnique)));
        assert_eq!(twin.test_address, Some(router(200)));
    }

    #[test]
    fn excluded_targets_are_last_and_list_is_limited() {
        let mut wire = Wire::with_fdt(2, FDT);
        let routers: Vec<_> = (1..=3).map(router).collect();
        wire.routers(&routers);
        wire.dead.insert(router(2));
        wire.run(20 * FDT);
        let inet = of(&wire, 0).remove(0);
        let shown: Vec<_> = inet.targets.iter().map(|target| (target.address, target.excluded)).collect();
        assert_eq!(shown[2], (router(2), Some(TargetFault::Unresponsive)), "{shown:?}");
        assert!(shown[..2].iter().all(|(_, excluded)| excluded.is_none()), "{shown:?}");
        assert!(inet.targets[2].retry_ms.is_some_and(|again| again <= 60_000), "{:?}", inet.targets[2]);

        wire.routers(&(1..=100).map(router).collect::<Vec<_>>());
        wire.run(FDT);
        let inet = of(&wire, 0).remove(0);
        assert!(inet.targets.len() <= MOST_TARGETS);
        assert_eq!(inet.targets.iter().filter(|target| target.excluded.is_none()).count(), targets::ACTIVE);
        assert_eq!(inet.inactive_targets, 100 - inet.targets.len() as u32);
    }

    #[test]
    fn raised_detection_time_names_its_target() {
        let mut wire = Wire::with_fdt(2, FDT);
        wire.rtt = Duration::from_millis(150);
        wire.until(|wire| fdt_ms(&wire.group) > Some(1000));
        wire.run(FDT);
        let group = detection(&wire.group, wire.now);
        let raised = group.raised.expect("a reason");
        assert_eq!((raised.target, group.configured_ms), (router(1), 1000));
        assert!(raised.took_us > 200_000, "{raised:?}");
        assert!((1000..100_000).contains(&raised.ago_ms), "{raised:?}");
        wire.rtt = Duration::from_micros(300);
        wire.until(|wire| fdt_ms(&wire.group) == Some(1000));
        assert_eq!(detection(&wire.group, wire.now).raised, None);
    }

    #[test]
    fn family_without_replies_is_named() {
        let mut wire = Wire::with_fdt(2, FDT);
        wire.dead.insert(router(1));
        wire.run(2 * FDT);
        assert_eq!(detection(&wire.group, wire.now).unreachable_families, [Family::V4]);
        assert_eq!(
            of(&wire, 0)[0].losses,
            wire.group.member(0).unwrap().prober(Family::V4).unwrap().history().losses()
        );
        assert!(of(&wire, 0)[0].losses >= 5 && !of(&wire, 0)[0].failed);
    }
}
