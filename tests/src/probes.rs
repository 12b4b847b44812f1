//! Probes on the wire: a capture on one interface, which keeps every echo message, ARP message and neighbour
//! discovery message, and when the kernel saw it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::Result;
use ipmp_common::probe::{COOKIE_AT, ECHO, ECHO_REPLY, ECHO_REPLY_V6, ECHO_V6, HEADER, MARK, PAYLOAD};

use crate::namespace::Namespace;
use crate::packet::PacketSocket;
use crate::{Mac, filter};

/// Ethernet header.
const ETHERNET: usize = 14;
/// ICMPv6 types (RFC 4861).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// A listener on an interface.
#[derive(Debug)]
pub struct Capture {
    socket: PacketSocket,
}

/// A frame that was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When the kernel had it.
    pub at: Instant,
    /// It left through the interface; else it came in.
    pub outgoing: bool,
    /// Its Ethernet source.
    pub from: Mac,
    /// Its Ethernet destination.
    pub to: Mac,
    /// What it says.
    pub message: Message,
    /// All of it.
    pub frame: Vec<u8>,
}

/// What probes, and what answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An echo request that carries our mark, or its reply.
    Echo {
        /// It is the reply.
        reply: bool,
        /// IP source.
        source: IpAddr,
        /// IP destination.
        destination: IpAddr,
        /// ICMP identifier.
        identifier: u16,
        /// ICMP sequence number.
        sequence: u16,
        /// The random number behind the mark.
        cookie: u64,
    },
    /// An ARP request or reply.
    Arp {
        /// It is a reply.
        reply: bool,
        /// Sender protocol address.
        sender: Ipv4Addr,
        /// Target protocol address.
        target: Ipv4Addr,
    },
    /// A neighbour solicitation, or an advertisement.
    Nd {
        /// It is an advertisement.
        reply: bool,
        /// IP source.
        source: Ipv6Addr,
        /// IP destination.
        destination: Ipv6Addr,
        /// The address that it is about.
        about: Ipv6Addr,
    },
}

impl Capture {
    /// Listens from now on.
    pub fn on(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = PacketSocket::open(namespace, Some(interface), &filter::control())?;
        socket.set_buffer(4 << 20)?;
        // From the first question on, the kernel stamps what it receives.
        let _ = socket.received_at();
        Ok(Self { socket })
    }

    /// Gives everything that was heard since the last call, and what comes within `time`.
    pub fn listen(&self, time: Duration) -> Result<Vec<Heard>> {
        let end = Instant::now() + time;
        let mut buffer = [0; 2048];
        let mut heard = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(seen) = self.socket.receive(&mut buffer, left)? else {
                if left.is_zero() {
                    return Ok(heard);
                }
                continue;
            };
            let frame = &buffer[..seen.length.min(2048)];
            let Some(message) = Message::of(frame) else { continue };
            let (to, from) = macs(frame);
            let at = self.socket.received_at()?;
            heard.push(Heard { at, outgoing: seen.outgoing, from, to, message, frame: frame.to_vec() });
        }
    }
}

