//! Captures probes on one interface: every echo message, ARP message and Neighbour Discovery message, with the
//! kernel's receive time.

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

/// A capture on an interface.
#[derive(Debug)]
pub struct ProbeCapture {
    socket: PacketSocket,
}

/// A captured frame.
#[derive(Clone, Debug)]
pub struct CapturedFrame {
    /// When the kernel received or sent it.
    pub at: Instant,
    /// Whether the interface sent it; otherwise it received it.
    pub outgoing: bool,
    /// Its Ethernet source.
    pub from: Mac,
    /// Its Ethernet destination.
    pub to: Mac,
    /// Its contents.
    pub message: Message,
    /// All its bytes.
    pub frame: Vec<u8>,
}

/// A probe or a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An echo request of `ipmpd`, or its reply.
    Echo {
        /// Whether it is the reply.
        reply: bool,
        /// IP source.
        source: IpAddr,
        /// IP destination.
        destination: IpAddr,
        /// ICMP identifier.
        identifier: u16,
        /// ICMP sequence number.
        sequence: u16,
        /// The random number after the mark.
        cookie: u64,
    },
    /// An ARP request or reply.
    Arp {
        /// Whether it is a reply.
        reply: bool,
        /// Sender protocol address.
        sender: Ipv4Addr,
        /// Target protocol address.
        target: Ipv4Addr,
    },
    /// A neighbour solicitation, or an advertisement.
    Nd {
        /// Whether it is an advertisement.
        reply: bool,
        /// IP source.
        source: Ipv6Addr,
        /// IP destination.
        destination: Ipv6Addr,
        /// Its target address.
        target: Ipv6Addr,
    },
}

impl ProbeCapture {
    /// Starts to capture.
    pub fn on(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = PacketSocket::open(namespace, Some(interface), &filter::control())?;
        socket.set_buffer(4 << 20)?;
        // The first call enables receive times.
        let _ = socket.received_at();
        Ok(Self { socket })
    }

    /// Returns all frames that were captured since the last call, and those of the next `time`.
    pub fn read(&self, time: Duration) -> Result<Vec<CapturedFrame>> {
        let (mut frames, mut error) = (Vec::new(), None);
        self.socket.receive_for(time, |seen, frame| {
            let Some(message) = Message::parse(frame) else { return };
            let (to, from) = macs(frame);
            match self.socket.received_at() {
                Ok(at) => frames.push(CapturedFrame {
                    at,
                    outgoing: seen.outgoing,
                    from,
                    to,
                    message,
                    frame: frame.to_vec(),
                }),
                Err(failed) => error = Some(failed),
            }
        })?;
        error.map_or(Ok(frames), Err)
    }
}

impl Message {
    /// Reads a frame.
    pub fn parse(frame: &[u8]) -> Option<Self> {
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
                    let target = v6(message.get(8..24)?)?;
                    return Some(Self::Nd { reply, source, destination, target });
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

/// Ethernet destination and source of a frame of 12 bytes or more.
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
    fn echo_messages_of_both_families_are_parsed() {
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
        assert_eq!(Message::parse(&v4), Some(of(false, "10.0.0.1", "10.0.0.2", 9, 0x1122)));
        let [source, destination] = [0xfd, 0xfe].map(|byte| Ipv6Addr::from([byte; 16]).to_string());
        assert_eq!(Message::parse(&v6), Some(of(true, &source, &destination, 10, 3)));
        for end in 0..v4.len() {
            assert_eq!(Message::parse(&v4[..end]), None, "{end}");
        }
        v4[ETHERNET + 20 + HEADER] = b'I';
        assert_eq!(Message::parse(&v4), None, "an echo request of another program");
    }

    #[test]
    fn arp_and_neighbour_discovery_are_parsed() {
        let arp = crate::neighbour::arp_request(US, [0, 0, 0, 0].into(), [10, 0, 0, 2].into()).unwrap();
        let (sender, target) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(Message::parse(&arp), Some(Message::Arp { reply: false, sender, target }));
        let (us, target) = ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap());
        let nd = crate::neighbour::neighbour_solicitation(US, us, target).unwrap();
        let destination = "ff02::1:ff00:2".parse().unwrap();
        assert_eq!(Message::parse(&nd), Some(Message::Nd { reply: false, source: us, destination, target }));
    }
}
