//! The pinned maps: their names, limits and values.
//!
//! Per group, under `/sys/fs/bpf/ipmp/v<layout>/<netns cookie>/<group>/`:
//!
//! | map | kind | value | written by |
//! |---|---|---|---|
//! | `members` | array, 16 | [`Member`] | daemon |
//! | `slots` | array, 4096, mmapable | [`Preference`] | daemon |
//! | `steering` | array, 1, mmapable | [`Steering`] | daemon |
//! | `addresses` | hash, by [`Ip`] | [`Address`] | daemon |
//! | `learnt` | hash, by [`Ip`] | [`Learnt`] | datapath |
//! | `vlan_addresses` | hash, by [`VlanKey`] | [`Preference`] | daemon |
//! | `stale_neighbours` | hash, by [`StaleKey`] | [`StaleNeighbour`] | datapath |
//! | `own_macs` | hash, by [`MacKey`] | `u32`, a member's number or [`GROUP_ITSELF`] | daemon |
//! | `vlans` | array, 64 | `u64`, a bit per VLAN of the group | daemon |
//! | `counters` | per-CPU array, 16 | [`Counters`] | datapath |
//! | `drops` | per-CPU array, 1 | [`Drops`] | datapath |
//! | `early_drops` | per-CPU array, 16 | [`EarlyDrops`] | datapath |
//! | `reply_counters` | per-CPU array, 16 | [`ReplyCounters`] | datapath |
//! | `reply_windows` | array, 16 | [`ReplyWindows`] | datapath |
//! | `active_flows` | array, 32768, mmapable | [`ActiveFlow`] | datapath |
//!
//! Per daemon, in `sentinel/` beside the groups:
//!
//! | map | kind | value | written by |
//! |---|---|---|---|
//! | `live` | array, 256, mmapable | [`MemberSet`] of a group, and [`CAPTURED`] | sentinel |
//! | `watch` | array, 256, mmapable | [`Watch`] of a group | daemon |
//! | `good_since` | array, 256 | [`GoodSince`] of a group | sentinel |
//! | `clock` | array, 1 | [`ClockSettings`] and the timer | programs |
//! | `hints` | ring buffer | [`Hint`] | sentinel, datapath |
//! | `probe_replies` | ring buffer | [`ProbeReply`] | datapath |
//! | `echo_id` | array, 1 | `u32`, [`echo_id_word`] | daemon |
//!
//! Words that both sides access while packets flow are single aligned `u64`s in mmapable arrays, so that user space stores
//! them atomically; a map update would be a memcpy. How to read a dump: `docs/maps.md`.

mod device;
mod evidence;
mod interfaces;
mod replies;
mod sentinel;
mod source;

pub use self::{
    device::{Device, MAX_NAMESPACES, Offsets, link_state},
    evidence::{TCP_TIMEOUTS_BYTES, TIMEOUTS_PER_WINDOW, TcpConnection, TcpTimeout, timeout_window},
    interfaces::Interfaces,
    replies::{
        ProbeReply, ProbeReplyKind, REPLIES_PER_WINDOW, ReplyCounters, ReplyWindows, echo_id_word, window,
    },
    sentinel::{
        CaptureMode, Clock, ClockSettings, ClockStart, FREQUENT_NS, GoodSince, Hint, HintKind,
        IDLE_INTERVAL_NS, MEMBERS_PER_TICK, SHORT_UPDELAY_NS, Watch, pause_ns, ticks_between, updelay_ns,
        updelay_word,
    },
    source::{MAX_SOURCE_PREFIXES, MAX_SOURCE_SETS, MAX_SOURCES, NO_SOURCE_SET, SourceSet},
};
use crate::address::Mac;
pub use crate::address::{Ip, MacKey};
use crate::steer::{MemberSet, Preference};
#[cfg(doc)]
use crate::transition::{ActiveFlow, Usable};

