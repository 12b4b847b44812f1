//! The router and the peers: machines with one interface and plain addresses, that ask for the host.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv6Header, Icmpv6Type, PacketBuilder,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::cable::Cable;
use crate::namespace::Namespace;
use crate::packet::PacketSocket;
use crate::{Mac, filter};

/// A machine on a switch.
#[derive(Debug)]
pub struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) mac: Mac,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    pub(crate) cable: Cable,
}

/// The one interface of a [`Host`].
pub const INTERFACE: &str = "eth0";

/// An answer to an ARP request or a neighbour solicitation.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The Ethernet address that was told.
    pub mac: Mac,
    /// When the answer was read.
    pub at: Instant,
}

/// What came of a series of echo requests.
#[derive(Clone, Debug, Default)]
pub struct Ping {
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Answers beyond the first to the same request.
    pub duplicates: u64,
    /// The shortest round trip.
    pub fastest: Option<Duration>,
    /// The longest round trip.
    pub slowest: Option<Duration>,
}

impl Host {
    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The Ethernet address of its interface.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Its IPv4 address, a /24.
    pub fn v4(&self) -> Ipv4Addr {
        self.v4
    }

    /// Its IPv6 address, a /64.
    pub fn v6(&self) -> Ipv6Addr {
        self.v6
    }

    /// The cable to its switch.
    pub fn cable(&self) -> &Cable {
        &self.cable
    }

    /// Lets it answer echo requests, or none in either family. Everything else goes on.
    pub fn answer_echo(&self, answers: bool) -> Result<()> {
        let ignores = if answers { "0" } else { "1" };
        self.namespace.sysctl("net.ipv4.icmp_echo_ignore_all", ignores)?;
        self.namespace.sysctl("net.ipv6.icmp.echo_ignore_all", ignores)
    }

    /// Forgets all neighbours.
    pub fn flush_neighbours(&self) -> Result<()> {
        self.namespace.ip("-4 neigh flush all")?;
        self.namespace.ip("-6 neigh flush all")?;
        Ok(())
    }

    /// What its kernel believes the Ethernet address of a neighbour to be.
    pub fn neighbour(&self, address: IpAddr) -> Result<Option<Mac>> {
        self.namespace.netlink().neighbour(address)
    }

    /// Asks once, by broadcast ARP or multicast neighbour solicitation, and collects all answers that come while
    /// `wait` lasts. Its kernel's neighbour table has no part in it.
    pub fn resolve(&self, address: IpAddr, wait: Duration) -> Result<Vec<Answer>> {
        match address {
            IpAddr::V4(address) => self.ask_arp(address, wait),
            IpAddr::V6(address) => self.solicit(address, wait),
        }
    }

    fn ask_arp(&self, target: Ipv4Addr, wait: Duration) -> Result<Vec<Answer>> {
        let socket = PacketSocket::open(&self.namespace, Some(INTERFACE), &filter::ethertype(0x0806))?;
        socket.send(&arp_request(self.mac, self.v4, target)?)?;
        collect(&socket, wait, |frame| {
            arp_reply(frame).filter(|reply| reply.about == target).map(|reply| reply.mac)
        })
    }

    fn solicit(&self, target: Ipv6Addr, wait: Duration) -> Result<Vec<Answer>> {
        let socket = PacketSocket::open(&self.namespace, Some(INTERFACE), &filter::ethertype(0x86dd))?;
        socket.send(&solicitation(self.mac, self.v6, target)?)?;
        collect(&socket, wait, |frame| {
            advertisement(frame).filter(|reply| reply.about == target).map(|reply| reply.mac)
        })
    }

    /// Echo requests from its own kernel, neighbour resolution included: `count` of them, one each `interval`;
    /// answers are waited for until `patience` after the last.
    pub fn ping(&self, address: IpAddr, count: u16, interval: Duration, patience: Duration) -> Result<Ping> {
        ping(&self.namespace, None, address, count, interval, patience)
    }
}

/// Who has `target`? A broadcast ARP request.
pub fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Result<Vec<u8>> {
    let request = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &mac,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
    )
    .context("cannot form an ARP request")?;
    let mut frame = ethernet([0xff; 6], mac, 0x0806);
    frame.extend_from_slice(&request.to_bytes());
    Ok(frame)
}

/// Who has `target`? A neighbour solicitation to its solicited-node group.
pub(crate) fn solicitation(mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Result<Vec<u8>> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut options = target.octets().to_vec();
    options.extend_from_slice(&[1, 1]);
    options.extend_from_slice(&mac);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, [0x33, 0x33, 0xff, a, b, c])
        .ipv6(source.octets(), group.octets(), 255)
        .icmpv6(Icmpv6Type::NeighborSolicitation)
        .write(&mut frame, &options)
        .context("cannot form a neighbour solicitation")?;
    Ok(frame)
}

