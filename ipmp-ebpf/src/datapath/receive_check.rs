//! The receive check: finds neighbours that send packets for a data address to another member than its inbound member, because
//! they have missed its announcement (`docs/design/inbound-roles.md`).
//!
//! The map is small and the daemon empties it at most once a second: a flood of forged source MACs costs no more.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST},
    helpers::generated::bpf_ktime_get_ns,
    programs::TcContext,
};
use ipmp_common::{
    frame::{Ethernet, ethertype},
    maps::{AddressKind, HintKind, Ip, MacKey, StaleKey, StaleNeighbour},
};
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    arp_nd,
    maps::{MEMBER, addresses, stale_neighbours},
    member,
    packet::{self, UNTAGGED},
};

/// Reports the sender of an accepted unicast frame to this member, if another member is the inbound member of its destination.
/// A subprogram, because it is called rarely; it returns 0, because the verifier requires a return value.
#[inline(never)]
pub fn inspect(skb: *mut __sk_buff) -> u32 {
    let ctx = &TcContext::new(skb);
    // SAFETY: a field of the context.
    if unsafe { (*skb).vlan_present } != 0 {
        return 0;
    }
    let frame = &packet::frame(ctx);
    let Some(ethernet) = Ethernet::of(frame) else { return 0 };
    let destination = match ethernet.ethertype {
        _ if ethernet.vlan.is_some() => None,
        ethertype::IPV4 => frame.load(UNTAGGED + offset_of!(Ipv4Hdr, dst_addr)).map(Ip::from_v4_word),
        ethertype::IPV6 => frame.load_v6(UNTAGGED + offset_of!(Ipv6Hdr, dst_addr)),
        _ => None,
    };
    let Some(address) = destination else { return 0 };
    // SAFETY: the value is copied at once; a concurrent update replaces the whole element.
    let Some(known) = (unsafe { addresses.get(address) }) else { return 0 };
    if known.kind != AddressKind::Data {
        return 0;
    }
    let member = MEMBER.load();
    if member::select(known.inbound).is_none_or(|inbound| inbound == member) {
        return 0;
    }
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    let key = StaleKey { address, mac: MacKey::from(ethernet.source) };
    // It is there already, or the map is full: the daemon will read it.
    if stale_neighbours.insert(key, StaleNeighbour { at_ns, member, pad: 0 }, BPF_NOEXIST.into()).is_ok() {
        arp_nd::wake(HintKind::StaleNeighbour);
    }
    0
}