impl Message {
    /// Reads a frame.
    pub fn of(frame: &[u8]) -> Option<Self> {
        match frame.get(12..ETHERNET)? {
            [0x08, 0x06] => {
                let v4 = |at: usize| <[u8; 4]>::try_from(frame.get(at..at + 4)?).ok().map(Ipv4Addr::from);
                let reply = match frame.get(20..22)? {
                    [0, 1] => false,
                    [0, 2] => true,
                    _ => return None,
                };
                Some(Self::Arp { reply, sender: v4(28)?, target: v4(38)? })
            }
            [0x08, 0x00] => {
                let v4 = |at: usize| <[u8; 4]>::try_from(frame.get(at..at + 4)?).ok().map(IpAddr::from);
                let header = usize::from(frame.get(ETHERNET)? & 15) * 4;
                if frame.get(23)? != &1 {
                    return None;
                }
                echo(frame.get(ETHERNET + header..)?, [ECHO, ECHO_REPLY], v4(26)?, v4(30)?)
            }
            [0x86, 0xdd] => {
                let v6 = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from);
                let (source, destination) = (v6(frame.get(22..38)?)?, v6(frame.get(38..54)?)?);
                if frame.get(20)? != &58 {
                    return None;
                }
                let message = frame.get(54..)?;
                let kind = *message.first()?;
                if [SOLICITATION, ADVERTISEMENT].contains(&kind) {
                    let reply = kind == ADVERTISEMENT;
                    let about = v6(message.get(8..24)?)?;
                    return Some(Self::Nd { reply, source, destination, about });
                }
                echo(message, [ECHO_V6, ECHO_REPLY_V6], source.into(), destination.into())
            }
            _ => None,
        }
    }
}

fn echo(message: &[u8], kinds: [u8; 2], source: IpAddr, destination: IpAddr) -> Option<Message> {
    let kind = kinds.iter().position(|kind| Some(kind) == message.first())?;
    let two = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let payload = message.get(HEADER..HEADER + PAYLOAD)?;
    if payload[..MARK.len()] != MARK {
        return None;
    }
    let cookie = u64::from_le_bytes(payload[COOKIE_AT..].try_into().ok()?);
    let (identifier, sequence) = (two(4)?, two(6)?);
    Some(Message::Echo { reply: kind == 1, source, destination, identifier, sequence, cookie })
}

/// Destination and source of a frame that is long enough to be one.
fn macs(frame: &[u8]) -> (Mac, Mac) {
    let mac = |at: usize| frame[at..at + 6].try_into().expect("six bytes");
    (mac(0), mac(6))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const US: Mac = [2, 0, 0, 0, 0, 1];
    const THEM: Mac = [2, 0, 0, 0, 0, 2];

    fn payload(cookie: u64) -> Vec<u8> {
        [&MARK[..], &cookie.to_le_bytes()].concat()
    }

    #[test]
    fn echo_messages_are_read_in_both_families() {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let ether = || PacketBuilder::ethernet2(US, THEM);
        let built = ether().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 1).icmpv4_echo_request(7, 9);
        built.write(&mut v4, &payload(0x1122)).unwrap();
        let built = ether().ipv6([0xfd; 16], [0xfe; 16], 1).icmpv6_echo_reply(7, 10);
        built.write(&mut v6, &payload(3)).unwrap();
        let of = |reply, source: &str, destination: &str, sequence, cookie| Message::Echo {
            reply,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            identifier: 7,
            sequence,
            cookie,
        };
        assert_eq!(Message::of(&v4), Some(of(false, "10.0.0.1", "10.0.0.2", 9, 0x1122)));
        let [source, destination] = [0xfd, 0xfe].map(|byte| Ipv6Addr::from([byte; 16]).to_string());
        assert_eq!(Message::of(&v6), Some(of(true, &source, &destination, 10, 3)));
        for end in 0..v4.len() {
            assert_eq!(Message::of(&v4[..end]), None, "{end}");
        }
        v4[ETHERNET + 20 + HEADER] = b'I';
        assert_eq!(Message::of(&v4), None, "an echo request of somebody else");
    }

    #[test]
    fn arp_and_neighbour_discovery_are_read() {
        let arp = crate::host::arp_request(US, [0, 0, 0, 0].into(), [10, 0, 0, 2].into()).unwrap();
        let (sender, target) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(Message::of(&arp), Some(Message::Arp { reply: false, sender, target }));
        let (us, about) = ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap());
        let nd = crate::host::solicitation(US, us, about).unwrap();
        let destination = "ff02::1:ff00:2".parse().unwrap();
        assert_eq!(Message::of(&nd), Some(Message::Nd { reply: false, source: us, destination, about }));
    }
}
