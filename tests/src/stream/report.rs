//! What became of a stream.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::flow::{Flow, Gap};

/// What became of a stream.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every flow by itself.
    pub flows: Vec<Flow>,
    /// Times without any arrival, of all flows together, that reached the stream's `gaps` limit. In order of time.
    pub gaps: Vec<Gap>,
    /// The longest time without any arrival, of all flows together.
    pub longest_gap: Duration,
    /// The longest way from the sender's call to the receiver's kernel.
    pub slowest: Duration,
    /// From the first packet's sending to the end of sending.
    pub duration: Duration,
    /// Calls that the kernel refused; what it refused does not count as sent.
    pub send_errors: u64,
    /// The last refusal.
    pub last_send_error: Option<String>,
    /// Packets that were due and not sent, since the sender was not woken in time.
    pub skipped: u64,
    /// Packets that reached the receiving socket and found its buffer full: the measurement's fault, not the network's.
    pub buffer_drops: u64,
    /// Packets that this machine's backlog queues dropped meanwhile, anybody's: a hint that it was too busy.
    pub softnet_drops: u64,
}

impl Report {
    /// Packets sent.
    pub fn sent(&self) -> u64 {
        self.flows.iter().map(|flow| flow.sent).sum()
    }

    /// Different packets received.
    pub fn received(&self) -> u64 {
        self.flows.iter().map(|flow| flow.received).sum()
    }

    /// Packets sent and never received.
    pub fn lost(&self) -> u64 {
        self.flows.iter().map(Flow::lost_count).sum()
    }

    /// Packets that came after a later one of their flow.
    pub fn reordered(&self) -> u64 {
        self.flows.iter().map(|flow| flow.reordered).sum()
    }

    /// Packets that came again.
    pub fn duplicated(&self) -> u64 {
        self.flows.iter().map(|flow| flow.duplicated).sum()
    }

    /// Packets per second that were sent.
    pub fn rate(&self) -> f64 {
        self.sent() as f64 / self.duration.as_secs_f64()
    }

    /// Packets lost whose loss was seen (by the next arrival of their flow) in the time after a change.
    pub fn lost_within(&self, from: Instant, time: Duration) -> u64 {
        let lost = self.flows.iter().flat_map(|flow| &flow.lost);
        lost.filter(|lost| lost.overlaps(from, from + time)).map(|lost| lost.count).sum()
    }

    /// The outage after a change: the longest time without any arrival that lies, in whole or in part, in the time
    /// given. Nought when no such time reached the stream's `gaps` limit.
    pub fn outage(&self, from: Instant, time: Duration) -> Duration {
        let gaps = self.gaps.iter().filter(|gap| gap.overlaps(from, from + time));
        gaps.map(|gap| gap.length).max().unwrap_or_default()
    }

    /// An error unless this machine could do what was asked of it: no buffer of ours ran over, and nearly all packets
    /// were sent in time.
    pub fn ensure_valid(&self) -> Result<()> {
        ensure!(
            self.buffer_drops == 0,
            "the receiver's buffer ran over {} times: no measurement",
            self.buffer_drops
        );
        ensure!(
            self.skipped * 20 <= self.sent(),
            "the sender was late for {} of {} packets: no measurement",
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
