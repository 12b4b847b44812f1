//! Source addresses of TCP connections that this host opens: the data addresses of a group in turn, so that the replies come in by
//! all members.
//!
//! Attached to the root of the cgroups, `spread_source4` and `spread_source6` run when a socket connects. They select a source only for a
//! socket that has neither a source nor a device, and for destinations whose prefix the daemon has written. Whatever fails, the
//! connection is permitted, and the kernel selects its source.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{bpf_sock_addr, sockaddr},
    btf_maps::{HashMap, LpmTrie, lpm_trie::Key},
    helpers::generated::{bpf_bind, bpf_get_prandom_u32},
    macros::{btf_map, cgroup_sock_addr},
    programs::SockAddrContext,
};
use ipmp_common::maps::{Ip, MAX_SOURCE_PREFIXES, MAX_SOURCE_SETS, MAX_SOURCES, SourceSet};
use ipmp_ebpf::socket::{AF_INET, AF_INET6, ip, is_of_namespace, read};

const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;
/// What a program of this type returns if it permits the operation.
const PERMIT: i32 = 1;

/// The set of a destination, or `NO_SOURCE_SET`.
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static source_prefixes: LpmTrie<[u8; 16], u32, { MAX_SOURCE_PREFIXES as usize }> = LpmTrie::new();
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static source_sets: HashMap<u32, SourceSet, { MAX_SOURCE_SETS as usize }> = HashMap::new();

/// `struct sockaddr_in` and `struct sockaddr_in6`: what [`bpf_bind`] reads of them.
#[repr(C)]
struct SocketAddress4 {
    family: u16,
    port: u16,
    address: u32,
    zero: [u32; 2],
}

#[repr(C)]
struct SocketAddress6 {
    family: u16,
    port: u16,
    flow: u32,
    address: [u32; 4],
    scope: u32,
}

/// Attached to the root of the cgroups.
#[cgroup_sock_addr(connect4)]
pub fn spread_source4(ctx: SockAddrContext) -> i32 {
    let place = ctx.sock_addr;
    if is_spread(place) {
        // SAFETY: fields of the context, and of a socket that the verifier knows.
        let (destination, is_bound) =
            unsafe { (read(&raw const (*place).user_ip4), read(&raw const (*socket(place)).src_ip4) != 0) };
        if !is_bound && let Some(source) = source_for(Ip::from_v4_word(destination)) {
            let mut address =
                SocketAddress4 { family: AF_INET as u16, port: 0, address: words(source)[3], zero: [0; 2] };
            bind(place, (&raw mut address).cast(), size_of::<SocketAddress4>());
        }
    }
    PERMIT
}

/// Attached to the root of the cgroups. A connection to an IPv4-mapped address has sources of the same form.
#[cgroup_sock_addr(connect6)]
pub fn spread_source6(ctx: SockAddrContext) -> i32 {
    let place = ctx.sock_addr;
    if is_spread(place) {
        // SAFETY: as in `spread_source4`.
        let (destination, bound) =
            unsafe { (ip(&raw const (*place).user_ip6), ip(&raw const (*socket(place)).src_ip6)) };
        if bound.words() == [0, 0]
            && let Some(source) = source_for(destination)
        {
            let mut address = SocketAddress6 {
                family: AF_INET6 as u16,
                port: 0,
                flow: 0,
                address: words(source),
                scope: 0,
            };
            bind(place, (&raw mut address).cast(), size_of::<SocketAddress6>());
        }
    }
    PERMIT
}

/// Whether this socket may have its source selected: of TCP and of the namespace, without a device.
#[inline(always)]
fn is_spread(place: *const bpf_sock_addr) -> bool {
    // SAFETY: fields of the context, and of a socket that the verifier knows.
    unsafe {
        read(&raw const (*place).type_) == SOCK_STREAM
            && read(&raw const (*place).protocol) == IPPROTO_TCP
            && is_of_namespace(place.cast_mut().cast())
            && !socket(place).is_null()
            && read(&raw const (*socket(place)).bound_dev_if) == 0
    }
}

/// A key of [`source_prefixes`] on the stack, whose words are aligned as the verifier requires.
#[repr(C, align(8))]
struct Place {
    pad: u32,
    prefix: u32,
    words: [u64; 2],
}

/// One of the addresses for a destination, at random: connections have no order that all CPUs know.
#[inline(always)]
fn source_for(destination: Ip) -> Option<Ip> {
    let place = Place { pad: 0, prefix: 128, words: destination.words() };
    // SAFETY: a key is the length of a prefix and sixteen bytes, without alignment.
    let key = unsafe { &*(&raw const place.prefix).cast::<Key<[u8; 16]>>() };
    let set = *source_prefixes.get(key)?;
    // SAFETY: the daemon replaces a set as a whole; one whose place in the map is used again is a set, too.
    let set = unsafe { source_sets.get(set) }?;
    // SAFETY: a helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    let place = random.checked_rem(set.count)? as usize;
    set.addresses.get(place % MAX_SOURCES).copied()
}

#[inline(always)]
fn bind(place: *mut bpf_sock_addr, address: *mut sockaddr, length: usize) {
    // An address may have been removed since: then the kernel selects another one. Without a port, it is selected when the
    // connection is made, as it would have been.
    // SAFETY: an address of that length on the stack.
    let _ = unsafe { bpf_bind(place, address, length as i32) };
}

#[inline(always)]
unsafe fn socket(place: *const bpf_sock_addr) -> *const aya_ebpf::bindings::bpf_sock {
    // SAFETY: the caller's context.
    unsafe { (&raw const (*place).__bindgen_anon_1.sk).read_volatile() }
}

#[inline(always)]
fn words(ip: Ip) -> [u32; 4] {
    // SAFETY: sixteen bytes are sixteen bytes.
    unsafe { core::mem::transmute::<[u64; 2], [u32; 4]>(ip.words()) }
}

ipmp_ebpf::object!();
