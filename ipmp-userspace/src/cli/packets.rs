//! Unicast IP packets that the members of a group send and receive, read by packet sockets.
//!
//! The kernel copies the headers of a packet to a socket after it has chosen the member, so that this is what was observed, whatever
//! the hash policy. A large TCP segment is one packet here, as it is before the NIC or the kernel segments it.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    time::{Duration, Instant},
};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use nix::{
    errno::Errno,
    libc,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
    sys::socket::{LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt::RcvBufForce},
};
use socket2::{Domain, SockFilter, Socket, Type};

use super::error::Error;
use crate::{
    announce::sender::link_layer,
    control::{Client, GroupReport, Request, Response, path::Protocol},
};

/// Bytes of a packet that are read: IPv4 with all options, or IPv6 with extension headers, and the ports.
const HEADERS: u32 = 128;
/// Bytes of a packet that the filter passes: all. The socket shares them with the sender, and reads [`HEADERS`] of them.
const WHOLE: u32 = 0x4_0000;
/// Receive buffer of a socket in bytes.
const BUFFER: usize = 4 << 20;
/// Packets read from one socket before the next one has its turn.
const AT_ONCE: usize = 256;

// linux/filter.h: class, size and mode of each instruction, and offsets of what is beside the packet.
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;
const BESIDE: u32 = 0xffff_f000;
const PROTOCOL: u32 = BESIDE;
const PACKET_TYPE: u32 = BESIDE + 4;
const RANDOM: u32 = BESIDE + 56;

/// Whether a member has sent or received a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Direction {
    Out,
    In,
}

/// The headers that tell one flow from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Headers {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    /// Source and destination port; `None`: it has none, or is a fragment.
    pub ports: Option<(u16, u16)>,
}

/// A packet that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The member, by its place in the report of the group.
    pub member: usize,
    pub direction: Direction,
    pub headers: Headers,
    /// Its length in bytes, from the IP header on.
    pub length: usize,
}

/// A socket on each present member of a group.
pub(super) struct Tap {
    sockets: Vec<(usize, Socket)>,
}

impl Tap {
    /// Reads one of `sample` packets, chosen at random. The calling thread must be in the network namespace of the group.
    pub fn open(group: &GroupReport, sample: u32) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        for (place, member) in group.members.iter().enumerate().filter(|(_, member)| member.ifindex != 0) {
            if if_nametoindex(member.name.as_str()) != Ok(member.ifindex) {
                return Err(Error::Capture(format!(
                    "{} of {} is not in this network namespace: use --netns NAME, or run the command there",
                    member.name, group.name
                )));
            }
            let socket = open(member.ifindex, sample).map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => Error::CapturePermission(member.name.clone()),
                _ => Error::Capture(format!("cannot read the packets of {}: {error}", member.name)),
            })?;
            sockets.push((place, socket));
        }
        Ok(Self { sockets })
    }

    /// Reads packets until the time has passed, or `handle` returns a value.
    pub fn read<T>(
        &self,
        time: Duration,
        mut handle: impl FnMut(Seen) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let failed = |error: Errno| Error::Capture(format!("cannot read packets: {error}"));
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut waiting: Vec<PollFd<'_>> = self
                .sockets
                .iter()
                .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
                .collect();
            // Rounded up: a wait of less than a millisecond would be none.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut waiting, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(failed(error)),
            }
            for (place, socket) in &self.sockets {
                for _ in 0..AT_ONCE {
                    match receive(socket) {
                        Ok(Some((direction, headers, length))) => {
                            let found = handle(Seen { member: *place, direction, headers, length });
                            if found.is_some() {
                                return Ok(found);
                            }
                        }
                        Ok(None) => {}
                        Err(Errno::EAGAIN | Errno::EINTR) => break,
                        // The device was removed; those of the others remain.
                        Err(Errno::ENETDOWN) => break,
                        Err(error) => return Err(failed(error)),
                    }
                }
            }
        }
    }

    /// Packets that did not fit the buffers since the last call.
    pub fn missed(&self) -> u64 {
        self.sockets.iter().filter_map(|(_, socket)| statistics(socket)).map(u64::from).sum()
    }
}

