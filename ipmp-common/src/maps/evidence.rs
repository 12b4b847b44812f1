//! Timeouts and losses of TCP connections, as evidence that the path of a member may have failed, or loses packets.

use super::Ip;

/// A segment that was not acknowledged in time: its first retransmission timeout, or a tail loss probe that comes as late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct TcpTimeout {
    /// When, `CLOCK_MONOTONIC` in nanoseconds.
    pub at_ns: u64,
    /// Since when an acknowledgment is missing, by the same clock: about a round trip after the segment was sent.
    pub since_ns: u64,
    /// Local address of the connection.
    pub local: Ip,
    /// Remote address.
    pub remote: Ip,
    /// Transmit hash of the socket when the segment was sent.
    pub hash: u32,
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
}

/// A TCP connection that has sent data, with what it counted since its beginning (`struct tcp_sock`). The counters wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct TcpConnection {
    /// Of the socket: no other one has it.
    pub cookie: u64,
    /// Local address.
    pub local: Ip,
    /// Remote address.
    pub remote: Ip,
    /// Transmit hash of the socket.
    pub hash: u32,
    /// Segments with data that were sent, repeated ones included.
    pub sent: u32,
    /// Segments that were sent again.
    pub retransmitted: u32,
    /// Segments that the other end received twice, by its reports (DSACK, RFC 2883): what was sent again without need.
    pub duplicates: u32,
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// Zero.
    pub pad: u32,
}

/// Bytes of the ring buffer of timeouts.
pub const TCP_TIMEOUTS_BYTES: u32 = 1 << 16;

/// Timeouts that are reported in one [`timeout_window`]: more show no more, and must not overload the daemon.
pub const TIMEOUTS_PER_WINDOW: u64 = 32;

/// The window of a time in nanoseconds: about 17 ms. Its low bits are 0 and serve as a counter.
pub const fn timeout_window(at_ns: u64) -> u64 {
    at_ns & !0xff_ffff
}
