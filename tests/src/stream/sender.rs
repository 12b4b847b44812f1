//! The sending half of a stream.

use std::net::UdpSocket;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{Shared, Stream};
use crate::clock::{self, wall_nanos};
use crate::datagram::{BATCH, send_batch};

/// The longest delay that a late sender makes up for. Older packets are skipped: they would be too large a burst.
const CATCH_UP: Duration = Duration::from_millis(5);

/// Port and count of every flow, and the errors of the sender.
#[derive(Debug)]
pub(super) struct Sent {
    pub flows: Vec<(u16, u64)>,
    pub errors: u64,
    pub last_error: Option<String>,
    pub skipped: u64,
    pub duration: Duration,
}

/// The sending half. The packets are allocated once and changed in place.
pub(super) struct Sender {
    plan: Stream,
    sockets: Vec<UdpSocket>,
    sent: Vec<u64>,
    packets: Vec<Vec<u8>>,
    errors: u64,
    last_error: Option<String>,
}

impl Sender {
    pub fn new(plan: Stream, sockets: Vec<UdpSocket>, magic: u32) -> Self {
        let mut packet = vec![0; plan.payload];
        packet[..4].copy_from_slice(&magic.to_be_bytes());
        let packets = vec![packet; BATCH];
        let sent = vec![0; sockets.len()];
        Self { plan, sockets, sent, packets, errors: 0, last_error: None }
    }

    pub fn run(mut self, shared: &Shared) -> Sent {
        clock::use_realtime_priority();
        let rate = u128::from(self.plan.rate);
        let most = ((rate * CATCH_UP.as_nanos() / 1_000_000_000) as u64).max(1);
        let (mut due_before, mut skipped, mut first) = (0u64, 0u64, 0usize);
        let start = Instant::now();
        let mut tick = start;
        while !shared.stop.load(Relaxed) {
            let due = (start.elapsed().as_nanos() * rate / 1_000_000_000) as u64;
            let mut now = due - due_before;
            due_before = due;
            if now > most {
                skipped += now - most;
                now = most;
            }
            // All flows get the same number of packets; the remainder goes to the flows in turn.
            let flows = self.sockets.len();
            let (each, extra) = (now / flows as u64, (now % flows as u64) as usize);
            for turn in 0..flows {
                let count = each + u64::from(turn < extra);
                let sent = self.send((first + turn) % flows, count);
                shared.sent.fetch_add(sent, Relaxed);
            }
            first = (first + extra) % flows;
            tick += self.plan.burst;
            match tick.checked_duration_since(Instant::now()) {
                Some(pause) => std::thread::sleep(pause),
                None => tick = Instant::now(),
            }
        }
        let duration = start.elapsed();
        let port = |socket: &UdpSocket| socket.local_addr().map_or(0, |address| address.port());
        let flows = self.sockets.iter().zip(&self.sent).map(|(socket, sent)| (port(socket), *sent)).collect();
        Sent { flows, errors: self.errors, last_error: self.last_error, skipped, duration }
    }

    /// Sends the next packets of a flow and returns how many the kernel accepted.
    fn send(&mut self, flow: usize, count: u64) -> u64 {
        let mut done = 0;
        while done < count {
            let batch = (count - done).min(BATCH as u64) as usize;
            let now = wall_nanos().to_be_bytes();
            for (number, packet) in self.packets[..batch].iter_mut().enumerate() {
                packet[4..8].copy_from_slice(&(flow as u32).to_be_bytes());
                packet[8..16].copy_from_slice(&(self.sent[flow] + number as u64).to_be_bytes());
                packet[16..24].copy_from_slice(&now);
            }
            match send_batch(&self.sockets[flow], &mut self.packets[..batch]) {
                Ok(taken) => {
                    self.sent[flow] += taken as u64;
                    done += taken as u64;
                }
                Err(error) => {
                    self.errors += 1;
                    self.last_error = Some(error.to_string());
                    break;
                }
            }
        }
        done
    }
}
