//! Egress on the group interface: every frame gets a member, and that member's MAC.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    programs::TcContext,
};
use ipmp_common::{
    frame::{self, Ethernet, Frame, Payload, ethertype, protocol},
    hash::filter_bit,
    maps::{AddressKind, Ip},
    steer::Preference,
};

use crate::{
    maps::{Reason, addresses, count_drop, group_mac, steering, trusted},
    member, reports, speaker, spread, trace,
};

/// Offset of what stands behind an Ethernet header without a tag.
const UNTAGGED: usize = 14;

/// The program.
#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let frame = member::frame(ctx);
    let Some(ethernet) = Ethernet::of(&frame) else { return member::dropped_truncated() };
    if ethernet.source != group_mac() {
        trace::foreign_source(ctx, ethernet.source);
        count_drop(Reason::ForeignSource);
        return TC_ACT_SHOT;
    }
    let common = !ethernet.destination.is_multicast() && ethernet.vlan.is_none();
    if common && is_plain_ip(&frame, ethernet.ethertype) {
        return steer(ctx, &frame, ethernet.ethertype);
    }
    others(ctx.skb.skb)
}

/// Everything but untagged unicast IP: a subprogram, so that the common way stays short.
#[inline(never)]
fn others(skb: *mut __sk_buff) -> i32 {
    let ctx = &TcContext::new(skb);
    let frame = &member::frame(ctx);
    let Some(ethernet) = Ethernet::of(frame) else { return member::dropped_truncated() };
    let l3 = ethernet.payload_at();
    match frame::payload(frame, l3, ethernet.ethertype) {
        Payload::Ip(_) if !ethernet.destination.is_multicast() => {
            match spread::list(ctx, frame, l3, ethernet.ethertype) {
                Some(list) => member::send_by(ctx, frame, list),
                None => member::dropped_nobody(ctx),
            }
        }
        Payload::Arp(packet) => speaker::arp(ctx, frame, l3, &packet),
        Payload::Nd(message) => speaker::nd(ctx, frame, &message),
        Payload::Report if ethernet.destination.is_multicast() => reports::send(ctx),
        Payload::Truncated => member::dropped_truncated(),
        Payload::Ip(_) | Payload::Report | Payload::Other => match steering.get(0) {
            Some(words) => member::send_by(ctx, frame, words.cast),
            None => member::dropped_nobody(ctx),
        },
    }
}

/// Whether the frame is IPv4, or IPv6 that cannot be Neighbour Discovery: the shortest way to the common answer.
#[inline(always)]
fn is_plain_ip(frame: &Frame, ethertype: u16) -> bool {
    match ethertype {
        ethertype::IPV4 => frame.load::<[u8; 20]>(UNTAGGED).is_some(),
        ethertype::IPV6 => {
            frame.load::<[u8; 40]>(UNTAGGED).is_some()
                && frame.load::<u8>(UNTAGGED + 6) != Some(protocol::ICMPV6)
        }
        _ => false,
    }
}

/// An untagged unicast IP packet: by its flow, or, if it is a test address's, by that.
#[inline(always)]
fn steer(ctx: &TcContext, frame: &Frame, ethertype: u16) -> i32 {
    let Some(words) = steering.get(0) else { return member::dropped_nobody(ctx) };
    if words.test_addresses != 0
        && let Some(number) = member_of_test_address(frame, ethertype, words.test_addresses)
    {
        return member::send_through(ctx, frame, number, false);
    }
    let Some(list) = spread::list(ctx, frame, UNTAGGED, ethertype) else {
        return member::dropped_nobody(ctx);
    };
    if let Some((number, chosen)) = member::most_preferred(list, words.usable.and(trusted())) {
        return member::send(ctx, frame, number, chosen, false);
    }
    second_choice(ctx, list)
}

/// A packet whose most preferred member cannot carry it.
#[inline(always)]
fn second_choice(ctx: &TcContext, list: Preference) -> i32 {
    member::send_by(ctx, &member::frame(ctx), list)
}

/// The member that a packet's source is the test address of.
#[inline(always)]
fn member_of_test_address(frame: &Frame, ethertype: u16, filter: u64) -> Option<u32> {
    let source = match ethertype {
        ethertype::IPV4 => Ip::from_v4_word(frame.load(UNTAGGED + 12)?),
        _ => Ip::from_words(frame.load(UNTAGGED + 8)?),
    };
    if filter & filter_bit(source) == 0 {
        return None;
    }
    // SAFETY: the value is copied at once; a concurrent update replaces the whole element.
    let address = unsafe { addresses.get(&source) }?;
    match address.kind {
        AddressKind::Test => Some(address.member),
        AddressKind::Data => None,
    }
}
