//! UDP streams with sequence numbers: what was lost and when, what was reordered, what came twice.
//!
//! Every flow is a socket of its own with a sequence of its own. The sender is paced by the clock in short bursts; the
//! receiver keeps only the gaps, so a stream may run for hours. Receive times are the kernel's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::clock::{self, Clock, wall_nanos};
use crate::datagram::{BATCH, Inbox, bind, buffer_drops, receive_timestamps, send_batch, softnet_drops};
use crate::flow::Silence;
use crate::flow::Tracker;
use crate::namespace::Namespace;
use crate::packet::force_receive_buffer;

pub use crate::flow::{Flow, Gap, Lost};

/// Bytes of a packet's header: magic (4), flow (4), sequence number (8), send time (8).
const HEADER: usize = 24;
/// Room for packets not yet read: a second and more of the fastest stream here.
const RECEIVE_BUFFER: usize = 64 << 20;
/// Longest backlog that a late sender makes up for; older arrears are given up, or the burst would drown the network.
const CATCH_UP: Duration = Duration::from_millis(5);
/// After the sender's end, silence for so long means that nothing more comes.
const SETTLE: Duration = Duration::from_millis(200);

/// Tells the streams of all labs apart.
static STREAMS: AtomicU64 = AtomicU64::new(0);

/// How a stream is to be.
#[derive(Clone, Debug)]
pub struct Stream {
    from: Namespace,
    to: Namespace,
    destination: IpAddr,
    source: Option<IpAddr>,
    flows: usize,
    rate: u64,
    payload: usize,
    port: u16,
    burst: Duration,
    gaps: Duration,
}

/// A stream on its way.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    sender: JoinHandle<Sent>,
    receiver: JoinHandle<Result<Received>>,
    started: Instant,
    softnet: u64,
}

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

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    over: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
}

#[derive(Debug)]
struct Sent {
    flows: Vec<(u16, u64)>,
    errors: u64,
    last_error: Option<String>,
    skipped: u64,
    duration: Duration,
}

#[derive(Debug)]
struct Received {
    flows: HashMap<u32, Tracker>,
    arrivals: Silence,
    gaps: Vec<Gap>,
    slowest: Duration,
    buffer_drops: u64,
}

impl Stream {
    /// One flow of 1,000 packets/s with 64 bytes each, to an address that `to` has.
    pub fn new(from: &Namespace, to: &Namespace, destination: impl Into<IpAddr>) -> Self {
        Self {
            from: from.clone(),
            to: to.clone(),
            destination: destination.into(),
            source: None,
            flows: 1,
            rate: 1_000,
            payload: 64,
            port: 0,
            burst: Duration::from_millis(1),
            gaps: Duration::from_millis(2),
        }
    }

    /// The source address; otherwise the kernel chooses.
    pub fn source(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// So many flows, a socket each.
    pub fn flows(mut self, flows: usize) -> Self {
        self.flows = flows;
        self
    }

    /// Packets per second, of all flows together.
    pub fn rate(mut self, packets_per_second: u64) -> Self {
        self.rate = packets_per_second;
        self
    }

    /// Bytes of UDP payload, 24 at least.
    pub fn payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// The destination port; otherwise the kernel chooses.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// How often the sender is woken: 1 ms. Shorter bursts find shorter outages.
    pub fn burst(mut self, burst: Duration) -> Self {
        self.burst = burst;
        self
    }

    /// From which length on times without arrivals are listed in [`Report::gaps`]: 2 ms.
    pub fn gaps(mut self, limit: Duration) -> Self {
        self.gaps = limit;
        self
    }

    /// Starts it. When this returns, the receiver listens and the first packet is about to go.
    pub fn start(self) -> Result<Running> {
        ensure!(self.flows > 0 && self.rate > 0, "a stream needs a flow and a rate");
        ensure!((HEADER..=65_000).contains(&self.payload), "a payload has {HEADER} to 65000 bytes");
        let magic = (std::process::id() << 12) ^ STREAMS.fetch_add(1, Relaxed) as u32;
        let wildcard: IpAddr = match self.destination {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let receiving = self
            .to
            .run(|| bind(SocketAddr::new(wildcard, self.port)))
            .with_context(|| format!("cannot receive a stream in {}", self.to.name()))?;
        force_receive_buffer(&receiving, RECEIVE_BUFFER)?;
        receive_timestamps(&receiving)?;
        let port = receiving.local_addr()?.port();
        let destination = SocketAddr::new(self.destination, port);
        let sending = self
            .from
            .run(|| -> std::io::Result<Vec<UdpSocket>> {
                (0..self.flows)
                    .map(|_| {
                        let socket = bind(SocketAddr::new(self.source.unwrap_or(wildcard), 0))?;
                        socket.set_broadcast(true)?;
                        socket.connect(destination)?;
                        Ok(socket)
                    })
                    .collect()
            })
            .with_context(|| format!("cannot send a stream from {} to {destination}", self.from.name()))?;

        let shared = Arc::new(Shared::default());
        let softnet = softnet_drops();
        let started = Instant::now();
        let (theirs, limit) = (shared.clone(), self.gaps);
        let receiver = std::thread::Builder::new()
            .name("stream receiver".into())
            .spawn(move || receive(&receiving, magic, limit, &theirs))?;
        let theirs = shared.clone();
        let sender = std::thread::Builder::new()
            .name("stream sender".into())
            .spawn(move || Sender::new(self, sending, magic).run(&theirs))?;
        Ok(Running { shared, sender, receiver, started, softnet })
    }
}

impl Running {
    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Relaxed)
    }

