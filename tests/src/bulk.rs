//! TCP bulk transfers: bytes received, stalls, retransmissions, and whether the connection survived.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Socket, Type};

use crate::flow::{ArrivalGaps, Gap};
use crate::namespace::Namespace;
use crate::{socket_option, wait_until};

/// Bytes written or read in one call.
const CHUNK: usize = 64 << 10;
/// The data is a counter modulo this prime: lost, repeated or reordered data is detected.
const PERIOD: usize = 251;
/// Maximum time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Maximum time from the sender's end to the receiver's.
const END: Duration = Duration::from_secs(20);

/// The parameters of a transfer.
#[derive(Clone, Debug)]
pub struct Bulk {
    from: Namespace,
    to: Namespace,
    destination: IpAddr,
    source: Option<IpAddr>,
    stalls: Duration,
    pace: Option<u64>,
    writes: (usize, Duration),
    send_buffer: Option<usize>,
}

/// A running transfer.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    sender: JoinHandle<Sent>,
    receiver: JoinHandle<Received>,
}

/// The result of a transfer.
#[derive(Clone, Debug)]
pub struct Report {
    /// Bytes received.
    pub bytes: u64,
    /// From the connection's start to the end of sending.
    pub duration: Duration,
    /// The longest time without data.
    pub longest_stall: Duration,
    /// Times without data that reached the limit set by [`Bulk::stalls`].
    pub stalls: Vec<Gap>,
    /// Segments that the sender's kernel retransmitted (tcpi_total_retrans).
    pub retransmissions: u32,
    /// The sender's retransmission timeout at the end (tcpi_rto).
    pub timeout: Duration,
    /// Why the connection ended early: a reset, a timeout.
    pub error: Option<String>,
    /// Whether all received bytes were correct.
    pub intact: bool,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    over: AtomicBool,
    received: AtomicU64,
}

#[derive(Debug)]
struct Sent {
    duration: Duration,
    retransmissions: u32,
    timeout: Duration,
    error: Option<String>,
}

#[derive(Debug)]
struct Received {
    bytes: u64,
    arrivals: ArrivalGaps,
    stalls: Vec<Gap>,
    error: Option<String>,
    intact: bool,
}

impl Bulk {
    /// From one namespace to another, to an address that is configured in `to`.
    pub fn new(from: &Namespace, to: &Namespace, destination: impl Into<IpAddr>) -> Self {
        let stalls = Duration::from_millis(50);
        Self {
            from: from.clone(),
            to: to.clone(),
            destination: destination.into(),
            source: None,
            stalls,
            pace: None,
            writes: (CHUNK, Duration::ZERO),
            send_buffer: None,
        }
    }

    /// Sets the source address; by default the kernel chooses it.
    pub fn source(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the shortest time without data that [`Report::stalls`] lists: 50 ms by default.
    pub fn stalls(mut self, limit: Duration) -> Self {
        self.stalls = limit;
        self
    }

    /// Writes so many bytes at most each time, with a pause between two writes, as a service that answers requests: something is
    /// always on its way. A paced connection on a LAN sends large chunks instead, with long pauses.
    pub fn writes(mut self, bytes: usize, pause: Duration) -> Self {
        self.writes = (bytes.min(CHUNK), pause);
        self
    }

    /// Limits the rate, to leave CPU time to a measurement on the same machine.
    pub fn pace(mut self, bytes_per_second: u64) -> Self {
        self.pace = Some(bytes_per_second);
        self
    }

    /// Limits what the kernel buffers: a paced connection sends that after the end of the test.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// Connects, and sends until stopped, as fast as possible unless paced.
    pub fn start(self) -> Result<Running> {
        let address = SocketAddr::new(self.destination, 0);
        let listener = self
            .to
            .run(|| TcpListener::bind(address))
            .with_context(|| format!("cannot listen on {} in {}", self.destination, self.to.name()))?;
        let destination = listener.local_addr()?;
        let connect = || -> std::io::Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(destination), Type::STREAM, None)?;
            if let Some(source) = self.source {
                socket.bind(&SocketAddr::new(source, 0).into())?;
            }
            if let Some(pace) = self.pace {
                set_pace(&socket, pace)?;
            }
            if let Some(bytes) = self.send_buffer {
                socket.set_send_buffer_size(bytes)?;
            }
            socket.connect_timeout(&destination.into(), CONNECT)?;
            Ok(socket.into())
        };
        let sending = self
            .from
            .run(connect)
            .with_context(|| format!("cannot connect from {} to {destination}", self.from.name()))?;
        let (receiving, _) = listener.accept().context("cannot accept a bulk connection")?;

