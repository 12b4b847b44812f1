//! Sockets of this host: their network namespace, their addresses, and fields of the kernel's structures at offsets from its BTF.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::seq_file,
    helpers::generated::{bpf_get_netns_cookie, bpf_skc_to_tcp_sock},
};
use ipmp_common::maps::Ip;

/// `sa_family` of IPv4 and of IPv6.
pub const AF_INET: u32 = 2;
/// See [`AF_INET`].
pub const AF_INET6: u32 = 10;

/// Cookie of the network namespace of the daemon.
#[unsafe(no_mangle)]
static NETNS: Global<u64> = Global::new(0);

/// Whether the socket of this context is in the network namespace of the daemon.
///
/// # Safety
/// `ctx` must be the context of a program that has the helper.
#[inline(always)]
pub unsafe fn is_of_namespace(ctx: *mut c_void) -> bool {
    // SAFETY: the caller vouches for the context.
    unsafe { bpf_get_netns_cookie(ctx) == NETNS.load() }
}

/// Reads a field of a context or of a socket. Volatile, because the verifier rejects reads of two fields at once.
///
/// # Safety
/// `place` must point to such a field.
#[inline(always)]
pub unsafe fn read<T: Copy>(place: *const T) -> T {
    // SAFETY: the caller vouches for the place.
    unsafe { place.read_volatile() }
}

/// Where a field of a kernel socket is.
///
/// # Safety
/// The offset must be that of a `T` in the socket's structure.
#[inline(always)]
pub unsafe fn place<T>(socket: *mut c_void, offset: &Global<u32>) -> *const T {
    // SAFETY: the caller vouches for the offset.
    unsafe { socket.cast_const().cast::<u8>().add(offset.load() as usize).cast() }
}

/// Reads a field of a kernel socket.
///
/// # Safety
/// As [`place`].
#[inline(always)]
pub unsafe fn field<T: Copy>(socket: *mut c_void, offset: &Global<u32>) -> T {
    // SAFETY: the caller vouches for the offset.
    unsafe { read(place(socket, offset)) }
}

/// Reads an IPv6 address, word by word.
///
/// # Safety
/// As [`read`].
#[inline(always)]
pub unsafe fn ip(place: *const [u32; 4]) -> Ip {
    let words: *const u32 = place.cast();
    // SAFETY: four words.
    let words = unsafe { [read(words), read(words.add(1)), read(words.add(2)), read(words.add(3))] };
    // SAFETY: sixteen bytes are sixteen bytes.
    Ip::from_words(unsafe { core::mem::transmute::<[u32; 4], [u64; 2]>(words) })
}

/// The context of an iterator over TCP sockets (`struct bpf_iter__tcp` in `net/ipv4/tcp_ipv4.c`).
#[repr(C)]
pub struct TcpIterator {
    meta: *const Meta,
    socket: *mut c_void,
}

/// `struct bpf_iter_meta`, its beginning.
#[repr(C)]
struct Meta {
    output: *mut seq_file,
}

impl TcpIterator {
    /// The socket as a `struct tcp_sock`. `None` at the end, and for one that waits for the end of a connection, or for its
    /// beginning.
    ///
    /// # Safety
    /// This must be the context of the program. The kernel holds the lock of the socket.
    #[inline(always)]
    pub unsafe fn tcp_sock(&self) -> Option<*mut c_void> {
        if self.socket.is_null() {
            return None;
        }
        // SAFETY: a socket of the kernel, which the verifier requires to be checked.
        let socket: *mut c_void = unsafe { bpf_skc_to_tcp_sock(self.socket) }.cast();
        if socket.is_null() { None } else { Some(socket) }
    }

    /// What the reader of the iterator gets.
    ///
    /// # Safety
    /// As [`Self::tcp_sock`].
    #[inline(always)]
    pub unsafe fn output(&self) -> *mut seq_file {
        // SAFETY: the kernel's.
        unsafe { (*self.meta).output }
    }
}
