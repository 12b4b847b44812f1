//! Answers to probes: handed to the daemon with the time at which they came, before they go on as any frame does.
//!
//! Whoever can send to us can forge them. So the ring buffer is guarded: an echo reply must have the identifier of our
//! requests, which those who do not see them have to guess; and of each kind a member hands over so many a millisecond and no
//! more ([`ANSWERS_A_WINDOW`]), so that what one member is flooded with takes no other's place, and a flood of one kind not that
//! of another kind. What is not handed over is counted.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_ktime_get_ns, programs::TcContext};
use ipmp_common::{
    answer::Reply,
    frame::{self, Ethernet, Payload},
    maps::{self, ANSWERS_A_WINDOW, Answer, AnswerKind, window},
};

use ipmp_ebpf::count;

use crate::{
    ingress::PACKET_HOST,
    maps::{GROUP, MEMBER, answering, answers, expected, windows},
    member,
};

/// Hands over a frame to a member's own address, or to nobody, that may answer a probe in one way, if it does. A
/// subprogram, because several places ask seldom; 0, because the verifier wants it to return something.
#[inline(never)]
pub fn look(skb: *mut __sk_buff, kind: u32) -> u32 {
    let ctx = &TcContext::new(skb);
    let frame = &member::frame(ctx);
    let Some(ethernet) = Ethernet::of(frame) else { return 0 };
    // SAFETY: a field of the context.
    if unsafe { (*skb).pkt_type } != PACKET_HOST {
        return 0;
    }
    let reply = if kind == AnswerKind::Echo as u32 {
        Reply::echo(frame, &ethernet)
    } else {
        match frame::payload(frame, ethernet.payload_at(), ethernet.ethertype) {
            Payload::Arp(packet) => Reply::arp(&ethernet, &packet),
            Payload::Nd(message) => Reply::nd(frame, &ethernet, &message),
            _ => None,
        }
    };
    if let Some(reply) = reply {
        hand_over(kind, &reply);
    }
    0
}

/// Hands an answer over, unless there is a reason not to.
#[inline(always)]
fn hand_over(kind: u32, reply: &Reply) {
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    let Some(mine) = answering.get_ptr_mut(MEMBER.load()) else { return };
    // SAFETY: fields of a per-CPU value.
    unsafe {
        if kind == AnswerKind::Echo as u32 && is_strange(reply.identifier) {
            return count::add(&raw mut (*mine).strange, 1);
        }
        if is_flood(kind, window(at_ns)) {
            return count::add(&raw mut (*mine).flood, 1);
        }
        let Some(mut entry) = answers.reserve(0) else { return count::add(&raw mut (*mine).lost, 1) };
        entry.write(Answer {
            at_ns,
            cookie: reply.cookie,
            from: reply.from,
            group: GROUP.load(),
            member: MEMBER.load(),
            kind,
            identifier: reply.identifier,
            sequence: reply.sequence,
            mac: reply.mac.bytes(),
            pad: 0,
        });
        entry.submit(0);
        count::add(&raw mut (*mine).handed, 1);
    }
}

/// Whether an echo is not the daemon's.
#[inline(always)]
fn is_strange(identifier: u16) -> bool {
    expected.get(0).is_some_and(|&word| word != 0 && word != maps::expected(identifier))
}

/// Counts an answer in its window, and says whether it is one too many. Where several processors count at once, some are not
/// counted: this compiler has no atomic addition for this target, and the bound need not be sharp.
#[inline(always)]
fn is_flood(kind: u32, now: u64) -> bool {
    let Some(mine) = windows.get_ptr_mut(MEMBER.load()) else { return true };
    let place = match kind {
        1 => 0,
        2 => 1,
        _ => 2,
    };
    // SAFETY: inside the value; whole words, each read and written at once.
    unsafe {
        let word = &raw mut (*mine).0[place];
        let before = word.read_volatile();
        let begun = if window(before) < now { now } else { before };
        let is_one_too_many = begun - window(begun) >= ANSWERS_A_WINDOW;
        if !is_one_too_many {
            word.write_volatile(begun + 1);
        }
        is_one_too_many
    }
}