        let shared = Arc::new(Shared::default());
        let for_thread = shared.clone();
        let receiver = std::thread::Builder::new()
            .name("bulk receiver".into())
            .spawn(move || receive(receiving, self.stalls, &for_thread))?;
        let for_thread = shared.clone();
        let sender = std::thread::Builder::new()
            .name("bulk sender".into())
            .spawn(move || send(sending, self.writes, &for_thread))?;
        Ok(Running { shared, sender, receiver })
    }
}

impl Running {
    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Relaxed)
    }

    /// Waits until `bytes` more bytes have been received; an error after `timeout`.
    pub fn wait_received(&self, bytes: u64, timeout: Duration) -> Result<()> {
        let wanted = self.received() + bytes;
        if !wait_until(timeout, || self.received() >= wanted) {
            bail!("{} bytes received, not {wanted}, after {timeout:?}", self.received());
        }
        Ok(())
    }

    /// Closes the connection, if it still exists, and returns the result.
    pub fn stop(self) -> Result<Report> {
        self.shared.stop.store(true, SeqCst);
        let Ok(sent) = self.sender.join() else { bail!("the sender of a bulk transfer panicked") };
        // After a reset of the sender nothing more arrives, also no end.
        let ended = sent.error.is_some() || wait_until(END, || self.receiver.is_finished());
        self.shared.over.store(true, SeqCst);
        let Ok(received) = self.receiver.join() else { bail!("the receiver of a bulk transfer panicked") };
        let late =
            (!ended).then(|| format!("the receiver did not see the end of the transfer within {END:?}"));
        Ok(Report {
            bytes: received.bytes,
            duration: sent.duration,
            longest_stall: received.arrivals.longest(),
            stalls: received.stalls,
            retransmissions: sent.retransmissions,
            timeout: sent.timeout,
            error: sent.error.or(received.error).or(late),
            intact: received.intact,
        })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.bytes as f64 * 8.0 / self.duration.as_secs_f64() / 1e6;
        write!(
            out,
            "{} bytes ({rate:.0} Mbit/s), longest stall {:?}, {} retransmissions, {}, {}",
            self.bytes,
            self.longest_stall,
            self.retransmissions,
            if self.intact { "intact" } else { "CORRUPT" },
            self.error.as_deref().unwrap_or("no error")
        )
    }
}

/// A chunk of the data from every position within the period.
fn pattern() -> Vec<u8> {
    (0..CHUNK + PERIOD).map(|position| (position % PERIOD) as u8).collect()
}

fn send(mut stream: TcpStream, (bytes, pause): (usize, Duration), shared: &Shared) -> Sent {
    let data = pattern();
    let start = Instant::now();
    let mut error = None;
    let mut position = 0usize;
    // A failed path must not block the thread forever.
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    while !shared.stop.load(Relaxed) {
        let from = position % PERIOD;
        std::thread::sleep(pause);
        match stream.write(&data[from..from + bytes]) {
            Ok(written) => position = (position + written) % PERIOD,
            Err(problem) if problem.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(problem) => {
                error = Some(format!("sender: {problem}"));
                break;
            }
        }
    }
    let duration = start.elapsed();
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let (retransmissions, timeout) = tcp_info(&stream);
    Sent { duration, retransmissions, timeout, error }
}

fn receive(mut stream: TcpStream, limit: Duration, shared: &Shared) -> Received {
    let data = pattern();
    let mut buffer = vec![0; CHUNK];
    let mut result = Received {
        bytes: 0,
        arrivals: ArrivalGaps::default(),
        stalls: Vec::new(),
        error: None,
        intact: true,
    };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let from = (result.bytes % PERIOD as u64) as usize;
                result.intact &= buffer[..count] == data[from..from + count];
                result.bytes += count as u64;
                shared.received.store(result.bytes, Relaxed);
                if let Some(gap) = result.arrivals.arrival(Instant::now())
                    && gap.length >= limit
                {
                    result.stalls.push(gap);
                }
            }
            Err(problem) if problem.kind() == std::io::ErrorKind::WouldBlock => {
                if shared.over.load(SeqCst) {
                    break;
                }
            }
            Err(problem) => {
                result.error = Some(format!("receiver: {problem}"));
                break;
            }
        }
    }
    result
}

/// Makes the kernel space out the segments (SO_MAX_PACING_RATE, socket(7)).
fn set_pace(socket: &Socket, bytes_per_second: u64) -> std::io::Result<()> {
    socket_option::set(socket, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, bytes_per_second)
}

/// Retransmissions so far, and the retransmission timeout.
fn tcp_info(stream: &TcpStream) -> (u32, Duration) {
    let Ok(info) = socket_option::get::<libc::tcp_info>(stream, libc::IPPROTO_TCP, libc::TCP_INFO) else {
        return (0, Duration::ZERO);
    };
    (info.tcpi_total_retrans, Duration::from_micros(u64::from(info.tcpi_rto)))
}
