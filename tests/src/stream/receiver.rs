//! The receiving half of a stream.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use anyhow::Result;

use super::{HEADER, Shared};
use crate::clock::{self, Clock};
use crate::datagram::{Inbox, buffer_drops};
use crate::flow::{ArrivalGaps, Gap, Progress, Tracker};

/// The packets received.
#[derive(Debug)]
pub(super) struct Received {
    pub flows: HashMap<u32, Tracker>,
    pub arrivals: ArrivalGaps,
    pub gaps: Vec<Gap>,
    pub slowest: Duration,
    pub buffer_drops: u64,
}

/// Receives until the stream is over and no more packets are received.
pub(super) fn receive(socket: &UdpSocket, magic: u32, limit: Duration, shared: &Shared) -> Result<Received> {
    clock::use_realtime_priority();
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut inbox = Inbox::new();
    let mut result = Received {
        flows: HashMap::new(),
        arrivals: ArrivalGaps::default(),
        gaps: Vec::new(),
        slowest: Duration::ZERO,
        buffer_drops: 0,
    };
    loop {
        let over = shared.over.load(SeqCst);
        let count = inbox.fill(socket)?;
        if count == 0 && over {
            break;
        }
        let clock = Clock::now();
        let mut ours = 0;
        let mut gap_max = Duration::ZERO;
        for (packet, wall) in inbox.packets(count) {
            if packet.len() < HEADER || packet[..4] != magic.to_be_bytes() {
                continue;
            }
            ours += 1;
            let word = |at: usize| u64::from_be_bytes(packet[at..at + 8].try_into().unwrap_or_default());
            let flow = word(0) as u32;
            let at = clock.instant(wall);
            result.slowest = result.slowest.max(Duration::from_nanos(wall.saturating_sub(word(16))));
            if let Some(gap) = result.arrivals.arrival(at) {
                gap_max = gap_max.max(gap.length);
                if gap.length >= limit {
                    result.gaps.push(gap);
                }
            }
            result.flows.entry(flow).or_default().arrived(word(8), at);
        }
        shared.received.fetch_add(ours, Relaxed);
        let mut now = Progress::default();
        result.flows.values().for_each(|flow| flow.add_to(&mut now));
        let mut progress = shared.progress();
        now.longest_gap = progress.longest_gap.max(gap_max);
        *progress = now;
    }
    result.buffer_drops = buffer_drops(socket);
    Ok(result)
}
