//! Changes of routes that the kernel reports.

use rtnetlink::{
    MulticastGroup,
    packet_core::{NLM_F_REPLACE, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};

use super::{
    Error, Route,
    event_socket::{EventSocket, Message, Received},
};

/// Receive buffer in bytes: some thousand events. After an overrun the table is read again.
const BUFFER: usize = 4 << 20;

/// A change of routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// A route was added.
    Added(Route),
    /// It was added in the place of another one.
    Replaced(Route),
    /// It was removed.
    Removed(Route),
    /// Events were lost.
    Lost,
}

/// A subscription to the changes of routes of a network namespace: that of the thread that opened it.
pub struct RouteWatch(EventSocket);

impl RouteWatch {
    /// Subscribes.
    pub fn open() -> Result<Self, Error> {
        let groups = [MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        EventSocket::open(&groups, BUFFER).map(Self)
    }

    /// Waits for the next changes. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Result<Vec<RouteChange>, Error> {
        self.0.receive().await.map(changes)
    }

    /// The next changes, if there are any now.
    pub fn try_next(&mut self) -> Option<Vec<RouteChange>> {
        self.0.try_receive().map(changes)
    }
}

fn changes(received: Received) -> Vec<RouteChange> {
    match received {
        Received::Messages(messages) => messages.into_iter().filter_map(change).collect(),
        Received::Lost => vec![RouteChange::Lost],
    }
}

fn change(message: Message) -> Option<RouteChange> {
    let replaces = message.header.flags & NLM_F_REPLACE != 0;
    match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
            let kind = if replaces { RouteChange::Replaced } else { RouteChange::Added };
            Route::leading(route).map(kind)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(route)) => {
            Route::leading(route).map(RouteChange::Removed)
        }
        NetlinkPayload::Overrun(_) => Some(RouteChange::Lost),
        _ => None,
    }
}
