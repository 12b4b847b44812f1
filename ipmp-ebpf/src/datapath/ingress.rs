//! Ingress on a member: redirects packets for the group to the group interface, once, and passes all others.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{bpf_ktime_get_ns, bpf_redirect},
    programs::TcContext,
};
use ipmp_common::{
    frame::{self, ARP_REPLY, Arp, Ethernet, Frame, Payload, ethertype},
    hash::filter_bit,
    maps::{AddressKind, Ip, Member, ProbeReplyKind, RECEIVE_CHECK},
};
use ipmp_ebpf::{count, device};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    copies::{self, Decision, Owner, owner, remove_claimed},
    dhcp,
    maps::{
        GROUP_IFINDEX, READ_DEVICES, Reason, STAMPS, addresses, count_drop, counters, group_mac,
        is_group_vlan, learnt, members, replaced, steering,
    },
    member,
    packet::{self, PACKET_HOST, UNTAGGED},
    probe_replies, receive_check, trace,
};

/// The program.
#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    // SAFETY: a field of the context.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let number = member::of_interface(ifindex);
    let Some(this) = members.get(number) else { return TC_ACT_UNSPEC };
    if ifindex != this.device.ifindex || is_elsewhere(ctx, this) {
        return TC_ACT_UNSPEC;
    }
    if !packet::gather_headers(ctx) {
        return TC_ACT_UNSPEC;
    }
    let Some(ethernet) = Ethernet::of(&packet::frame(ctx)) else { return TC_ACT_UNSPEC };
    let vlan = packet::vlan_number(ctx, &ethernet);
    if vlan != 0 && !is_group_vlan(packet::vlan_id(vlan)) {
        return TC_ACT_UNSPEC;
    }
    if vlan == 0 && dhcp::is_reply_to_member(&packet::frame(ctx), &ethernet, this.mac) {
        return TC_ACT_UNSPEC;
    }
    if ethernet.destination.is_multicast() {
        return multicast(ctx.skb.skb, vlan, number);
    }
    // SAFETY: a field of the context.
    let is_for_this_mac = unsafe { (*ctx.skb.skb).pkt_type } == PACKET_HOST;
    // Any member takes any data address; possible addresses of a member, and frames for another MAC, need a full check.
    let is_ours =
        is_for_this_mac && ethernet.vlan.is_none() && !may_be_own(&packet::frame(ctx), ethernet.ethertype);
    if !is_ours && unicast(ctx.skb.skb, vlan, number) == 0 {
        return TC_ACT_UNSPEC;
    }
    if !packet::frame(ctx).set_destination(group_mac().bytes()) {
        return TC_ACT_UNSPEC;
    }
    if count_received(ctx, number).is_multiple_of(RECEIVE_CHECK) && is_for_this_mac {
        receive_check::inspect(ctx.skb.skb, vlan, number);
    }
    if STAMPS.load() != 0
        && steering.get(0).is_some_and(|words| words.received_since_ns != 0)
        && vlan == 0
        && let Some(destination) = destination(&packet::frame(ctx), ethernet.ethertype)
    {
        stamp_received(&destination, number);
    }
    redirect()
}

/// The destination of an untagged IP packet.
#[inline(always)]
fn destination(frame: &Frame, ethertype: u16) -> Option<Ip> {
    match ethertype {
        ethertype::IPV4 => frame.load(UNTAGGED + offset_of!(Ipv4Hdr, dst_addr)).map(Ip::from_v4_word),
        ethertype::IPV6 => frame.load_v6(UNTAGGED + offset_of!(Ipv6Hdr, dst_addr)),
        _ => None,
    }
}

/// Whether the destination may be an address of a member itself; always true if it is not IP.
#[inline(always)]
fn may_be_own(frame: &Frame, ethertype: u16) -> bool {
    let (Some(words), Some(destination)) = (steering.get(0), destination(frame, ethertype)) else {
        return true;
    };
    words.test_addresses & filter_bit(destination) != 0
}

/// After a failure, until the daemon knows the time: stamps the first packet for a data address that another member received before.
#[inline(always)]
fn stamp_received(destination: &Ip, this: u32) {
    let since_ns = steering.get(0).map_or(0, |words| words.received_since_ns);
    // SAFETY: as in `owner`.
    let Some(address) = (unsafe { addresses.get(destination) }) else { return };
    if !matches!(address.kind, AddressKind::Data) || address.member == this {
        return;
    }
    let Some(mine) = replaced.get_ptr_mut(address.member) else { return };
    // SAFETY: a field of a per-CPU value, and a helper without arguments.
    unsafe {
        if (*mine).received_ns < since_ns {
            (*mine).received_ns = bpf_ktime_get_ns();
        }
    }
}

/// Whether the device was moved to another network namespace, where this program must not redirect anything.
#[inline(always)]
fn is_elsewhere(ctx: &TcContext, this: &Member) -> bool {
    // In another namespace it can have the index of another member.
    READ_DEVICES.load() != 0
        && !(device::is_at_home(&this.device) && device::has_received(&this.device, ctx.skb.skb.cast()))
}

