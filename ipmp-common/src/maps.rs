//! The pinned maps: their names, limits and values, byte for byte.
//!
//! Per group, under `/sys/fs/bpf/ipmp/v<layout>/<netns cookie>/<group>/`:
//!
//! | map | kind | value | written by |
//! |---|---|---|---|
//! | `members` | array, 16 | [`Member`] | daemon |
//! | `slots` | array, 4096, mmapable | [`Preference`] | daemon |
//! | `steering` | array, 1, mmapable | [`Steering`] | daemon |
//! | `addresses` | hash, by [`Ip`] | [`Address`] | daemon |
//! | `learnt` | LRU hash, by [`Ip`] | [`Learnt`] | datapath |
//! | `own_macs` | hash, by [`MacKey`] | `u32`, a member's number or [`GROUP_ITSELF`] | daemon |
//! | `vlans` | array, 64 | `u64`, a bit per VLAN of the group | daemon |
//! | `counters` | per-CPU array, 16 | [`Counters`] | datapath |
//! | `drops` | per-CPU array, 1 | [`Drops`] | datapath |
//! | `answering` | per-CPU array, 16 | [`ReplyCounters`] | datapath |
//! | `windows` | array, 16 | [`ReplyWindows`] | datapath |
//!
//! Per daemon, in `sentinel/` beside the groups:
//!
//! | map | kind | value | written by |
//! |---|---|---|---|
//! | `live` | array, 256, mmapable | [`MemberSet`] of a group, and [`CAPTURED`] | sentinel |
//! | `watch` | array, 256, mmapable | [`Watch`] of a group | daemon |
//! | `held` | array, 256 | [`GoodSince`] of a group | sentinel |
//! | `clock` | array, 1 | [`ClockSettings`] and the timer | both |
//! | `hints` | ring buffer | [`Hint`] | sentinel, datapath |
//! | `answers` | ring buffer | [`ProbeReply`] | datapath |
//! | `expected` | array, 1 | `u32`, [`echo_id_word`] | daemon |
//!
//! Words that both sides touch while packets flow are single aligned `u64`s in mmapable arrays, so that user
//! space stores them atomically; a map update would be a memcpy.

pub use crate::address::{Ip, MacKey};
use crate::steer::{MAX_MEMBERS, MemberSet, Preference};

/// Most groups of one daemon.
pub const MAX_GROUPS: usize = 256;
/// Most data and test addresses of a group.
pub const MAX_ADDRESSES: u32 = 4096;
/// Most senders on the group interface that are no data address and whose ARP is remembered.
pub const MAX_LEARNT: u32 = 1024;
/// Most devices below a stacked member whose carrier is read with it.
pub const MAX_LOWER: usize = 3;
/// Bytes of the ring buffer of hints.
pub const HINTS_BYTES: u32 = 64 * 1024;
/// Bytes of the ring buffer of answers to probes.
pub const PROBE_REPLIES_BYTES: u32 = 256 * 1024;
/// The number of the call that stands for the kernel function `bpf_rdonly_cast` in a compiled object; no helper has it.
pub const RDONLY_CAST: u32 = 0x7bca_0001;
/// In a group's word of `live`, beside its members: somebody captures on the group interface, and is shown what leaves.
pub const CAPTURED: MemberSet = MemberSet::from_bits(1 << 63);
/// `skb->tc_index` of a copy that is on its way to those who capture, by which egress knows it. The kernel gives a packet
/// another only where a classifier of the operator's does.
pub const COPY: u32 = 0xc0b1;
/// The `own_macs` value of the group interface's own MAC.
pub const GROUP_ITSELF: u32 = u32::MAX;

/// A network device as the kernel knows it: the device is gone, or is another's, as soon as one of the three
/// no longer agrees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Device {
    /// Address of its `struct net_device`.
    pub net_device: u64,
    /// Address of the `struct net` it lives in.
    pub netns: u64,
    /// Interface index.
    pub ifindex: u32,
    /// Zero.
    pub pad: u32,
}

