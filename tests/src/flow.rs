//! Tracks one flow: gaps in its sequence numbers and in time. Memory grows with the number of gaps, not of packets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One flow of a stream.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The source port of its socket.
    pub source_port: u16,
    /// Packets sent.
    pub sent: u64,
    /// Packets received, without duplicates.
    pub received: u64,
    /// Packets received after a later one.
    pub reordered: u64,
    /// Duplicates received.
    pub duplicated: u64,
    /// Runs of lost sequence numbers, in their order.
    pub lost: Vec<Lost>,
    /// The longest time between two packets.
    pub longest_gap: Duration,
}

/// The state of all flows of a running stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Packets sent that are known to be received or lost.
    pub sent: u64,
    /// Packets received, without duplicates.
    pub received: u64,
    /// Packets not received although a later one of their flow was.
    pub lost: u64,
    /// Packets received after a later one of their flow.
    pub reordered: u64,
    /// Duplicates received.
    pub duplicated: u64,
    /// The longest time without a packet of any flow, since the last call.
    pub longest_gap: Duration,
}

/// A run of lost packets.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// Sequence number of the first.
    pub first: u64,
    /// Number of packets.
    pub count: u64,
    /// The last packet received before the run, if there was one.
    pub before: Option<Instant>,
    /// The first packet received after the run, if there was one.
    pub after: Option<Instant>,
}

/// A time without packets.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// The last packet before it.
    pub from: Instant,
    /// The time until the next packet.
    pub length: Duration,
}

impl Flow {
    /// Packets sent and never received.
    pub fn lost_count(&self) -> u64 {
        self.lost.iter().map(|lost| lost.count).sum()
    }
}

impl Lost {
    /// Whether the packets may have been sent between `from` and `to`.
    pub fn overlaps(&self, from: Instant, to: Instant) -> bool {
        self.before.is_none_or(|before| before < to) && self.after.is_none_or(|after| after > from)
    }
}

impl Gap {
    /// Whether any of it lies between `from` and `to`.
    pub fn overlaps(&self, from: Instant, to: Instant) -> bool {
        self.from < to && self.from + self.length > from
    }
}

/// Tracks the times between packets.
#[derive(Debug, Default)]
pub(crate) struct ArrivalGaps {
    last: Option<Instant>,
    longest: Duration,
}

impl ArrivalGaps {
    /// Records a packet, and returns the gap before it. Receive times of two CPUs may go back a little: such a gap is zero.
    pub fn arrival(&mut self, at: Instant) -> Option<Gap> {
        let Some(from) = self.last else {
            self.last = Some(at);
            return None;
        };
        let length = at.saturating_duration_since(from);
        self.last = Some(from.max(at));
        self.longest = self.longest.max(length);
        Some(Gap { from, length })
    }

    /// The longest gap.
    pub fn longest(&self) -> Duration {
        self.longest
    }
}

/// Tracks the sequence numbers of one flow.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    next: u64,
    received: u64,
    reordered: u64,
    duplicated: u64,
    /// Packets in all missing runs.
    absent: u64,
    /// Missing runs by their first number.
    missing: BTreeMap<u64, Lost>,
    arrivals: ArrivalGaps,
}

impl Tracker {
    /// Records a sequence number.
    pub fn arrived(&mut self, number: u64, at: Instant) {
        let before = self.arrivals.last;
        self.arrivals.arrival(at);
        if number >= self.next {
            if number > self.next {
                let lost = Lost { first: self.next, count: number - self.next, before, after: Some(at) };
                self.missing.insert(self.next, lost);
                self.absent += lost.count;
            }
            self.next = number + 1;
            self.received += 1;
        } else if self.remove_missing(number) {
            self.received += 1;
            self.reordered += 1;
            self.absent -= 1;
        } else {
            self.duplicated += 1;
        }
    }

