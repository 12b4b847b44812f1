//! Paths that drop large packets: which members have one, and which targets drop them on all members.
//!
//! [`crate::core::probe::size`] finds the largest packet that passes between one member and one target. A member has a hole if a
//! larger packet passes to the same target on another member: the target then answers such packets. Before that is concluded,
//! the other member proves it once more, after the search on this one began. It ends when the larger packet passes again, or
//! when it is lost on all others, too.
//!
//! A target that answers large packets on no member is reported once; it is tested with the size that it answers.

use std::net::IpAddr;

use super::{
    Group,
    rounds::{Request, send},
};
use crate::{
    core::{
        Cause, Event, Time,
        group::{MIN_MTU, members::full_size},
        member::Hole,
        probe::{
            history::ProbeKind,
            size::{self, PathSize, Sizes},
        },
    },
    types::Family,
};

/// What passes to a target on a member that functions.
#[derive(Clone, Copy, Debug)]
struct Seen {
    number: u8,
    path: PathSize,
    is_searched: bool,
}

/// What a comparison of members shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// The largest packet that passes on another member.
    Hole(u32),
    Whole,
    /// This member must test this size, before anything is concluded.
    Wanted(u8, u32),
    /// It stays as it was.
    Unknown,
}

impl Group {
    /// Considers what passes on each member, and which ones have a hole.
    pub(super) fn check_sizes(&mut self, now: Time) {
        let mtu = self.members.mtu();
        let interval = self.probing.fdt.interval();
        for member in self.members.iter_mut() {
            let (full, is_in_service) = (full_size(member, mtu), member.in_service());
            for family in Family::ALL {
                let Some(prober) = member.probing_mut().prober_mut(family) else { continue };
                if interval < size::INTERVAL {
                    // Nothing would ever show that a hole ended.
                    prober.sizes = Sizes::default();
                    continue;
                }
                if !is_in_service || !prober.tests_sizes(interval) {
                    prober.sizes.stop();
                    continue;
                }
                let targets: Vec<IpAddr> = prober.targets.active().map(|target| target.address).collect();
                let known = |target| prober.targets.get(target).is_some();
                let sizes = (size::smallest(family), full);
                prober.sizes.update(now, &prober.history, sizes, &targets, known);
            }
        }
        for family in Family::ALL {
            self.compare_sizes(now, family);
            self.report_limits(family);
        }
        // At once: after a deadline the next one is in the future.
        for member in self.members.iter_mut() {
            let full = full_size(member, mtu);
            for family in Family::ALL {
                if let Some(prober) = member.probing_mut().prober_mut(family) {
                    prober.sizes.start_search(now, (size::smallest(family), full));
                }
            }
        }
        for number in self.members.numbers() {
            self.decide_on_hole(number);
        }
    }

    /// What passes to the targets of a family on the members that function.
    fn seen_sizes(&self, family: Family) -> Vec<Seen> {
        let interval = self.probing.fdt.interval();
        let functioning = self.members.iter().filter(|member| member.functions());
        let probers = functioning.filter_map(|member| Some((member.number(), member.prober(family)?)));
        let tested = probers.filter(|(_, prober)| prober.tests_sizes(interval));
        tested
            .flat_map(|(number, prober)| {
                let of = |path: &PathSize| {
                    let is_searched = prober.sizes.searches(path.target) || path.is_unfinished();
                    Seen { number, path: *path, is_searched }
                };
                prober.sizes.paths().iter().map(of).collect::<Vec<_>>()
            })
            .collect()
    }

    fn compare_sizes(&mut self, now: Time, family: Family) {
        let seen = self.seen_sizes(family);
        for one in &seen {
            let others: Vec<Seen> = seen
                .iter()
                .filter(|other| other.number != one.number && other.path.target == one.path.target)
                .copied()
                .collect();
            match compare(one, &others) {
                Finding::Hole(_) => self.set_path_hole(one, family, true),
                Finding::Whole => self.set_path_hole(one, family, false),
                Finding::Wanted(number, size) => {
                    if let Some(prober) = self.prober_mut(number, family) {
                        prober.sizes.want(now, one.path.target, size);
                    }
                }
                Finding::Unknown => {}
            }
        }
    }

    fn set_path_hole(&mut self, of: &Seen, family: Family, hole: bool) {
        let prober = self.prober_mut(of.number, family);
        if let Some(path) = prober.and_then(|prober| prober.sizes.path_mut(of.path.target)) {
            path.hole = hole;
        }
    }

