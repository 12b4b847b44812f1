//! The targets of a member in a family (docs/reference.md 3.6).
//!
//! If the operator configures targets, no others are probed. Without any, the targets of host routes and the routers
//! are, host routes first; without those, hosts that answered a multicast probe. In each case only those that the member
//! can reach, at most [`ACTIVE`] of them, in turn. The time decides the turn: all members probe the same target in the
//! same interval, otherwise losses could not be compared.
//!
//! | target | its turn comes | slow, or unresponsive | no longer known |
//! |---|---|---|---|
//! | inactive | **active**, while fewer than five are | – | deleted |
//! | active | probed | **excluded** | deleted |
//! | excluded | **inactive**, a minute after | – | deleted |
//!
//! When none is active, up to [`LEAST`] are made active: inactive ones first, then those excluded as slow, the one excluded
//! first before the others, then unresponsive ones.

use std::{net::IpAddr, time::Duration};

use super::{REPAIRS, rtt::Rtt};
use crate::{
    core::Time,
    types::{TargetFault, TargetMode, TargetStatus},
};

/// Maximum number of active targets.
pub const ACTIVE: usize = 5;
/// How many are made active again if there are no better ones. With at most this many active ones, none is excluded as
/// slow.
pub const LEAST: usize = 3;
/// A target that is unreached again within this time needs twice as many replies.
const RELAPSE: Duration = Duration::from_secs(3600);
/// How many it needs at most.
const MOST_REPLIES: u32 = 16 * REPAIRS;
/// How long a slow or unresponsive target is excluded.
pub const ASIDE: Duration = Duration::from_secs(60);

/// Use of a target by a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetUse {
    /// It is probed.
    Active,
    /// Not needed: enough other targets are probed.
    Inactive,
    /// Excluded until [`ASIDE`] after that time.
    Excluded(TargetFault, Time),
}

impl From<TargetUse> for TargetStatus {
    fn from(of: TargetUse) -> Self {
        match of {
            TargetUse::Active => Self::Active,
            TargetUse::Inactive => Self::Inactive,
            TargetUse::Excluded(fault, _) => fault.into(),
        }
    }
}

/// A target of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its address.
    pub address: IpAddr,
    /// Its use.
    pub status: TargetUse,
    /// Round-trip times.
    pub rtt: Rtt,
    /// It does not reply to this member while it replies to another one: it was excluded for that, and has not replied often enough
    /// since.
    pub unreached: bool,
    /// Replies in a row since it is unreached, and how many of them end that.
    regained: (u32, u32),
    /// When replies ended that.
    ended: Option<Time>,
    /// Its last reply.
    replied: Option<Time>,
}

impl Target {
    fn new(address: IpAddr) -> Self {
        let (status, rtt) = (TargetUse::Inactive, Rtt::default());
        Self { address, status, rtt, unreached: false, regained: (0, REPAIRS), ended: None, replied: None }
    }
}

/// The targets that a group knows, in both families.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// Configured by the operator.
    pub explicit: Vec<IpAddr>,
    /// Targets of host routes.
    pub hosts: Vec<IpAddr>,
    /// Routers.
    pub routers: Vec<IpAddr>,
    /// Hosts that answered a multicast probe, in order of their replies.
    pub answering: Vec<IpAddr>,
    /// Excluded by the operator, whatever their source.
    pub disabled: Vec<IpAddr>,
}

impl Known {
    /// The reachable targets, best first, and their source.
    pub fn choose(&self, reaches: impl Fn(IpAddr) -> bool) -> (TargetMode, Vec<IpAddr>) {
        let reachable = |lists: &[&[IpAddr]]| {
            let mut chosen = Vec::new();
            for &address in lists.iter().copied().flatten() {
                if reaches(address) && !self.disabled.contains(&address) && !chosen.contains(&address) {
                    chosen.push(address);
                }
            }
            chosen
        };
        for (mode, lists) in [
            (TargetMode::Explicit, &[self.explicit.as_slice()][..]),
            (TargetMode::Routes, &[self.hosts.as_slice(), self.routers.as_slice()]),
        ] {
            let chosen = reachable(lists);
            if !chosen.is_empty() {
                return (mode, chosen);
            }
        }
        (TargetMode::Multicast, reachable(&[self.answering.as_slice()]))
    }
}

/// The targets of one member in one family, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Targets {
    mode: TargetMode,
    targets: Vec<Target>,
    /// The next interval.
    turn: u64,
}

impl Targets {
    /// Source of the targets.
    pub fn mode(&self) -> TargetMode {
        self.mode
    }

