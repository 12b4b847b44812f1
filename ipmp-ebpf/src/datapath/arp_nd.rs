//! Outbound ARP and Neighbour Discovery: which member sends them, and with which MAC.
//!
//! The packet leaves through the *inbound member* of the address that it announces, with that member's MAC, so that switches
//! learn port and address together. The MAC of the group interface never leaves the host. See `docs/design/inbound-roles.md`.

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::generated::{bpf_for_each_map_elem, bpf_ktime_get_ns},
};
use ipmp_common::{
    address::Mac,
    frame::{Arp, Frame},
    maps::{AddressKind, Hint, HintKind, Ip, Learnt, VlanKey},
    nd::{self, LinkLayerOption, OptionHead},
    steer::Preference,
};

use crate::{
    maps::{GROUP, addresses, group_mac, hints, learnt, steering, vlan_addresses},
    packet,
};

/// Options of a Neighbour Discovery message that are read. Ours is the first or second, but a Router Advertisement has an option
/// for every prefix before the one with its MAC.
const MAX_OPTIONS: usize = 16;
/// Maximum length of a Neighbour Discovery message.
const MAX_LENGTH: usize = 0x3fff;

/// The inbound list of an address of this host. All others use the cast list, and are learnt if the sender claims them.
#[inline(always)]
pub fn inbound(speaks_for: &Ip, claimed: bool) -> Preference {
    // SAFETY: the value is copied at once; a concurrent update replaces the whole element.
    if let Some(address) = unsafe { addresses.get(speaks_for) } {
        return match address.kind {
            AddressKind::Data => address.inbound,
            AddressKind::Test => Preference::from_nibbles(u64::from(address.member) * 0x1111_1111_1111_1111),
        };
    }
    if claimed {
        learn(speaks_for);
    }
    cast()
}

/// The cast list: for multicast and broadcast, and for what no other list is for.
#[inline(always)]
pub fn cast() -> Preference {
    steering.get(0).map_or(Preference::EMPTY, |words| words.cast)
}

/// The inbound list of an address on a VLAN of the group, with a number of [`packet::vlan_number`].
#[inline(always)]
pub fn inbound_in_vlan(address: &Ip, vlan: u32) -> Option<Preference> {
    if !packet::is_in_one_vlan(vlan) {
        return None;
    }
    let key = VlanKey { address: *address, vlan: u64::from(packet::vlan_id(vlan)) };
    // SAFETY: the value is copied at once; it is one word.
    unsafe { vlan_addresses.get(key) }.copied()
}

/// Adds a sender without a data address, and wakes the daemon when it is new.
#[inline(always)]
fn learn(sender: &Ip) {
    // SAFETY: a helper without arguments.
    let seen_ns = unsafe { bpf_ktime_get_ns() };
    if let Some(known) = learnt.get_ptr_mut(sender) {
        // SAFETY: an aligned word of the map, which user space reads.
        unsafe { (&raw mut (*known).seen_ns).write_volatile(seen_ns) };
        return;
    }
    let insert = || learnt.insert(sender, Learnt { seen_ns }, BPF_ANY.into());
    if insert().is_err() {
        // It is full.
        forget_oldest();
        // Another processor may have been faster: the sender is learnt with its next announcement.
        let _ = insert();
    }
    wake(HintKind::Learnt);
}

/// The learnt sender whose last announcement is the oldest.
struct Oldest {
    /// Words, as in [`Ip::from_words`].
    sender: [u64; 2],
    seen_ns: u64,
}

/// Removes that sender.
#[unsafe(no_mangle)]
#[inline(never)]
fn forget_oldest() -> u32 {
    // As in `slow_path`.
    let mut oldest = Oldest { sender: [black_box(0); 2], seen_ns: u64::MAX };
    let map = (&raw const learnt).cast_mut().cast();
    // SAFETY: a map, and a callback for its types with the address of `oldest`.
    let turns =
        unsafe { bpf_for_each_map_elem(map, keep_oldest as *mut c_void, (&raw mut oldest).cast(), 0) };
    let _ = learnt.remove(Ip::from_words(oldest.sender));
    turns as u32
}

/// The callback of `bpf_for_each_map_elem`: one learnt sender.
extern "C" fn keep_oldest(
    _map: *mut c_void,
    sender: *const Ip,
    learnt_sender: *const Learnt,
    oldest: *mut Oldest,
) -> i64 {
    // SAFETY: an element of the map, which another processor may replace meanwhile, and the value of `forget_oldest`.
    unsafe {
        let seen_ns = (*learnt_sender).seen_ns;
        if seen_ns < (*oldest).seen_ns {
            let words = sender.cast::<u64>();
            *oldest = Oldest { sender: [words.read(), words.add(1).read()], seen_ns };
        }
    }
    0
}