    /// Packets received so far, duplicates included.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Relaxed)
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits until packets arrive (so many more than now), or gives up with an error.
    pub fn wait_received(&self, packets: u64, patience: Duration) -> Result<()> {
        let wanted = self.received() + packets;
        if !clock::wait_until(patience, || self.received() >= wanted) {
            bail!("{} of {} packets sent have arrived after {patience:?}", self.received(), self.sent());
        }
        Ok(())
    }

    /// Stops sending, waits for what is on its way, and accounts for every packet.
    pub fn stop(self) -> Result<Report> {
        self.shared.stop.store(true, SeqCst);
        let Ok(sent) = self.sender.join() else { bail!("the sender of a stream panicked") };
        let mut seen = self.shared.received.load(Relaxed);
        let mut since = Instant::now();
        while since.elapsed() < SETTLE {
            std::thread::sleep(Duration::from_millis(5));
            let now = self.shared.received.load(Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        self.shared.over.store(true, SeqCst);
        let Ok(received) = self.receiver.join() else { bail!("the receiver of a stream panicked") };
        let mut received = received?;
        let flows = sent.flows.iter().enumerate().map(|(number, (port, count))| {
            received.flows.remove(&(number as u32)).unwrap_or_default().finish(*port, *count)
        });
        Ok(Report {
            flows: flows.collect(),
            gaps: received.gaps,
            longest_gap: received.arrivals.longest(),
            slowest: received.slowest,
            duration: sent.duration,
            send_errors: sent.errors,
            last_send_error: sent.last_error,
            skipped: sent.skipped,
            buffer_drops: received.buffer_drops,
            softnet_drops: softnet_drops().saturating_sub(self.softnet),
        })
    }
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

/// The sending half: packets of all flows, written once and changed in place.
struct Sender {
    plan: Stream,
    sockets: Vec<UdpSocket>,
    sent: Vec<u64>,
    packets: Vec<Vec<u8>>,
    errors: u64,
    last_error: Option<String>,
}

impl Sender {
    fn new(plan: Stream, sockets: Vec<UdpSocket>, magic: u32) -> Self {
        let mut packet = vec![0; plan.payload];
        packet[..4].copy_from_slice(&magic.to_be_bytes());
        let packets = vec![packet; BATCH];
        let sent = vec![0; sockets.len()];
        Self { plan, sockets, sent, packets, errors: 0, last_error: None }
    }

    fn run(mut self, shared: &Shared) -> Sent {
        clock::keep_time();
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
            // Every flow gets its share; what does not divide goes round.
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

    /// Sends the next packets of a flow and says how many the kernel took.
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

/// The receiving half.
fn receive(socket: &UdpSocket, magic: u32, limit: Duration, shared: &Shared) -> Result<Received> {
    clock::keep_time();
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut inbox = Inbox::new();
    let mut result = Received {
        flows: HashMap::new(),
        arrivals: Silence::default(),
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
        for (packet, wall) in inbox.packets(count) {
            if packet.len() < HEADER || packet[..4] != magic.to_be_bytes() {
                continue;
            }
            ours += 1;
            let word = |at: usize| u64::from_be_bytes(packet[at..at + 8].try_into().unwrap_or_default());
            let flow = word(0) as u32;
            let at = clock.instant(wall);
            result.slowest = result.slowest.max(Duration::from_nanos(wall.saturating_sub(word(16))));
            if let Some(gap) = result.arrivals.arrival(at)
                && gap.length >= limit
            {
                result.gaps.push(gap);
            }
            result.flows.entry(flow).or_default().arrived(word(8), at);
        }
        shared.received.fetch_add(ours, Relaxed);
    }
    result.buffer_drops = buffer_drops(socket);
    Ok(result)
}
