//! What the daemon has freed goes back to the kernel. With programs, megabytes are read that are not needed again: the types of the kernel,
//! for each thread that loads.

use nix::libc;

/// The C library's own threshold at the start, in bytes: larger blocks are mapped and unmapped, and more free memory at the end of a heap
/// is released.
const THRESHOLD: libc::c_int = 128 << 10;

/// Keeps that threshold. Else the C library raises it, to 64 MiB, when large blocks are freed, and each thread that has ever loaded a
/// program leaves a heap full of free memory: 24 MiB with two processors.
pub fn keep_threshold() {
    #[cfg(target_env = "gnu")]
    // SAFETY: numbers alone. If one is refused, the daemon needs more memory.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
    }
}

/// Returns free memory to the kernel that is not at the end of a heap.
pub fn release() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers.
    unsafe {
        libc::malloc_trim(0);
    }
}
