//! The result of a stream.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::flow::{Flow, Gap};

/// The result of a stream.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every flow.
    pub flows: Vec<Flow>,
    /// Times without a packet of any flow that reached the stream's `gaps` limit, in order of time.
    pub gaps: Vec<Gap>,
    /// The longest time without a packet of any flow.
    pub longest_gap: Duration,
    /// The longest time from the sender's call to the receiver's kernel.
    pub slowest: Duration,
    /// From the first packet to the end of sending.
    pub duration: Duration,
    /// Send calls that failed; their packets do not count as sent.
    pub send_errors: u64,
    /// The last send error.
    pub last_send_error: Option<String>,
    /// Packets that were due but not sent, because the sender woke too late.
    pub skipped: u64,
    /// Packets dropped because the receiving socket's buffer was full: a fault of the measurement, not of the network.
    pub buffer_drops: u64,
    /// Packets of any stream that this machine's backlog queues dropped: a sign that it was too busy.
    pub softnet_drops: u64,
}

impl Report {
    /// Packets sent.
    pub fn sent(&self) -> u64 {
        self.flows.iter().map(|flow| flow.sent).sum()
    }

    /// Packets received, without duplicates.
    pub fn received(&self) -> u64 {
        self.flows.iter().map(|flow| flow.received).sum()
    }

    /// Packets sent and never received.
    pub fn lost(&self) -> u64 {
        self.flows.iter().map(Flow::lost_count).sum()
    }

    /// Packets received after a later one of their flow.
    pub fn reordered(&self) -> u64 {
        self.flows.iter().map(|flow| flow.reordered).sum()
    }

    /// Duplicates received.
    pub fn duplicated(&self) -> u64 {
        self.flows.iter().map(|flow| flow.duplicated).sum()
    }

    /// Packets sent per second.
    pub fn rate(&self) -> f64 {
        self.sent() as f64 / self.duration.as_secs_f64()
    }

    /// Packets lost between `from` and the end of `time`.
    pub fn lost_within(&self, from: Instant, time: Duration) -> u64 {
        let lost = self.flows.iter().flat_map(|flow| &flow.lost);
        lost.filter(|lost| lost.overlaps(from, from + time)).map(|lost| lost.count).sum()
    }

    /// The outage after a change: the longest time without packets that overlaps the time given. Zero if none reached the
    /// stream's `gaps` limit.
    pub fn outage(&self, from: Instant, time: Duration) -> Duration {
        let gaps = self.gaps.iter().filter(|gap| gap.overlaps(from, from + time));
        gaps.map(|gap| gap.length).max().unwrap_or_default()
    }

    /// An error unless the measurement is valid: no receive buffer overflowed, and nearly all packets were sent on time.
    pub fn ensure_valid(&self) -> Result<()> {
        ensure!(
            self.buffer_drops == 0,
            "the receive buffer overflowed {} times: the measurement is not valid",
            self.buffer_drops
        );
        ensure!(
            self.skipped * 20 <= self.sent(),
            "the sender was late for {} of {} packets: the measurement is not valid",
            self.skipped,
            self.sent() + self.skipped
        );
        Ok(())
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} sent ({:.0}/s, {} flows), {} received, {} lost, {} reordered, {} duplicated, longest gap {:?}",
            self.sent(),
            self.rate(),
            self.flows.len(),
            self.received(),
            self.lost(),
            self.reordered(),
            self.duplicated(),
            self.longest_gap
        )?;
        let runs = self.flows.iter().flat_map(|flow| flow.lost.iter().map(|lost| (flow.source_port, lost)));
        for (number, (port, lost)) in runs.enumerate() {
            match number {
                0..4 => write!(
                    out,
                    "{} {} from {} on by port {port}",
                    if number == 0 { ", lost:" } else { "," },
                    lost.count,
                    lost.first
                )?,
                4 => write!(out, ", and so on")?,
                _ => break,
            }
        }
        for (count, what) in [
            (self.send_errors, "send errors"),
            (self.skipped, "skipped by a late sender"),
            (self.buffer_drops, "dropped by the receiver's full buffer"),
            (self.softnet_drops, "dropped by this machine's backlog"),
        ] {
            if count > 0 {
                write!(out, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}
