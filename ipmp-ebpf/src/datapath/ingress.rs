//! Ingress on a member: what is the group's goes up through the group interface, once; all else is left alone.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::bpf_redirect,
    programs::TcContext,
};
use ipmp_common::{
    frame::{self, ARP_REPLY, Ethernet, Frame, HEADERS, Nd, Payload, ethertype},
    maps::{AddressKind, Ip, MacKey, Member},
    nd,
    steer::Preference,
};
use ipmp_ebpf::{count, device};

use crate::{
    maps::{
        GROUP_IFINDEX, MEMBER, READ_DEVICES, Reason, addresses, count_drop, counters, group_mac, is_group_mac,
        is_group_vlan, learnt, members, own_macs, steering,
    },
    member, trace,
};

/// `skb->pkt_type` of a frame for this device's MAC.
const PACKET_HOST: u32 = 0;

/// Whom a frame's target address belongs to.
enum Owner {
    /// The group: a data address, with its inbound list.
    Data(Preference),
    /// This member.
    ThisMember,
    /// Another member.
    OtherMember,
    /// Not this host.
    Nobody,
}

/// The program.
#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let Some(this) = members.get(MEMBER.load()) else { return TC_ACT_UNSPEC };
    if is_elsewhere(ctx, this) {
        return TC_ACT_UNSPEC;
    }
    let mut frame = member::frame(ctx);
    // Drivers may leave headers outside the linear part; a frame is shorter than all headers now and then.
    let length = ctx.len();
    let linear = ctx.data_end() - ctx.data();
    if linear < HEADERS as usize && (linear as u32) < length {
        if ctx.pull_data(if length < HEADERS { length } else { HEADERS }).is_err() {
            return TC_ACT_UNSPEC;
        }
        frame = member::frame(ctx);
    }
    let Some(ethernet) = Ethernet::of(&frame) else { return TC_ACT_UNSPEC };
    // SAFETY: fields of the context.
    let (tagged, tag) = unsafe { ((*ctx.skb.skb).vlan_present != 0, (*ctx.skb.skb).vlan_tci as u16 & 0xfff) };
    let outer = if tagged && tag != 0 { Some(tag) } else { ethernet.vlan };
    match outer {
        Some(id) if !is_group_vlan(id) => TC_ACT_UNSPEC,
        outer => match ethernet.vlan {
            None => untangle::<14>(ctx, &frame, &ethernet, this, outer.is_some()),
            Some(_) => untangle::<18>(ctx, &frame, &ethernet, this, true),
        },
    }
}

/// Whether this program still runs on a device that was moved to another network namespace: nothing may be injected
/// there.
#[inline(always)]
fn is_elsewhere(ctx: &TcContext, this: &Member) -> bool {
    // SAFETY: a field of the context.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    ifindex != this.device.ifindex || (READ_DEVICES.load() != 0 && !device::is_at_home(&this.device))
}

#[inline(always)]
fn untangle<const L3: usize>(
    ctx: &TcContext, frame: &Frame, ethernet: &Ethernet, this: &Member, in_vlan: bool,
) -> i32 {
    if ethernet.is_multicast() {
        to_many::<L3>(ctx, frame, ethernet, in_vlan)
    } else {
        to_one::<L3>(ctx, frame, ethernet, this, in_vlan)
    }
}

/// Multicast and broadcast: one member takes each.
#[inline(always)]
fn to_many<const L3: usize>(ctx: &TcContext, frame: &Frame, ethernet: &Ethernet, in_vlan: bool) -> i32 {
    // SAFETY: only whether there is a value is asked.
    if unsafe { own_macs.get(&MacKey::new(ethernet.source)) }.is_some() {
        trace::reflected(ctx, ethernet.source);
        count_drop(Reason::Reflected);
        return TC_ACT_SHOT;
    }
    let asked_for = match frame::payload(frame, L3, ethernet.ethertype) {
        // LLDP, LACP, spanning tree: the link's own affairs.
        Payload::Other | Payload::Truncated => return TC_ACT_UNSPEC,
        // Addresses of the group's VLANs are not told apart: the cast member takes everything there.
        _ if in_vlan => Owner::Nobody,
        Payload::Arp(packet) => owner(&Ip::v4(packet.target)),
        Payload::Nd(Nd { kind: nd::NEIGHBOUR_SOLICITATION, target, .. }) => owner(&target),
        Payload::Nd(_) | Payload::Ip(_) | Payload::Report => Owner::Nobody,
    };
    let list = match asked_for {
        Owner::ThisMember => return TC_ACT_UNSPEC,
        Owner::OtherMember => return other_copy(),
        Owner::Data(inbound) => inbound,
        Owner::Nobody => match steering.get(0) {
            Some(words) => words.cast,
            None => return TC_ACT_UNSPEC,
        },
    };
    if member::pick(list) == Some(MEMBER.load()) { take(ctx) } else { other_copy() }
}

