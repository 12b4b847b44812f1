//! Small UDP packets, as fast as one thread can send them with one system call each.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::Namespace;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

/// Bytes of payload: with headers and frame check sequence the smallest Ethernet frame, 64 bytes.
const PAYLOAD: usize = 18;
/// Receive buffer: half a second of packets.
const BUFFER: usize = 64 << 20;
/// No further packet is expected when none was received for this time.
const SETTLE: Duration = Duration::from_millis(20);

/// Packets per second that were received, of one flow from one namespace to an address of the other.
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
        let counter = scope.spawn(|| count(&receiving, &over));
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
