//! Connections that were established before the daemon started: an iterator over the TCP sockets of the network namespace gives them
//! the flags that later ones receive when they are established. The kernel permits that from Linux 6.12 on.

use aya_ebpf::{
    btf_maps::Array,
    helpers::generated::{bpf_getsockopt, bpf_setsockopt},
    macros::btf_map,
};
use ipmp_ebpf::socket::TcpIterator;

/// Level of the option (`netinet/tcp.h`).
const SOL_TCP: i32 = 6;
/// The option (`linux/bpf.h`), missing in the bindings.
const TCP_BPF_SOCK_OPS_CB_FLAGS: i32 = 1008;

/// Connections whose flags the kernel did not change.
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static not_covered: Array<u32, 1> = Array::new();

/// Run once for each TCP socket, whose lock the kernel holds.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub fn cover_established(ctx: *mut TcpIterator) -> i32 {
    // SAFETY: the context of this program.
    unsafe {
        let Some(socket) = (*ctx).tcp_sock() else { return 0 };
        let mut value = 0u32;
        let flags = &raw mut value;
        let length = size_of::<u32>() as i32;
        let mut error = bpf_getsockopt(socket, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, flags.cast(), length);
        if error == 0 {
            *flags |= crate::FLAGS;
            error = bpf_setsockopt(socket, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, flags.cast(), length);
        }
        if error != 0
            && let Some(count) = not_covered.get_ptr_mut(0)
        {
            *count += 1;
        }
    }
    0
}