/// An ARP reply or a neighbour advertisement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    /// The address that was asked for.
    pub about: IpAddr,
    /// Whom it is for: who has asked.
    pub to: IpAddr,
    /// The Ethernet address that it tells.
    pub mac: Mac,
}

/// Reads an ARP reply.
pub(crate) fn arp_reply(frame: &[u8]) -> Option<Reply> {
    let v4 = |at: usize| <[u8; 4]>::try_from(frame.get(at..at + 4)?).ok().map(IpAddr::from);
    if frame.get(12..14)? != [8, 6] || frame.get(20..22)? != [0, 2] {
        return None;
    }
    Some(Reply { about: v4(28)?, to: v4(38)?, mac: frame.get(22..28)?.try_into().ok()? })
}

/// Reads a neighbour advertisement.
pub(crate) fn advertisement(frame: &[u8]) -> Option<Reply> {
    let v6 = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    if frame.get(12..14)? != [0x86, 0xdd] || frame.get(20)? != &58 {
        return None;
    }
    let (header, rest) = Icmpv6Header::from_slice(frame.get(54..)?).ok()?;
    if !matches!(header.icmp_type, Icmpv6Type::NeighborAdvertisement(_)) {
        return None;
    }
    // RFC 4861 section 4.4: the target link-layer address option; without one the frame's source counts.
    let mac = match rest.get(16..18) {
        Some([2, 1]) => rest.get(18..24)?,
        _ => frame.get(6..12)?,
    };
    Some(Reply { about: v6(rest.get(..16)?)?, to: v6(frame.get(38..54)?)?, mac: mac.try_into().ok()? })
}

/// [`Host::ping`] from any namespace, and from a given source address if wanted.
pub fn ping(
    namespace: &Namespace,
    source: Option<IpAddr>,
    address: IpAddr,
    count: u16,
    interval: Duration,
    patience: Duration,
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
    // Tells our answers from those of another ping in the same namespace.
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
        let end = if all_sent { sent_at.last().map_or(start, |last| *last + patience) } else { due };
        // A little longer than to the last answer, for a second one to the same request.
        if all_sent
            && (Instant::now() >= end || result.answered == u64::from(count) && quiet(&sent_at, interval))
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

/// Whether the last request is long enough ago for a duplicate answer to have come.
fn quiet(sent_at: &[Instant], interval: Duration) -> bool {
    sent_at.last().is_none_or(|last| last.elapsed() >= interval.max(Duration::from_millis(20)))
}

fn echo_request(address: IpAddr, identifier: u16, number: u16) -> Vec<u8> {
    let kind = if address.is_ipv4() { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend_from_slice(&identifier.to_be_bytes());
    message.extend_from_slice(&number.to_be_bytes());
    message.extend_from_slice(&[0x69; 48]);
    if address.is_ipv4() {
        // The kernel fills in the checksum of ICMPv6, not that of ICMP.
        let sum: u32 = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        message[2..4].copy_from_slice(&(!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes());
    }
    message
}

fn echo_reply(address: IpAddr, identifier: u16, bytes: &[u8]) -> Option<usize> {
    // A raw IPv4 socket gives the IP header too.
    let (message, kind) = match address {
        IpAddr::V4(_) => (bytes.get(usize::from(bytes.first()? & 15) * 4..)?, 0),
        IpAddr::V6(_) => (bytes, 129),
    };
    let ours = message.first()? == &kind && message.get(4..6)? == identifier.to_be_bytes();
    let number = u16::from_be_bytes(message.get(6..8)?.try_into().ok()?);
    ours.then_some(usize::from(number))
}

/// An Ethernet header.
pub fn ethernet(to: Mac, from: Mac, ethertype: u16) -> Vec<u8> {
    [&to[..], &from[..], &ethertype.to_be_bytes()].concat()
}

fn collect(
    socket: &PacketSocket,
    wait: Duration,
    mut answer: impl FnMut(&[u8]) -> Option<Mac>,
) -> Result<Vec<Answer>> {
    let deadline = Instant::now() + wait;
    let mut buffer = [0; 2048];
    let mut answers = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(answers);
        }
        let Some(seen) = socket.receive(&mut buffer, left)? else { continue };
        if let Some(mac) = answer(&buffer[..seen.length.min(2048)])
            && !seen.outgoing
        {
            answers.push(Answer { mac, at: Instant::now() });
        }
    }
}