/// Maximum number of groups of one daemon.
pub const MAX_GROUPS: usize = 256;
/// Maximum number of data and test addresses of a group.
pub const MAX_ADDRESSES: u32 = 4096;
/// Maximum number of addresses on VLANs of a group that have an inbound member of their own.
pub const MAX_VLAN_ADDRESSES: u32 = 1024;
/// Maximum number of learnt senders of a group.
pub const MAX_LEARNT: u32 = if cfg!(feature = "next-layout") { 2048 } else { 1024 };
/// Maximum number of neighbours that the datapath reports at once.
pub const MAX_STALE: u32 = 64;
/// Of the packets that a member receives on a CPU, one in so many is checked for a stale neighbour: a power of two.
pub const RECEIVE_CHECK: u64 = 64;
/// Maximum number of devices below a stacked member whose carrier is read with its own.
pub const MAX_LOWER: usize = 3;
/// Bytes of the ring buffer of hints.
pub const HINTS_BYTES: u32 = 64 * 1024;
/// Bytes of the ring buffer of replies to probes.
pub const PROBE_REPLIES_BYTES: u32 = 256 * 1024;
/// The number of the call that stands for the kernel function `bpf_rdonly_cast` in a compiled object; no helper has it.
pub const RDONLY_CAST: u32 = 0x7bca_0001;
/// In a group's word of `live`, beside its members: captures on the group interface show outbound packets.
pub const CAPTURED: MemberSet = MemberSet::from_bits(1 << 63);
/// `skb->tc_index` of a copy for captures, by which egress recognizes it. Only a classifier of the operator sets another value.
pub const COPY: u32 = 0xc0b1;
/// The `own_macs` value of the group interface's own MAC.
pub const GROUP_ITSELF: u32 = u32::MAX;

/// State of a member, by the daemon, for `bpftool map dump`; the programs read masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum MemberStatus {
    /// No member has this number.
    #[default]
    Vacant = 0,
    /// Usable.
    Ok = 1,
    /// Link or probes failed.
    Failed = 2,
    /// Set offline by the operator, or because of a duplicate MAC.
    Offline = 3,
    /// Its link has not been live yet, or it is probed without targets.
    Unknown = 4,
}

/// A member.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Member {
    /// Here in the layout of the upgrade's test.
    #[cfg(feature = "next-layout")]
    pub name: [i8; 16],
    /// Its state. First, so that what is read for every packet is in one cache line: values of an array begin 8 bytes before one.
    pub state: MemberStatus,
    /// Zero.
    pub pad: u32,
    /// Its device. Egress reads its carrier before it selects the member.
    pub device: Device,
    /// Its MAC: the Ethernet source of everything that leaves through it.
    pub mac: [u8; 6],
    /// Number of devices below it, for a VLAN, macvlan or the like.
    pub lowers: u16,
    /// Interface name, padded with zeros. Signed bytes, because the build calls them `char` in the BTF: `bpftool` prints text.
    #[cfg(not(feature = "next-layout"))]
    pub name: [i8; 16],
    /// The devices below it.
    pub lower: [Device; MAX_LOWER],
}

/// The words of a group that steering reads for every packet.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Steering {
    /// Here in the layout of the upgrade's test.
    #[cfg(feature = "next-layout")]
    pub index: u64,
    /// Members that may transmit, by the daemon: a word of [`Usable`], whose lowest bits are those that are not in transition.
    pub usable: MemberSet,
    /// Bloom filter of the members' own addresses ([`crate::hash::filter_bit`]): others need no lookup in `addresses`.
    pub test_addresses: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds: the first packet after it that is received in place of a member is stamped
    /// ([`Replaced::received_ns`]); 0, as nearly always: none is stamped.
    pub received_since_ns: u64,
    /// The same of packets that leave ([`Replaced::sent_ns`]).
    pub sent_since_ns: u64,
    /// By which ingress finds the member that has received a packet.
    pub interfaces: Interfaces,
    /// Members that the daemon excludes because their links flap: used only before a packet is lost.
    pub reserve: MemberSet,
    /// Preference of the members for multicast, broadcast and frames that are not IP.
    pub cast: Preference,
    /// One more than the group's index in `live` and `watch`; 0 until the group is complete.
    #[cfg(not(feature = "next-layout"))]
    pub index: u64,
}

/// What an address of this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum AddressKind {
    /// A data address, on the group interface.
    Data = 0,
    /// An address on a member, for that member alone.
    Test = 1,
}

