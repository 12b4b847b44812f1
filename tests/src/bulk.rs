//! TCP bulk transfers: how much came, how long nothing came, whether the connection lived.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Socket, Type};

use crate::clock;
use crate::flow::{Gap, Silence};
use crate::namespace::Namespace;

/// Bytes written or read at once.
const CHUNK: usize = 64 << 10;
/// The data is a counter modulo this prime: what is lost, doubled or swapped does not go unseen.
const PERIOD: usize = 251;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// After the sender has closed: how long the receiver may take to see the end.
const END: Duration = Duration::from_secs(20);

/// A transfer to be.
#[derive(Clone, Debug)]
pub struct Bulk {
    from: Namespace,
    to: Namespace,
    destination: IpAddr,
    source: Option<IpAddr>,
    stalls: Duration,
    pace: Option<u64>,
}

/// A transfer on its way.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    sender: JoinHandle<Sent>,
    receiver: JoinHandle<Received>,
}

/// What became of a transfer.
#[derive(Clone, Debug)]
pub struct Report {
    /// Bytes that the receiver read.
    pub bytes: u64,
    /// From the connection's start to the end of sending.
    pub duration: Duration,
    /// The longest time without anything to read.
    pub longest_stall: Duration,
    /// Times without anything to read that reached the limit set by [`Bulk::stalls`].
    pub stalls: Vec<Gap>,
    /// Segments that the sender's kernel sent again (tcpi_total_retrans).
    pub retransmissions: u32,
    /// The sender's retransmission timeout at the end (tcpi_rto).
    pub timeout: Duration,
    /// Why the connection ended before its time: a reset, a timeout.
    pub error: Option<String>,
    /// Every byte that was read was the right one.
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
    silence: Silence,
    stalls: Vec<Gap>,
    error: Option<String>,
    intact: bool,
}

impl Bulk {
    /// From one namespace to another, to an address that `to` has.
    pub fn new(from: &Namespace, to: &Namespace, destination: impl Into<IpAddr>) -> Self {
        let stalls = Duration::from_millis(50);
        Self {
            from: from.clone(),
            to: to.clone(),
            destination: destination.into(),
            source: None,
            stalls,
            pace: None,
        }
    }

    /// The source address; otherwise the kernel chooses.
    pub fn source(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// From which length on times without data are listed: 50 ms.
    pub fn stalls(mut self, limit: Duration) -> Self {
        self.stalls = limit;
        self
    }

    /// No more than so many bytes per second: what shares the machine with a measurement leaves it the processors.
    pub fn pace(mut self, bytes_per_second: u64) -> Self {
        self.pace = Some(bytes_per_second);
        self
    }

    /// Connects, and sends until stopped, as fast as it goes unless paced.
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
            socket.connect_timeout(&destination.into(), CONNECT)?;
            Ok(socket.into())
        };
        let sending = self
            .from
            .run(connect)
            .with_context(|| format!("cannot connect from {} to {destination}", self.from.name()))?;
        let (receiving, _) = listener.accept().context("cannot accept a bulk connection")?;

        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let receiver = std::thread::Builder::new()
            .name("bulk receiver".into())
            .spawn(move || receive(receiving, self.stalls, &theirs))?;
        let theirs = shared.clone();
        let sender =
            std::thread::Builder::new().name("bulk sender".into()).spawn(move || send(sending, &theirs))?;
        Ok(Running { shared, sender, receiver })
    }
}

impl Running {
    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Relaxed)
    }

    /// Waits until so many bytes more have been received, or gives up with an error.
    pub fn wait_received(&self, bytes: u64, patience: Duration) -> Result<()> {
        let wanted = self.received() + bytes;
        if !clock::wait_until(patience, || self.received() >= wanted) {
            bail!("{} bytes have arrived, not {wanted}, after {patience:?}", self.received());
        }
        Ok(())
    }

    /// Ends the transfer in good order, if it still lives, and accounts for it.
    pub fn stop(self) -> Result<Report> {
        self.shared.stop.store(true, SeqCst);
        let Ok(sent) = self.sender.join() else { bail!("the sender of a bulk transfer panicked") };
        let ended = clock::wait_until(END, || self.receiver.is_finished());
        self.shared.over.store(true, SeqCst);
        let Ok(received) = self.receiver.join() else { bail!("the receiver of a bulk transfer panicked") };
        let late = (!ended).then(|| format!("the end of the transfer did not arrive within {END:?}"));
        Ok(Report {
            bytes: received.bytes,
            duration: sent.duration,
            longest_stall: received.silence.longest(),
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

fn send(mut stream: TcpStream, shared: &Shared) -> Sent {
    let data = pattern();
    let start = Instant::now();
    let mut error = None;
    let mut position = 0usize;
    // A dead path must not hold the thread for ever.
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    while !shared.stop.load(Relaxed) {
        let from = position % PERIOD;
        match stream.write(&data[from..from + CHUNK]) {
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
    let mut result =
        Received { bytes: 0, silence: Silence::default(), stalls: Vec::new(), error: None, intact: true };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let from = (result.bytes % PERIOD as u64) as usize;
                result.intact &= buffer[..count] == data[from..from + count];
                result.bytes += count as u64;
                shared.received.store(result.bytes, Relaxed);
                if let Some(gap) = result.silence.arrival(Instant::now())
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

/// The kernel spaces the segments out (SO_MAX_PACING_RATE, socket(7)).
fn set_pace(socket: &Socket, bytes_per_second: u64) -> std::io::Result<()> {
    // SAFETY: the kernel reads the eight bytes, which outlive the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            (&raw const bytes_per_second).cast(),
            size_of_val(&bytes_per_second) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Retransmissions so far, and the retransmission timeout.
fn tcp_info(stream: &TcpStream) -> (u32, Duration) {
    // SAFETY: tcp_info is plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most the length given.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return (0, Duration::ZERO);
    }
    (info.tcpi_total_retrans, Duration::from_micros(u64::from(info.tcpi_rto)))
}
