//! Changes that the kernel reports: of interfaces and addresses; and, on a separate socket, of neighbours, rules, qdiscs and
//! filters: these must not delay the others. Changes of routes are received in another thread, by
//! [`RouteWatch`](super::RouteWatch).

use std::{collections::VecDeque, net::Ipv4Addr};

use rtnetlink::{MulticastGroup, packet_core::NetlinkPayload, packet_route::RouteNetlinkMessage};

use super::{
    Address, Device, Error, Neighbour,
    event_socket::{EventSocket, Received},
    test_address,
};

/// Receive buffer in bytes: some ten thousand events.
const BUFFER: usize = 8 << 20;

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
    /// The rule of a test address was removed.
    TestRuleRemoved {
        /// The interface with the test address.
        ifindex: u32,
        /// The test address.
        ip: Ipv4Addr,
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
    socket: EventSocket,
    /// Further changes of the datagram that was received last.
    changes: VecDeque<Change>,
}

impl Watch {
    /// Subscribes to interfaces and addresses.
    pub fn open() -> Result<Self, Error> {
        Self::of(&[MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr])
    }

    /// Subscribes to neighbours, rules, qdiscs and filters.
    pub fn surroundings() -> Result<Self, Error> {
        Self::of(&[MulticastGroup::Neigh, MulticastGroup::Ipv4Rule, MulticastGroup::Tc])
    }

    fn of(groups: &[MulticastGroup]) -> Result<Self, Error> {
        Ok(Self { socket: EventSocket::open(groups, BUFFER)?, changes: VecDeque::new() })
    }

    /// Waits for the next change. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Ok(change);
            }
            match self.socket.receive().await? {
                Received::Messages(messages) => {
                    self.changes.extend(messages.into_iter().filter_map(|message| change(message.payload)));
                }
                Received::Lost => return Ok(Change::Lost),
            }
        }
    }

    /// The next change, if it was reported already.
    pub fn try_next(&mut self) -> Option<Change> {
        self.receive_waiting();
        self.changes.pop_front()
    }

    fn receive_waiting(&mut self) {
        if self.changes.is_empty() {
            match self.socket.try_receive() {
                Some(Received::Messages(messages)) => {
                    self.changes.extend(messages.into_iter().filter_map(|message| change(message.payload)));
                }
                Some(Received::Lost) => self.changes.push_back(Change::Lost),
                None => {}
            }
        }
    }

    /// The same, if it is one of addresses.
    pub fn next_address(&mut self) -> Option<Change> {
        self.receive_waiting();
        let is_of_address =
            |change: &mut Change| matches!(change, Change::Address { .. } | Change::AddressRemoved { .. });
        self.changes.pop_front_if(is_of_address)
    }

    /// Forgets the changes that are queued: everything is about to be read.
    pub fn skip(&mut self) {
        self.changes.clear();
        while self.socket.try_receive().is_some() {}
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
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRule(message)) => {
            test_address::of_rule(&message).map(|(ifindex, ip)| Change::TestRuleRemoved { ifindex, ip })
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
