//! The answers to probes that ingress hands over, with the time at which each was seen.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::Path,
};

use aya::maps::{Map, MapData, RingBuf};
use ipmp_common::maps::{PROBE_REPLIES_BYTES, ProbeReply};

use super::{Error, pins};

/// Bytes that the kernel puts before each record (`BPF_RINGBUF_HDR_SZ`).
const HEAD: usize = 8;

/// The ring buffer of answers, of all groups: readable when there are some.
pub struct ProbeReplies(RingBuf<MapData>);

impl ProbeReplies {
    /// How many the ring buffer holds, and [`drain`](Self::drain) takes at once: the kernel leaves a byte of it free.
    pub const AT_ONCE: usize = (PROBE_REPLIES_BYTES as usize - 1) / (HEAD + size_of::<ProbeReply>());

    /// Opens the pinned ring buffer and throws away what is in it: answers to another daemon's probes.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let mut answers = Self(pins::typed(directory, "probe_replies", Map::RingBuf)?);
        answers.drain();
        Ok(answers)
    }

    /// Takes the answers that have arrived, the oldest first: all that had when it was called, whatever arrives
    /// meanwhile. Who gets [`AT_ONCE`](Self::AT_ONCE) of them reads once more: there may be others, for which the kernel
    /// wakes nobody.
    pub fn drain(&mut self) -> Vec<ProbeReply> {
        let mut answers = Vec::new();
        while answers.len() < Self::AT_ONCE
            && let Some(record) = self.0.next()
        {
            if record.len() == size_of::<ProbeReply>() {
                // SAFETY: of that length, and Answer is made of integers.
                answers.push(unsafe { record.as_ptr().cast::<ProbeReply>().read_unaligned() });
            }
        }
        answers
    }
}

impl AsFd for ProbeReplies {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for ProbeReplies {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
