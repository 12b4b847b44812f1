//! The maps for replies to probes.

use super::Ip;

/// Type of a [`ProbeReply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProbeReplyKind {
    /// An ICMP or ICMPv6 echo reply to an own address of any member, with our mark ([`crate::probe`]).
    Echo = 1,
    /// An ARP reply with target 0.0.0.0: to a request without a sender address.
    Arp = 2,
    /// A solicited neighbour advertisement to an own address of any member.
    Nd = 3,
}

/// A frame with the form of a reply to a probe. Its reader checks whether it belongs to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ProbeReply {
    /// When ingress saw it, `CLOCK_MONOTONIC` in nanoseconds.
    pub at_ns: u64,
    /// Of an echo: the cookie. Else 0.
    pub cookie: u64,
    /// The target of the probe: the source of an echo, the sender of an ARP reply, the target of an advertisement.
    pub from: Ip,
    /// Index of the group.
    pub group: u32,
    /// Number of the member that received it.
    pub member: u32,
    /// [`ProbeReplyKind`], as a number: a reader must accept unknown ones.
    pub kind: u32,
    /// Of an echo: its identifier and its sequence number. Else 0.
    pub identifier: u16,
    /// See `identifier`.
    pub sequence: u16,
    /// Its MAC: the Ethernet source of an echo, or the MAC in an ARP reply or advertisement.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: u16,
}

/// The value of the map `echo_id`: ingress delivers echo replies with this identifier only. A host that does not see our requests
/// has to guess it. While the value is 0, any identifier is accepted.
pub const fn echo_id_word(identifier: u16) -> u32 {
    1 << 16 | identifier as u32
}

/// Replies of one kind that ingress of a member delivers in one [`window`]. A member sends at most one probe a millisecond and
/// family; more replies are a flood, which must not fill the ring buffer or overload the daemon. At this rate, one member and
/// kind fill it in half a second.
pub const REPLIES_PER_WINDOW: u64 = 8;

/// The window of a time in nanoseconds: about a millisecond. Its low bits are 0 and serve as a counter.
pub const fn window(at_ns: u64) -> u64 {
    at_ns & !0xf_ffff
}

/// For each [`ProbeReplyKind`]: the last [`window`] in which one member received replies, and their number in the low bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ReplyWindows {
    /// Of [`ProbeReplyKind::Echo`].
    pub echo: u64,
    /// Of [`ProbeReplyKind::Arp`].
    pub arp: u64,
    /// Of [`ProbeReplyKind::Nd`].
    pub nd: u64,
}

/// Replies to probes that one member received, by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ReplyCounters {
    /// Delivered to the daemon.
    pub delivered: u64,
    /// Not delivered: an echo with another identifier than [`echo_id_word`], of another program or forged.
    pub unknown_id: u64,
    /// Not delivered: more than [`REPLIES_PER_WINDOW`].
    pub flood: u64,
    /// Not delivered: the ring buffer was full.
    pub lost: u64,
}
