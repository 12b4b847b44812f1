//! The scheduling priority: a failover does not wait for other processes.
//!
//! The daemon runs at the lowest real-time priority: before every process that is not real-time, and rarely for more than
//! a fraction of a millisecond. On a busy machine a process of normal priority is woken milliseconds late; until then,
//! packets to a data address arrive at the failed member. What takes long, loading programs, is done by threads of normal
//! priority (`daemon/loading.rs`): the kernel threads that forward packets have no better one. Under systemd the service manager
//! sets the priority, and the daemon may not change it.

use std::io;

use nix::libc;

/// The lowest of the real-time priorities.
const LOWEST: libc::c_int = 1;

/// Sets real-time priority, of the calling thread alone, unless it has it. Needs CAP_SYS_NICE.
pub fn set_realtime() -> io::Result<()> {
    if is_realtime() {
        return Ok(());
    }
    let parameter = libc::sched_param { sched_priority: LOWEST };
    // Threads and processes that this one starts have normal priority.
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the call changes the calling thread alone, and only reads the parameter, which outlives it.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs this, in another thread if this one has real-time priority, and waits for its end.
///
/// Also for what is short, where the kernel waits by repeating the system call: reads and writes of some files of /proc/sys/net do so while another
/// thread holds the lock of the network configuration (`restart_syscall` in net/ipv6/addrconf.c). At real-time priority it would take the
/// processor from the one that holds it.
pub fn at_normal_priority<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // SAFETY: the call has no arguments in memory.
    if unsafe { libc::sched_getscheduler(0) } == libc::SCHED_OTHER {
        return work();
    }
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Whether the thread has real-time priority, which threads that it starts do not have.
fn is_realtime() -> bool {
    // SAFETY: the call has no arguments in memory.
    let policy = unsafe { libc::sched_getscheduler(0) };
    policy == libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_loaded_at_normal_priority() {
        assert!(!is_realtime());
        if let Err(error) = set_realtime() {
            println!("skipped: no real-time priority for this user: {error}");
            return;
        }
        assert!(is_realtime());
        set_realtime().unwrap();
        assert!(!at_normal_priority(is_realtime));
        assert!(is_realtime());
    }
}