/// Removes a learnt sender, because another host claims its address: our announcements for it would be wrong.
#[inline(always)]
pub fn remove_learnt(claimed: &Ip) {
    // SAFETY: the value is not read.
    if unsafe { learnt.get(claimed) }.is_some() && learnt.remove(claimed).is_ok() {
        wake(HintKind::Learnt);
    }
}

/// Wakes the daemon. If the ring buffer is full, the daemon reads the state with the next hint of the kind.
#[inline(always)]
pub fn wake(kind: HintKind) {
    if let Some(mut entry) = hints.reserve(0) {
        // SAFETY: a helper without arguments.
        let at_ns = unsafe { bpf_ktime_get_ns() };
        entry.write(Hint { kind: kind as u32, group: GROUP.load(), at_ns });
        entry.submit(0);
    }
}

/// Bound for offsets in a plan: the verifier loses their range when they are stored in memory.
const MAX_AT: usize = 0x7f;

/// Writes the member's MAC to an ARP packet. False if the packet is truncated.
#[inline(always)]
pub fn write_arp_mac(frame: &Frame, at: usize, mac: [u8; 6]) -> bool {
    let (at, mac) = (at & MAX_AT, Mac::from(mac));
    [Arp::SENDER_MAC, Arp::TARGET_MAC].iter().all(|field| {
        let Some(place) = frame.place::<[u8; 6]>(at + field) else { return false };
        // SAFETY: inside the packet; the verifier requires a write through the compared pointer.
        unsafe {
            if Mac::from(place.read_unaligned()) == group_mac() {
                // As words: for six bytes the compiler would call `memmove`.
                place.cast::<u32>().write_unaligned(mac.0 as u32);
                place.byte_add(4).cast::<u16>().write_unaligned((mac.0 >> 32) as u16);
            }
        }
        true
    })
}

/// Writes the member's MAC to the link-layer address option of a Neighbour Discovery message that contains the group's, and updates
/// the checksum. A message has at most one such option, for its sender or its target. False if the message is truncated.
#[inline(always)]
pub fn write_nd_mac(frame: &Frame, at: usize, mac: [u8; 6]) -> bool {
    let icmp = at & MAX_AT;
    // Keeps the compared pointer: the compiler would compute it again, and the verifier would not know its bounds.
    let Some(head) = frame.place::<[u8; 4]>(icmp).map(black_box) else { return false };
    // SAFETY: inside the packet.
    let [kind, _, high, low] = unsafe { head.read_unaligned() };
    let Some(options) = nd::options_at(kind) else { return false };
    let mut at = icmp + options;
    for _ in 0..MAX_OPTIONS {
        // The options end with the packet.
        let Some(option) = frame.place::<LinkLayerOption>(at) else { return true };
        // SAFETY: inside the packet.
        let LinkLayerOption { head: OptionHead { kind, len }, mac: old } = unsafe { option.read_unaligned() };
        if len == 0 {
            return true;
        }
        // Computed before the option is checked: otherwise the verifier follows every outcome of the checks to the end.
        let next = black_box(at + 8 * len as usize);
        let is_address = kind == nd::SOURCE_LINK_LAYER_ADDRESS || kind == nd::TARGET_LINK_LAYER_ADDRESS;
        if is_address && len == 1 && Mac::from(old) == group_mac() {
            let [high, low] = correct(u16::from_ne_bytes([high, low]), old, mac).to_ne_bytes();
            // SAFETY: inside the packet, both.
            unsafe {
                option.write_unaligned(LinkLayerOption { head: OptionHead { kind, len }, mac });
                head.cast::<[u8; 2]>().add(1).write_unaligned([high, low]);
            }
            return true;
        }
        if next > MAX_LENGTH {
            return true;
        }
        at = next;
    }
    true
}

/// The checksum after `old` became `new` at an even place (RFC 1624). Sums of 16-bit words come out the same in either
/// byte order, so nothing is swapped.
#[inline(always)]
fn correct(check: u16, old: [u8; 6], new: [u8; 6]) -> u16 {
    let mut sum = u32::from(!check);
    let mut place = 0;
    while place < 6 {
        sum += u32::from(!u16::from_ne_bytes([old[place], old[place + 1]]));
        sum += u32::from(u16::from_ne_bytes([new[place], new[place + 1]]));
        place += 2;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
