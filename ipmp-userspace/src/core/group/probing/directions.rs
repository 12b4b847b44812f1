//! Tests of the direction in which members have failed: which members exchange frames, and the results.
//!
//! [`crate::core::probe::direction`] has the rules. One test of a group runs at a time, so that no port transmits many frames,
//! however many members have failed.

use std::{collections::BTreeMap, time::Duration};

use super::{Group, GroupProbing};
use crate::{
    core::{
        Action, Cause, Event, Time,
        member::Member,
        probe::{
            FAILURES,
            direction::{Diagnosis, Exchange, Finding, PAUSE, REPEAT, SMALL},
            prober::Prober,
        },
    },
    types::FailedDirection,
};

/// A test of a failed member.
#[derive(Clone, Copy, Debug)]
struct Test {
    member: u8,
    peer: u8,
    started: Time,
    exchange: Exchange,
    /// Between the peer and a third member; if none functions, between the failed member and another failed one.
    control: Option<Exchange>,
}

impl Test {
    /// The exchange that runs.
    fn current(&mut self) -> &mut Exchange {
        self.control.as_mut().unwrap_or(&mut self.exchange)
    }
}

/// The failed members of a group, and the test of one of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Directions {
    test: Option<Test>,
    /// By number of the member.
    failed: BTreeMap<u8, Diagnosis>,
    /// Number of the last exchange.
    sequence: u32,
    /// When the next test may start.
    resumed: Time,
    /// Frames that belong to no exchange.
    unexpected: u64,
}

impl Directions {
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn deadline(&self, now: Time) -> Option<Time> {
        match &self.test {
            // It waits for a reply to the peer.
            Some(test) if test.control.is_none() && test.exchange.result(now).is_some() => None,
            Some(test) => Some(test.control.unwrap_or(test.exchange).next()),
            None => self.failed.values().map(|of| of.due).min().map(|due| due.max(self.resumed)),
        }
    }
}

/// The state of a test.
enum Progress {
    Running,
    /// These members show whether frames pass at all, or how far.
    NeedsControl([u8; 2]),
    /// A member that takes part has changed.
    Discarded,
    /// By frames between the failed member and this one.
    Result(FailedDirection, u8),
}

impl Group {
    /// Which direction of a failed member's path has failed; `None`: it has not failed by its probes alone, or was not tested yet.
    pub fn failed_direction(&self, number: u8) -> Option<Finding> {
        self.probing.directions.failed.get(&number)?.finding
    }

    /// Received test frames that were discarded: they belong to no test, or another host has sent them.
    pub fn unexpected_test_frames(&self) -> u64 {
        self.probing.directions.unexpected
    }

    /// Whether members exchange frames now.
    pub fn exchanges_frames(&self) -> bool {
        self.probing.directions.test.is_some()
    }

    /// A frame with the group's mark was received on a member.
    pub(in crate::core::group) fn receive_test_frame(
        &mut self,
        member: u8,
        source: [u8; 6],
        (from, to): (u8, u8),
        sequence: u32,
        bytes: u32,
    ) {
        let is_sender = self.members.get(from).is_some_and(|sender| sender.mac() == source);
        let directions = &mut self.probing.directions;
        let test = directions.test.as_mut().filter(|_| is_sender && member == to);
        let is_of_test = test.is_some_and(|test| test.current().received(from, to, sequence));
        let is_expected = is_of_test
            || (is_sender && member == to && self.receive_full_frame(self.now, (from, to), sequence, bytes));
        self.probing.directions.unexpected += u64::from(!is_expected);
    }

    /// Notes which members have failed by their probes alone, and ends the test that has a result.
    pub(super) fn follow_directions(&mut self, now: Time) {
        let failed = |member: &Member| member.in_service() && member.probes_failed();
        let candidates = self.members.set(failed);
        let directions = &mut self.probing.directions;
        if directions.failed.is_empty() && candidates.is_empty() {
            return;
        }
        directions.failed.retain(|number, _| candidates.has(*number));
        for number in candidates.iter() {
            directions.failed.entry(number).or_insert_with(|| Diagnosis::new(now));
        }
        let Some(mut test) = self.probing.directions.test else { return };
        match self.progress(now, &test) {
            Progress::Running => {}
            Progress::NeedsControl(members) => {
                let sequence = self.probing.directions.next_sequence();
                test.control = Some(Exchange::new(now + PAUSE, members, sequence));
                self.probing.directions.test = Some(test);
            }
            Progress::Discarded => {
                let due = now + self.repeat();
                if let Some(diagnosis) = self.end_test(now, test.member) {
                    diagnosis.discard(due);
                }
            }
            Progress::Result(direction, peer) => {
                let due = now + self.repeat();
                let finding = Finding { direction, peer, at: now };
                let ended = self.end_test(now, test.member);
                let reported = ended.and_then(|diagnosis| diagnosis.conclude(finding, due));
                let names = self.members.name(Some(test.member)).zip(self.members.name(Some(peer)));
                if let (Some(direction), Some((member, peer))) = (reported, names) {
                    let event = |group| Event::DirectionFailed { member, group, direction, peer };
                    self.report(Cause::ProbeResults, event);
                }
            }
        }
    }

    fn end_test(&mut self, now: Time, member: u8) -> Option<&mut Diagnosis> {
        let directions = &mut self.probing.directions;
        directions.test = None;
        directions.resumed = now + PAUSE;
        directions.failed.get_mut(&member)
    }

