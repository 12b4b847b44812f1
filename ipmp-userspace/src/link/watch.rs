//! Changes that the kernel reports: of interfaces and addresses; and, on a separate connection, of neighbours, routes, qdiscs
//! and filters: a router's whole table must not delay the others.

use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use rtnetlink::{
    MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::AsyncSocket,
};

use super::{Address, Device, Error, Neighbour, Route, test_address};

/// Receive buffer in bytes: some ten thousand events.
const BUFFER: usize = 8 << 20;

/// Enough for a task to read what a socket holds.
const SETTLE: Duration = Duration::from_millis(1);

/// Something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An interface is new, or something about it is.
    Device(Device),
    /// An interface was deleted, or moved to another network namespace.
    Removed {
        /// Its index.
        ifindex: u32,
    },
    /// An interface has this address, or something about it is new.
    Address {
        /// The interface.
        ifindex: u32,
        /// The address.
        address: Address,
    },
    /// An address was removed.
    AddressRemoved {
        /// The interface.
        ifindex: u32,
        /// The address.
        address: Address,
    },
    /// There is a neighbour, or something about it is new.
    Neighbour(Neighbour),
    /// A route was added or removed.
    Route(Route),
    /// The rule of a test address was removed.
    TestRuleRemoved {
        /// The interface with the test address.
        ifindex: u32,
    },
    /// A qdisc or a filter of an interface was added, changed or removed.
    TrafficControl {
        /// The interface.
        ifindex: u32,
    },
    /// Events were lost: everything must be read anew.
    Lost,
}

/// A subscription to the changes of a network namespace: that of the thread that opened it.
pub struct Watch {
    groups: &'static [MulticastGroup],
    events: Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Unpin>,
}

impl Watch {
    /// Subscribes to interfaces and addresses, and spawns the task of the connection on the current runtime.
    pub fn open() -> Result<Self, Error> {
        Self::of(&[MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr])
    }

    /// Subscribes to neighbours, rules, routes, qdiscs and filters.
    pub fn surroundings() -> Result<Self, Error> {
        Self::of(&[
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Tc,
        ])
    }

    fn of(groups: &'static [MulticastGroup]) -> Result<Self, Error> {
        let (mut connection, _, events) = new_multicast_connection(groups).map_err(Error::Socket)?;
        let socket = connection.socket_mut().socket_mut();
        if setsockopt(socket, RcvBufForce, &BUFFER).is_err() {
            // Without CAP_NET_ADMIN over the namespace the limit of net.core.rmem_max holds; an overrun is noticed.
            let _ = socket.set_rx_buf_sz(BUFFER as u32);
        }
        tokio::spawn(connection);
        Ok(Self { groups, events: Box::new(events.map(|(message, _)| message)) })
    }

    /// Waits for the next change. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            match self.events.next().await {
                Some(message) => {
                    if let Some(change) = change(message.payload) {
                        return Ok(change);
                    }
                }
                // The connection ended, by an error of the socket or a message it could not read.
                None => {
                    *self = Self::of(self.groups)?;
                    return Ok(Change::Lost);
                }
            }
        }
    }

    /// Forgets the changes that are queued: everything is about to be read.
    pub async fn skip(&mut self) {
        // The connection's task reads the socket; this lets it.
        tokio::time::sleep(SETTLE).await;
        while self.events.next().now_or_never().flatten().is_some() {}
    }
}

fn change(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Change> {
    match payload {
        NetlinkPayload::Overrun(_) => Some(Change::Lost),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
            Some(Change::Device(Device::parse(&message)))
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
            // A bridge announces the removal of a port in the same words, in a family of its own.
            (message.header.interface_family == rtnetlink::packet_route::AddressFamily::Unspec)
                .then_some(Change::Removed { ifindex: message.header.index })
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => {
            Address::parse(&message).map(|(ifindex, address)| Change::Address { ifindex, address })
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => {
            Address::parse(&message).map(|(ifindex, address)| Change::AddressRemoved { ifindex, address })
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => {
            Neighbour::parse(&message).map(Change::Neighbour)
        }
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message),
        ) => Route::parse(message).map(Change::Route),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRule(message)) => {
            test_address::member_of(&message).map(|ifindex| Change::TestRuleRemoved { ifindex })
        }
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewQueueDiscipline(message)
            | RouteNetlinkMessage::DelQueueDiscipline(message)
            | RouteNetlinkMessage::NewTrafficFilter(message)
            | RouteNetlinkMessage::DelTrafficFilter(message),
        ) => u32::try_from(message.header.index).ok().map(|ifindex| Change::TrafficControl { ifindex }),
        _ => None,
    }
}
