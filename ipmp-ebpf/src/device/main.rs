//! Finds the address and the state of a `struct net_device`: run by BPF_PROG_TEST_RUN with the index of the device in the context, never
//! attached.
#![no_std]
#![no_main]

use aya_ebpf::{
    btf_maps::Array,
    macros::{btf_map, classifier},
    programs::TcContext,
};
use ipmp_common::maps::{Device, MAX_NAMESPACES};
use ipmp_ebpf::device;

#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static found: Array<Device, 1> = Array::new();
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static found_state: Array<u64, 1> = Array::new();
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static namespaces: Array<[u64; MAX_NAMESPACES], 1> = Array::new();

/// Returns 1 when `found` holds the packet's device, and `found_state` the device's state word.
#[classifier]
pub fn find_device(ctx: TcContext) -> i32 {
    let Some(device) = device::of_packet(ctx.skb.skb.cast()) else { return 0 };
    let Some(place) = found.get_ptr_mut(0) else { return 0 };
    let (Some(state), Some(state_place)) = (device::state(&device), found_state.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: values of the maps; the daemon runs one instance of this program at a time.
    unsafe {
        *place = device;
        *state_place = state;
    }
    1
}

/// Returns the number of cookies in `namespaces`: those of all network namespaces, or 0.
#[classifier]
pub fn list_namespaces(ctx: TcContext) -> i32 {
    let Some(place) = namespaces.get_ptr_mut(0) else { return 0 };
    // SAFETY: the value of the map is that large.
    unsafe { device::namespaces(ctx.skb.skb.cast(), place.cast()) }
}

/// Loaded to find out whether the kernel lets programs read its memory; never run.
#[classifier]
pub fn read_kernel_memory(ctx: TcContext) -> i32 {
    i32::from(device::of_packet(ctx.skb.skb.cast()).is_some())
}

ipmp_ebpf::object!();
