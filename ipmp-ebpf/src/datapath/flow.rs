//! The slot of an IP packet.

use aya_ebpf::{helpers::generated::bpf_get_hash_recalc, programs::TcContext};
use ipmp_common::{
    frame::{self, Frame},
    hash::HashPolicy,
    steer::{Preference, slot},
};

use crate::maps::{POLICY, slots};

const CONNECTION: u32 = HashPolicy::Connection as u32;
const FLOW: u32 = HashPolicy::Flow as u32;

/// The preference list of the slot of the packet at `l3`.
#[inline(always)]
pub fn list(ctx: &TcContext, frame: &Frame, l3: usize, ethertype: u16) -> Option<Preference> {
    let hash = match POLICY.load() {
        CONNECTION => connection_hash(ctx, frame, l3, ethertype),
        FLOW => frame::flow_hash(frame, l3, ethertype),
        _ => frame::destination_hash(frame, l3, ethertype),
    };
    slots.get(slot(hash)).copied()
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
