//! The daemon's place in the scheduler: a failover does not wait for the machine's other work.
//!
//! The daemon runs at the lowest real-time priority: before everything that is not real-time, and rarely for more than
//! a fraction of a millisecond. On a busy machine an ordinary process is woken milliseconds late; until then, what is
//! sent to a data address goes to the member that has failed. What takes long, above all loading programs, is done at
//! an ordinary priority: the kernel threads that carry packets have no better one.

use std::io;

use nix::libc;

/// The lowest of the real-time priorities.
const LOWEST: libc::c_int = 1;

/// Takes it, for the calling thread alone. Wants CAP_SYS_NICE.
pub fn urgent() -> io::Result<()> {
    set(libc::SCHED_FIFO, LOWEST)
}

fn set(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    // Threads and processes that this one starts are ordinary ones.
    let policy = policy | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the call changes the calling thread alone, and only reads the parameter, which outlives it.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An ordinary priority for as long as this exists. Nothing changes where the thread has no other.
#[derive(Debug)]
pub struct Calm {
    was_urgent: bool,
}

impl Calm {
    /// From now on.
    pub fn begin() -> Self {
        let was_urgent = is_urgent();
        if was_urgent && let Err(error) = set(libc::SCHED_OTHER, 0) {
            log::debug!("cannot give up the real-time priority: {error}");
        }
        Self { was_urgent }
    }
}

impl Drop for Calm {
    fn drop(&mut self) {
        if self.was_urgent
            && let Err(error) = urgent()
        {
            log::warn!("cannot take the real-time priority again: {error}; announcements may be late");
        }
    }
}

fn is_urgent() -> bool {
    // SAFETY: the call has no arguments in memory.
    let policy = unsafe { libc::sched_getscheduler(0) };
    policy >= 0 && policy & !libc::SCHED_RESET_ON_FORK == libc::SCHED_FIFO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calm_for_a_while_and_urgent_again() {
        let calm = Calm::begin();
        assert!(!is_urgent());
        drop(calm);
        assert!(!is_urgent(), "a thread that never was urgent does not become it");
        if let Err(error) = urgent() {
            println!("skipped: no real-time priority for this user: {error}");
            return;
        }
        assert!(is_urgent());
        let child = std::thread::spawn(is_urgent);
        assert!(!child.join().unwrap(), "a new thread is an ordinary one");
        let calm = Calm::begin();
        assert!(!is_urgent());
        drop(calm);
        assert!(is_urgent());
    }
}
