//! Traffic added up by flow, in bounded memory, for `ipmpctl flows`.

use std::{collections::HashMap, net::IpAddr};

use serde::Serialize;

use super::packets::{Direction, Headers, Seen};
use crate::control::{GroupReport, path::Protocol};

/// What was read.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Observation {
    pub group: String,
    pub seconds: f64,
    /// Packets read: one of `sample`.
    pub sample: u32,
    pub read: u64,
    /// Packets that were to be read and did not fit the buffers.
    pub missed: u64,
    pub members: Vec<MemberFlows>,
}

/// The flows of a member in one direction.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct MemberFlows {
    pub member: String,
    pub direction: Direction,
    #[serde(flatten)]
    pub total: Amount,
    /// How many flows; if they are not all counted one by one, at most.
    pub count: usize,
    /// The largest, the first of them first.
    pub flows: Vec<Flow>,
}

/// A flow.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Flow {
    pub protocol: Protocol,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: Option<u16>,
    pub destination_port: Option<u16>,
    #[serde(flatten)]
    pub amount: Amount,
}

/// Traffic; by a sample, estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Amount {
    pub packets: u64,
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }

    fn times(self, sample: u32) -> Self {
        Self { packets: self.packets * u64::from(sample), bytes: self.bytes * u64::from(sample) }
    }
}

/// Traffic by flow, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Tally {
    flows: HashMap<(usize, Direction, Headers), Amount>,
    /// Of flows that are no longer counted one by one: by member and direction, and how many.
    rest: HashMap<(usize, Direction), (Amount, usize)>,
    pub read: u64,
}

impl Tally {
    /// Counts a packet. At most `most` flows are kept one by one.
    pub fn count(&mut self, seen: Seen, most: usize) {
        self.read += 1;
        let amount = Amount { packets: 1, bytes: seen.length as u64 };
        self.flows.entry((seen.member, seen.direction, seen.headers)).or_default().add(amount);
        if self.flows.len() > most {
            self.shrink();
        }
    }

    /// Keeps the larger half of the flows one by one.
    fn shrink(&mut self) {
        let mut sizes: Vec<u64> = self.flows.values().map(|amount| amount.bytes).collect();
        let middle = sizes.len() / 2;
        let limit = *sizes.select_nth_unstable(middle).1;
        self.flows.retain(|&(member, direction, _), amount| {
            let is_kept = amount.bytes > limit;
            if !is_kept {
                let (rest, count) = self.rest.entry((member, direction)).or_default();
                rest.add(*amount);
                *count += 1;
            }
            is_kept
        });
    }

    /// The largest flows of each member, in the order of the report.
    pub fn top(&self, group: &GroupReport, sample: u32, top: usize) -> Vec<MemberFlows> {
        let of = |place: usize, direction: Direction| {
            let mine = |key: &&(usize, Direction, Headers)| (key.0, key.1) == (place, direction);
            let mut keys: Vec<_> = self.flows.keys().filter(mine).collect();
            keys.sort_by_key(|key| (std::cmp::Reverse(self.flows[key].bytes), key.2));
            let (mut total, rest) = self.rest.get(&(place, direction)).copied().unwrap_or_default();
            keys.iter().for_each(|key| total.add(self.flows[key]));
            let flow = |key: &&(usize, Direction, Headers)| {
                let Headers { source, destination, protocol, ports } = key.2;
                Flow {
                    protocol,
                    source,
                    destination,
                    source_port: ports.map(|(port, _)| port),
                    destination_port: ports.map(|(_, port)| port),
                    amount: self.flows[*key].times(sample),
                }
            };
            MemberFlows {
                member: group.members[place].name.clone(),
                direction,
                total: total.times(sample),
                count: keys.len() + rest,
                flows: keys.iter().take(top).map(flow).collect(),
            }
        };
        let places = 0..group.members.len();
        places
            .flat_map(|place| [Direction::Out, Direction::In].map(|direction| of(place, direction)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::packets::seen, control::report::sample};

    #[test]
    fn large_flow_among_very_many_small_ones_is_found_in_bounded_memory() {
        const KEPT: usize = 100;
        let mut tally = Tally::default();
        for port in 1..=50_000 {
            tally.count(seen(0, Direction::Out, port, 100), KEPT);
            tally.count(seen(0, Direction::Out, 0, 100), KEPT);
            assert!(tally.flows.len() <= KEPT);
        }
        let top = tally.top(&sample(), 1, 1);
        assert_eq!((top[0].flows[0].source_port, top[0].flows[0].amount.packets), (Some(0), 50_000));
        assert_eq!((top[0].total.packets, top[0].count), (100_000, 50_001));
    }
}