    fn progress(&self, now: Time, test: &Test) -> Progress {
        let is_peer = self.member(test.peer).is_some_and(receives_replies);
        if !is_peer || !self.member(test.member).is_some_and(receives_none) {
            return Progress::Discarded;
        }
        let Some(from_and_to) = test.exchange.result(now) else { return Progress::Running };
        let result = |direction| Progress::Result(direction, test.peer);
        match from_and_to {
            [true, true] => result(FailedDirection::Beyond),
            [false, false] => match test.control {
                None => self.control(test).map_or(result(FailedDirection::Unknown), Progress::NeedsControl),
                Some(control) => match (control.result(now), control.members()) {
                    (None, _) => Progress::Running,
                    (Some([true, true]), [one, other]) if one == test.member => {
                        Progress::Result(FailedDirection::Beyond, other)
                    }
                    (Some([true, true]), _) => result(FailedDirection::Both),
                    (Some(_), _) => result(FailedDirection::Unknown),
                },
            },
            _ if !self.has_reply_since(now, test) => Progress::Running,
            [true, false] => result(FailedDirection::Receive),
            [false, true] => result(FailedDirection::Transmit),
        }
    }

    /// Between which members a control exchange shows why none of the frames of a test has arrived.
    fn control(&self, test: &Test) -> Option<[u8; 2]> {
        let turn = test.exchange.sequence();
        let third = self.peers(test.member, turn).find(|third| *third != test.peer);
        let failed = self.probing.directions.failed.keys().copied().filter(|other| *other != test.member);
        // Both may be behind the same failed connection.
        let other = || failed.clone().nth((turn as usize).checked_rem(failed.clone().count())?);
        let pair = third.map(|third| [test.peer, third]);
        pair.or_else(|| other().map(|other| [test.member, other]))
    }

    /// Whether the peer has received a reply to a probe that it sent after the test began.
    fn has_reply_since(&self, now: Time, test: &Test) -> bool {
        let mut probers = self.member(test.peer).into_iter().flat_map(|peer| peer.probing().probers());
        probers.any(|prober| prober.history.answered_since(now, now - test.started, |_| true))
    }

    /// Members that can be a peer, a different one first each time.
    fn peers(&self, member: u8, turn: u32) -> impl Iterator<Item = u8> {
        let is_peer = |other: &&Member| other.number() != member && receives_replies(other);
        let mut peers: Vec<u8> = self.members.iter().filter(is_peer).map(Member::number).collect();
        let first = (turn as usize).checked_rem(peers.len()).unwrap_or_default();
        peers.rotate_left(first);
        peers.into_iter()
    }

    fn repeat(&self) -> Duration {
        REPEAT.max(self.probing.fdt.interval() * 2)
    }

    /// Starts the test that is due, and sends the frames that are due.
    pub(super) fn test_directions(&mut self, now: Time) {
        self.start_test(now);
        let GroupProbing { directions, requests, .. } = &mut self.probing;
        let Some(test) = &mut directions.test else { return };
        let exchange = test.current();
        if exchange.sends(now) {
            let sequence = exchange.sequence();
            let [one, other] = exchange.members();
            requests.extend([(one, other), (other, one)].map(|(from, to)| Action::TestFrame {
                from,
                to,
                sequence,
                bytes: SMALL,
            }));
        }
    }

    fn start_test(&mut self, now: Time) {
        let (directions, repeat) = (&self.probing.directions, self.repeat());
        if directions.test.is_some() || directions.resumed > now {
            return;
        }
        let mut due: Vec<(Time, u8)> = directions
            .failed
            .iter()
            .map(|(number, of)| (of.due, *number))
            .filter(|(due, _)| *due <= now)
            .collect();
        due.sort_unstable();
        for (_, member) in due {
            let peer = self.peers(member, self.probing.directions.sequence).next();
            let peer = peer.filter(|_| self.member(member).is_some_and(receives_none));
            let directions = &mut self.probing.directions;
            if let Some(peer) = peer {
                let exchange = Exchange::new(now, [member, peer], directions.next_sequence());
                directions.test = Some(Test { member, peer, started: now, exchange, control: None });
                return;
            }
            if let Some(diagnosis) = directions.failed.get_mut(&member) {
                diagnosis.discard(now + repeat);
            }
        }
    }

    /// When a test has something to do.
    pub(super) fn direction_deadline(&self) -> Option<Time> {
        self.probing.directions.deadline(self.now)
    }
}

/// Whether a member functions, and has received a reply to its last probe.
fn receives_replies(member: &Member) -> bool {
    let receives = |prober: &Prober| {
        prober.capable() && !prober.failed && prober.history.losses() == 0 && prober.history.answered()
    };
    member.functions() && member.probing().probers().any(receives)
}

/// Whether a failed member has lost as many probes in a row as are a failure. It may also have failed by its link, or be about to
/// be repaired.
fn receives_none(member: &Member) -> bool {
    let mut failed = member.probing().probers().filter(|prober| prober.capable() && prober.failed).peekable();
    let is_in_question = member.in_service() && member.probes_failed() && failed.peek().is_some();
    is_in_question && failed.all(|prober| prober.history.losses() >= FAILURES)
}

#[cfg(test)]
mod tests;
