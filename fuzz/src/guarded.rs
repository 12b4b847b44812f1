//! Bytes with a wall behind them: who reads past their end is killed by the processor.
//!
//! The frame decoder works on addresses, as the kernel's verifier wants it, and not on slices that would check.

use std::{num::NonZeroUsize, ptr::NonNull};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

const PAGE: usize = 4096;

/// A copy of some bytes that ends where readable memory ends.
pub struct Guarded {
    map: NonNull<std::ffi::c_void>,
    length: usize,
    start: usize,
}

impl Guarded {
    /// Copies them.
    pub fn new(bytes: &[u8]) -> Self {
        let room = bytes.len().next_multiple_of(PAGE).max(PAGE);
        let length = room + PAGE;
        let whole = NonZeroUsize::new(length).expect("a page is not nothing");
        // SAFETY: a new private mapping; its last page is closed before it is shared, and the bytes fit before that.
        unsafe {
            let map = mmap_anonymous(
                None,
                whole,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
            )
            .expect("memory");
            mprotect(map.byte_add(room), PAGE, ProtFlags::PROT_NONE).expect("a page of our own");
            let start = map.as_ptr() as usize + room - bytes.len();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start as *mut u8, bytes.len());
            Self { map, length, start }
        }
    }

    /// Where they begin and end.
    pub fn bounds(&self) -> (usize, usize) {
        (self.start, self.map.as_ptr() as usize + self.length - PAGE)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to it outlives this.
        let _ = unsafe { munmap(self.map, self.length) };
    }
}
