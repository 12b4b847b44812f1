//! The maps of the sentinel, and the hints that wake the daemon.

use super::{Device, MAX_LOWER};
use crate::steer::{MAX_MEMBERS, MemberSet};

/// Whether captures on a group interface show outbound packets. The kernel shows inbound ones by itself, but redirected packets
/// never reach the device. See `docs/design/capture.md`.
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

/// What the sentinel monitors for one group. The daemon writes a member's devices while its bit in `armed` is clear, so that the
/// sentinel never reads a half-written member.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Watch {
    /// Members to monitor. A member that is not armed is not live.
    pub armed: MemberSet,
    /// How long a member's link must be up before the member is live, in nanoseconds; a member may have its own, see
    /// [`updelay_word`].
    pub updelay_ns: u64,
    /// A [`CaptureMode`], as a number: unknown ones count as [`CaptureMode::Auto`].
    pub capture: u64,
    /// The group interface. Its address is written last, and is 0 while the rest is incomplete.
    pub group: Device,
    /// Devices, by member number: the member's own, then those below it; unused places are zero.
    pub devices: [[Device; 1 + MAX_LOWER]; MAX_MEMBERS],
}

/// The word for a member's own updelay; `None`: it has that of its group.
pub const fn updelay_word(milliseconds: Option<u32>) -> u32 {
    match milliseconds {
        Some(milliseconds) => milliseconds.saturating_add(1),
        None => 0,
    }
}

/// The updelay of a member in nanoseconds, from its word and that of its group. While no member of the group is live
/// (`alone`), waiting would only prolong the outage: then it is [`SHORT_UPDELAY_NS`] at most.
#[inline(always)]
pub const fn updelay_ns(word: u32, of_group_ns: u64, alone: bool) -> u64 {
    let delay = if word == 0 { of_group_ns } else { (word as u64 - 1) * 1_000_000 };
    if alone && delay > SHORT_UPDELAY_NS { SHORT_UPDELAY_NS } else { delay }
}

/// The default updelay in nanoseconds: until then a device with carrier may not transmit yet, see
/// `docs/design/leaving-and-returning.md`.
pub const SHORT_UPDELAY_NS: u64 = 200_000_000;

/// Timestamps of the sentinel for one group.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GoodSince {
    /// Since when each member's link has been up without interruption, `CLOCK_MONOTONIC` in nanoseconds; 0: it is not up.
    pub since_ns: [u64; MAX_MEMBERS],
}

/// Settings and statistics of the sentinel's timer. In the map, the kernel's `bpf_timer` follows.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ClockSettings {
    /// Time between ticks after a change, in nanoseconds, where [`ticks_between`] is 1.
    pub interval_ns: u64,
    /// The same while nothing changes, at least.
    pub idle_interval_ns: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds until which ticks follow each other as after a change.
    pub frequent_until_ns: u64,
    /// When the next tick is due, by the same clock.
    pub due_ns: u64,
    /// When a tick was requested last, by the same clock.
    pub requested_ns: u64,
    /// Ticks so far.
    pub ticks: u64,
    /// `CLOCK_MONOTONIC` at the last tick or at the start, in nanoseconds; 0: the timer has ended, since no monitored device
    /// exists.
    pub last_ns: u64,
    /// Nanoseconds spent in ticks so far.
    pub spent_ns: u64,
    /// Groups to check: one more than the highest index in use.
    pub groups: u32,
    /// Not 0: do not re-arm.
    pub stop: u32,
}

/// What the program that starts the timer reads from its packet, at [`ClockStart::OFFSET`]. User space must not write it to
/// `clock`: `array_map_update_elem` (`kernel/bpf/arraymap.c`) frees the timer in the value that it replaces.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ClockStart {
    /// [`ClockSettings::interval_ns`].
    pub interval_ns: u64,
    /// [`ClockSettings::idle_interval_ns`].
    pub idle_interval_ns: u64,
    /// Groups to check at least: one more than the highest index in use; 0: only makes a running timer tick at once.
    pub groups: u32,
    /// Zero.
    pub reserved: u32,
}

impl ClockStart {
    /// Where it is in the packet, in bytes: behind the Ethernet header.
    pub const OFFSET: usize = 16;
    /// Bytes of the packet.
    pub const PACKET: usize = 64;

    /// The packet.
    pub fn packet(self) -> [u8; Self::PACKET] {
        let mut packet = [0; Self::PACKET];
        let (idle, groups) = (Self::OFFSET + 8, Self::OFFSET + 16);
        packet[Self::OFFSET..idle].copy_from_slice(&self.interval_ns.to_ne_bytes());
        packet[idle..groups].copy_from_slice(&self.idle_interval_ns.to_ne_bytes());
        packet[groups..groups + 4].copy_from_slice(&self.groups.to_ne_bytes());
        packet
    }
}

/// How long after a change ticks are frequent, in nanoseconds: so long, the kernel delays messages about further changes
/// (`linkwatch_nextevent`, `net/core/link_watch.c`).
pub const FREQUENT_NS: u64 = 1_000_000_000;

/// [`ClockSettings::idle_interval_ns`] by default: 8 ticks a second.
pub const IDLE_INTERVAL_NS: u64 = 128_000_000;

/// Time between ticks in nanoseconds, after one that checked so many members and took so long. Frequent ticks take a tenth of a
/// processor at most: with more members they are less frequent, but not much less after one that was interrupted.
#[inline(always)]
pub const fn pause_ns(settings: &ClockSettings, members: u64, spent_ns: u64, is_frequent: bool) -> u64 {
    let longest = settings.interval_ns * ticks_between(members);
    let wanted = spent_ns * PAUSE_OF_TICK;
    let frequent = if wanted < settings.interval_ns {
        settings.interval_ns
    } else if wanted < longest {
        wanted
    } else {
        longest
    };
    if is_frequent || frequent > settings.idle_interval_ns { frequent } else { settings.idle_interval_ns }
}

/// How many times as long as a tick the time to the next one is, at least, unless that is longer than [`ticks_between`] says.
const PAUSE_OF_TICK: u64 = 10;

/// Intervals between frequent ticks of the sentinel, with this many members, however long a tick takes.
pub const fn ticks_between(members: u64) -> u64 {
    if members <= MEMBERS_PER_TICK { 1 } else { members.div_ceil(MEMBERS_PER_TICK) }
}

/// Members that the sentinel checks in each interval, at least.
pub const MEMBERS_PER_TICK: u64 = 8;

/// The value of `clock` in user space, where the timer itself is not accessible.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Clock {
    /// Settings.
    pub settings: ClockSettings,
    /// Where the kernel keeps its `bpf_timer`.
    pub timer: [u64; 2],
}

/// The subject of a [`Hint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum HintKind {
    /// Members of the group left or entered `live`.
    Live = 1,
    /// A new sender was learnt, or one was removed because another host has its address.
    Learnt = 2,
    /// A membership report was sent: multicast groups of the group interface changed, or a querier asked.
    Report = 3,
    /// A neighbour sends packets for a data address to another member than its inbound member.
    StaleNeighbour = 4,
}

/// Wakes the daemon, which then reads the current state.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Hint {
    /// [`HintKind`], as a number: a reader must accept unknown ones.
    pub kind: u32,
    /// Index of the group.
    pub group: u32,
    /// When, `CLOCK_MONOTONIC` in nanoseconds.
    pub at_ns: u64,
}