/// In place of the number of a member.
pub const NO_MEMBER: u32 = u32::MAX;

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Address {
    /// Here in the layout of the upgrade's test.
    #[cfg(feature = "next-layout")]
    pub kind: AddressKind,
    /// Here in the layout of the upgrade's test.
    #[cfg(feature = "next-layout")]
    pub member: u32,
    /// Of a data address: preference of the members whose MAC is announced for it.
    pub inbound: Preference,
    /// [`AddressKind`].
    #[cfg(not(feature = "next-layout"))]
    pub kind: AddressKind,
    /// Of a test address: its member. Of a data address: the member that received it before, or [`NO_MEMBER`].
    #[cfg(not(feature = "next-layout"))]
    pub member: u32,
}

/// An address on a VLAN of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct VlanKey {
    /// The address.
    pub address: Ip,
    /// The VLAN id.
    pub vlan: u64,
}

/// A sender on the group interface without a data address (a container behind ipvlan, proxy ARP, a VIP): it uses the cast
/// member, whose MAC is announced for it. Egress adds it when the sender claims the address; ingress removes it when another
/// host does, by broadcast or by an ARP reply to us. Addresses in VLANs of the group are not learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Learnt {
    /// When it last sent, `CLOCK_MONOTONIC` in nanoseconds.
    pub seen_ns: u64,
}

/// A neighbour that sends packets for a data address to another member than the inbound member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct StaleKey {
    /// The data address.
    pub address: Ip,
    /// The Ethernet source of the packet: the neighbour, or the router that forwarded it.
    pub mac: [u8; 6],
    /// The VLAN, least significant byte first; 0: none.
    pub vlan: [u8; 2],
}

impl StaleKey {
    /// The key of an address, a neighbour and a VLAN.
    #[inline(always)]
    pub fn new(address: Ip, mac: Mac, vlan: u16) -> Self {
        let [a, b, c, d, e, f, low, high] = (mac.0 | (vlan as u64) << 48).to_le_bytes();
        Self { address, mac: [a, b, c, d, e, f], vlan: [low, high] }
    }
}

/// What was received from it. Ingress adds it once; the daemon removes it when it has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StaleNeighbour {
    /// When, `CLOCK_MONOTONIC` in nanoseconds.
    pub at_ns: u64,
    /// The member that has received the packet.
    pub member: u32,
    /// Zero.
    pub pad: u32,
}

/// Traffic of one member, in packets and bytes as they pass the program (segments before segmentation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Sent through the member.
    pub out_packets: u64,
    /// Bytes of these.
    pub out_bytes: u64,
    /// Received by the member for the group.
    pub in_packets: u64,
    /// Bytes of these.
    pub in_bytes: u64,
    /// Sent through the member because a more preferred one could not transmit.
    pub failed_over_packets: u64,
}

/// What other members have done in place of one that cannot transmit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Replaced {
    /// Packets that they sent, of those that are distributed by flow.
    pub packets: u64,
    /// When the first of them left after [`Steering::sent_since_ns`], by the same clock; 0: none.
    pub sent_ns: u64,
    /// When the first packet for one of its data addresses was received after [`Steering::received_since_ns`]; 0: none.
    pub received_ns: u64,
}

/// Packets dropped by the datapath, by reason; and copies for captures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Drops {
    /// Egress: no member can transmit it.
    pub no_member: u64,
    /// Egress: its source MAC is not the group interface's (a bridge, a macvlan or a VM on top).
    pub foreign_source: u64,
    /// Egress: truncated inside the headers that must be rewritten.
    pub truncated: u64,
    /// Ingress: our own multicast or broadcast, returned by the network.
    pub reflected: u64,
    /// Ingress: multicast or broadcast that another member receives as well and accepts.
    pub other_copy: u64,
    /// Egress: copies of packets for captures on the group interface, not drops.
    pub captured: u64,
}

/// Frames that a member has dropped by XDP, by reason; see `docs/xdp.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EarlyDrops {
    /// As [`Drops::reflected`].
    pub reflected: u64,
    /// As [`Drops::other_copy`].
    pub other_copy: u64,
    /// Unicast for another host, flooded by a switch.
    pub flooded: u64,
    /// Not dropped, since the device is captured, promiscuous or has devices on top.
    pub passed: u64,
}

