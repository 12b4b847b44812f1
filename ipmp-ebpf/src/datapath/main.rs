//! The datapath of one group: `egress` on the group interface, `ingress` and on request `early_drop` on each member, `sink` on the
//! peer of a group interface that is a veth.
//!
//! Loaded once for each group, with read-only globals for its constants, so that the verifier prunes unused code. The members share
//! one `ingress`, which takes some 150 KiB of kernel memory; each has an `early_drop` of its own. All share the pinned maps of the group.
//!
//! Subprograms with a name of their own (`no_mangle`, `export_name`) are global functions for the verifier: it checks each of them once,
//! for any arguments. Others it checks again at each call, for each state in which it gets there: `ingress` took eleven times as long.
#![no_std]
#![no_main]

mod arp_nd;
mod capture;
mod copies;
mod dhcp;
mod early_drop;
mod egress;
mod flow;
mod ingress;
mod maps;
mod member;
mod membership_reports;
mod packet;
mod probe_replies;
mod receive_check;
mod trace;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// Attached to the group interface, egress, last in order.
#[classifier]
pub fn egress(ctx: TcContext) -> i32 {
    egress::run(&ctx)
}

/// Attached to a member, ingress, first in order.
#[classifier]
pub fn ingress(ctx: TcContext) -> i32 {
    ingress::run(&ctx)
}

/// Attached to a member by XDP, where its setting `xdp` asks for it. Without `frags`, drivers would limit the MTU to a page.
#[xdp(frags)]
pub fn early_drop(ctx: XdpContext) -> u32 {
    early_drop::run(&ctx)
}

/// Attached to the peer of a group interface that is a veth, ingress.
#[classifier]
pub fn sink(_ctx: TcContext) -> i32 {
    capture::sink()
}

ipmp_ebpf::object!();
