//! Unguessable numbers: a reply that contains one was caused by our probe.

/// A cookie for one probe; `None` where the kernel has no random numbers yet, minutes after it booted at most.
pub fn cookie() -> Option<u64> {
    getrandom::u64().ok()
}

/// The seed of jitter, and the random number of frames between members, which only explain failures.
pub fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| std::process::id().into())
}

/// The ICMP identifier of a daemon's echo requests: another one than that of an earlier daemon, most likely.
pub fn identifier() -> u16 {
    // Its work is to tell captures apart: what proves an answer is its cookie.
    getrandom::u32().unwrap_or_else(|_| std::process::id()) as u16
}
