//! A netlink listener that records when it receives carrier changes, as every program that waits for RTM_NEWLINK does.
//!
//! It never sends RTM_GETLINK: a request makes the kernel deliver delayed link events at once, to all listeners
//! (docs/design/sentinel.md).

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::namespace::Namespace;
use crate::{Worker, clock, wait_until};

/// linux/rtnetlink.h: links added, changed and removed.
const RTNLGRP_LINK: u32 = 1;
/// How often the listener checks whether it must stop, in milliseconds.
const POLL_MS: u16 = 20;

/// A listener in a namespace, until it is dropped.
#[derive(Debug)]
pub struct LinkMonitor {
    events: Arc<Mutex<Vec<LinkEvent>>>,
    _worker: Worker<()>,
}

/// An RTM_NEWLINK message.
#[derive(Clone, Copy, Debug)]
struct LinkEvent {
    index: u32,
    carrier: bool,
    /// When the message was read.
    at: Instant,
}

impl LinkMonitor {
    /// Starts to listen in a namespace.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let socket = namespace
            .run(|| -> std::io::Result<Socket> {
                let mut socket = Socket::new(NETLINK_ROUTE)?;
                socket.bind(&SocketAddr::new(0, 0))?;
                socket.add_membership(RTNLGRP_LINK)?;
                socket.set_non_blocking(true)?;
                Ok(socket)
            })
            .with_context(|| format!("cannot listen to netlink in {}", namespace.name()))?;
        let events = Arc::default();
        let for_thread = Arc::clone(&events);
        let worker = Worker::start("link monitor", move |stop| receive(&socket, &for_thread, stop))?;
        Ok(Self { events, _worker: worker })
    }

    /// Waits for a message, read after `since`, in which the carrier of an interface is `carrier`. Returns when it was
    /// read.
    pub fn wait(&self, index: u32, carrier: bool, since: Instant, timeout: Duration) -> Result<Instant> {
        let mut at = None;
        wait_until(timeout, || {
            let events = locked(&self.events);
            let is_wanted =
                |event: &&LinkEvent| event.index == index && event.carrier == carrier && event.at >= since;
            at = events.iter().find(is_wanted).map(|event| event.at);
            at.is_some()
        });
        at.with_context(|| {
            format!("no RTM_NEWLINK of interface {index} with carrier {carrier} within {timeout:?}")
        })
    }
}

fn locked(events: &Mutex<Vec<LinkEvent>>) -> MutexGuard<'_, Vec<LinkEvent>> {
    events.lock().unwrap_or_else(PoisonError::into_inner)
}

fn receive(socket: &Socket, events: &Mutex<Vec<LinkEvent>>, stop: &AtomicBool) {
    clock::use_realtime_priority();
    while !stop.load(SeqCst) {
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut waiting, PollTimeout::from(POLL_MS));
        while let Ok((datagram, _)) = socket.recv_from_full() {
            let at = Instant::now();
            let carriers = carriers(&datagram).into_iter();
            locked(events).extend(carriers.map(|(index, carrier)| LinkEvent { index, carrier, at }));
        }
    }
}

/// Index and carrier of each interface in a datagram.
fn carriers(mut rest: &[u8]) -> Vec<(u32, bool)> {
    let mut found = Vec::new();
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
        let length = (message.header.length as usize).next_multiple_of(4).clamp(16, rest.len());
        rest = &rest[length..];
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = message.payload else {
            continue;
        };
        let carrier = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Carrier(carrier) => Some(*carrier != 0),
            _ => None,
        });
        found.extend(carrier.map(|carrier| (link.header.index, carrier)));
    }
    found
}
