//! The receive check: finds neighbours that send packets for a data address to another member than its inbound member, because
//! they have missed its announcement (`docs/design/inbound-roles.md`).
//!
//! The map is small and the daemon empties it at most once a second: a flood of forged source MACs costs no more.

use core::{hint::black_box, mem::offset_of};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST},
    helpers::generated::bpf_ktime_get_ns,
    programs::TcContext,
};
use ipmp_common::{
    frame::{Ethernet, Frame, ethertype},
    maps::{AddressKind, HintKind, Ip, StaleKey, StaleNeighbour},
    steer::Preference,
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    arp_nd,
    maps::{addresses, stale_neighbours},
    member,
    packet::{self, UNTAGGED},
};

/// Reports the sender of an accepted unicast frame to `this` member, if another member is the inbound member of its destination.
/// A subprogram, because it is called rarely; it returns 0, because the verifier requires a return value.
#[unsafe(export_name = "check_receiver")]
#[inline(never)]
pub fn inspect(skb: *mut __sk_buff, vlan: u32, this: u32) -> u32 {
    // The compiler would pass the bounds of the packet instead, of which the verifier loses track.
    let ctx = &TcContext::new(black_box(skb));
    let frame = &packet::frame(ctx);
    let Some(ethernet) = Ethernet::of(frame) else { return 0 };
    let destination = match ethernet.vlan {
        None => destination::<UNTAGGED>(frame, ethernet.ethertype),
        Some(_) => destination::<{ UNTAGGED + 4 }>(frame, ethernet.ethertype),
    };
    let Some(address) = destination else { return 0 };
    let list = if vlan == 0 { inbound(&address) } else { arp_nd::inbound_in_vlan(&address, vlan) };
    let Some(list) = list else { return 0 };
    if member::select(list).is_none_or(|inbound| inbound == this) {
        return 0;
    }
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    let key = StaleKey::new(address, ethernet.source, packet::vlan_id(vlan));
    // It is there already, or the map is full: the daemon will read it.
    if stale_neighbours
        .insert(key, StaleNeighbour { at_ns, member: this, pad: 0 }, BPF_NOEXIST.into())
        .is_ok()
    {
        arp_nd::wake(HintKind::StaleNeighbour);
    }
    0
}

/// The destination of the IP packet at this offset. A constant: the verifier does not know the bounds of a computed one.
#[inline(always)]
fn destination<const AT: usize>(frame: &Frame, ethertype: u16) -> Option<Ip> {
    match ethertype {
        ethertype::IPV4 => frame.load(AT + offset_of!(Ipv4Hdr, dst_addr)).map(Ip::from_v4_word),
        ethertype::IPV6 => frame.load_v6(AT + offset_of!(Ipv6Hdr, dst_addr)),
        _ => None,
    }
}

/// The inbound list of a data address.
#[inline(always)]
fn inbound(address: &Ip) -> Option<Preference> {
    // SAFETY: the value is copied at once; a concurrent update replaces the whole element.
    let known = unsafe { addresses.get(address) }?;
    match known.kind {
        AddressKind::Data => Some(known.inbound),
        AddressKind::Test => None,
    }
}
