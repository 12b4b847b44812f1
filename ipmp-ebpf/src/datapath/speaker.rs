//! ARP and Neighbour Discovery that leave: who speaks for an address, and with which MAC.
//!
//! The host speaks with the MAC of the *inbound member* of the address that it speaks for, and through that same
//! member, so that switches learn the port together with the address. The group interface's MAC never leaves.

use aya_ebpf::{bindings::BPF_ANY, helpers::generated::bpf_ktime_get_ns, programs::TcContext};
use ipmp_common::{
    address::Mac,
    frame::{Arp, Frame, Nd},
    maps::{AddressKind, Hint, HintKind, Ip, Learnt},
    nd::{self, LinkLayerOption},
    steer::Preference,
};

use crate::{
    maps::{GROUP, addresses, group_mac, hints, learnt, members, steering},
    member,
};

/// Options of a Neighbour Discovery message that are looked at. Ours are the first or the second.
const MAX_OPTIONS: usize = 4;

/// The inbound list of an address of ours; the cast member's for senders that we learn.
#[inline(always)]
fn inbound(speaks_for: &Ip) -> Option<Preference> {
    // SAFETY: the value is copied at once; a concurrent update replaces the whole element.
    if let Some(address) = unsafe { addresses.get(speaks_for) } {
        return Some(match address.kind {
            AddressKind::Data => address.inbound,
            AddressKind::Test => Preference(u64::from(address.member) * 0x1111_1111_1111_1111),
        });
    }
    learn(speaks_for);
    Some(steering.get(0)?.cast)
}

/// Remembers a sender that is no data address, and wakes the daemon when it is new.
#[inline(always)]
fn learn(sender: &Ip) {
    // SAFETY: a helper without arguments.
    let seen_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: only whether there is a value is asked.
    let known = unsafe { learnt.get(sender) }.is_some();
    // A full map forgets the sender that has been silent longest: nothing to handle.
    let _ = learnt.insert(sender, Learnt { seen_ns }, BPF_ANY.into());
    if !known {
        if let Some(mut entry) = hints.reserve(0) {
            entry.write(Hint { kind: HintKind::Learnt as u32, group: GROUP.load(), at_ns: seen_ns });
            entry.submit(0);
        }
    }
}

/// Sends ARP for the address that it speaks for.
#[inline(always)]
pub fn arp(ctx: &TcContext, frame: &Frame, l3: usize, packet: &Arp) -> i32 {
    let Some(list) = inbound(&packet.speaks_for()) else { return member::dropped_nobody(ctx) };
    let Some(number) = member::pick(list) else { return member::dropped_nobody(ctx) };
    let Some(speaker) = members.get(number) else { return member::dropped_nobody(ctx) };
    let complete = (packet.sender_mac != group_mac() || frame.store(l3 + Arp::SENDER_MAC, speaker.mac))
        && (packet.target_mac != group_mac() || frame.store(l3 + Arp::TARGET_MAC, speaker.mac));
    if !complete {
        return member::dropped_truncated();
    }
    member::send(ctx, frame, number, speaker, number != u32::from(list.first()))
}

/// Sends a Neighbour Discovery message for the address that it speaks for.
#[inline(always)]
pub fn nd(ctx: &TcContext, frame: &Frame, message: &Nd) -> i32 {
    let Some(list) = inbound(&message.speaks_for()) else { return member::dropped_nobody(ctx) };
    let Some(number) = member::pick(list) else { return member::dropped_nobody(ctx) };
    let Some(speaker) = members.get(number) else { return member::dropped_nobody(ctx) };
    if let Some(options) = nd::options_at(message.kind) {
        if !rewrite_option(frame, message.at, message.at + options, speaker.mac) {
            return member::dropped_truncated();
        }
    }
    member::send(ctx, frame, number, speaker, number != u32::from(list.first()))
}

/// Puts `mac` where a link-layer address option holds the group's MAC, and corrects the checksum. A message has one
/// such option: its sender's, or that of the target that it speaks for. False if the message is cut off.
#[inline(always)]
fn rewrite_option(frame: &Frame, icmp: usize, options: usize, mac: [u8; 6]) -> bool {
    let mut at = options;
    for _ in 0..MAX_OPTIONS {
        // The options end with the packet.
        let Some(option) = frame.place::<LinkLayerOption>(at) else { return true };
        // SAFETY: inside the packet; the verifier wants the write below to go through the pointer that was compared.
        let LinkLayerOption { head, mac: old } = unsafe { option.read_unaligned() };
        if head.len == 0 {
            return true;
        }
        let is_address =
            head.kind == nd::SOURCE_LINK_LAYER_ADDRESS || head.kind == nd::TARGET_LINK_LAYER_ADDRESS;
        if is_address && head.len == 1 && Mac::from(old) == group_mac() {
            // SAFETY: as above.
            unsafe { option.write_unaligned(LinkLayerOption { head, mac }) };
            let Some(check) = frame.load::<u16>(icmp + 2) else { return false };
            return frame.store(icmp + 2, correct(check, old, mac));
        }
        at += 8 * head.len as usize;
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