    /// Removes a late number from its missing run. Returns whether it was missing.
    fn remove_missing(&mut self, number: u64) -> bool {
        let Some((&first, &run)) = self.missing.range(..=number).next_back() else { return false };
        let end = first + run.count;
        if number >= end {
            return false;
        }
        self.missing.remove(&first);
        for (first, end) in [(first, number), (number + 1, end)] {
            if first < end {
                self.missing.insert(first, Lost { first, count: end - first, ..run });
            }
        }
        true
    }

    /// Adds the counters of this flow.
    pub fn add_to(&self, progress: &mut Progress) {
        progress.sent += self.received + self.absent;
        progress.received += self.received;
        progress.lost += self.absent;
        progress.reordered += self.reordered;
        progress.duplicated += self.duplicated;
    }

    /// The result, after `sent` packets were sent.
    pub fn finish(self, source_port: u16, sent: u64) -> Flow {
        let mut lost: Vec<Lost> = self.missing.into_values().collect();
        if sent > self.next {
            lost.push(Lost {
                first: self.next,
                count: sent - self.next,
                before: self.arrivals.last,
                after: None,
            });
        }
        Flow {
            source_port,
            sent,
            received: self.received,
            reordered: self.reordered,
            duplicated: self.duplicated,
            lost,
            longest_gap: self.arrivals.longest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(numbers: &[u64], sent: u64) -> Flow {
        let start = Instant::now();
        let mut tracker = Tracker::default();
        for (step, number) in numbers.iter().enumerate() {
            tracker.arrived(*number, start + Duration::from_millis(step as u64));
        }
        tracker.finish(9, sent)
    }

    #[test]
    fn progress_counts_faults_of_running_flow() {
        let start = Instant::now();
        let mut tracker = Tracker::default();
        let faults = [1, 5, 3, 3, 9].map(|number| {
            tracker.arrived(number, start);
            let mut now = Progress::default();
            tracker.add_to(&mut now);
            assert_eq!(now.sent, now.received + now.lost);
            (now.received, now.lost, now.reordered, now.duplicated)
        });
        assert_eq!(faults, [(1, 1, 0, 0), (2, 4, 0, 0), (3, 3, 1, 0), (3, 3, 1, 1), (4, 6, 1, 1)]);
    }

    fn runs(flow: &Flow) -> Vec<(u64, u64)> {
        flow.lost.iter().map(|lost| (lost.first, lost.count)).collect()
    }

    #[test]
    fn complete_flow_has_no_faults() {
        let flow = follow(&[0, 1, 2, 3], 4);
        assert_eq!((flow.received, flow.reordered, flow.duplicated, flow.lost_count()), (4, 0, 0, 0));
        assert_eq!(flow.longest_gap, Duration::from_millis(1));
    }

    #[test]
    fn losses_are_found_at_start_middle_and_end() {
        let flow = follow(&[2, 3, 7], 10);
        assert_eq!(runs(&flow), [(0, 2), (4, 3), (8, 2)]);
        assert_eq!((flow.received, flow.lost_count()), (3, 7));
        assert!(flow.lost[0].before.is_none() && flow.lost[2].after.is_none());
    }

    #[test]
    fn late_packet_is_reordered_not_lost() {
        let flow = follow(&[0, 4, 2, 5], 6);
        assert_eq!(runs(&flow), [(1, 1), (3, 1)]);
        assert_eq!((flow.received, flow.reordered, flow.duplicated), (4, 1, 0));
    }

    #[test]
    fn repeated_packet_is_duplicate_also_when_late() {
        let flow = follow(&[0, 2, 1, 1, 2, 0], 3);
        assert_eq!((flow.received, flow.reordered, flow.duplicated, flow.lost_count()), (3, 1, 3, 0));
    }

    #[test]
    fn flow_without_packets_is_lost() {
        let flow = follow(&[], 5);
        assert_eq!(runs(&flow), [(0, 5)]);
    }
}
