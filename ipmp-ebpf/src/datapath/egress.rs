//! Egress on the group interface: selects a member for every frame, and writes its MAC.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT},
    programs::TcContext,
};
use ipmp_common::{
    frame::{self, Ethernet, Frame, Payload, ethertype, protocol},
    hash::filter_bit,
    maps::{AddressKind, HintKind, Ip},
    steer::{MemberSet, Preference},
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    arp_nd, capture, flow,
    maps::{Reason, addresses, count_drop, group_mac, members, steering, word_of_live},
    member, membership_reports,
    packet::{self, UNTAGGED},
    trace,
};

/// The program.
#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let frame = packet::frame(ctx);
    let Some(ethernet) = Ethernet::of(&frame) else { return member::dropped_truncated() };
    if ethernet.source != group_mac() {
        trace::foreign_source(ctx, ethernet.source);
        count_drop(Reason::ForeignSource);
        return TC_ACT_SHOT;
    }
    if is_untagged_unicast(&ethernet) && is_plain_ip(&frame, ethernet.ethertype) {
        let live = word_of_live();
        if !capture::is_on(live) && !capture::is_copy(ctx) {
            return steer(ctx, &frame, ethernet.ethertype, live);
        }
    }
    slow_path(ctx.skb.skb)
}

/// Whether a frame may take the fast path: untagged unicast.
#[inline(always)]
fn is_untagged_unicast(ethernet: &Ethernet) -> bool {
    !ethernet.destination.is_multicast() && ethernet.vlan.is_none()
}

/// How to handle a frame, before a member is selected.
///
/// The verifier then checks selecting and sending once, not once for each path through the headers.
#[repr(C)]
struct Plan {
    /// The preference list.
    list: u64,
    /// The action, one of the constants below.
    what: u32,
    /// Of ARP, the offset of the packet; of Neighbour Discovery, that of the ICMPv6 header.
    at: u32,
    /// Of a packet that is sent by its flow: its hash.
    hash: u32,
    /// Zero.
    pad: u32,
}

/// Only the source MAC is written.
const PLAIN: u32 = 0;
/// The same, through the first member of the list only.
const FIXED: u32 = 1;
/// ARP: the member's MAC is written to the payload as well.
const ARP: u32 = 2;
/// Neighbour Discovery: the same.
const ND: u32 = 3;
/// A membership report: every live member sends it.
const REPORT: u32 = 4;
/// It is truncated where it would have to be rewritten.
const TRUNCATED: u32 = 5;
/// As [`PLAIN`], and its flow takes part in the selection.
const FLOW: u32 = 6;

/// The slow path: everything but untagged unicast IP, and that as well while there is a capture. A subprogram, so that the fast
/// path stays short.
#[unsafe(no_mangle)]
#[inline(never)]
fn slow_path(skb: *mut __sk_buff) -> i32 {
    if capture::pass_or_make_copy(skb) {
        return TC_ACT_OK;
    }
    let ctx = &TcContext::new(skb);
    if !packet::gather_headers(ctx) {
        return member::dropped_truncated();
    }
    // Not all zero, for which the compiler would call `memset`: each function takes 6 KiB of kernel memory in each program.
    let mut plan = Plan { list: u64::MAX, what: TRUNCATED, at: 0, hash: 0, pad: 0 };
    make_plan(skb, &mut plan);
    if plan.what == TRUNCATED {
        return member::dropped_truncated();
    }
    let list = Preference::from_nibbles(plan.list);
    let first = u32::from(list.first());
    let selected = match plan.what {
        FIXED => Some((first, false)),
        FLOW => member::select_for(ctx, list, plan.hash),
        _ => member::select(list).map(|number| (number, number != first)),
    };
    let Some((number, is_failover)) = selected else { return member::dropped_no_member(ctx) };
    let Some(chosen) = members.get(number) else { return member::dropped_no_member(ctx) };
    if plan.what == REPORT {
        arp_nd::wake(HintKind::Report);
        membership_reports::send_clones(ctx, number);
    }
    let frame = &packet::frame(ctx);
    let complete = match plan.what {
        ARP => arp_nd::write_arp_mac(frame, plan.at as usize, chosen.mac),
        ND => arp_nd::write_nd_mac(frame, plan.at as usize, chosen.mac),
        _ => true,
    };
    if !complete {
        return member::dropped_truncated();
    }
    member::send(ctx, frame, number, chosen, is_failover)
}

