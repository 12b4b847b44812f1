//! Timeouts of the TCP connections of this host: evidence that the path of a member may have failed.
//!
//! Attached to the root of the cgroups, `tcp_evidence` runs when a connection is established, when a segment of it is not acknowledged in
//! time, and when one is sent again, and for no packet otherwise. It changes nothing of a connection: it adds flags to those of other
//! programs, and sets no reply. The daemon finds the member: at a timeout the kernel runs this program before it draws another transmit
//! hash (`tcp_write_timeout` in `net/ipv4/tcp_timer.c`), and a tail loss probe draws none, so the hash is still that of the lost segment.
//! [`established`] has the program for connections that exist before.
#![no_std]
#![no_main]

mod established;

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RETRANS_CB,
        BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_RTO_CB, BPF_SOCK_OPS_RTO_CB_FLAG,
    },
    btf_maps::{Array, RingBuf},
    helpers::generated::{bpf_ktime_get_ns, bpf_skc_to_tcp_sock},
    macros::{btf_map, sock_ops},
    programs::SockOpsContext,
};
use ipmp_common::maps::{Ip, TCP_TIMEOUTS_BYTES, TIMEOUTS_PER_WINDOW, TcpTimeout, timeout_window};
use ipmp_ebpf::socket::{AF_INET, field, ip, is_of_namespace, read};

/// How long a segment must have waited that a tail loss probe repeats: nearly as long as for the shortest timeout (`TCP_RTO_MIN`). The
/// probe comes as late if only one segment is not acknowledged, or if the connection has sent others meanwhile, and the timeout
/// only as much later (`tcp_schedule_loss_probe` in `net/ipv4/tcp_output.c`). Otherwise it comes after two round trips, and many
/// acknowledgments are later than that.
const TAIL_LOSS_NS: u64 = 180_000_000;
/// Offset in a `tcp_sock`: when something was last acknowledged, or sent while nothing was on its way, in microseconds.
#[unsafe(no_mangle)]
static OFF_DELIVERED: Global<u32> = Global::new(0);
/// Timeouts, and segments that are sent again.
const FLAGS: u32 = BPF_SOCK_OPS_RTO_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG;
/// What a program of this type returns if it permits the operation.
const PERMIT: u32 = 1;

#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static tcp_timeouts: RingBuf<TcpTimeout, { TCP_TIMEOUTS_BYTES as usize }> = RingBuf::new();
/// The last window in which timeouts were reported, and their number in the low bits.
#[btf_map]
#[allow(non_upper_case_globals, reason = "the name of the map")]
static timeout_windows: Array<u64, 1> = Array::new();

/// Attached to the root of the cgroups.
#[sock_ops]
pub fn tcp_evidence(ctx: SockOpsContext) -> u32 {
    // How long the segment must have waited.
    let least = match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB | BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            if is_reported(&ctx) {
                // If it fails, the timeouts of this connection are not reported.
                let _ = ctx.set_cb_flags((ctx.cb_flags() | FLAGS) as i32);
            }
            return PERMIT;
        }
        // Argument: how often this segment timed out before.
        BPF_SOCK_OPS_RTO_CB if ctx.arg(0) == 0 => 0,
        // Nothing is known to be lost: a tail loss probe.
        BPF_SOCK_OPS_RETRANS_CB if lost(&ctx) == 0 => TAIL_LOSS_NS,
        _ => return PERMIT,
    };
    report(&ctx, least);
    PERMIT
}

#[inline(always)]
fn is_reported(ctx: &SockOpsContext) -> bool {
    // SAFETY: the context of this program.
    unsafe { is_of_namespace(ctx.ops.cast()) }
}

/// Since when an acknowledgment is missing, in nanoseconds: a round trip after the last one, or after something was sent while nothing
/// was on its way (`tcp_rate_skb_sent` in `net/ipv4/tcp_rate.c`). So the path may have failed at that time, but not long before.
#[inline(always)]
fn waits_since(ctx: &SockOpsContext) -> Option<u64> {
    // SAFETY: the socket of the context, and an offset of the kernel.
    unsafe {
        let socket = read(&raw const (*ctx.ops).__bindgen_anon_2.sk);
        if socket.is_null() {
            return None;
        }
        let socket: *mut c_void = bpf_skc_to_tcp_sock(socket.cast()).cast();
        if socket.is_null() {
            return None;
        }
        // In eighths.
        let round_trip = read(&raw const (*ctx.ops).srtt_us) >> 3;
        Some((field::<u64>(socket, &OFF_DELIVERED) + u64::from(round_trip)) * 1000)
    }
}

#[inline(always)]
fn lost(ctx: &SockOpsContext) -> u32 {
    // SAFETY: a field of the context.
    unsafe { read(&raw const (*ctx.ops).lost_out) }
}

/// Reports a segment that has waited so many nanoseconds at least.
#[inline(always)]
fn report(ctx: &SockOpsContext, least: u64) {
    // The flags may be those of another program.
    if !is_reported(ctx) {
        return;
    }
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    let Some(since_ns) = waits_since(ctx) else { return };
    let since_ns = since_ns.min(at_ns);
    if at_ns - since_ns < least {
        return;
    }
    if is_too_many(timeout_window(at_ns)) {
        return;
    }
    let (local, remote) = if ctx.family() == AF_INET {
        (Ip::from_v4_word(ctx.local_ip4()), Ip::from_v4_word(ctx.remote_ip4()))
    } else {
        // SAFETY: fields of the context.
        unsafe { (ip(&raw const (*ctx.ops).local_ip6), ip(&raw const (*ctx.ops).remote_ip6)) }
    };
    // SAFETY: fields of the context.
    let (hash, local_port, remote_port) = unsafe {
        (
            read(&raw const (*ctx.ops).sk_txhash),
            read(&raw const (*ctx.ops).local_port),
            read(&raw const (*ctx.ops).remote_port),
        )
    };
    let Some(mut entry) = tcp_timeouts.reserve(0) else { return };
    entry.write(TcpTimeout {
        at_ns,
        local,
        remote,
        hash,
        since_ns,
        local_port: local_port as u16,
        // In network byte order.
        remote_port: u32::from_be(remote_port) as u16,
    });
    entry.submit(0);
}

/// Counts a timeout in its window, and returns whether it exceeds the limit. Concurrent CPUs may lose counts: the limit need not be
/// exact.
#[inline(always)]
fn is_too_many(now: u64) -> bool {
    let Some(word) = timeout_windows.get_ptr_mut(0) else { return true };
    // SAFETY: a value of the map, read and written at once.
    unsafe {
        let before = word.read_volatile();
        let count = if timeout_window(before) < now { now } else { before };
        let exceeds_limit = count - timeout_window(count) >= TIMEOUTS_PER_WINDOW;
        if !exceeds_limit {
            word.write_volatile(count + 1);
        }
        exceeds_limit
    }
}

ipmp_ebpf::object!();
