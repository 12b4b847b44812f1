//! The maps and constants of the datapath. Contents of the maps: `ipmp_common::maps` and `docs/maps.md`.
#![allow(non_upper_case_globals, reason = "the names of the maps, as bpftool shows them")]

use core::ptr::NonNull;

use aya_ebpf::{
    Global,
    bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY,
    btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray, RingBuf},
    helpers::generated::bpf_map_lookup_elem,
    macros::btf_map,
};
use ipmp_common::{
    address::Mac,
    maps::{
        Address, Counters, Drops, EarlyDrops, HINTS_BYTES, Hint, Ip, Learnt, MAX_ADDRESSES, MAX_GROUPS,
        MAX_LEARNT, MAX_STALE, MAX_VLAN_ADDRESSES, MacKey, Member, PROBE_REPLIES_BYTES, ProbeReply, Replaced,
        ReplyCounters, ReplyWindows, StaleKey, StaleNeighbour, Steering, VlanKey,
    },
    steer::{MAX_MEMBERS, MemberSet, Preference, SLOTS},
    transition::{ACTIVE_FLOWS, ActiveFlow},
};
use ipmp_ebpf::{clock::Clock, count};

const MMAPABLE: usize = aya_ebpf::bindings::BPF_F_MMAPABLE as usize;
/// Few groups have as many addresses and senders as there may be: memory is allocated for those that there are. An LRU map would need it
/// for all.
const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;

/// Index of the group in `live`, and in hints.
#[unsafe(no_mangle)]
pub static GROUP: Global<u32> = Global::new(0);
/// Interface index of the group interface.
#[unsafe(no_mangle)]
pub static GROUP_IFINDEX: Global<u32> = Global::new(0);
/// MAC of the group interface, its first byte in the lowest bits.
#[unsafe(no_mangle)]
pub static GROUP_MAC: Global<u64> = Global::new(0);
/// `ipmp_common::hash::HashPolicy`.
#[unsafe(no_mangle)]
pub static POLICY: Global<u32> = Global::new(0);
/// Not 0: carriers and identities are read per packet. 0 where the kernel does not allow it.
#[unsafe(no_mangle)]
pub static READ_DEVICES: Global<u32> = Global::new(0);
/// 0 only in a benchmark, which so measures what it costs that ingress looks for the first packet after a failure.
#[unsafe(no_mangle)]
pub static STAMPS: Global<u32> = Global::new(1);
/// Number of the member whose early drop this is. Ingress finds it by the interface index.
#[unsafe(no_mangle)]
pub static MEMBER: Global<u32> = Global::new(0);
/// Not 0: the sentinel runs, and a program may start its timer; 0 also where the kernel has no timers for programs.
#[unsafe(no_mangle)]
pub static SENTINEL: Global<u32> = Global::new(0);