#[inline(never)]
fn make_plan(skb: *mut __sk_buff, plan: &mut Plan) -> u32 {
    let ctx = &TcContext::new(skb);
    let frame = &packet::frame(ctx);
    let Some(ethernet) = Ethernet::of(frame) else { return 0 };
    let (l3, ethertype) = (ethernet.payload_at(), ethernet.ethertype);
    let is_multicast = ethernet.destination.is_multicast();
    let vlan = packet::vlan_number(ctx, &ethernet);
    // SAFETY: a field of the context.
    let untagged = ethernet.vlan.is_none() && unsafe { (*skb).vlan_present } == 0;
    let payload = frame::payload(frame, l3, ethertype);
    plan.what = match payload {
        Payload::Arp(packet) => {
            plan.list = role(&packet.speaks_for(), vlan, untagged && packet.claims()).nibbles;
            plan.at = l3 as u32;
            ARP
        }
        Payload::Nd(message) => {
            plan.list = role(&message.speaks_for(), vlan, untagged && message.claims()).nibbles;
            plan.at = message.at as u32;
            ND
        }
        Payload::Truncated => TRUNCATED,
        Payload::Ip(_) if !is_multicast => {
            // ICMPv6 that is not Neighbour Discovery, or a tagged frame.
            let words = steering.get(0);
            let own = match words {
                Some(words) if is_untagged_unicast(&ethernet) && words.test_addresses != 0 => {
                    member_of_test_address(frame, ethertype, words.test_addresses)
                }
                _ => None,
            };
            match own {
                Some(number) => {
                    plan.list = u64::from(number & 15);
                    FIXED
                }
                None => {
                    plan.hash = flow::hash(ctx, frame, l3, ethertype);
                    plan.list = flow::list(plan.hash).unwrap_or(Preference::EMPTY).nibbles;
                    FLOW
                }
            }
        }
        _ => {
            plan.list = arp_nd::cast().nibbles;
            let is_report = is_multicast
                && matches!(payload, Payload::Report)
                && !membership_reports::is_query(frame, l3, ethertype);
            if is_report { REPORT } else { PLAIN }
        }
    };
    0
}

/// The list of the members that send what speaks for an address. In a VLAN, without a role of its own, it is the cast list.
#[inline(always)]
fn role(speaks_for: &Ip, vlan: u32, claimed: bool) -> Preference {
    if vlan == 0 {
        return arp_nd::inbound(speaks_for, claimed);
    }
    arp_nd::inbound_in_vlan(speaks_for, vlan).unwrap_or_else(arp_nd::cast)
}

/// Whether the frame is IPv4, or IPv6 that cannot be Neighbour Discovery: the cheapest check.
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

/// The fast path: an untagged unicast IP packet, by its flow, or by its source if that is a test address.
#[inline(always)]
fn steer(ctx: &TcContext, frame: &Frame, ethertype: u16, live: MemberSet) -> i32 {
    let Some(words) = steering.get(0) else { return member::dropped_no_member(ctx) };
    if words.test_addresses != 0
        && let Some(number) = member_of_test_address(frame, ethertype, words.test_addresses)
    {
        return member::send_through(ctx, frame, number, false);
    }
    let hash = flow::hash(ctx, frame, UNTAGGED, ethertype);
    let Some(list) = flow::list(hash) else { return member::dropped_no_member(ctx) };
    if let Some((number, chosen)) = member::most_preferred(list, words.usable.and(live)) {
        return member::send(ctx, frame, number, chosen, false);
    }
    // Its most preferred member cannot transmit, or is in transition.
    member::send_by(ctx, &packet::frame(ctx), list, hash)
}

/// The member that a packet's source is the test address of.
#[inline(always)]
fn member_of_test_address(frame: &Frame, ethertype: u16, filter: u64) -> Option<u32> {
    let source = match ethertype {
        ethertype::IPV4 => Ip::from_v4_word(frame.load(UNTAGGED + offset_of!(Ipv4Hdr, src_addr))?),
        _ => frame.load_v6(UNTAGGED + offset_of!(Ipv6Hdr, src_addr))?,
    };
    if filter & filter_bit(source) == 0 {
        return None;
    }
    // SAFETY: the value is copied at once; a concurrent update replaces the whole element.
    let address = unsafe { addresses.get(source) }?;
    match address.kind {
        AddressKind::Test => Some(address.member),
        AddressKind::Data => None,
    }
}
