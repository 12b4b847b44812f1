//! A socket for changes that the kernel reports. It is read one datagram at a time: what is not read yet waits in the receive
//! buffer, whose size is fixed, so that very many events neither use memory nor delay what else the thread does.

use std::{io, ops::ControlFlow};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkMessage,
    packet_route::RouteNetlinkMessage,
    sys::{Socket, protocols::NETLINK_ROUTE},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::Error;

/// The longest datagram: the kernel writes no longer one.
const LONGEST: usize = 64 << 10;
/// Errors in a row that may pass.
const MAX_ERRORS: usize = 10;
/// Bytes of a `nlmsghdr`.
const HEADER: usize = 16;

/// A message of the kernel.
pub(super) type Message = NetlinkMessage<RouteNetlinkMessage>;

/// What the socket has received.
pub(super) enum Received {
    /// The messages of a datagram.
    Messages(Vec<Message>),
    /// The receive buffer was full: the kernel has dropped messages.
    Lost,
}

/// A socket that has joined multicast groups.
pub(super) struct EventSocket {
    socket: AsyncFd<Socket>,
    datagram: Vec<u8>,
}

impl EventSocket {
    /// Joins these groups in the network namespace of the calling thread, with a receive buffer of this size in bytes.
    pub fn open(groups: &[MulticastGroup], buffer: usize) -> Result<Self, Error> {
        let socket = join(groups, buffer).map_err(Error::Socket)?;
        // SAFETY: the socket owns its descriptor, returns the same one every time, and closes it when it is dropped.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
            .map_err(|error| Error::Socket(io::Error::other(error.to_string())))?;
        Ok(Self { socket, datagram: Vec::with_capacity(LONGEST) })
    }

    /// Waits for the next datagram. Cancelling the wait loses nothing.
    pub async fn receive(&mut self) -> Result<Received, Error> {
        let mut errors = 0;
        loop {
            let mut ready = self.socket.readable_mut().await.map_err(Error::Socket)?;
            match receive(ready.get_inner_mut(), &mut self.datagram) {
                Ok(received) => return Ok(received),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                // The daemon would end.
                Err(error) if errors < MAX_ERRORS => {
                    errors += 1;
                    log::debug!("netlink: {error}; once more");
                }
                Err(error) => return Err(Error::Socket(error)),
            }
        }
    }

    /// Receives a datagram that is waiting.
    pub fn try_receive(&mut self) -> Option<Received> {
        receive(self.socket.get_mut(), &mut self.datagram).ok()
    }
}

fn join(groups: &[MulticastGroup], buffer: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    if setsockopt(&socket, RcvBufForce, &buffer).is_err() {
        // Without CAP_NET_ADMIN over the namespace the limit of net.core.rmem_max holds; an overrun is noticed.
        let _ = socket.set_rx_buf_sz(buffer as u32);
    }
    socket.set_non_blocking(true)?;
    for group in groups {
        socket.add_membership(*group as u32)?;
    }
    Ok(socket)
}

fn receive(socket: &Socket, datagram: &mut Vec<u8>) -> io::Result<Received> {
    datagram.clear();
    loop {
        match socket.recv(datagram, libc::MSG_TRUNC) {
            Ok(length) if length > datagram.len() => return Ok(Received::Lost),
            Ok(_) => break,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Received::Lost),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut messages = Vec::new();
    let _ = each_message(datagram, |message| {
        messages.push(message);
        ControlFlow::<()>::Continue(())
    });
    Ok(Received::Messages(messages))
}

/// Parses the messages of a datagram one by one. One that cannot be parsed is left out.
pub(super) fn each_message<B>(
    datagram: &[u8],
    mut each: impl FnMut(Message) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut rest = datagram;
    while let Some(length) = rest.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
        let Some(message) = rest.get(..length).filter(|message| message.len() >= HEADER) else { break };
        match Message::deserialize(message) {
            Ok(message) => each(message)?,
            Err(error) => log::debug!("a netlink message cannot be parsed: {error}"),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    ControlFlow::Continue(())
}