/// Unicast: any member takes it for any data address, if the frame is for its own MAC.
#[inline(always)]
fn to_one<const L3: usize>(
    ctx: &TcContext, frame: &Frame, ethernet: &Ethernet, this: &Member, in_vlan: bool,
) -> i32 {
    let ethertype = ethernet.ethertype;
    if !matches!(ethertype, ethertype::IPV4 | ethertype::IPV6 | ethertype::ARP) {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: a field of the context.
    if unsafe { (*ctx.skb.skb).pkt_type } != PACKET_HOST && !is_for_group_mac_here(ethernet) {
        return TC_ACT_UNSPEC;
    }
    if !in_vlan && (this.own_addresses != 0 || ethertype == ethertype::ARP) {
        match frame::payload(frame, L3, ethertype) {
            Payload::Arp(packet) => match owner(&Ip::v4(packet.target)) {
                Owner::Data(_) => {}
                Owner::ThisMember | Owner::OtherMember => return TC_ACT_UNSPEC,
                // An answer to somebody who is no data address: the member's, unless we heard him ask. An address
                // conflict probe's sender is nobody (RFC 5227), and so is the target of its answer.
                Owner::Nobody => {
                    let target = Ip::v4(packet.target);
                    // SAFETY: only whether there is a value is asked.
                    let asked = packet.target == [0; 4] || unsafe { learnt.get(&target) }.is_some();
                    if packet.operation == ARP_REPLY && !asked {
                        return TC_ACT_UNSPEC;
                    }
                }
            },
            Payload::Ip(ip) if matches!(owner(&ip.destination), Owner::ThisMember) => return TC_ACT_UNSPEC,
            Payload::Nd(message) if matches!(owner(&message.destination), Owner::ThisMember) => return TC_ACT_UNSPEC,
            Payload::Truncated => return TC_ACT_UNSPEC,
            _ => {}
        }
    }
    if !frame.set_destination(group_mac()) {
        return TC_ACT_UNSPEC;
    }
    take(ctx)
}

/// Whether the frame is for the group interface's own MAC, and this is the member that takes such frames.
#[inline(always)]
fn is_for_group_mac_here(ethernet: &Ethernet) -> bool {
    is_group_mac(ethernet.destination)
        && steering.get(0).is_some_and(|words| member::pick(words.cast) == Some(MEMBER.load()))
}

/// Whom an address belongs to.
#[inline(always)]
fn owner(ip: &Ip) -> Owner {
    // SAFETY: the value is copied at once; a concurrent update replaces the whole element.
    match unsafe { addresses.get(ip) } {
        None => Owner::Nobody,
        Some(address) => match address.kind {
            AddressKind::Data => Owner::Data(address.inbound),
            AddressKind::Test if address.member == MEMBER.load() => Owner::ThisMember,
            AddressKind::Test => Owner::OtherMember,
        },
    }
}

/// Hands the packet to the group interface, as received there.
#[inline(always)]
fn take(ctx: &TcContext) -> i32 {
    if let Some(mine) = counters.get_ptr_mut(MEMBER.load()) {
        // SAFETY: fields of a per-CPU value.
        unsafe {
            count::add(&raw mut (*mine).in_packets, 1);
            count::add(&raw mut (*mine).in_bytes, ctx.len() as u64);
        }
    }
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(GROUP_IFINDEX.load(), BPF_F_INGRESS as u64) as i32 }
}

/// Drops a copy that another member takes.
#[inline(always)]
fn other_copy() -> i32 {
    count_drop(Reason::OtherCopy);
    TC_ACT_SHOT
}
