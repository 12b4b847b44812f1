//! Small UDP packets as fast as one thread sends them, one system call each, as most programs do.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::Namespace;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

/// Bytes of payload: with the headers and a frame check sequence, the smallest frame of Ethernet, 64 bytes.
const PAYLOAD: usize = 18;
/// Room for half a second of packets.
const BUFFER: usize = 64 << 20;
/// Nothing more is on its way when nothing came for so long.
const QUIET: Duration = Duration::from_millis(20);

/// Packets per second that were received, of one flow from one namespace to an address of the other.
pub fn packets_per_s(
    from: &Namespace,
    source: Ipv4Addr,
    to: &Namespace,
    destination: Ipv4Addr,
    time: Duration,
) -> Result<f64> {
    let receiving = to.run(|| UdpSocket::bind((destination, 0)))?;
    setsockopt(&receiving, RcvBufForce, &BUFFER).context("cannot have a large receive buffer")?;
    receiving.set_read_timeout(Some(QUIET))?;
    let sending = from.run(|| -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((source, 0))?;
        socket.connect(receiving.local_addr()?)?;
        Ok(socket)
    })?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut buffer = [0; PAYLOAD];
            let mut received = 0u64;
            loop {
                let last = over.load(SeqCst);
                match receiving.recv(&mut buffer) {
                    Ok(_) => received += 1,
                    Err(_) if last => return received,
                    Err(_) => {}
                }
            }
        });
        let start = Instant::now();
        while start.elapsed() < time {
            for _ in 0..256 {
                // What is refused is not received.
                let _ = sending.send(&[0; PAYLOAD]);
            }
        }
        let elapsed = start.elapsed();
        over.store(true, SeqCst);
        let received = receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(received as f64 / elapsed.as_secs_f64())
    })
}
