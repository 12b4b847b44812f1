//! Replies to probes: delivered to the daemon with the time of their arrival. The frame is then handled as any other.
//!
//! Any host that can send to us can forge them. To protect the ring buffer, an echo reply must have the identifier of our requests,
//! and a member delivers a limited number of each kind in a millisecond ([`REPLIES_PER_WINDOW`]): a flood of one kind at one member
//! does not displace others. Replies that are not delivered are counted.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_ktime_get_ns, programs::TcContext};
use ipmp_common::{
    frame::{self, Ethernet, Payload},
    maps::{self, ProbeReply, ProbeReplyKind, REPLIES_PER_WINDOW, window},
    reply::Reply,
};

use ipmp_ebpf::count;

use crate::{
    maps::{GROUP, echo_id, probe_replies, reply_counters, reply_windows},
    packet::{self, PACKET_HOST},
};

const ECHO: u32 = ProbeReplyKind::Echo as u32;
const ARP: u32 = ProbeReplyKind::Arp as u32;

/// Delivers a frame that `this` member has received for a member's own address or for 0.0.0.0, if it is a reply of this kind. A subprogram, because it is called
/// in several places and rarely; it returns 0, because the verifier requires a return value.
#[unsafe(export_name = "check_probe_reply")]
#[inline(never)]
pub fn inspect(skb: *mut __sk_buff, kind: u32, this: u32) -> u32 {
    let ctx = &TcContext::new(skb);
    let frame = &packet::frame(ctx);
    let Some(ethernet) = Ethernet::of(frame) else { return 0 };
    // SAFETY: a field of the context.
    if unsafe { (*skb).pkt_type } != PACKET_HOST {
        return 0;
    }
    let reply = if kind == ECHO {
        Reply::echo(frame, &ethernet)
    } else {
        match frame::payload(frame, ethernet.payload_at(), ethernet.ethertype) {
            Payload::Arp(packet) => Reply::arp(&ethernet, &packet),
            Payload::Nd(message) => Reply::nd(frame, &ethernet, &message),
            _ => None,
        }
    };
    if let Some(reply) = reply {
        deliver(kind, &reply, this);
    }
    0
}

/// Delivers a reply, unless a limit applies.
#[inline(always)]
fn deliver(kind: u32, reply: &Reply, this: u32) {
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    let Some(mine) = reply_counters.get_ptr_mut(this) else { return };
    // SAFETY: fields of a per-CPU value.
    unsafe {
        if kind == ECHO && is_unknown_id(reply.identifier) {
            return count::add(&raw mut (*mine).unknown_id, 1);
        }
        if is_flood(kind, window(at_ns), this) {
            return count::add(&raw mut (*mine).flood, 1);
        }
        let Some(mut entry) = probe_replies.reserve(0) else { return count::add(&raw mut (*mine).lost, 1) };
        entry.write(ProbeReply {
            at_ns,
            cookie: reply.cookie,
            from: reply.from,
            group: GROUP.load(),
            member: this,
            kind,
            identifier: reply.identifier,
            sequence: reply.sequence,
            mac: reply.mac.bytes(),
            pad: 0,
        });
        entry.submit(0);
        count::add(&raw mut (*mine).delivered, 1);
    }
}

/// Whether an echo is not from the daemon.
#[inline(always)]
fn is_unknown_id(identifier: u16) -> bool {
    echo_id.get(0).is_some_and(|&word| word != 0 && word != maps::echo_id_word(identifier))
}

/// Counts a reply in its window, and returns whether it exceeds the limit. Concurrent CPUs may lose counts: this target has no atomic
/// addition in Rust, and the limit need not be exact.
#[inline(always)]
fn is_flood(kind: u32, now: u64, this: u32) -> bool {
    let Some(mine) = reply_windows.get_ptr_mut(this) else { return true };
    // SAFETY: inside the value; whole words, each read and written at once.
    unsafe {
        let word = match kind {
            ECHO => &raw mut (*mine).echo,
            ARP => &raw mut (*mine).arp,
            _ => &raw mut (*mine).nd,
        };
        let before = word.read_volatile();
        let count = if window(before) < now { now } else { before };
        let exceeds_limit = count - window(count) >= REPLIES_PER_WINDOW;
        if !exceeds_limit {
            word.write_volatile(count + 1);
        }
        exceeds_limit
    }
}
