//! UDP streams with sequence numbers: what was lost and when, what was reordered, what came twice.
//!
//! Every flow is a socket of its own with a sequence of its own. The sender is paced by the clock in short bursts; the
//! receiver keeps only the gaps, so a stream may run for hours. Receive times are the kernel's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::clock;
use crate::datagram::{bind, receive_timestamps, softnet_drops};
use crate::namespace::Namespace;
use crate::packet::force_receive_buffer;

mod receiver;
mod report;
mod sender;

use receiver::{Received, receive};
pub use report::Report;
use sender::{Sender, Sent};

pub use crate::flow::{Flow, Gap, Lost, Progress};

/// Bytes of a packet's header: magic (4), flow (4), sequence number (8), send time (8).
const HEADER: usize = 24;
/// Room for packets not yet read: a second and more of the fastest stream here.
const RECEIVE_BUFFER: usize = 64 << 20;
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

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    over: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    progress: Mutex<Progress>,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    /// How it goes so far.
    pub fn progress(&self) -> Progress {
        let mut progress = self.shared.progress();
        let now = *progress;
        progress.longest_gap = Duration::ZERO;
        now
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
