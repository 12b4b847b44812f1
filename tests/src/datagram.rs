//! UDP sockets that send and receive many packets in one system call, with the kernel's receive times.

use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use crate::clock::wall_nanos;
use crate::socket_option;

/// Packets in one system call.
pub(crate) const BATCH: usize = 64;
/// Bytes received of each packet; the rest is discarded.
pub(crate) const PREFIX: usize = 24;

/// A UDP socket bound to an address. An IPv6 socket does not receive IPv4.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Sends packets on a connected socket. Returns how many the kernel accepted, at most [`BATCH`].
pub(crate) fn send_batch(socket: &UdpSocket, packets: &mut [Vec<u8>]) -> std::io::Result<usize> {
    let count = packets.len().min(BATCH);
    let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::zeroed() }; BATCH];
    for ((part, message), packet) in parts.iter_mut().zip(&mut messages).zip(&mut *packets) {
        let part = part.write(libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() });
        // SAFETY: an mmsghdr of zeros is a message without address, data and control.
        let message = unsafe { message.assume_init_mut() };
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: `count` messages have been filled in, and what they point to outlives the call.
    let taken =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr().cast(), count as libc::c_uint, 0) };
    if taken < 0 { Err(std::io::Error::last_os_error()) } else { Ok(taken as usize) }
}

/// Buffers for one recvmmsg.
pub(crate) struct Inbox {
    bytes: Vec<[u8; PREFIX]>,
    controls: Vec<[u64; 8]>,
    parts: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

impl Inbox {
    pub fn new() -> Self {
        // SAFETY: zero is a value of both: an empty buffer, and an empty message.
        let (part, message) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            bytes: vec![[0; PREFIX]; BATCH],
            controls: vec![[0; 8]; BATCH],
            parts: vec![part; BATCH],
            messages: vec![message; BATCH],
        }
    }

    /// Waits for a packet until the socket's read timeout, and receives further packets that are queued. Returns how
    /// many were received.
    pub fn fill(&mut self, socket: &UdpSocket) -> Result<usize> {
        for index in 0..BATCH {
            self.parts[index] =
                libc::iovec { iov_base: self.bytes[index].as_mut_ptr().cast(), iov_len: PREFIX };
            let header = &mut self.messages[index].msg_hdr;
            header.msg_iov = &raw mut self.parts[index];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[index].as_mut_ptr().cast();
            header.msg_controllen = size_of::<[u64; 8]>();
        }
        // SAFETY: every message points to buffers of this inbox with their true lengths.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = std::io::Error::last_os_error();
        match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(0),
            _ => Err(error).context("cannot receive a stream"),
        }
    }

    /// The first `count` packets, each with its wall-clock receive time in nanoseconds.
    pub fn packets(&self, count: usize) -> impl Iterator<Item = (&[u8], u64)> {
        self.messages[..count].iter().zip(&self.bytes).map(|(message, bytes)| {
            let length = (message.msg_len as usize).min(PREFIX);
            (&bytes[..length], receive_time(&message.msg_hdr))
        })
    }
}

/// The kernel's receive time of a message, or the current time if there is none.
fn receive_time(header: &libc::msghdr) -> u64 {
    // SAFETY: the kernel has filled in the control buffer and its length, and the macros stay inside it.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(found) = control.as_ref() {
            if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_TIMESTAMPNS {
                let stamp: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(control).cast());
                return stamp.tv_sec as u64 * 1_000_000_000 + stamp.tv_nsec as u64;
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    wall_nanos()
}

/// Enables the kernel's receive times (SO_TIMESTAMPNS).
pub(crate) fn receive_timestamps(socket: &UdpSocket) -> Result<()> {
    let on: libc::c_int = 1;
    socket_option::set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, on)
        .context("cannot enable receive times (SO_TIMESTAMPNS)")
}

/// Packets dropped because the socket's buffer was full: word 8 of SO_MEMINFO (linux/sock_diag.h).
pub(crate) fn buffer_drops(socket: &UdpSocket) -> u64 {
    socket_option::get::<[u32; 9]>(socket, libc::SOL_SOCKET, libc::SO_MEMINFO)
        .map_or(0, |words| u64::from(words[8]))
}

/// Packets that the backlog queues of all CPUs dropped since boot: column 2 of /proc/net/softnet_stat.
pub fn softnet_drops() -> u64 {
    let text = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    text.lines().filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok()).sum()
}
