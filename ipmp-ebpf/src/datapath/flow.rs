//! The hash of an IP packet, and its slot.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_get_hash_recalc, programs::TcContext};
use ipmp_common::{
    frame::{self, Frame, ethertype, protocol},
    hash::HashPolicy,
    steer::{Preference, slot},
};

use crate::{
    maps::{POLICY, slots},
    packet::UNTAGGED,
};

const CONNECTION: u32 = HashPolicy::Connection as u32;
const FLOW: u32 = HashPolicy::Flow as u32;
/// The flag SYN in byte 13 of a TCP header.
const SYN: u8 = 2;

/// The hash of the packet at `l3`.
#[inline(always)]
pub fn hash(ctx: &TcContext, frame: &Frame, l3: usize, ethertype: u16) -> u32 {
    match POLICY.load() {
        CONNECTION => connection_hash(ctx, frame, l3, ethertype),
        FLOW => frame::flow_hash(frame, l3, ethertype),
        _ => frame::destination_hash(frame, l3, ethertype),
    }
}

/// The preference list of the slot of a hash.
#[inline(always)]
pub fn list(hash: u32) -> Option<Preference> {
    slots.get(slot(hash)).copied()
}

/// Whether an untagged packet is the first one of a TCP connection in its direction: 1 or 0. Headers between IPv6 and TCP are not
/// read. By helpers: the verifier does not follow an offset that is read from the packet.
#[inline(always)]
pub fn opens_connection(skb: *mut __sk_buff) -> u32 {
    let ctx = &TcContext::new(skb);
    let byte = |offset: u32| ctx.load::<u8>(UNTAGGED + offset as usize).unwrap_or(0);
    // SAFETY: a field of the context.
    let (protocol, length, is_fragment) = match u16::from_be(unsafe { (*skb).protocol } as u16) {
        ethertype::IPV4 => (byte(9), 4 * u32::from(byte(0) & 15), byte(6) & 0x3f != 0 || byte(7) != 0),
        ethertype::IPV6 => (byte(6), 40, false),
        _ => return 0,
    };
    u32::from(protocol == protocol::TCP && !is_fragment && byte(length + 13) & SYN != 0)
}

/// The socket's transmit hash, or the kernel's flow hash.
///
/// With a socket, `skb->hash` is the socket's, and the same for all fragments. Forwarded packets and those of unconnected sockets
/// are dissected by the kernel. The hash of a receiving NIC may include ports, which later fragments lack, so fragments use our
/// own hash.
#[inline(always)]
fn connection_hash(ctx: &TcContext, frame: &Frame, l3: usize, ethertype: u16) -> u32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context of this program; the verifier checks the fields.
    let (hash, has_socket) = unsafe { ((*skb).hash, !(*skb).__bindgen_anon_2.sk.is_null()) };
    if hash != 0 && has_socket {
        hash
    } else if frame::is_fragment(frame, l3, ethertype) {
        frame::flow_hash(frame, l3, ethertype)
    } else {
        // SAFETY: the helper takes the context.
        unsafe { bpf_get_hash_recalc(skb) }
    }
}
