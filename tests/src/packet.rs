//! Packet sockets: raw frames in and out of one interface, or all frames of a namespace.

use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

use crate::clock::Clock;
use crate::namespace::Namespace;
use crate::{Mac, socket_option};

/// How often a receiving thread checks whether it must stop.
const POLL: Duration = Duration::from_millis(20);

mod ioctl {
    // linux/sockios.h: SIOCGSTAMPNS_OLD.
    nix::ioctl_read_bad!(receive_stamp, 0x8907, libc::timespec);
}

/// A raw packet socket.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
}

/// A received frame.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The index of the interface.
    pub index: u32,
    /// Whether the interface sent the frame; otherwise it received it.
    pub outgoing: bool,
    /// Bytes in the buffer, from the Ethernet header on.
    pub length: usize,
}

impl PacketSocket {
    /// Opens a socket in a namespace: on one interface, or on all of them. The filter is attached before the first
    /// frame can be received.
    pub fn open(namespace: &Namespace, interface: Option<&str>, filter: &[SockFilter]) -> Result<Self> {
        Self::open_for(libc::ETH_P_ALL as u16, namespace, interface, filter)
    }

    /// The same, for one protocol. Such a socket does not receive outgoing frames.
    pub fn open_for(
        protocol: u16,
        namespace: &Namespace,
        interface: Option<&str>,
        filter: &[SockFilter],
    ) -> Result<Self> {
        let index = interface.map(|name| namespace.link(name)).transpose()?.map_or(0, |link| link.index);
        let socket = namespace
            .run(|| -> std::io::Result<Socket> {
                // With protocol 0 the socket receives nothing until it is bound.
                let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
                socket.attach_filter(filter)?;
                socket.bind(&address(index, protocol))?;
                Ok(socket)
            })
            .with_context(|| format!("cannot open a packet socket in {}", namespace.name()))?;
        Ok(Self { socket })
    }

    /// Sends one frame, Ethernet header first.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = self.socket.send(frame).context("cannot send a raw frame")?;
        ensure!(sent == frame.len(), "sent only {sent} of {} bytes of a raw frame", frame.len());
        Ok(())
    }

    /// Waits for a frame. `None` after `timeout`.
    pub fn receive(&self, buffer: &mut [u8], timeout: Duration) -> Result<Option<Seen>> {
        self.socket.set_read_timeout(Some(timeout.max(Duration::from_micros(1))))?;
        let mut storage = SockAddrStorage::zeroed();
        let mut length = storage.size_of();
        // SAFETY: buffer and address have the lengths given, and both outlive the call.
        let received = unsafe {
            libc::recvfrom(
                self.socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                (&raw mut storage).cast(),
                &raw mut length,
            )
        };
        if received < 0 {
            let error = std::io::Error::last_os_error();
            return match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error).context("cannot receive from a packet socket"),
            };
        }
        // SAFETY: the kernel fills in a sockaddr_ll for packet sockets.
        let from = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        Ok(Some(Seen {
            index: from.sll_ifindex as u32,
            outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
            length: received as usize,
        }))
    }

    /// Passes every frame to `handle` until `stop` is set and all queued frames are read. Returns the number of frames
    /// that did not fit the socket's buffer.
    pub fn receive_until(&self, stop: &AtomicBool, mut handle: impl FnMut(&Seen, &[u8])) -> Result<u32> {
        let mut buffer = vec![0; 2048];
        loop {
            // Checked before reading: frames that were queued before the stop are still read.
            let stopping = stop.load(SeqCst);
            let timeout = if stopping { Duration::ZERO } else { POLL };
            match self.receive(&mut buffer, timeout)? {
                Some(seen) => handle(&seen, &buffer[..seen.length]),
                None if stopping => return Ok(self.statistics()?.1),
                None => {}
            }
        }
    }

    /// Passes every frame to `handle` that is queued or received within `time`.
    pub fn receive_for(&self, time: Duration, mut handle: impl FnMut(&Seen, &[u8])) -> Result<()> {
        let end = Instant::now() + time;
        let mut buffer = vec![0; 2048];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.receive(&mut buffer, left)? {
                Some(seen) => handle(&seen, &buffer[..seen.length]),
                None if left.is_zero() => return Ok(()),
                None => {}
            }
        }
    }

    /// When the kernel received the frame that was read last. The first call enables the kernel's timestamps: for a
    /// frame received before it, the result is the time of the call.
    pub fn received_at(&self) -> Result<Instant> {
        let mut stamp = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the descriptor is open, and the kernel writes one timespec.
        unsafe { ioctl::receive_stamp(self.socket.as_raw_fd(), &raw mut stamp) }
            .context("cannot read the receive time of a frame (SIOCGSTAMPNS)")?;
        Ok(Clock::now().instant(stamp.tv_sec as u64 * 1_000_000_000 + stamp.tv_nsec as u64))
    }

    /// Frames that matched the filter since the last call, and how many of them did not fit the socket's buffer.
    pub fn statistics(&self) -> Result<(u32, u32)> {
        let counted: [u32; 2] = socket_option::get(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS)
            .context("cannot read PACKET_STATISTICS")?;
        Ok((counted[0], counted[1]))
    }

    /// Makes sent frames bypass the queueing discipline of the interface, and so every filter that drops outgoing frames.
    pub fn bypass_queues(&self) -> Result<()> {
        let yes: libc::c_int = 1;
        socket_option::set(&self.socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, yes)
            .context("cannot set PACKET_QDISC_BYPASS")
    }

    /// Sets the receive buffer, in bytes, also above the system's limit.
    pub fn set_buffer(&self, bytes: usize) -> Result<()> {
        socket_option::force_receive_buffer(&self.socket, bytes)
            .with_context(|| format!("cannot set a receive buffer of {bytes} bytes"))
    }
}

/// An Ethernet header.
pub fn ethernet_header(to: Mac, from: Mac, ethertype: u16) -> Vec<u8> {
    [&to[..], &from[..], &ethertype.to_be_bytes()].concat()
}

fn address(index: u32, protocol: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll is plain bytes and fits a sockaddr_storage.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = protocol.to_be();
    link.sll_ifindex = index as i32;
    // SAFETY: the storage holds a whole sockaddr_ll, and that is the length given.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}
