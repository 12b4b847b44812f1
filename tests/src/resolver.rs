//! Resolves addresses from a host of the lab many times, and records every reply to each request.
//!
//! Each request has a sender address of its own, which the reply repeats. So a late reply can still be assigned to its
//! request. The neighbour tables of the requesting host are not used.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::host::{Host, INTERFACE};
use crate::neighbour::{NeighbourReply, arp_request, neighbour_solicitation};
use crate::packet::PacketSocket;
use crate::{Mac, Worker, filter, wait_until};

/// Last bytes of the IPv4 sender addresses.
const SENDERS: std::ops::RangeInclusive<u8> = 23..=199;

/// Sends requests from one host and records the replies.
#[derive(Debug)]
pub struct Resolver {
    mac: Mac,
    socket: PacketSocket,
    senders: Mutex<Senders>,
    requests: Arc<Mutex<Vec<Request>>>,
    receiver: Worker<()>,
}

/// Sender addresses that are not used yet.
#[derive(Debug)]
struct Senders {
    v4: Vec<IpAddr>,
    v6: u16,
}

/// A request and its replies.
#[derive(Clone, Debug)]
pub struct Request {
    /// The address to resolve.
    pub target: IpAddr,
    /// The sender address of the request.
    pub sender: IpAddr,
    /// When it was sent.
    pub sent: Instant,
    /// Its replies so far.
    pub replies: Vec<Reply>,
}

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The MAC in the message.
    pub mac: Mac,
    /// The Ethernet source of the frame.
    pub source: Mac,
}

impl Resolver {
    /// Receives replies on the interface of a host. IPv4 requests are sent from 192.168.178.23 to .199, except from the
    /// addresses in `in_use`.
    pub fn open(host: &Host, in_use: &[IpAddr]) -> Result<Self> {
        let [a, b, c, _] = host.v4.octets();
        let v4 = SENDERS.rev().map(|last| IpAddr::from([a, b, c, last]));
        let v4 = v4.filter(|address| !in_use.contains(address)).collect();
        let open = || PacketSocket::open(&host.namespace, Some(INTERFACE), &filter::neighbour_replies());
        let (socket, receiving) = (open()?, open()?);
        receiving.set_buffer(4 << 20)?;
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let for_thread = requests.clone();
        let receiver = Worker::start("resolver", move |stop| {
            let missed = receiving.receive_until(stop, |seen, frame| {
                if !seen.outgoing {
                    record(&mut locked(&for_thread), frame);
                }
            });
            assert_eq!(missed.expect("a packet socket"), 0, "the resolver missed frames");
        })?;
        Ok(Self { mac: host.mac, socket, senders: Mutex::new(Senders { v4, v6: 0 }), requests, receiver })
    }

    /// Sends one request and returns its number.
    pub fn request(&self, target: IpAddr) -> Result<usize> {
        let sender = self.sender_for(target)?;
        let frame = match (sender, target) {
            (IpAddr::V4(sender), IpAddr::V4(target)) => arp_request(self.mac, sender, target)?,
            (IpAddr::V6(sender), IpAddr::V6(target)) => neighbour_solicitation(self.mac, sender, target)?,
            _ => anyhow::bail!("{sender} and {target} are not of one family"),
        };
        let number = {
            let mut requests = locked(&self.requests);
            requests.push(Request { target, sender, sent: Instant::now(), replies: Vec::new() });
            requests.len() - 1
        };
        self.socket.send(&frame)?;
        Ok(number)
    }

    fn sender_for(&self, target: IpAddr) -> Result<IpAddr> {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if target.is_ipv4() {
            return senders.v4.pop().context("no IPv4 sender address is left");
        }
        senders.v6 += 1;
        Ok(Ipv6Addr::new(0xfd00, 0x178, 0, 0, 0, 0, 0xa, senders.v6).into())
    }

    /// Waits until a request has a reply; an error after `timeout`.
    pub fn wait_reply(&self, number: usize, timeout: Duration) -> Result<Request> {
        let replied = wait_until(timeout, || !locked(&self.requests)[number].replies.is_empty());
        let request = locked(&self.requests)[number].clone();
        ensure!(replied, "no reply to a request for {} within {timeout:?}", request.target);
        Ok(request)
    }

    /// Stops receiving and returns all requests with their replies.
    pub fn close(self) -> Vec<Request> {
        self.receiver.stop();
        std::mem::take(&mut *locked(&self.requests))
    }
}

fn locked(requests: &Mutex<Vec<Request>>) -> MutexGuard<'_, Vec<Request>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(requests: &mut [Request], frame: &[u8]) {
    let Some(reply) = NeighbourReply::parse(frame) else { return };
    let Some(source) = frame.get(6..12).and_then(|source| Mac::try_from(source).ok()) else { return };
    let is_for = |request: &&mut Request| (request.target, request.sender) == (reply.target, reply.requester);
    if let Some(request) = requests.iter_mut().find(is_for) {
        request.replies.push(Reply { mac: reply.mac, source });
    }
}