/// What `bpftool map dump` calls a member's state: the daemon's verdict, for people; steering reads masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum MemberStatus {
    /// No member has this number.
    #[default]
    Vacant = 0,
    /// May carry traffic.
    Ok = 1,
    /// Link or probes failed.
    Failed = 2,
    /// Taken out by the operator, or by a duplicate MAC.
    Offline = 3,
    /// Not known yet: its link has not been trusted so far, or it is probed without targets.
    Unknown = 4,
}

/// A member.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Member {
    /// Its device. Egress reads the carrier of it before it commits to the member.
    pub device: Device,
    /// Its MAC: the Ethernet source of everything that leaves through it.
    pub mac: [u8; 6],
    /// Number of devices below it, for a VLAN, macvlan or the like.
    pub lowers: u16,
    /// Verdict.
    pub state: MemberStatus,
    /// Zero.
    pub pad: u32,
    /// Interface name, padded with zeros. Signed bytes, because the build calls them `char` in the BTF: `bpftool` prints text.
    pub name: [i8; 16],
    /// The devices below it.
    pub lower: [Device; MAX_LOWER],
}

/// The words of a group that steering reads for every packet.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Steering {
    /// Members that may carry traffic, by the daemon's verdict.
    pub usable: MemberSet,
    /// Members that the daemon would rather spare, because their links flap: they carry before a packet is lost.
    pub reserve: MemberSet,
    /// Who carries multicast, broadcast and what is not IP.
    pub cast: Preference,
    /// The members' own addresses: a bit of [`crate::hash::filter_bit`] for each. Whatever has no bit here is not worth
    /// looking up in `addresses`.
    pub test_addresses: u64,
    /// One more than the group's index in `live` and `watch`; 0 while the group is being made.
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

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Address {
    /// Of a data address: whose MAC answers for it.
    pub inbound: Preference,
    /// [`AddressKind`].
    pub kind: AddressKind,
    /// Of a test address: its member.
    pub member: u32,
}

/// A sender on the group interface that is no data address (a container behind ipvlan, proxy ARP, a VIP): it
/// follows the cast member, and is announced with it. Egress writes it when the sender claims the address; ingress
/// removes it when another host does, to everybody or by an ARP reply to us. What is in a VLAN of the group is not learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Learnt {
    /// When it last sent, `CLOCK_MONOTONIC` in nanoseconds.
    pub seen_ns: u64,
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
    /// Sent through the member because a more preferred one could not.
    pub failed_over_packets: u64,
}

/// Packets dropped by the datapath, by reason; and copies, for which nothing is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Drops {
    /// Egress: no member can carry it.
    pub no_member: u64,
    /// Egress: its source MAC is not the group interface's (a bridge, a macvlan or a VM on top).
    pub foreign_source: u64,
    /// Egress: cut off inside the headers that must be rewritten.
    pub truncated: u64,
    /// Ingress: our own multicast or broadcast, reflected by the network.
    pub reflected: u64,
    /// Ingress: a copy of multicast or broadcast that another member takes.
    pub other_copy: u64,
    /// Egress: no drop, but a copy of a packet, shown to those who capture on the group interface.
    pub captured: u64,
}

/// Whether those who capture on a group interface are shown what leaves by it: the kernel itself shows them what comes
/// in, but packets that are redirected never reach the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(strum::Display, strum::EnumString, strum::IntoStaticStr, serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case"),
    strum(serialize_all = "snake_case")
)]
#[repr(u64)]
pub enum CaptureMode {
    /// While a packet socket for every protocol listens on the group interface itself.
    #[default]
    Auto = 0,
    /// Always.
    On = 1,
    /// Never.
    Off = 2,
}

impl CaptureMode {
    /// Every mode, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Auto, Self::On, Self::Off];

    /// The mode as it is written in commands and reports.
    #[cfg(feature = "user")]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What the sentinel watches for one group. The daemon writes a member's places while its bit in `armed` is
/// clear, so that the sentinel never reads half a member.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Watch {
    /// Members to watch. A member that is not armed is not live.
    pub armed: MemberSet,
    /// How long a member's link must have been good before it is live again, in nanoseconds.
    pub updelay_ns: u64,
    /// A [`CaptureMode`], as a number: one that is not known counts as [`CaptureMode::Auto`].
    pub capture: u64,
    /// The group interface. Its address is written last, and is 0 while the rest of it is not right.
    pub group: Device,
    /// Devices, by member number: the member's own, then those below it; unused places are zero.
    pub devices: [[Device; 1 + MAX_LOWER]; MAX_MEMBERS],
}