#[cfg(feature = "user")]
mod pod {
    use super::*;
    // SAFETY: each is repr(C) or repr(transparent), Copy and without implicit padding (the test below adds up
    // the fields); the enums among the fields are only ever written by user space.
    unsafe impl aya::Pod for Ip {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SourceSet {}
    // SAFETY: as above.
    unsafe impl aya::Pod for MacKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Member {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Steering {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Address {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Learnt {}
    // SAFETY: as above.
    unsafe impl aya::Pod for VlanKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for StaleKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for StaleNeighbour {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Replaced {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Drops {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ReplyCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Watch {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EarlyDrops {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Clock {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Device {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Preference {}
    // SAFETY: as above.
    unsafe impl aya::Pod for MemberSet {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steer::MAX_MEMBERS;

    #[test]
    fn more_members_give_fewer_ticks() {
        let ticks = [0, 1, 8, 9, 16, 128, 4096].map(ticks_between);
        assert_eq!(ticks, [1, 1, 1, 2, 2, 16, 512]);
    }

    #[test]
    fn frequent_ticks_take_a_tenth_of_a_processor_at_most() {
        let settings =
            ClockSettings { interval_ns: 500_000, idle_interval_ns: 128_000_000, ..ClockSettings::default() };
        let frequent = |members, spent_ns| pause_ns(&settings, members, spent_ns, true);
        assert_eq!(frequent(8, 5_000_000), 500_000, "few members");
        assert_eq!(frequent(256, 25_000), 500_000);
        assert_eq!(frequent(1_024, 100_000), 1_000_000);
        assert_eq!(frequent(1_024, 50_000_000), 64_000_000, "the tick was interrupted");
        assert_eq!(pause_ns(&settings, 1_024, 100_000, false), 128_000_000);
        assert_eq!(pause_ns(&settings, 4_096, 100_000, false), 128_000_000);
        assert_eq!(pause_ns(&settings, 4_096, 50_000_000, false), 256_000_000);
    }

    #[test]
    fn own_updelay_precedes_that_of_group_and_is_short_while_no_member_is_live() {
        const GROUP: u64 = 30_000_000_000;
        for (own, alone, expected) in [
            (None, false, GROUP),
            (Some(0), false, 0),
            (Some(600_000), false, 600_000_000_000),
            (None, true, SHORT_UPDELAY_NS),
            (Some(0), true, 0),
            (Some(50), true, 50_000_000),
            (Some(600_000), true, SHORT_UPDELAY_NS),
        ] {
            assert_eq!(updelay_ns(updelay_word(own), GROUP, alone), expected, "{own:?} {alone}");
        }
    }

    #[test]
    fn values_have_no_implicit_padding() {
        assert_eq!(size_of::<Device>(), 24);
        assert_eq!(size_of::<Member>(), 24 + 6 + 2 + 4 + 4 + 16 + MAX_LOWER * 24);
        assert_eq!(size_of::<Interfaces>(), 8 + 4 * MAX_MEMBERS);
        assert_eq!(size_of::<Steering>(), 56 + size_of::<Interfaces>());
        assert_eq!(size_of::<Address>(), 16);
        assert_eq!(size_of::<VlanKey>(), 24);
        assert_eq!(size_of::<StaleKey>(), 24);
        assert_eq!(size_of::<StaleNeighbour>(), 16);
        assert_eq!(size_of::<Watch>(), 24 + 24 + MAX_MEMBERS * (1 + MAX_LOWER) * 24);
        assert_eq!(size_of::<Replaced>(), 24);
        assert_eq!(size_of::<Drops>(), 48);
        assert_eq!(size_of::<EarlyDrops>(), 32);
        assert_eq!(size_of::<ReplyCounters>(), 4 * 8);
        assert_eq!(size_of::<ClockSettings>(), 72);
        assert_eq!(size_of::<Clock>(), 88);
        assert_eq!(size_of::<Hint>(), 16);
        assert_eq!(size_of::<ProbeReply>(), 8 + 8 + 16 + 4 + 4 + 4 + 2 + 2 + 6 + 2);
    }
}
