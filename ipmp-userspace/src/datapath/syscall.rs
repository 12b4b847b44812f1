//! `bpf(2)`, for what aya has no function for.

use std::io;

/// Makes the call. The attributes are the part of `union bpf_attr` (`linux/bpf.h`) that belongs to the command; the kernel takes what is
/// missing at its end for zeros.
///
/// # Safety
/// Pointers in the attributes must be valid for what the kernel reads and writes there.
pub(super) unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the attributes have the size that is passed; the caller guarantees the rest.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
