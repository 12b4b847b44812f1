//! Sends spoofed replies to the probes of a member.
//!
//! A spoofer works at the switch port of a cable. It receives probes before the port drops them and sends replies
//! past the port's filters, so that it also works while the cable is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use anyhow::Result;
use ipmp_common::probe::{COOKIE_AT, ECHO_REPLY, HEADER};

use crate::cable::Cable;
use crate::packet::PacketSocket;
use crate::probe_capture::Message;
use crate::{Mac, Worker, clock, filter};

/// Offset of the ICMP message in a probe: an Ethernet header, and an IPv4 header without options.
const ICMP: usize = 14 + 20;

/// A running spoofer. Dropping it stops it.
#[derive(Debug)]
pub struct Spoofer {
    sent: Arc<AtomicU64>,
    worker: Worker<Result<()>>,
}

impl Spoofer {
    /// Receives probes from the cable `from` and sends what `spoof` makes of each into the cable `into`.
    pub fn start(
        from: &Cable,
        into: &Cable,
        mut spoof: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let open = |cable: &Cable| {
            let far = cable.far();
            PacketSocket::open(&far.namespace, Some(&far.interface), &filter::control())
        };
        let (receiving, sending) = (open(from)?, open(into)?);
        sending.bypass_queues()?;
        let sent = Arc::new(AtomicU64::new(0));
        let count = sent.clone();
        let worker = Worker::start("spoofer", move |stop| {
            clock::use_realtime_priority();
            let mut result = Ok(());
            receiving.receive_until(stop, |seen, frame| {
                if seen.outgoing || !is_probe(frame) || result.is_err() || stop.load(SeqCst) {
                    return;
                }
                if let Some(reply) = spoof(frame) {
                    result = sending.send(&reply);
                    count.fetch_add(1, SeqCst);
                }
            })?;
            result
        })?;
        Ok(Self { sent, worker })
    }

    /// Replies sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
    }

    /// Stops it and returns how many replies it has sent.
    pub fn stop(self) -> Result<u64> {
        self.worker.stop()?;
        Ok(self.sent.load(SeqCst))
    }
}

fn is_probe(frame: &[u8]) -> bool {
    matches!(
        Message::parse(frame),
        Some(Message::Echo { reply: false, .. } | Message::Arp { reply: false, .. })
    )
}

/// The reply of the target to an IPv4 probe: an echo reply or an ARP reply.
pub fn reply_to(probe: &[u8], target: Mac) -> Option<Vec<u8>> {
    let sender = probe.get(6..12)?.to_vec();
    let mut reply = probe.to_vec();
    reply[..6].copy_from_slice(&sender);
    reply[6..12].copy_from_slice(&target);
    match Message::parse(probe)? {
        Message::Echo { reply: false, source, .. } if source.is_ipv4() => {
            reply[26..30].copy_from_slice(&probe[30..34]);
            reply[30..34].copy_from_slice(&probe[26..30]);
            reply[ICMP] = ECHO_REPLY;
            Some(with_checksum(reply))
        }
        Message::Arp { reply: false, .. } => {
            reply[21] = 2;
            reply[22..28].copy_from_slice(&target);
            reply[28..32].copy_from_slice(&probe[38..42]);
            reply[32..38].copy_from_slice(&sender);
            reply[38..42].copy_from_slice(&probe[28..32]);
            Some(reply)
        }
        _ => None,
    }
}

/// An echo reply with its cookie changed.
pub fn with_wrong_cookie(mut reply: Vec<u8>) -> Vec<u8> {
    reply[ICMP + HEADER + COOKIE_AT] ^= 1;
    with_checksum(reply)
}

/// A reply with another Ethernet destination.
pub fn with_destination(mut reply: Vec<u8>, mac: Mac) -> Vec<u8> {
    reply[..6].copy_from_slice(&mac);
    reply
}

/// Sets the ICMP checksum of an IPv4 frame without padding.
fn with_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    frame[ICMP + 2..ICMP + 4].fill(0);
    let pairs = frame[ICMP..].chunks(2);
    let sum: u32 = pairs.map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    frame[ICMP + 2..ICMP + 4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Slice, PacketBuilder};
    use ipmp_common::probe::MARK;
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const SENDER: Mac = [2, 0, 0, 0, 0, 1];
    const TARGET: Mac = [2, 0, 0, 0, 0, 2];

    fn probe() -> Vec<u8> {
        let mut frame = Vec::new();
        let ether = PacketBuilder::ethernet2(SENDER, TARGET);
        let built = ether.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).icmpv4_echo_request(7, 9);
        built.write(&mut frame, &[&MARK[..], &77u64.to_le_bytes()].concat()).unwrap();
        frame
    }

    #[test]
    fn echo_reply_matches_probe_and_wrong_cookie_differs_in_one_bit() {
        let reply = reply_to(&probe(), TARGET).unwrap();
        assert_eq!((&reply[..6], &reply[6..12]), (&SENDER[..], &TARGET[..]));
        let of = |cookie| Message::Echo {
            reply: true,
            source: IpAddr::from([10, 0, 0, 2]),
            destination: IpAddr::from([10, 0, 0, 1]),
            identifier: 7,
            sequence: 9,
            cookie,
        };
        assert_eq!(Message::parse(&reply), Some(of(77)));
        let wrong = with_wrong_cookie(reply.clone());
        assert_eq!(Message::parse(&wrong), Some(of(76)));
        for reply in [reply, wrong] {
            let slice = Icmpv4Slice::from_slice(&reply[ICMP..]).unwrap();
            assert_eq!(slice.icmp_type().calc_checksum(slice.payload()), slice.checksum());
        }
    }

    #[test]
    fn reply_to_arp_probe_has_unspecified_target() {
        let target = Ipv4Addr::new(10, 0, 0, 2);
        let probe = crate::neighbour::arp_request(SENDER, Ipv4Addr::UNSPECIFIED, target).unwrap();
        let reply = reply_to(&probe, TARGET).unwrap();
        let expected = Message::Arp { reply: true, sender: target, target: Ipv4Addr::UNSPECIFIED };
        assert_eq!(Message::parse(&reply), Some(expected));
        assert_eq!(&reply[22..28], &TARGET);
        assert!(reply_to(&reply, SENDER).is_none(), "a reply to a reply");
    }
}
