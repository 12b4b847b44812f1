//! The scheduling priority: a failover does not wait for other processes.
//!
//! The daemon runs at the lowest real-time priority: before every process that is not real-time, and rarely for more than
//! a fraction of a millisecond. On a busy machine a process of normal priority is woken milliseconds late; until then,
//! packets to a data address arrive at the failed member. What takes long, above all loading programs, is done at normal
//! priority: the kernel threads that forward packets have no better one.

use std::io;

use nix::libc;

/// The lowest of the real-time priorities.
const LOWEST: libc::c_int = 1;

/// Sets real-time priority, of the calling thread alone. Needs CAP_SYS_NICE.
pub fn set_realtime() -> io::Result<()> {
    set(libc::SCHED_FIFO, LOWEST)
}

fn set(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    // Threads and processes that this one starts have normal priority.
    let policy = policy | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the call changes the calling thread alone, and only reads the parameter, which outlives it.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Normal priority while this exists. Without effect where the thread has no real-time priority.
#[derive(Debug)]
pub struct NormalPriority {
    was_realtime: bool,
}

impl NormalPriority {
    /// Sets normal priority.
    pub fn begin() -> Self {
        let was_realtime = is_realtime();
        if was_realtime && let Err(error) = set(libc::SCHED_OTHER, 0) {
            log::debug!("cannot leave real-time priority: {error}");
        }
        Self { was_realtime }
    }
}

impl Drop for NormalPriority {
    fn drop(&mut self) {
        if self.was_realtime
            && let Err(error) = set_realtime()
        {
            log::warn!("cannot return to real-time priority: {error}; announcements may be late");
        }
    }
}

fn is_realtime() -> bool {
    // SAFETY: the call has no arguments in memory.
    let policy = unsafe { libc::sched_getscheduler(0) };
    policy >= 0 && policy & !libc::SCHED_RESET_ON_FORK == libc::SCHED_FIFO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_priority_ends_with_its_guard() {
        let normal = NormalPriority::begin();
        assert!(!is_realtime());
        drop(normal);
        assert!(!is_realtime(), "a thread without real-time priority does not get it");
        if let Err(error) = set_realtime() {
            println!("skipped: no real-time priority for this user: {error}");
            return;
        }
        assert!(is_realtime());
        let child = std::thread::spawn(is_realtime);
        assert!(!child.join().unwrap(), "a new thread has normal priority");
        let normal = NormalPriority::begin();
        assert!(!is_realtime());
        drop(normal);
        assert!(is_realtime());
    }
}
