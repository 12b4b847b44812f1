//! Somebody on a cable who hears the probes of a member, and answers them with something that is not their answer.
//!
//! It sits in the port at the far end: it hears what comes out of the cable before the port drops it, and says
//! something into the cable past what the port drops, so that it is also there when the cable is cut silently.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ipmp_common::probe::{COOKIE_AT, ECHO_REPLY, HEADER};

use crate::cable::Cable;
use crate::packet::PacketSocket;
use crate::probes::Message;
use crate::{Mac, clock, filter};

/// How often it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);
/// Where the ICMP message begins in a probe: Ethernet, and an IPv4 header without options.
const ICMP: usize = 14 + 20;

/// A forger at work. Dropping it stops it.
#[derive(Debug)]
pub struct Forger {
    stop: Arc<AtomicBool>,
    said: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Forger {
    /// Hears the probes that come out of the cable `hears`, and says into the cable `says` what `forge` makes of each.
    pub fn start(
        hears: &Cable,
        says: &Cable,
        mut forge: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let open = |cable: &Cable| {
            let far = cable.far();
            PacketSocket::open(&far.namespace, Some(&far.interface), &filter::control())
        };
        let (ear, mouth) = (open(hears)?, open(says)?);
        mouth.bypass_queues()?;
        let (stop, said) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), said.clone());
        let thread = std::thread::spawn(move || {
            clock::keep_time();
            let mut buffer = [0; 2048];
            while !stopped.load(SeqCst) {
                let Some(seen) = ear.receive(&mut buffer, LOOK)? else { continue };
                let frame = &buffer[..seen.length.min(2048)];
                if seen.outgoing || !asks(frame) {
                    continue;
                }
                if let Some(forged) = forge(frame) {
                    mouth.send(&forged)?;
                    count.fetch_add(1, SeqCst);
                }
            }
            Ok(())
        });
        Ok(Self { stop, said, thread: Some(thread) })
    }

    /// Forgeries that it has said so far.
    pub fn said(&self) -> u64 {
        self.said.load(SeqCst)
    }

    /// Stops it; gives how many forgeries it has said.
    pub fn stop(mut self) -> Result<u64> {
        self.end()?;
        Ok(self.said())
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, SeqCst);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("the forger has panicked"))?
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn asks(frame: &[u8]) -> bool {
    matches!(Message::of(frame), Some(Message::Echo { reply: false, .. } | Message::Arp { reply: false, .. }))
}

/// What its target would answer to an IPv4 probe: an echo reply, or an ARP reply.
pub fn answer(probe: &[u8], target: Mac) -> Option<Vec<u8>> {
    let asker = probe.get(6..12)?.to_vec();
    let mut reply = probe.to_vec();
    reply[..6].copy_from_slice(&asker);
    reply[6..12].copy_from_slice(&target);
    match Message::of(probe)? {
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
            reply[32..38].copy_from_slice(&asker);
            reply[38..42].copy_from_slice(&probe[28..32]);
            Some(reply)
        }
        _ => None,
    }
}

/// The same echo reply with another cookie.
pub fn with_wrong_cookie(mut reply: Vec<u8>) -> Vec<u8> {
    reply[ICMP + HEADER + COOKIE_AT] ^= 1;
    with_checksum(reply)
}

/// The same reply to another MAC.
pub fn to(mut reply: Vec<u8>, mac: Mac) -> Vec<u8> {
    reply[..6].copy_from_slice(&mac);
    reply
}

/// The ICMP checksum of an IPv4 frame that ends with its packet.
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

    const US: Mac = [2, 0, 0, 0, 0, 1];
    const THEM: Mac = [2, 0, 0, 0, 0, 2];

    fn probe() -> Vec<u8> {
        let mut frame = Vec::new();
        let ether = PacketBuilder::ethernet2(US, THEM);
        let built = ether.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).icmpv4_echo_request(7, 9);
        built.write(&mut frame, &[&MARK[..], &77u64.to_le_bytes()].concat()).unwrap();
        frame
    }

    #[test]
    fn an_answer_is_what_the_target_would_say_and_a_wrong_cookie_is_one_bit_off() {
        let reply = answer(&probe(), THEM).unwrap();
        assert_eq!((&reply[..6], &reply[6..12]), (&US[..], &THEM[..]));
        let of = |cookie| Message::Echo {
            reply: true,
            source: IpAddr::from([10, 0, 0, 2]),
            destination: IpAddr::from([10, 0, 0, 1]),
            identifier: 7,
            sequence: 9,
            cookie,
        };
        assert_eq!(Message::of(&reply), Some(of(77)));
        let wrong = with_wrong_cookie(reply.clone());
        assert_eq!(Message::of(&wrong), Some(of(76)));
        for reply in [reply, wrong] {
            let slice = Icmpv4Slice::from_slice(&reply[ICMP..]).unwrap();
            assert_eq!(slice.icmp_type().calc_checksum(slice.payload()), slice.checksum());
        }
    }

    #[test]
    fn an_arp_probe_is_answered_to_nobody_s_address() {
        let target = Ipv4Addr::new(10, 0, 0, 2);
        let probe = crate::host::arp_request(US, Ipv4Addr::UNSPECIFIED, target).unwrap();
        let reply = answer(&probe, THEM).unwrap();
        let said = Message::Arp { reply: true, sender: target, target: Ipv4Addr::UNSPECIFIED };
        assert_eq!(Message::of(&reply), Some(said));
        assert_eq!(&reply[22..28], &THEM);
        assert!(answer(&reply, US).is_none(), "an answer is not answered");
    }
}