    /// Whether a member has a hole now, and what follows from that.
    fn decide_on_hole(&mut self, number: u8) {
        let Some(member) = self.members.get(number) else { return };
        let (before, name) = (member.hole(), member.name().to_owned());
        let paths = member.probing().probers().flat_map(|prober| prober.sizes.paths().iter());
        let path = paths.filter(|path| path.hole).min_by_key(|path| path.passes).copied();
        let hole = path.map(|path| Hole {
            target: path.target,
            passes: path.passes,
            elsewhere: self.largest(path.target, number).max(path.passes + 1),
        });
        // While it is searched again, the size that was reported stays.
        let is_searched = path.is_some_and(|path| {
            let prober = member.prober(Family::of(path.target));
            prober.is_some_and(|prober| prober.sizes.searches(path.target))
        });
        if hole == before || (is_searched && before.is_some()) {
            return;
        }
        let mtu = full_size(member, self.members.mtu());
        let member = name.clone();
        match (before, hole) {
            (before, Some(Hole { target, passes, elsewhere }))
                if before.is_none_or(|before| before.passes != passes) =>
            {
                let event = |group| Event::MtuHole { member, group, target, passes, elsewhere, mtu };
                self.report(Cause::ProbeResults, event);
            }
            (Some(Hole { target, .. }), None) => {
                let event = |group| Event::MtuHoleEnded { member, group, target, mtu };
                self.report(Cause::ProbeResults, event);
            }
            _ => {}
        }
        let cause = match hole {
            Some(_) => Cause::MtuHole { member: name },
            None => Cause::MtuHoleEnded { member: name },
        };
        self.change_flaw(number, &cause, |member| member.set_hole(hole));
    }

    /// Bytes of the largest packet that passes to a target on other members than this one.
    fn largest(&self, target: IpAddr, without: u8) -> u32 {
        let seen = self.seen_sizes(Family::of(target)).into_iter();
        let others = seen.filter(|seen| seen.path.target == target && seen.number != without);
        others.map(|seen| seen.path.passes).max().unwrap_or(0)
    }

    /// Reports targets that answer large packets on no member.
    fn report_limits(&mut self, family: Family) {
        let seen = self.seen_sizes(family);
        self.probing.limited.retain(|target| {
            Family::of(*target) != family || seen.iter().any(|seen| seen.path.target == *target)
        });
        for target in seen.iter().map(|seen| seen.path.target) {
            let of_target = || seen.iter().filter(|seen| seen.path.target == target);
            if of_target().any(|seen| seen.path.lost.is_none() && seen.path.is_known() && !seen.is_searched) {
                self.probing.limited.remove(&target);
                continue;
            }
            let is_decided = of_target().all(|seen| seen.path.lost.is_some() && !seen.is_searched);
            let Some(passes) = of_target().map(|seen| seen.path.passes).max() else { continue };
            if is_decided && self.probing.limited.insert(target) {
                let mtu = self.members.mtu().unwrap_or(MIN_MTU);
                self.report(Cause::ProbeResults, |group| Event::TargetLimited { group, target, passes, mtu });
            }
        }
    }

    /// Sends the probes of searches that are due.
    pub(super) fn send_sizes(&mut self, now: Time) {
        let (interval, mtu) = (self.probing.fdt.interval(), self.members.mtu());
        for number in self.members.numbers() {
            for family in Family::ALL {
                let Some(member) = self.members.get(number).filter(|member| member.in_service()) else {
                    continue;
                };
                let full = full_size(member, mtu);
                let Some(prober) = member.prober(family).filter(|prober| prober.tests_sizes(interval)) else {
                    continue;
                };
                // What others reach shows what the target answers.
                let larger: Vec<(IpAddr, u32)> = prober
                    .sizes
                    .paths()
                    .iter()
                    .map(|path| (path.target, self.largest(path.target, number)))
                    .collect();
                let larger = |path: &PathSize| {
                    let found = larger.iter().find(|(target, _)| *target == path.target);
                    found.map(|(_, size)| *size).filter(|size| *size > path.passes).unwrap_or(full).min(full)
                };
                let Some(prober) =
                    self.members.get_mut(number).and_then(|of| of.probing_mut().prober_mut(family))
                else {
                    continue;
                };
                let Some(probe) = prober.sizes.next(now, larger) else { continue };
                let target = probe.target;
                let sequence = prober.history.want_of(ProbeKind::Size, target, now, now + interval);
                prober.history.set_size(sequence, probe.size);
                prober.sizes.sent(probe, sequence);
                let request = Request {
                    number,
                    target,
                    sequence,
                    mac: None,
                    size: probe.size,
                    is_doubtful: false,
                    is_extra: true,
                };
                send(prober, request, now, interval, &mut self.probing.requests);
            }
        }
    }
}

/// Compares what passes to a target on a member with what passes on others.
fn compare(one: &Seen, others: &[Seen]) -> Finding {
    let Some(lost) = one.path.lost else {
        return if one.is_searched { Finding::Unknown } else { Finding::Whole };
    };
    if one.is_searched {
        return Finding::Unknown;
    }
    let known = || others.iter().filter(|other| other.path.is_known());
    let Some(best) = known().filter(|other| other.path.passes >= lost).max_by_key(|other| other.path.proven)
    else {
        let is_decided = known().next().is_some() && others.iter().all(|other| !other.is_searched);
        return if is_decided { Finding::Whole } else { Finding::Unknown };
    };
    // It passes since this one has lost it: both must be tested at the same time.
    if best.path.passes_since > one.path.lost_at {
        return Finding::Wanted(one.number, best.path.passes);
    }
    if best.path.proven.is_none_or(|proven| proven < one.path.lost_since) {
        return Finding::Wanted(best.number, best.path.passes);
    }
    Finding::Hole(best.path.passes)
}

#[cfg(test)]
mod tests;
