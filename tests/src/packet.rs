//! Packet sockets: raw frames in and out of one interface, or all frames of a namespace.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

use crate::clock::Clock;
use crate::namespace::Namespace;

mod ioctl {
    // linux/sockios.h: SIOCGSTAMPNS_OLD.
    nix::ioctl_read_bad!(receive_stamp, 0x8907, libc::timespec);
}

/// A raw packet socket.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
}

/// A frame as it was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The interface it was seen on.
    pub index: u32,
    /// It left through the interface; else it came in.
    pub outgoing: bool,
    /// Bytes of it, from the Ethernet header on.
    pub length: usize,
}

impl PacketSocket {
    /// Opens a socket in a namespace: on one interface, or on all of them. The filter is in force before the first
    /// frame can come.
    pub fn open(namespace: &Namespace, interface: Option<&str>, filter: &[SockFilter]) -> Result<Self> {
        Self::open_for(libc::ETH_P_ALL as u16, namespace, interface, filter)
    }

    /// The same, for one protocol: what leaves it does not hear.
    pub fn open_for(
        protocol: u16,
        namespace: &Namespace,
        interface: Option<&str>,
        filter: &[SockFilter],
    ) -> Result<Self> {
        let index = interface.map(|name| namespace.link(name)).transpose()?.map_or(0, |link| link.index);
        let socket = namespace
            .run(|| -> std::io::Result<Socket> {
                // Protocol 0 hears nothing until it is bound.
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
        ensure!(sent == frame.len(), "{sent} of {} bytes of a raw frame were sent", frame.len());
        Ok(())
    }

    /// Waits for a frame. Nothing came in time: `None`.
    pub fn receive(&self, buffer: &mut [u8], patience: Duration) -> Result<Option<Seen>> {
        self.socket.set_read_timeout(Some(patience.max(Duration::from_micros(1))))?;
        let mut storage = SockAddrStorage::zeroed();
        let mut length = storage.size_of();
        // SAFETY: buffer and address are ours, their lengths are right, and both outlive the call.
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

    /// When the kernel received the frame that was read last. It knows from the first time on that it is asked; of a frame
    /// that came before it gives the time of asking.
    pub fn received_at(&self) -> Result<Instant> {
        let mut stamp = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the descriptor is open, and the kernel writes one timespec.
        unsafe { ioctl::receive_stamp(self.socket.as_raw_fd(), &raw mut stamp) }
            .context("cannot tell when a frame was received")?;
        Ok(Clock::now().instant(stamp.tv_sec as u64 * 1_000_000_000 + stamp.tv_nsec as u64))
    }

    /// Frames that matched the filter since the last call, and how many of them did not fit the socket's buffer.
    pub fn statistics(&self) -> Result<(u32, u32)> {
        let mut counted = [0u32; 2];
        let mut length = size_of_val(&counted) as libc::socklen_t;
        // SAFETY: tpacket_stats is two u32; the pointers are to those and their length.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counted.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        ensure!(result == 0, "cannot read PACKET_STATISTICS: {}", std::io::Error::last_os_error());
        Ok((counted[0], counted[1]))
    }

    /// From now on frames that are sent go to the device itself: past its queue, and past everything that drops frames
    /// on their way out.
    pub fn bypass_queues(&self) -> Result<()> {
        let yes: libc::c_int = 1;
        // SAFETY: the option takes an int, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const yes).cast(),
                size_of_val(&yes) as libc::socklen_t,
            )
        };
        ensure!(result == 0, "cannot set PACKET_QDISC_BYPASS: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Sets the receive buffer, in bytes, above the system's limit too.
    pub fn set_buffer(&self, bytes: usize) -> Result<()> {
        force_receive_buffer(&self.socket, bytes)
    }
}

/// SO_RCVBUFFORCE: a receive buffer above the system's limit, as root may have.
pub(crate) fn force_receive_buffer(socket: &impl std::os::fd::AsRawFd, bytes: usize) -> Result<()> {
    let value = libc::c_int::try_from(bytes).context("receive buffer too large")?;
    // SAFETY: the option takes an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    ensure!(result == 0, "cannot set a receive buffer of {bytes} bytes: {}", std::io::Error::last_os_error());
    Ok(())
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
