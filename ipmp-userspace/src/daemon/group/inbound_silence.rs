//! A member that received packets all the time receives none any more, while the host still transmits through it: evidence that its
//! path has failed. It starts probes, as a lost probe does, and decides nothing.
//!
//! The counters are read once in a second ([`INTERVAL`]), and more often only while a member receives at least [`BUSY`] packets in a second.

use std::{collections::BTreeMap, time::Duration};

use ipmp_common::maps::Counters;

use super::{Context, RunningGroup, actions};
use crate::{
    core::{Input, Time, member::Member},
    daemon::clock::now,
};

/// Packets received in a second from which on silence is evidence.
const BUSY: u64 = 100;
/// How long a member must be silent: at [`BUSY`], twenty packets are missing.
const SILENT: Duration = Duration::from_millis(200);
/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same while a member is busy.
const BUSY_INTERVAL: Duration = Duration::from_millis(100);
/// Least time over which a rate is computed.
const MEASURED: Duration = Duration::from_millis(900);

/// The traffic of one member.
#[derive(Clone, Copy, Debug)]
struct Traffic {
    /// The last reading with which a rate was computed.
    measured: (Time, u64),
    /// It received at least [`BUSY`] packets in a second then.
    is_busy: bool,
    /// The last reading that had received packets, and the packets received and transmitted by then.
    received: (Time, u64, u64),
}

impl Traffic {
    fn new(now: Time, counters: &Counters) -> Self {
        let (received, sent) = (counters.in_packets, counters.out_packets);
        Self { measured: (now, received), is_busy: false, received: (now, received, sent) }
    }

    /// A reading; since when the member is silent, once that is evidence.
    fn read(&mut self, now: Time, counters: &Counters) -> Option<Time> {
        let (last, received, sent) = self.received;
        if counters.in_packets != received {
            self.received = (now, counters.in_packets, counters.out_packets);
        } else if self.is_busy && now - last >= SILENT && counters.out_packets > sent {
            // Once for each silence.
            *self = Self::new(now, counters);
            return Some(last);
        }
        let (since, before) = self.measured;
        let passed = now - since;
        if passed >= MEASURED {
            let packets = counters.in_packets.saturating_sub(before);
            self.is_busy = u128::from(packets) * 1000 >= u128::from(BUSY) * passed.as_millis();
            self.measured = (now, counters.in_packets);
        }
        None
    }
}

/// The traffic of the members of a group.
#[derive(Debug, Default)]
pub struct InboundSilence {
    members: BTreeMap<u8, Traffic>,
    /// When they were read.
    read: Time,
}

impl InboundSilence {
    /// When [`check`] is next due.
    pub fn next(&self) -> Time {
        let is_busy = self.members.values().any(|traffic| traffic.is_busy);
        self.read.next_multiple(if is_busy { BUSY_INTERVAL } else { INTERVAL })
    }
}

/// Reads the counters of the members.
pub async fn check(group: &mut RunningGroup, context: &mut Context<'_>) {
    let now = now();
    if !group.core.uses_evidence() {
        group.inbound_silence = InboundSilence { read: now, ..InboundSilence::default() };
        return;
    }
    let members: Vec<u8> =
        group.core.members().iter().filter(|member| member.functions()).map(Member::number).collect();
    group.inbound_silence.members.retain(|number, _| members.contains(number));
    group.inbound_silence.read = now;
    let mut silent = Vec::new();
    for number in members {
        let counters = match group.datapath.counters(number) {
            Ok(counters) => counters,
            Err(error) => {
                log::debug!(group = group.name(); "{error}");
                continue;
            }
        };
        let traffic = group.inbound_silence.members.entry(number);
        let traffic = traffic.or_insert_with(|| Traffic::new(now, &counters));
        silent.extend(traffic.read(now, &counters).map(|since| (number, since)));
    }
    for (member, since) in silent {
        actions::tell(group, context, Input::InboundSilence { member, since }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(Duration::from_millis(1_000_000 + ms))
    }

    /// Readings in steps of 100 ms of a member that receives and transmits so many packets in a second; the results.
    fn run(
        traffic: &mut Traffic,
        now: &mut u64,
        counters: &mut Counters,
        ms: u64,
        rates: (u64, u64),
    ) -> Vec<u64> {
        let mut silent = Vec::new();
        for _ in 0..ms / 100 {
            *now += 100;
            counters.in_packets += rates.0 / 10;
            counters.out_packets += rates.1 / 10;
            silent.extend(traffic.read(at(*now), counters).map(|since| (since - at(0)).as_millis() as u64));
        }
        silent
    }

    #[test]
    fn silence_after_traffic_is_evidence_once_if_host_transmits() {
        let (mut now, mut counters) = (0, Counters::default());
        let mut traffic = Traffic::new(at(0), &counters);
        assert!(run(&mut traffic, &mut now, &mut counters, 3000, (100, 50)).is_empty());
        assert!(traffic.is_busy);
        assert_eq!(run(&mut traffic, &mut now, &mut counters, 5000, (0, 50)), [3000]);
        assert!(run(&mut traffic, &mut now, &mut counters, 3000, (1000, 0)).is_empty());
        assert!(
            run(&mut traffic, &mut now, &mut counters, 3000, (0, 0)).is_empty(),
            "the conversation is over"
        );
    }

    #[test]
    fn silence_of_member_with_little_traffic_is_no_evidence() {
        let (mut now, mut counters) = (0, Counters::default());
        let mut traffic = Traffic::new(at(0), &counters);
        assert!(run(&mut traffic, &mut now, &mut counters, 3000, (90, 500)).is_empty());
        assert!(run(&mut traffic, &mut now, &mut counters, 3000, (0, 500)).is_empty());
    }

    #[test]
    fn short_pause_is_no_evidence() {
        let (mut now, mut counters) = (0, Counters::default());
        let mut traffic = Traffic::new(at(0), &counters);
        for _ in 0..20 {
            assert!(run(&mut traffic, &mut now, &mut counters, 1500, (1000, 1000)).is_empty());
            assert!(run(&mut traffic, &mut now, &mut counters, 100, (0, 1000)).is_empty());
        }
    }
}
