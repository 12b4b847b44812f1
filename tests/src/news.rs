//! What a plain netlink listener hears of carriers, and when: what every tool hears that waits for RTM_NEWLINK.
//!
//! It never asks. RTM_GETLINK would make the kernel tell at once what it holds back (design 4.2), for everybody.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::clock;
use crate::namespace::Namespace;

/// linux/rtnetlink.h: links that appear, change and go.
const RTNLGRP_LINK: u32 = 1;
/// How often the listener looks whether it is to stop.
const LOOK: u16 = 20;

/// A listener in a namespace, until it is dropped.
#[derive(Debug)]
pub struct CarrierNews {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    heard: Mutex<Vec<Heard>>,
}

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// The interface.
    pub index: u32,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// When the message was read.
    pub at: Instant,
}

impl CarrierNews {
    /// Listens in a namespace from now on.
    pub fn listen(namespace: &Namespace) -> Result<Self> {
        let socket = namespace
            .run(|| -> std::io::Result<Socket> {
                let mut socket = Socket::new(NETLINK_ROUTE)?;
                socket.bind(&SocketAddr::new(0, 0))?;
                socket.add_membership(RTNLGRP_LINK)?;
                socket.set_non_blocking(true)?;
                Ok(socket)
            })
            .with_context(|| format!("cannot listen to netlink in {}", namespace.name()))?;
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("carrier news".into())
            .spawn(move || listen(&socket, &theirs))
            .context("cannot start a netlink listener")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Waits until it is heard that an interface has, or has not, a carrier; only what was heard after `since` counts.
    /// Gives the time.
    pub fn wait(&self, index: u32, carrier: bool, since: Instant, patience: Duration) -> Result<Instant> {
        let find = || {
            let heard = self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let found = heard
                .iter()
                .find(|heard| heard.index == index && heard.carrier == carrier && heard.at >= since);
            found.map(|heard| heard.at)
        };
        clock::wait_until(patience, || find().is_some());
        let at = find();
        ensure!(
            at.is_some(),
            "no RTM_NEWLINK of interface {index} with carrier {carrier} within {patience:?}"
        );
        at.context("heard nothing")
    }
}

impl Drop for CarrierNews {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(socket: &Socket, shared: &Shared) {
    clock::keep_time();
    while !shared.stop.load(SeqCst) {
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut waiting, PollTimeout::from(LOOK));
        while let Ok((datagram, _)) = socket.recv_from_full() {
            let at = Instant::now();
            let news = carriers(&datagram).into_iter().map(|(index, carrier)| Heard { index, carrier, at });
            shared.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
        }
    }
}

/// The interfaces that a datagram tells of, and whether each has a carrier.
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
