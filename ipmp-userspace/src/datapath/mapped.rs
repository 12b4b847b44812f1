//! Values of mmapable array maps: words that both sides access while packets flow, loaded and stored atomically.

use std::{
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::Error;

/// The values of an mmapable array map, as 64-bit words.
pub struct Mapped {
    start: NonNull<AtomicU64>,
    words: usize,
    bytes: std::num::NonZeroUsize,
}

// SAFETY: the memory is shared with the kernel anyway, and every access is atomic.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps `words` words of the map, whose values must be multiples of 8 bytes.
    ///
    /// # Errors
    /// [`Error::Map`] if the kernel refuses.
    pub fn new(name: &'static str, map: &MapData, words: usize) -> Result<Self, Error> {
        let bytes = (words * 8).next_multiple_of(page_size());
        let bytes = std::num::NonZeroUsize::new(bytes).expect("a map has a size");
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                map.fd().as_fd(),
                0,
            )
        }
        .map_err(|error| Error::Map { map: name, source: error.into() })?;
        Ok(Self { start: start.cast(), words, bytes })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words, "word {index} of {}", self.words);
        // SAFETY: inside the mapping, by the assertion; the mapping lives as long as `self`, and is page aligned.
        unsafe { self.start.add(index).as_ref() }
    }

    /// Reads a word.
    pub fn load(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    /// Writes a word, with release ordering: earlier stores are visible before it.
    pub fn store(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Release);
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}

fn page_size() -> usize {
    // SAFETY: no pointers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
