//! UDP streams with sequence numbers: detects loss, outages, reordering and duplicates.
//!
//! Every flow has a socket and sequence numbers of its own. The sender sends short bursts, paced by the clock. The
//! receiver stores only gaps, so a stream may run for hours. Receive times are those of the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::datagram::{bind, receive_timestamps, softnet_drops};
use crate::namespace::Namespace;
use crate::network::{DATA, Lab};
use crate::socket_option::force_receive_buffer;
use crate::wait_until;

mod receiver;
mod report;
mod sender;

use receiver::{Received, receive};
pub use report::Report;
use sender::{Sender, Sent};

pub use crate::flow::{Flow, Gap, Lost, Progress};

/// Bytes of a packet's header: magic (4), flow (4), sequence number (8), send time (8).
const HEADER: usize = 24;
/// Receive buffer: more than one second of the fastest stream.
const RECEIVE_BUFFER: usize = 64 << 20;
/// After the sender has stopped, no further packet is expected when none was received for this time.
const SETTLE: Duration = Duration::from_millis(200);

/// Distinguishes the streams of all labs.
static STREAMS: AtomicU64 = AtomicU64::new(0);

/// The parameters of a stream.
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

/// A running stream.
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
    /// One flow of 1,000 packets/s of 64 bytes, to an address that is configured in `to`.
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

    /// From the host to the first peer, with the source address [`DATA`].
    pub fn outbound(lab: &Lab) -> Self {
        let peer = lab.peer(0);
        Self::new(lab.host(), peer.namespace(), peer.v4()).source(DATA)
    }

    /// From the first peer to [`DATA`] on the host.
    pub fn inbound(lab: &Lab) -> Self {
        Self::new(lab.peer(0).namespace(), lab.host(), DATA)
    }

    /// Sets the source address; by default the kernel chooses it.
    pub fn source(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the number of flows.
    pub fn flows(mut self, flows: usize) -> Self {
        self.flows = flows;
        self
    }

    /// Sets the packets per second of all flows together.
    pub fn rate(mut self, packets_per_second: u64) -> Self {
        self.rate = packets_per_second;
        self
    }

    /// Sets the bytes of UDP payload, 24 at least.
    pub fn payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// Sets the destination port; by default the kernel chooses it.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the interval of the sender, 1 ms by default. A shorter interval detects shorter outages.
    pub fn burst(mut self, burst: Duration) -> Self {
        self.burst = burst;
        self
    }

    /// Sets the shortest time without packets that [`Report::gaps`] lists: 2 ms by default.
    pub fn gaps(mut self, limit: Duration) -> Self {
        self.gaps = limit;
        self
    }

    /// Starts it. When this returns, the receiver listens and the sender is about to send.
    pub fn start(self) -> Result<Running> {
        ensure!(
            self.flows > 0 && self.rate > 0,
            "a stream needs at least one flow and one packet per second"
        );
        ensure!((HEADER..=65_000).contains(&self.payload), "the payload must have {HEADER} to 65000 bytes");
        let magic = (std::process::id() << 12) ^ STREAMS.fetch_add(1, Relaxed) as u32;
        let wildcard: IpAddr = match self.destination {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let receiving = self
            .to
            .run(|| bind(SocketAddr::new(wildcard, self.port)))
            .with_context(|| format!("cannot receive a stream in {}", self.to.name()))?;
        force_receive_buffer(&receiving, RECEIVE_BUFFER)
            .context("cannot set the receive buffer of a stream")?;
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
        let (for_thread, limit) = (shared.clone(), self.gaps);
        let receiver = std::thread::Builder::new()
            .name("stream receiver".into())
            .spawn(move || receive(&receiving, magic, limit, &for_thread))?;
        let for_thread = shared.clone();
        let sender = std::thread::Builder::new()
            .name("stream sender".into())
            .spawn(move || Sender::new(self, sending, magic).run(&for_thread))?;
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

    /// The counters so far.
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

    /// Waits until `packets` more packets are received; an error after `timeout`.
    pub fn wait_received(&self, packets: u64, timeout: Duration) -> Result<()> {
        let wanted = self.received() + packets;
        if !wait_until(timeout, || self.received() >= wanted) {
            bail!("{} of {} packets sent were received within {timeout:?}", self.received(), self.sent());
        }
        Ok(())
    }

    /// Stops the sender, waits for packets on their way, and returns the result.
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