/// Multicast and broadcast: accepted from one member.
#[unsafe(no_mangle)]
#[inline(never)]
fn multicast(skb: *mut __sk_buff, vlan: u32, this: u32) -> i32 {
    let ctx = &TcContext::new(skb);
    let frame = &packet::frame(ctx);
    let Some(ethernet) = Ethernet::of(frame) else { return TC_ACT_UNSPEC };
    match copies::decide(frame, &ethernet, vlan, this) {
        Decision::Pass => TC_ACT_UNSPEC,
        Decision::Accept => accept(ctx, this),
        Decision::Reflected => {
            trace::reflected(ctx, ethernet.source);
            count_drop(Reason::Reflected);
            TC_ACT_SHOT
        }
        Decision::OtherCopy => {
            count_drop(Reason::OtherCopy);
            TC_ACT_SHOT
        }
    }
}

/// Unicast that needs a full check: 1 if it is for the group, 0 to pass it.
#[unsafe(no_mangle)]
#[inline(never)]
fn unicast(skb: *mut __sk_buff, vlan: u32, this: u32) -> u32 {
    let ctx = &TcContext::new(skb);
    let frame = &packet::frame(ctx);
    let Some(ethernet) = Ethernet::of(frame) else { return 0 };
    if !matches!(ethernet.ethertype, ethertype::IPV4 | ethertype::IPV6 | ethertype::ARP) {
        return 0;
    }
    // SAFETY: a field of the context.
    if unsafe { (*skb).pkt_type } != PACKET_HOST && !is_for_group_mac_here(&ethernet, this) {
        return 0;
    }
    if vlan != 0 {
        return 1;
    }
    let payload = frame::payload(frame, ethernet.payload_at(), ethernet.ethertype);
    remove_claimed(&payload);
    let is_ours = match payload {
        Payload::Arp(packet) => match owner(&packet.target, this) {
            Owner::Data(_) => true,
            Owner::ThisMember | Owner::OtherMember => false,
            // A reply to another address is for the member, unless a learnt sender has sent the request. The target of a reply to
            // an address conflict probe is 0.0.0.0 (RFC 5227).
            Owner::OtherHost => {
                if packet.operation == ARP_REPLY && packet.target == Arp::UNSPECIFIED {
                    probe_replies::inspect(skb, ProbeReplyKind::Arp as u32, this);
                }
                packet.operation != ARP_REPLY
                    || packet.target == Arp::UNSPECIFIED
                    || is_learnt(&packet.target)
            }
        },
        Payload::Ip(ip) => !is_mine(skb, &ip.destination, ProbeReplyKind::Echo, this),
        Payload::Nd(message) => !is_mine(skb, &message.destination, ProbeReplyKind::Nd, this),
        Payload::Report => true,
        Payload::Other | Payload::Truncated => false,
    };
    u32::from(is_ours)
}

/// Whether a packet is for `this` member itself. A packet for any member may be a reply to a probe: the daemon checks whether it
/// arrived at the right one.
#[inline(always)]
fn is_mine(skb: *mut __sk_buff, destination: &Ip, may_be: ProbeReplyKind, this: u32) -> bool {
    let owner = owner(destination, this);
    if matches!(owner, Owner::ThisMember | Owner::OtherMember) {
        probe_replies::inspect(skb, may_be as u32, this);
    }
    matches!(owner, Owner::ThisMember)
}

/// Whether a sender was learnt on its way out.
#[inline(always)]
fn is_learnt(sender: &Ip) -> bool {
    // SAFETY: the value is not read.
    unsafe { learnt.get(sender) }.is_some()
}

/// Whether the frame is for the MAC of the group interface, and `this` member accepts such frames.
#[inline(always)]
fn is_for_group_mac_here(ethernet: &Ethernet, this: u32) -> bool {
    ethernet.destination == group_mac()
        && steering.get(0).is_some_and(|words| member::select(words.cast) == Some(this))
}

/// Redirects multicast or broadcast to the group interface, as received there.
#[inline(always)]
fn accept(ctx: &TcContext, this: u32) -> i32 {
    count_received(ctx, this);
    redirect()
}

/// Counts a packet for the group that `this` member has received, and returns how many there are now on this CPU.
#[inline(always)]
fn count_received(ctx: &TcContext, this: u32) -> u64 {
    let Some(mine) = counters.get_ptr_mut(this) else { return 1 };
    // SAFETY: fields of a per-CPU value.
    unsafe {
        count::add(&raw mut (*mine).in_packets, 1);
        count::add(&raw mut (*mine).in_bytes, ctx.len() as u64);
        (*mine).in_packets
    }
}

#[inline(always)]
fn redirect() -> i32 {
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(GROUP_IFINDEX.load(), BPF_F_INGRESS as u64) as i32 }
}
