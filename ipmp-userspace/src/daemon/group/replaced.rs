//! What other members do in place of one that has failed, for the timeline: when the first packet left through another one, when the
//! first one was received there, and how many packets they sent or the group dropped meanwhile.
//!
//! The datapath stamps the first packets itself ([`ipmp_common::maps::Replaced`]). Outbound it does so after every repair, since a
//! packet leaves a failed link before the daemon knows of it; inbound from the announcement on, for a few seconds.

use std::{collections::BTreeMap, time::Duration};

use ipmp_common::steer::MemberSet;

use super::RunningGroup;
use crate::{
    core::{Time, member::Member},
    daemon::{clock::now, events::event_log::EventLog},
    types::Phase,
};

/// How long a first packet is waited for.
const WAIT: Duration = Duration::from_secs(3);
const SECOND: Duration = Duration::from_secs(1);

/// The counters of the datapath when a member functioned last.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    /// Packets that others had sent in its place.
    replaced: u64,
    /// Packets that the group had dropped since no member could transmit.
    dropped: u64,
}

/// The failures of a group whose first packets, or whose ends, are awaited.
#[derive(Debug, Default)]
pub struct Replacements {
    functioning: MemberSet,
    before: BTreeMap<u8, Before>,
    /// Since when members have failed.
    failed: BTreeMap<u8, Time>,
    /// Packets that the group had dropped when a member failed or was repaired last: as many as just before the next failure.
    dropped: u64,
    /// Until when packets that are received are stamped.
    armed: Option<Time>,
}

/// The failure of a member is in the timeline.
pub fn failed(group: &mut RunningGroup, name: &str) {
    if let Some(number) = group.number_named(name) {
        group.replacements.failed.insert(number, now());
    }
}

/// Before announcements: the packets that follow them are stamped.
pub fn arm(group: &mut RunningGroup) {
    if group.replacements.armed.replace(now()).is_none() {
        group.datapath.stamp_received(Some(now()));
    }
}

/// Members have failed, or function again.
pub fn follow(group: &mut RunningGroup, event_log: &EventLog) {
    let functioning: MemberSet =
        group.core.members().iter().filter(|member| member.functions()).map(Member::number).collect();
    if functioning == group.replacements.functioning {
        return;
    }
    let known = group.replacements.functioning;
    for number in known.iter().filter(|number| !functioning.has(*number)) {
        let dropped = group.replacements.dropped;
        group.replacements.before.entry(number).or_default().dropped = dropped;
    }
    let repaired: MemberSet = functioning.iter().filter(|number| !known.has(*number)).collect();
    for number in repaired.iter() {
        report(group, event_log, number);
        let packets = group.datapath.replaced(number).map_or(0, |replaced| replaced.packets);
        group.replacements.before.insert(number, Before { replaced: packets, dropped: 0 });
        group.replacements.failed.remove(&number);
    }
    if !repaired.is_empty() {
        group.datapath.stamp_sent(now());
    }
    group.replacements.functioning = functioning;
    group.replacements.dropped = group.datapath.drops().map_or(0, |drops| drops.no_member);
}

/// Completes the failures in the timeline with what is known now, for a reader: packets that others send are counted until the repair.
pub fn report_all(group: &RunningGroup, event_log: &EventLog) {
    for number in group.replacements.failed.keys() {
        report(group, event_log, *number);
    }
}

/// Once in a second: the same of new failures, and the end of the time in which packets are awaited.
pub fn check(group: &mut RunningGroup, event_log: &EventLog) {
    let is_new = |(_, since): &(&u8, &Time)| now() - **since < WAIT + SECOND;
    for (number, _) in group.replacements.failed.iter().filter(is_new) {
        report(group, event_log, *number);
    }
    if group.replacements.armed.is_some_and(|armed| now() - armed >= WAIT) {
        group.replacements.armed = None;
        group.datapath.stamp_received(None);
    }
}

fn report(group: &RunningGroup, event_log: &EventLog, number: u8) {
    let Replacements { before, failed, .. } = &group.replacements;
    let (Some(before), true) = (before.get(&number), failed.contains_key(&number)) else { return };
    let (Some(member), Ok(replaced), Ok(drops)) =
        (group.core.member(number), group.datapath.replaced(number), group.datapath.drops())
    else {
        return;
    };
    let at = |nanoseconds: u64| (nanoseconds != 0).then_some(Time(Duration::from_nanos(nanoseconds)));
    event_log.complete_failure(group.name(), member.name(), |failure| {
        failure.failed_over_packets = replaced.packets.saturating_sub(before.replaced);
        failure.dropped_packets = drops.no_member.saturating_sub(before.dropped);
        for (phase, at) in
            [(Phase::Rerouted, at(replaced.sent_ns)), (Phase::Received, at(replaced.received_ns))]
        {
            // A stamp of an earlier failure, for which nothing was announced since.
            let is_later = |at: &Time| {
                failure.at(Phase::Decided).is_none_or(|decided| at.0.as_nanos() as u64 >= decided)
            };
            if let Some(at) = at.filter(|at| phase == Phase::Rerouted || is_later(at)) {
                failure.stamp(phase, at.0.as_nanos() as u64);
            }
        }
    });
}
