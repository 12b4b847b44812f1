//! Early drop on a member, by XDP: what the group does not want is dropped before the kernel allocates an skb for it.
//!
//! It drops nothing that ingress would not drop, or the stack ignore, and nothing while another user of the device may want it:
//! `docs/xdp.md`.

use core::hint::black_box;

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS},
        xdp_md,
    },
    programs::XdpContext,
};
use ipmp_common::{
    frame::{Ethernet, Frame},
    maps::Member,
};
use ipmp_ebpf::{count, device};

use crate::{
    copies::{self, Decision},
    dhcp,
    maps::{MEMBER, early_drops, group_mac, members},
};

/// Why a frame is dropped, or is not: the fields of [`ipmp_common::maps::EarlyDrops`].
enum Reason {
    Reflected,
    OtherCopy,
    Flooded,
    Passed,
}

/// The program.
#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    let number = MEMBER.load();
    let Some(this) = members.get(number) else { return XDP_PASS };
    // It was moved to another network namespace, or the map describes a later device.
    if ctx.ingress_ifindex() as u32 != this.device.ifindex {
        return XDP_PASS;
    }
    let frame = &frame(ctx);
    let Some(ethernet) = Ethernet::of(frame) else { return XDP_PASS };
    let Some(reason) = reason(ctx, frame, &ethernet, number, this) else { return XDP_PASS };
    if !device::is_used_by_group_alone(&this.device) {
        count(number, Reason::Passed);
        return XDP_PASS;
    }
    count(number, reason);
    XDP_DROP
}

/// Why the group does not want a frame; `None`: it may.
#[inline(always)]
fn reason(
    ctx: &XdpContext,
    frame: &Frame,
    ethernet: &Ethernet,
    number: u32,
    this: &Member,
) -> Option<Reason> {
    // Ingress decides on a frame with a tag in it. A driver that removes tags shows the frame without: so nothing is dropped while
    // the device has VLANs (`is_used_by_group_alone`); without, the stack ignores frames with a tag.
    if ethernet.vlan.is_some() {
        return None;
    }
    if !ethernet.destination.is_multicast() {
        // Ingress accepts frames for the group's MAC. The MAC of the device is read, since the map has a new one later.
        let is_flooded = ethernet.destination != group_mac()
            && device::mac(&this.device).is_some_and(|mac| mac != ethernet.destination);
        return is_flooded.then_some(Reason::Flooded);
    }
    if dhcp::is_reply_to_member(frame, ethernet, this.mac) {
        return None;
    }
    match copy(ctx.ctx, number) {
        REFLECTED => Some(Reason::Reflected),
        OTHER_COPY => Some(Reason::OtherCopy),
        _ => None,
    }
}

const WANTED: u32 = 0;
const REFLECTED: u32 = 1;
const OTHER_COPY: u32 = 2;

/// Decides on multicast and broadcast. A subprogram, as in ingress: inlined, the compiler uses a register that no instruction has
/// written, which the verifier rejects.
#[inline(never)]
fn copy(xdp: *mut xdp_md, number: u32) -> u32 {
    // The compiler would pass the bounds of the packet instead, of which the verifier loses track.
    let frame = &frame(&XdpContext::new(black_box(xdp)));
    let Some(ethernet) = Ethernet::of(frame) else { return WANTED };
    match copies::decide(frame, &ethernet, 0, number) {
        Decision::Pass | Decision::Accept => WANTED,
        Decision::Reflected => REFLECTED,
        Decision::OtherCopy => OTHER_COPY,
    }
}

#[inline(always)]
fn frame(ctx: &XdpContext) -> Frame {
    // SAFETY: the bounds of the packet, which no helper moves here.
    unsafe { Frame::new(ctx.data(), ctx.data_end()) }
}

#[inline(always)]
fn count(number: u32, reason: Reason) {
    let Some(mine) = early_drops.get_ptr_mut(number) else { return };
    // SAFETY: fields of a per-CPU value.
    unsafe {
        let field = match reason {
            Reason::Reflected => &raw mut (*mine).reflected,
            Reason::OtherCopy => &raw mut (*mine).other_copy,
            Reason::Flooded => &raw mut (*mine).flooded,
            Reason::Passed => &raw mut (*mine).passed,
        };
        count::add(field, 1);
    }
}