/// What the sentinel remembers of one group.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GoodSince {
    /// Since when each member's link has been good without a break, `CLOCK_MONOTONIC` in nanoseconds; 0: it is not.
    pub since_ns: [u64; MAX_MEMBERS],
}

/// The sentinel's timer, as far as user space has to do with it. The kernel's `bpf_timer` follows it in the value.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ClockSettings {
    /// Time between ticks, in nanoseconds, where [`ticks_between`] is 1.
    pub interval_ns: u64,
    /// Ticks so far.
    pub ticks: u64,
    /// `CLOCK_MONOTONIC` at the last tick, in nanoseconds.
    pub last_ns: u64,
    /// Nanoseconds spent in ticks so far.
    pub spent_ns: u64,
    /// Groups to look at: one more than the highest index in use.
    pub groups: u32,
    /// Not 0: do not re-arm.
    pub stop: u32,
}

/// Intervals from a tick of the sentinel to the next, when it looked at so many members: the more there are, the rarer it
/// looks, so that it takes a processor the same share of its time.
pub const fn ticks_between(members: u64) -> u64 {
    if members <= MEMBERS_PER_TICK { 1 } else { members.div_ceil(MEMBERS_PER_TICK) }
}

/// Members that the sentinel looks at each interval. A hundred of them, whose devices have left the caches since, take it thirty
/// microseconds: half a percent of a processor.
pub const MEMBERS_PER_TICK: u64 = 8;

/// The one value of `clock` as user space sees it: it neither reads nor writes the timer.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Clock {
    /// Settings.
    pub settings: ClockSettings,
    /// Where the kernel keeps its `bpf_timer`.
    pub timer: [u64; 2],
}

/// What a [`Hint`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum HintKind {
    /// Members of the group left or entered `live`.
    Live = 1,
    /// A new sender was learnt, or one was forgotten because it is elsewhere now.
    Learnt = 2,
    /// A membership report left: the group interface listens to other multicast groups than before, or was asked.
    Report = 3,
}

/// A wake-up call: look again. Its reader re-reads state and never believes history.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Hint {
    /// [`HintKind`], as a number: a reader must expect one it does not know.
    pub kind: u32,
    /// Index of the group.
    pub group: u32,
    /// When, `CLOCK_MONOTONIC` in nanoseconds.
    pub at_ns: u64,
}

/// What an [`ProbeReply`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProbeReplyKind {
    /// An ICMP or ICMPv6 echo reply to a member's own address, be it that of another, with our mark in it ([`crate::probe`]).
    Echo = 1,
    /// An ARP reply to nobody: to a request without a sender address.
    Arp = 2,
    /// A solicited neighbour advertisement to a member's own address, be it that of another.
    Nd = 3,
}

/// A frame that looks like the answer to a probe. Whether it is one is for its reader to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ProbeReply {
    /// When ingress saw it, `CLOCK_MONOTONIC` in nanoseconds.
    pub at_ns: u64,
    /// Of an echo: the cookie. Else 0.
    pub cookie: u64,
    /// Who answers: the source of an echo, the sender of an ARP reply, the target of an advertisement.
    pub from: Ip,
    /// Index of the group.
    pub group: u32,
    /// Number of the member that received it.
    pub member: u32,
    /// [`ProbeReplyKind`], as a number: a reader must expect one it does not know.
    pub kind: u32,
    /// Of an echo: its identifier and its sequence number. Else 0.
    pub identifier: u16,
    /// See `identifier`.
    pub sequence: u16,
    /// The MAC of who answers: the Ethernet source of an echo, what an ARP reply or an advertisement says.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: u16,
}

/// The word of the map `expected`: echo replies of this identifier are answers, those of others are not. Another machine
/// that does not see our requests has to guess it. While the word is 0, any identifier will do.
pub const fn echo_id_word(identifier: u16) -> u32 {
    1 << 16 | identifier as u32
}

