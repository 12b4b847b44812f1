//! Egress on the group interface: every frame gets a member, and that member's MAC.

use aya_ebpf::{bindings::TC_ACT_SHOT, programs::TcContext};
use ipmp_common::{
    frame::{self, Ethernet, Frame, Payload, ethertype, protocol},
    maps::{AddressKind, Ip},
    steer::Preference,
};

use crate::{
    maps::{Reason, addresses, count_drop, is_group_mac, masks, steering},
    member, reports, speaker, spread, trace,
};

/// The program.
#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let frame = member::frame(ctx);
    let Some(ethernet) = Ethernet::of(&frame) else { return member::dropped_truncated() };
    if !is_group_mac(ethernet.source) {
        trace::foreign_source(ctx, ethernet.source);
        count_drop(Reason::ForeignSource);
        return TC_ACT_SHOT;
    }
    if ethernet.vlan.is_none() {
        behind_ethernet::<14>(ctx, &frame, &ethernet)
    } else {
        behind_ethernet::<18>(ctx, &frame, &ethernet)
    }
}

#[inline(always)]
fn behind_ethernet<const L3: usize>(ctx: &TcContext, frame: &Frame, ethernet: &Ethernet) -> i32 {
    let ethertype = ethernet.ethertype;
    if !ethernet.is_multicast() && is_plain_ip::<L3>(frame, ethertype) {
        return steer::<L3>(ctx, frame, ethertype);
    }
    match frame::payload(frame, L3, ethertype) {
        Payload::Ip(_) if !ethernet.is_multicast() => steer::<L3>(ctx, frame, ethertype),
        Payload::Arp(packet) => speaker::arp(ctx, frame, L3, &packet),
        Payload::Nd(message) => speaker::nd(ctx, frame, &message),
        Payload::Report if ethernet.is_multicast() => reports::send(ctx),
        Payload::Truncated => member::dropped_truncated(),
        Payload::Ip(_) | Payload::Report | Payload::Other => match steering.get(0) {
            Some(words) => member::send_by(ctx, frame, words.cast),
            None => member::dropped_nobody(ctx),
        },
    }
}

/// Whether the frame is IPv4, or IPv6 that cannot be Neighbour Discovery: the shortest way to the common answer.
#[inline(always)]
fn is_plain_ip<const L3: usize>(frame: &Frame, ethertype: u16) -> bool {
    match ethertype {
        ethertype::IPV4 => frame.load::<[u8; 20]>(L3).is_some(),
        ethertype::IPV6 => {
            frame.load::<[u8; 40]>(L3).is_some() && frame.load::<u8>(L3 + 6) != Some(protocol::ICMPV6)
        }
        _ => false,
    }
}

/// A unicast IP packet: by its flow, or, if it is a test address's, by that.
#[inline(always)]
fn steer<const L3: usize>(ctx: &TcContext, frame: &Frame, ethertype: u16) -> i32 {
    let Some(words) = steering.get(0) else { return member::dropped_nobody(ctx) };
    if words.test_addresses != 0
        && let Some(number) = member_of_test_address::<L3>(frame, ethertype)
    {
        return member::send_through(ctx, frame, number, false);
    }
    let Some(list) = spread::list(ctx, frame, L3, ethertype) else { return member::dropped_nobody(ctx) };
    let (trusted, _) = masks(words);
    if let Some((number, chosen)) = member::most_preferred(list, trusted) {
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
fn member_of_test_address<const L3: usize>(frame: &Frame, ethertype: u16) -> Option<u32> {
    let source = match ethertype {
        ethertype::IPV4 => Ip::v4(frame.load(L3 + 12)?),
        _ => Ip(frame.load(L3 + 8)?),
    };
    // SAFETY: the value is copied at once; a concurrent update replaces the whole element.
    let address = unsafe { addresses.get(&source) }?;
    match address.kind {
        AddressKind::Test => Some(address.member),
        AddressKind::Data => None,
    }
}