/// The group of this name, or with this member alone. The calling thread then is in its network namespace.
pub(super) fn group_here(socket: &Path, netns: Option<&str>, name: &str) -> Result<GroupReport, Error> {
    let response = Client::connect(socket)?.call(&Request::Show { name: Some(name.to_owned()) })?;
    let Response::Show(mut groups) = response else { unreachable!("the reply to Show is a list of groups") };
    if let Some(netns) = netns {
        let file = File::open(Path::new("/run/netns").join(netns));
        let entered = file.and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?));
        entered.map_err(|error| {
            let remedy = "run the command as root";
            Error::Capture(format!("cannot enter the network namespace {netns}: {error}; {remedy}"))
        })?;
    }
    Ok(groups.remove(0))
}

fn open(ifindex: u32, sample: u32) -> io::Result<Socket> {
    // Without a protocol the socket receives nothing until it is bound.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
    socket.attach_filter(&filter(sample))?;
    // CAP_NET_RAW alone is limited by net.core.rmem_max.
    if setsockopt(&socket, RcvBufForce, &BUFFER).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&link_layer(ifindex, (libc::ETH_P_ALL as u16).to_be(), &[]))?;
    Ok(socket)
}

/// Passes one of `sample` unicast IP packets that the interface has sent or received.
fn filter(sample: u32) -> Vec<SockFilter> {
    let statement = |code, k| SockFilter::new(code, 0, 0, k);
    let equal = |k, yes, no| SockFilter::new(JUMP_EQUAL, yes, no, k);
    vec![
        statement(LOAD_WORD, PROTOCOL),
        equal(libc::ETH_P_IP as u32, 1, 0),
        equal(libc::ETH_P_IPV6 as u32, 0, 6),
        statement(LOAD_WORD, PACKET_TYPE),
        equal(u32::from(libc::PACKET_HOST), 1, 0),
        equal(u32::from(libc::PACKET_OUTGOING), 0, 3),
        statement(LOAD_WORD, RANDOM),
        SockFilter::new(JUMP_GREATER, 1, 0, u32::MAX / sample.max(1)),
        statement(RETURN, WHOLE),
        statement(RETURN, 0),
    ]
}

/// The next packet; `None`: its headers are not complete.
fn receive(socket: &Socket) -> Result<Option<(Direction, Headers, usize)>, Errno> {
    let mut bytes = [0; HEADERS as usize];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    // With MSG_TRUNC the result is the length of the packet, not that of the buffer.
    let message = recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut parts, None, MsgFlags::MSG_TRUNC)?;
    let (length, sender) = (message.bytes, message.address);
    let is_outgoing = sender.is_some_and(|sender| sender.pkttype() == libc::PACKET_OUTGOING);
    let direction = if is_outgoing { Direction::Out } else { Direction::In };
    Ok(headers(&bytes[..length.min(HEADERS as usize)]).map(|headers| (direction, headers, length)))
}

fn headers(packet: &[u8]) -> Option<Headers> {
    let packet = LaxSlicedPacket::from_ip(packet).ok()?;
    let (source, destination, protocol): (IpAddr, IpAddr, _) = match packet.net? {
        LaxNetSlice::Ipv4(v4) => {
            let header = v4.header();
            (header.source_addr().into(), header.destination_addr().into(), v4.payload_ip_number())
        }
        LaxNetSlice::Ipv6(v6) => {
            let header = v6.header();
            (header.source_addr().into(), header.destination_addr().into(), v6.payload().ip_number)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let ports = match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
        Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
        _ => None,
    };
    Some(Headers { source, destination, protocol: Protocol(protocol.0), ports })
}

/// Packets that did not fit the buffer since the last call.
fn statistics(socket: &Socket) -> Option<u32> {
    let mut counted = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, and all of them are those of `counted`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut counted).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(counted.tp_drops)
}

/// A datagram of a flow with this source port.
#[cfg(test)]
pub(super) fn seen(member: usize, direction: Direction, port: u16, length: usize) -> Seen {
    let headers = Headers {
        source: [192, 168, 178, 200].into(),
        destination: [192, 168, 178, 22].into(),
        protocol: Protocol(17),
        ports: Some((port, 443)),
    };
    Seen { member, direction, headers, length }
}