/// Answers of one kind that a member hands over in one [`window`]. A member sends at most one probe a millisecond and
/// family; what is more than this is a flood, which must neither fill the ring buffer for long nor keep the daemon busy. It
/// would take one member and kind half a second in which the daemon reads nothing to fill it.
pub const REPLIES_PER_WINDOW: u64 = 8;

/// The window in which a moment lies: a millisecond, nearly, and its low bits 0, to be counted in.
pub const fn window(at_ns: u64) -> u64 {
    at_ns & !0xf_ffff
}

/// For each [`ProbeReplyKind`], in their order: the last [`window`] in which one member received answers, and how many in its low
/// bits.
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

/// What has become of the answers that one member received, by the datapath.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ReplyCounters {
    /// Handed to the daemon.
    pub delivered: u64,
    /// Not handed over: an echo of another identifier than [`echo_id_word`]. Not ours, or forged.
    pub unknown_id: u64,
    /// Not handed over: more than [`REPLIES_PER_WINDOW`].
    pub flood: u64,
    /// Not handed over: the ring buffer was full.
    pub lost: u64,
}

/// Offsets into `struct net_device` and `struct sk_buff`, from the kernel's BTF, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// `net_device.state`
    pub state: u32,
    /// `net_device.ifindex`
    pub ifindex: u32,
    /// `net_device.nd_net`
    pub nd_net: u32,
    /// `net_device.operstate`: a byte before Linux 6.8, an `unsigned int` since.
    pub operstate: u32,
    /// `sk_buff.dev`
    pub skb_dev: u32,
    /// `net_device.ptype_all`, the list of those who listen to every protocol on the device; 0 where the kernel keeps it
    /// elsewhere.
    pub ptype_all: u32,
}

/// Bits of `net_device.state`: `include/linux/netdevice.h`, `enum netdev_state_t`. Unchanged since Linux 2.6.
pub mod link_state {
    /// The device is up.
    pub const START: u64 = 1 << 0;
    /// It has not been removed from the bus.
    pub const PRESENT: u64 = 1 << 1;
    /// It has no carrier.
    pub const NOCARRIER: u64 = 1 << 2;
    /// It waits for something outside (802.1X).
    pub const DORMANT: u64 = 1 << 4;

    /// Whether a device in this state can send at all: what egress asks per packet.
    #[inline(always)]
    pub const fn carries(state: u64) -> bool {
        state & (START | PRESENT | NOCARRIER) == START | PRESENT
    }
    /// Whether it may be trusted again, with its operational state (RFC 2863, 0 unknown, 6 up).
    #[inline(always)]
    pub const fn returns(state: u64, operstate: u8) -> bool {
        carries(state) && state & DORMANT == 0 && (operstate == 0 || operstate == 6)
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::*;
    // SAFETY: each is repr(C) or repr(transparent), Copy and without implicit padding (the test below adds up
    // the fields); the enums among the fields are only ever written by user space.
    unsafe impl aya::Pod for Ip {}
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
    unsafe impl aya::Pod for Counters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Drops {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ReplyCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Watch {}
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

    #[test]
    fn the_more_members_the_rarer_a_tick() {
        let ticks = [0, 1, 8, 9, 16, 128, 4096].map(ticks_between);
        assert_eq!(ticks, [1, 1, 1, 2, 2, 16, 512]);
    }

    #[test]
    fn values_have_no_hidden_padding() {
        assert_eq!(size_of::<Device>(), 24);
        assert_eq!(size_of::<Member>(), 24 + 6 + 2 + 4 + 4 + 16 + MAX_LOWER * 24);
        assert_eq!(size_of::<Steering>(), 40);
        assert_eq!(size_of::<Address>(), 16);
        assert_eq!(size_of::<Watch>(), 24 + 24 + MAX_MEMBERS * (1 + MAX_LOWER) * 24);
        assert_eq!(size_of::<Drops>(), 48);
        assert_eq!(size_of::<ReplyCounters>(), 4 * 8);
        assert_eq!(size_of::<ClockSettings>(), 40);
        assert_eq!(size_of::<Clock>(), 56);
        assert_eq!(size_of::<Hint>(), 16);
        assert_eq!(size_of::<ProbeReply>(), 8 + 8 + 16 + 4 + 4 + 4 + 2 + 2 + 6 + 2);
    }
}
