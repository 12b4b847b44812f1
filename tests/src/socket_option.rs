//! Socket options that neither the standard library nor socket2 offers.

use std::io;
use std::os::fd::AsRawFd;

/// A value that setsockopt and getsockopt can copy byte by byte.
///
/// # Safety
/// Every bit pattern must be a value of the type, and the type must have no padding that matters to the kernel.
pub(crate) unsafe trait Value: Copy {}

// SAFETY: plain integers, and structures of plain integers.
unsafe impl Value for libc::c_int {}
// SAFETY: as above.
unsafe impl Value for u64 {}
// SAFETY: as above.
unsafe impl<const N: usize> Value for [u32; N] {}
// SAFETY: as above.
unsafe impl Value for libc::tcp_info {}

/// setsockopt(2).
pub(crate) fn set<T: Value>(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> io::Result<()> {
    // SAFETY: pointer and length are those of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// getsockopt(2). What the kernel does not write stays zero.
pub(crate) fn get<T: Value>(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    // SAFETY: zero is a value of every `Value`.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, and any bytes are a value of `T`.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// SO_RCVBUFFORCE: sets a receive buffer above the system's limit, which needs root.
pub(crate) fn force_receive_buffer(socket: &impl AsRawFd, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
}
