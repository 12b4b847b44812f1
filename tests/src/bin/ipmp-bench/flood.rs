//! Small UDP packets, as fast as one thread can send them with one system call each.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::Namespace;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use nix::unistd::Pid;

/// Bytes of payload: with headers and frame check sequence the smallest Ethernet frame, 64 bytes.
const PAYLOAD: usize = 18;
/// Receive buffer: half a second of packets.
const BUFFER: usize = 64 << 20;
/// No further packet is expected when none was received for this time.
const SETTLE: Duration = Duration::from_millis(20);

/// Packets per second that were received, of one flow from one namespace to an address of the other.
///
/// The sender, whose CPU also does what the stack of the receiving namespace does for each packet, and the receiver each have a CPU of
/// their own, if there are two: otherwise the choices of the scheduler make more difference than what is measured.
pub fn packets_per_s(
    from: &Namespace,
    source: Ipv4Addr,
    to: &Namespace,
    destination: Ipv4Addr,
    time: Duration,
) -> Result<f64> {
    let receiving = receiver(to, destination)?;
    let sending = from.run(|| -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((source, 0))?;
        socket.connect(receiving.local_addr()?)?;
        Ok(socket)
    })?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counter = scope.spawn(|| {
            let _pinned = Pinned::to(1);
            count(&receiving, &over)
        });
        let _pinned = Pinned::to(0);
        let start = Instant::now();
        while start.elapsed() < time {
            for _ in 0..256 {
                // A packet that is not sent is not received.
                let _ = sending.send(&[0; PAYLOAD]);
            }
        }
        let elapsed = start.elapsed();
        over.store(true, SeqCst);
        let received = counter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(received as f64 / elapsed.as_secs_f64())
    })
}

/// The calling thread runs on one CPU alone, until this is dropped.
struct Pinned(Option<CpuSet>);

impl Pinned {
    /// The n-th CPU that the thread may use; any, where that does not exist.
    fn to(number: usize) -> Self {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).ok();
        let cpu = before
            .and_then(|all| (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu) == Ok(true)).nth(number));
        let mut one = CpuSet::new();
        let is_pinned =
            cpu.is_some_and(|cpu| one.set(cpu).and_then(|()| sched_setaffinity(this, &one)).is_ok());
        Self(before.filter(|_| is_pinned))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let restored = self.0.map(|before| sched_setaffinity(Pid::from_raw(0), &before));
        debug_assert!(restored.is_none_or(|restored| restored.is_ok()));
    }
}

/// A socket that receives packets at a high rate.
pub fn receiver(namespace: &Namespace, address: Ipv4Addr) -> Result<UdpSocket> {
    let socket = namespace.run(|| UdpSocket::bind((address, 0)))?;
    setsockopt(&socket, RcvBufForce, &BUFFER).context("cannot set a large receive buffer")?;
    socket.set_read_timeout(Some(SETTLE))?;
    Ok(socket)
}

/// Counts packets until none is received after `over` is set.
pub fn count(socket: &UdpSocket, over: &AtomicBool) -> u64 {
    let mut buffer = [0; PAYLOAD];
    let mut received = 0;
    loop {
        let last = over.load(SeqCst);
        match socket.recv(&mut buffer) {
            Ok(_) => received += 1,
            Err(_) if last => return received,
            Err(_) => {}
        }
    }
}
