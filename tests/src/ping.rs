//! Echo requests (ICMP and ICMPv6), with counts and round-trip times.

use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

/// The result of a series of echo requests.
#[derive(Clone, Debug, Default)]
pub struct Ping {
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Further replies to requests that were answered already.
    pub duplicates: u64,
    /// The shortest round-trip time.
    pub fastest: Option<Duration>,
    /// The longest round-trip time.
    pub slowest: Option<Duration>,
}

/// Sends `count` echo requests from a namespace, one each `interval`, from a given source address if there is one. Waits
/// for replies until `timeout` after the last request. The kernel resolves the neighbour.
pub fn ping(
    namespace: &Namespace,
    source: Option<IpAddr>,
    address: IpAddr,
    count: u16,
    interval: Duration,
    timeout: Duration,
) -> Result<Ping> {
    let socket = namespace
        .run(|| -> std::io::Result<Socket> {
            let (domain, protocol) = match address {
                IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
                IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
            };
            let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
            if let Some(source) = source {
                socket.bind(&SocketAddr::new(source, 0).into())?;
            }
            socket.connect(&SocketAddr::new(address, 0).into())?;
            Ok(socket)
        })
        .with_context(|| format!("cannot ping {address} from {}", namespace.name()))?;
    // Distinguishes our replies from those to another ping in the same namespace.
    let identifier = (crate::clock::wall_nanos() >> 10) as u16;
    let mut result = Ping::default();
    let mut sent_at: Vec<Instant> = Vec::new();
    let mut answered = vec![false; usize::from(count)];
    let start = Instant::now();
    loop {
        let due = start + interval * sent_at.len() as u32;
        if sent_at.len() < usize::from(count) && Instant::now() >= due {
            let request = echo_request(address, identifier, sent_at.len() as u16);
            sent_at.push(Instant::now());
            if socket.send(&request).is_ok() {
                result.sent += 1;
            }
            continue;
        }
        let all_sent = sent_at.len() == usize::from(count);
        let end = if all_sent { sent_at.last().map_or(start, |last| *last + timeout) } else { due };
        // A little longer than the last reply takes, to receive duplicates too.
        if all_sent
            && (Instant::now() >= end
                || result.answered == u64::from(count) && duplicates_received(&sent_at, interval))
        {
            return Ok(result);
        }
        let wait = end.saturating_duration_since(Instant::now()).min(Duration::from_millis(20));
        socket.set_read_timeout(Some(wait.max(Duration::from_micros(100))))?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 256];
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        // SAFETY: the kernel has written the first `length` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length) };
        let Some(number) = echo_reply(address, identifier, bytes) else { continue };
        let (Some(at), Some(seen)) = (sent_at.get(number), answered.get_mut(number)) else { continue };
        if std::mem::replace(seen, true) {
            result.duplicates += 1;
            continue;
        }
        result.answered += 1;
        let took = at.elapsed();
        result.fastest = Some(result.fastest.map_or(took, |other| other.min(took)));
        result.slowest = Some(result.slowest.map_or(took, |other| other.max(took)));
    }
}

/// Whether the last request is so old that a duplicate of its reply would have been received.
fn duplicates_received(sent_at: &[Instant], interval: Duration) -> bool {
    sent_at.last().is_none_or(|last| last.elapsed() >= interval.max(Duration::from_millis(20)))
}

fn echo_request(address: IpAddr, identifier: u16, number: u16) -> Vec<u8> {
    let kind = if address.is_ipv4() { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend_from_slice(&identifier.to_be_bytes());
    message.extend_from_slice(&number.to_be_bytes());
    message.extend_from_slice(&[0x69; 48]);
    if address.is_ipv4() {
        // The kernel computes the checksum of ICMPv6, but not that of ICMP.
        let sum: u32 = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        message[2..4].copy_from_slice(&(!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes());
    }
    message
}

fn echo_reply(address: IpAddr, identifier: u16, bytes: &[u8]) -> Option<usize> {
    // A raw IPv4 socket receives the IP header too.
    let (message, kind) = match address {
        IpAddr::V4(_) => (bytes.get(usize::from(bytes.first()? & 15) * 4..)?, 0),
        IpAddr::V6(_) => (bytes, 129),
    };
    let ours = message.first()? == &kind && message.get(4..6)? == identifier.to_be_bytes();
    let number = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
    ours.then_some(usize::from(number))
}
