//! Replies to probes, from ingress, each with the time of its arrival.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::Path,
};

use aya::maps::{Map, MapData, RingBuf};
use ipmp_common::maps::{PROBE_REPLIES_BYTES, ProbeReply};

use super::{Error, pins};

/// Bytes that the kernel puts before each record (`BPF_RINGBUF_HDR_SZ`).
const HEAD: usize = 8;

/// The ring buffer of replies, of all groups: readable if it is not empty.
pub struct ProbeReplies(RingBuf<MapData>);

impl ProbeReplies {
    /// Capacity of the ring buffer, and the maximum that [`drain`](Self::drain) returns. The kernel keeps one byte free.
    pub const AT_ONCE: usize = (PROBE_REPLIES_BYTES as usize - 1) / (HEAD + size_of::<ProbeReply>());

    /// Opens the pinned ring buffer and discards its contents: replies to the probes of an earlier daemon.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let mut replies = Self(pins::typed(directory, "probe_replies", Map::RingBuf)?);
        replies.drain();
        Ok(replies)
    }

    /// Removes and returns the replies, the oldest first. If there are [`AT_ONCE`](Self::AT_ONCE), read again: there may be
    /// more, for which the kernel does not wake the reader.
    pub fn drain(&mut self) -> Vec<ProbeReply> {
        let mut replies = Vec::new();
        while replies.len() < Self::AT_ONCE
            && let Some(record) = self.0.next()
        {
            if record.len() == size_of::<ProbeReply>() {
                // SAFETY: of that length, and Answer is made of integers.
                replies.push(unsafe { record.as_ptr().cast::<ProbeReply>().read_unaligned() });
            }
        }
        replies
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