    /// All of them, best first.
    pub fn all(&self) -> &[Target] {
        &self.targets
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Those that are probed, the next one first.
    pub fn active(&self) -> impl Iterator<Item = &Target> {
        let (passed, coming) = self.targets.split_at(self.place(self.turn));
        coming.iter().chain(passed).filter(|target| target.status == TargetUse::Active)
    }

    /// Whether this target is active.
    pub fn probes(&self, address: IpAddr) -> bool {
        self.get(address).is_some_and(|target| target.status == TargetUse::Active)
    }

    /// Index where the search for the target of an interval starts.
    fn place(&self, turn: u64) -> usize {
        turn.checked_rem(self.targets.len().min(ACTIVE) as u64).unwrap_or(0) as usize
    }

    /// The target with this address.
    pub fn get(&self, address: IpAddr) -> Option<&Target> {
        self.targets.iter().find(|target| target.address == address)
    }

    /// Replaces the targets, best first. The state of those that stay is kept.
    pub fn set(&mut self, now: Time, mode: TargetMode, addresses: &[IpAddr]) {
        if self.mode == mode && self.targets.iter().map(|target| target.address).eq(addresses.iter().copied())
        {
            return;
        }
        let before = std::mem::take(&mut self.targets);
        self.mode = mode;
        self.targets = addresses
            .iter()
            .map(|&address| {
                let known = before.iter().find(|target| target.address == address).copied();
                known.unwrap_or_else(|| Target::new(address))
            })
            .collect();
        self.fill(now);
    }

    /// The target of this interval, counted from the start of the clock, if any can be probed now.
    pub fn next(&mut self, now: Time, turn: u64, can: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        self.fill(now);
        self.turn = turn;
        let next = self.active().map(|target| target.address).find(|&address| can(address));
        self.turn = turn + 1;
        next
    }

    /// Excludes a target for a while, and forgets its round-trip times.
    pub fn set_aside(&mut self, now: Time, address: IpAddr, fault: TargetFault) {
        self.set_aside_for(now, address, fault, ASIDE);
    }

    /// Excludes a target for this time, [`ASIDE`] at most.
    pub fn set_aside_for(&mut self, now: Time, address: IpAddr, fault: TargetFault, time: Duration) {
        let since = Time((now.0 + time).saturating_sub(ASIDE));
        if let Some(target) = self.targets.iter_mut().find(|target| target.address == address) {
            *target = Target { status: TargetUse::Excluded(fault, since), rtt: Rtt::default(), ..*target };
        }
        self.fill(now);
    }

    /// Sets whether a target replies to another member only. It is reached again after ten replies in a row, and after twice as many as
    /// the time before where it is unreached again soon: random losses must not move traffic to and fro.
    pub fn set_unreached(&mut self, now: Time, address: IpAddr, unreached: bool) {
        let Some(target) = self.targets.iter_mut().find(|target| target.address == address) else { return };
        if unreached && !target.unreached {
            let is_soon = target.ended.is_some_and(|ended| now - ended < RELAPSE);
            let needed = if is_soon { (target.regained.1 * 2).min(MOST_REPLIES) } else { REPAIRS };
            target.regained = (0, needed);
        }
        target.unreached = unreached;
    }

    /// Whether a target has replied within this time.
    pub fn has_replied(&self, now: Time, address: IpAddr, within: Duration) -> bool {
        self.get(address).and_then(|target| target.replied).is_some_and(|replied| now - replied < within)
    }

    /// A target has replied, so many times in a row.
    pub fn replied(&mut self, now: Time, address: IpAddr, in_a_row: u32) {
        let Some(target) = self.targets.iter_mut().find(|target| target.address == address) else { return };
        target.replied = Some(now);
        if target.unreached {
            let (replies, needed) = &mut target.regained;
            *replies = if in_a_row <= 1 { in_a_row } else { *replies + 1 };
            if replies >= needed {
                (target.unreached, target.ended) = (false, Some(now));
            }
        }
    }

    /// The path may be another one: no target is known to reply to another member only.
    pub fn forget_unreached(&mut self) {
        self.targets.iter_mut().for_each(|target| target.unreached = false);
    }

    /// Adds the round-trip time of an active target; its conservative estimate.
    pub fn sample(&mut self, address: IpAddr, rtt: Duration, interval: Duration) -> Option<Duration> {
        let target = self.targets.iter_mut().find(|target| target.address == address)?;
        if target.status != TargetUse::Active {
            return None;
        }
        target.rtt.sample(rtt, interval);
        target.rtt.conservative()
    }

    /// Forgets all round-trip times.
    pub fn forget_times(&mut self) {
        self.targets.iter_mut().for_each(|target| target.rtt = Rtt::default());
    }

    /// The longest conservative round-trip time of the active targets.
    pub fn slowest(&self) -> Option<Duration> {
        self.active().filter_map(|target| target.rtt.conservative()).max()
    }

    /// Whether this active target alone is slow: there are enough others, and each takes at most half an interval.
    pub fn is_exceptional(&self, address: IpAddr, interval: Duration) -> bool {
        let quick = |target: &Target| target.rtt.conservative().is_none_or(|took| took <= interval / 2);
        self.active().count() > LEAST && self.active().filter(|target| target.address != address).all(quick)
    }

    /// Fills the places of active targets.
    fn fill(&mut self, now: Time) {
        for target in &mut self.targets {
            if matches!(target.status, TargetUse::Excluded(_, since) if now - since >= ASIDE) {
                target.status = TargetUse::Inactive;
            }
        }
        let active = self.active().count();
        let inactive = self.targets.iter_mut().filter(|target| target.status == TargetUse::Inactive);
        inactive.take(ACTIVE.saturating_sub(active)).for_each(|target| target.status = TargetUse::Active);
        if self.active().next().is_some() {
            return;
        }
        let mut aside: Vec<&mut Target> = self.targets.iter_mut().collect();
        aside.sort_by_key(|target| match target.status {
            TargetUse::Excluded(fault, since) => Some((fault, since)),
            TargetUse::Active | TargetUse::Inactive => None,
        });
        aside.into_iter().take(LEAST).for_each(|target| target.status = TargetUse::Active);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(1000 + seconds))
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 178, last])
    }

    fn ips(lasts: &[u8]) -> Vec<IpAddr> {
        lasts.iter().copied().map(ip).collect()
    }

    fn targets(lasts: &[u8]) -> Targets {
        let mut targets = Targets::default();
        targets.set(at(0), TargetMode::Routes, &ips(lasts));
        targets
    }

    fn active(targets: &Targets) -> Vec<IpAddr> {
        targets.active().map(|target| target.address).collect()
    }

    fn turns(targets: &mut Targets, now: Time, count: u64) -> Vec<IpAddr> {
        (0..count).filter_map(|turn| targets.next(now, turn, |_| true)).collect()
    }

    #[test]
    fn only_best_source_with_reachable_target_is_used() {
        let known = Known {
            explicit: ips(&[1]),
            hosts: ips(&[2]),
            routers: ips(&[3, 2]),
            answering: ips(&[4]),
            disabled: vec![],
        };
        let table: [(&[u8], TargetMode, &[u8]); 5] = [
            (&[], TargetMode::Explicit, &[1]),
            (&[1], TargetMode::Routes, &[2, 3]),
            (&[1, 2], TargetMode::Routes, &[3]),
            (&[1, 2, 3], TargetMode::Multicast, &[4]),
            (&[1, 2, 3, 4], TargetMode::Multicast, &[]),
        ];
        for (unreachable, mode, chosen) in table {
            let unreachable = ips(unreachable);
            assert_eq!(known.choose(|address| !unreachable.contains(&address)), (mode, ips(chosen)));
        }
    }

    #[test]
    fn disabled_target_is_never_chosen() {
        let mut known = Known { explicit: ips(&[1, 2]), routers: ips(&[2, 3]), ..Known::default() };
        known.disabled = ips(&[2]);
        assert_eq!(known.choose(|_| true), (TargetMode::Explicit, ips(&[1])));
        known.explicit.clear();
        assert_eq!(known.choose(|_| true), (TargetMode::Routes, ips(&[3])));
    }

    #[test]
    fn five_targets_are_probed_in_turn() {
        let mut targets = targets(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(active(&targets), ips(&[1, 2, 3, 4, 5]));
        assert_eq!(turns(&mut targets, at(0), 7), ips(&[1, 2, 3, 4, 5, 1, 2]));
        assert_eq!(active(&targets), ips(&[3, 4, 5, 1, 2]), "the next one first");
    }

    #[test]
    fn target_that_cannot_be_probed_is_skipped() {
        let mut targets = targets(&[1, 2, 3]);
        assert_eq!(targets.next(at(0), 0, |address| address != ip(1)), Some(ip(2)));
        assert_eq!(targets.next(at(0), 1, |_| false), None);
        assert_eq!(targets.next(at(0), 2, |_| true), Some(ip(3)));
        assert_eq!(Targets::default().next(at(0), 3, |_| true), None);
    }

    #[test]
    fn excluded_target_is_replaced_and_retried_after_a_minute() {
        let mut targets = targets(&[1, 2, 3, 4, 5, 6]);
        targets.sample(ip(2), Duration::from_millis(3), Duration::MAX);
        targets.set_aside(at(0), ip(2), TargetFault::Slow);
        assert_eq!(active(&targets), ips(&[1, 3, 4, 5, 6]));
        assert_eq!(targets.get(ip(2)).unwrap().rtt, Rtt::default());
        targets.set_aside(at(1), ip(1), TargetFault::Unresponsive);
        turns(&mut targets, at(59), 5);
        assert_eq!(active(&targets).len(), 4);
        turns(&mut targets, at(60), 5);
        assert!(active(&targets).contains(&ip(2)) && !active(&targets).contains(&ip(1)));
    }

    #[test]
    fn three_are_active_again_when_none_is_left_slow_before_unresponsive() {
        let mut targets = targets(&[1, 2, 3, 4, 5]);
        for (second, last, fault) in [
            (0, 1, TargetFault::Unresponsive),
            (1, 2, TargetFault::Slow),
            (2, 3, TargetFault::Unresponsive),
            (3, 4, TargetFault::Slow),
        ] {
            targets.set_aside(at(second), ip(last), fault);
        }
        assert_eq!(active(&targets), ips(&[5]));
        targets.set_aside(at(4), ip(5), TargetFault::Unresponsive);
        assert_eq!(active(&targets), ips(&[1, 2, 4]));
    }

    #[test]
    fn excluded_target_does_not_change_turns_of_others() {
        let (mut some, mut all) = (targets(&[1, 2, 3]), targets(&[1, 2, 3]));
        some.set_aside(at(0), ip(2), TargetFault::Unresponsive);
        assert_eq!(turns(&mut some, at(0), 6), ips(&[1, 3, 3, 1, 3, 3]));
        assert_eq!(turns(&mut all, at(0), 6), ips(&[1, 2, 3, 1, 2, 3]));
    }

    #[test]
    fn new_targets_keep_state_of_known_ones() {
        let mut targets = targets(&[1, 2, 3]);
        targets.sample(ip(3), Duration::from_millis(2), Duration::MAX);
        targets.set(at(1), TargetMode::Routes, &ips(&[9, 3, 2]));
        assert_eq!(active(&targets), ips(&[9, 3, 2]));
        assert_eq!(targets.slowest(), Some(Duration::from_millis(6)));
        targets.set(at(1), TargetMode::Multicast, &[]);
        assert!(targets.is_empty());
        assert_eq!((targets.mode(), targets.slowest()), (TargetMode::Multicast, None));
    }

    #[test]
    fn slow_target_is_exceptional_among_four_but_not_three() {
        let interval = Duration::from_millis(20);
        let slow = |lasts: &[u8]| {
            let mut targets = targets(lasts);
            for target in ips(lasts) {
                targets.sample(target, Duration::from_millis(1), Duration::MAX);
            }
            targets.sample(ip(1), Duration::from_millis(100), Duration::MAX);
            targets
        };
        assert!(!slow(&[1, 2, 3]).is_exceptional(ip(1), interval));
        assert!(slow(&[1, 2, 3, 4]).is_exceptional(ip(1), interval));
        assert!(!slow(&[1, 2, 3, 4]).is_exceptional(ip(1), interval / 20), "they are all slow");
    }

    proptest! {
        /// At least one target is active while there is any, and at most five.
        #[test]
        fn one_target_is_always_active(steps in proptest::collection::vec((0..3u8, 0..9u8, 0..40u64), 1..60)) {
            let (mut targets, mut now) = (Targets::default(), 0);
            for (what, which, wait) in steps {
                now += wait;
                match what {
                    0 => {
                        let some: Vec<u8> = (0..9).filter(|last| last % 3 != which % 4).collect();
                        targets.set(at(now), TargetMode::Routes, &ips(&some));
                    }
                    1 => targets.set_aside(at(now), ip(which), if which % 2 == 0 { TargetFault::Slow } else { TargetFault::Unresponsive }),
                    _ => {
                        let next = targets.next(at(now), now, |_| true);
                        prop_assert_eq!(next.is_none(), targets.is_empty());
                    }
                }
                prop_assert!(targets.active().count() <= ACTIVE);
                prop_assert_eq!(targets.active().next().is_none(), targets.is_empty());
            }
        }
    }
}
