//! Counters in per-CPU maps.

/// Adds to a counter of this CPU.
///
/// # Safety
/// `counter` must point to a field of a per-CPU map's value: tc programs of one CPU do not interrupt each other,
/// so there is no concurrent writer.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) {
    // SAFETY: the caller vouches for the pointer. Volatile, so that a reader on another CPU never sees a half-written word.
    unsafe { counter.write_volatile(counter.read_volatile().wrapping_add(amount)) }
}