/// Of the sentinel.
#[btf_map]
pub static clock: Array<Clock, 1> = Array::new();
#[btf_map]
pub static members: Array<Member, MAX_MEMBERS> = Array::new();
#[btf_map]
pub static slots: Array<Preference, SLOTS, MMAPABLE> = Array::new();
#[btf_map]
pub static steering: Array<Steering, 1, MMAPABLE> = Array::new();
#[btf_map]
pub static live: Array<MemberSet, MAX_GROUPS, MMAPABLE> = Array::new();
#[btf_map]
pub static addresses: HashMap<Ip, Address, { MAX_ADDRESSES as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static learnt: HashMap<Ip, Learnt, { MAX_LEARNT as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static vlan_addresses: HashMap<VlanKey, Preference, { MAX_VLAN_ADDRESSES as usize }, NO_PREALLOC> =
    HashMap::new();
#[btf_map]
pub static stale_neighbours: HashMap<StaleKey, StaleNeighbour, { MAX_STALE as usize }> = HashMap::new();
#[btf_map]
pub static own_macs: HashMap<MacKey, u32, { MAX_MEMBERS + 1 }> = HashMap::new();
#[btf_map]
pub static vlans: Array<u64, 64> = Array::new();
#[btf_map]
pub static counters: PerCpuArray<Counters, MAX_MEMBERS> = PerCpuArray::new();
#[btf_map]
pub static replaced: PerCpuArray<Replaced, MAX_MEMBERS> = PerCpuArray::new();
#[btf_map]
pub static drops: PerCpuArray<Drops, 1> = PerCpuArray::new();
#[btf_map]
pub static early_drops: PerCpuArray<EarlyDrops, MAX_MEMBERS> = PerCpuArray::new();
#[btf_map]
pub static hints: RingBuf<Hint, { HINTS_BYTES as usize }> = RingBuf::new();
#[btf_map]
pub static probe_replies: RingBuf<ProbeReply, { PROBE_REPLIES_BYTES as usize }> = RingBuf::new();
#[btf_map]
pub static echo_id: Array<u32, 1> = Array::new();
#[btf_map]
pub static reply_counters: PerCpuArray<ReplyCounters, MAX_MEMBERS> = PerCpuArray::new();
#[btf_map]
pub static reply_windows: Array<ReplyWindows, MAX_MEMBERS> = Array::new();
#[btf_map]
pub static active_flows: ArrayOfMaps<FlowTable, 1> = ArrayOfMaps::new();

/// The definition of the table of active flows. It has the sizes of its types instead of the types: the table that the daemon creates has none,
/// and Linux 6.1 inserts only a map with the same.
#[repr(C)]
#[allow(dead_code, reason = "the loader reads the types of the fields")]
pub struct FlowTable {
    r#type: *const [i32; BPF_MAP_TYPE_ARRAY as usize],
    key_size: *const [i32; size_of::<u32>()],
    value_size: *const [i32; size_of::<ActiveFlow>()],
    max_entries: *const [i32; ACTIVE_FLOWS],
    map_flags: *const [i32; MMAPABLE],
}

// SAFETY: there is no value of it.
unsafe impl Sync for FlowTable {}

impl FlowTable {
    /// The entry of a place.
    #[inline(always)]
    pub fn entry(&self, place: u32) -> Option<NonNull<ActiveFlow>> {
        let table = core::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: a map, and a key of its size.
        let entry = unsafe { bpf_map_lookup_elem(table, (&raw const place).cast()) };
        NonNull::new(entry.cast())
    }
}

/// The MAC of the group interface.
#[inline(always)]
pub fn group_mac() -> Mac {
    Mac(GROUP_MAC.load())
}

/// The group's word of `live`: the live members, and whether there is a capture.
#[inline(always)]
pub fn word_of_live() -> MemberSet {
    match live.get(GROUP.load()) {
        Some(set) => *set,
        None => MemberSet::EMPTY,
    }
}

/// Whether a VLAN is one of the group's.
#[inline(always)]
pub fn is_group_vlan(id: u16) -> bool {
    vlans.get(u32::from(id & 0xfff) / 64).is_some_and(|bits| bits >> (id % 64) & 1 == 1)
}

/// Why a packet is dropped: the fields of [`Drops`].
#[derive(Clone, Copy)]
pub enum Reason {
    NoMember,
    ForeignSource,
    Truncated,
    Reflected,
    OtherCopy,
}

/// Counts a copy for captures.
#[inline(always)]
pub fn count_copy() {
    let Some(all) = drops.get_ptr_mut(0) else { return };
    // SAFETY: a field of a per-CPU value.
    unsafe { count::add(&raw mut (*all).captured, 1) };
}

/// Counts a drop.
#[inline(always)]
pub fn count_drop(reason: Reason) {
    let Some(all) = drops.get_ptr_mut(0) else { return };
    // SAFETY: fields of a per-CPU value.
    unsafe {
        let field = match reason {
            Reason::NoMember => &raw mut (*all).no_member,
            Reason::ForeignSource => &raw mut (*all).foreign_source,
            Reason::Truncated => &raw mut (*all).truncated,
            Reason::Reflected => &raw mut (*all).reflected,
            Reason::OtherCopy => &raw mut (*all).other_copy,
        };
        count::add(field, 1);
    }
}
