//! The system calls of the daemon, by ptrace(2) on all its threads; one of them can be made to fail.
//!
//! Not strace: it counts the calls of each thread, so it cannot fail one call of the thread that loads programs alone.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::mpsc;
use std::thread::JoinHandle;

use lab::SECOND;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::*;

/// System calls that can fail, by number.
const CALLS: [(i64, &str); 14] = [
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_rmdir, "rmdir"),
];
/// Those whose first argument is a descriptor.
const OF_DESCRIPTORS: [&str; 8] =
    ["sendto", "sendmsg", "recvmsg", "recvfrom", "write", "writev", "fsync", "fdatasync"];
/// Ends a trace. The daemon does not receive it.
const END: Signal = Signal::SIGWINCH;

/// A system call: the name of its thread, its own, and which of these calls it is, from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub thread: String,
    pub name: &'static str,
    pub number: usize,
}

impl std::fmt::Display for Call {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {} of thread {}", self.name, self.number, self.thread)
    }
}

/// What a trace has recorded.
pub struct Recorded {
    pub calls: Vec<Call>,
    /// Whether the call that was to fail was made.
    pub has_failed: bool,
}

/// A running trace.
pub struct Trace {
    pid: Pid,
    thread: JoinHandle<Recorded>,
}

impl Trace {
    /// Traces all threads of a process from now on. A call that is to fail returns EIO and is not made.
    pub fn attach(pid: u32, fails: Option<Call>) -> Self {
        let pid = Pid::from_raw(pid as i32);
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || Tracer::new(pid, fails).run(&ready));
        is_ready.recv_timeout(10 * SECOND).expect("ipmpd is not traced");
        Self { pid, thread }
    }

    /// Ends it. The process continues, unless it has ended.
    pub fn detach(self) -> Recorded {
        let _ = kill(self.pid, END);
        self.thread.join().unwrap()
    }
}

/// The thread that traces: ptrace(2) accepts no other one.
struct Tracer {
    pid: Pid,
    pidfd: OwnedFd,
    fails: Option<Call>,
    /// Traced threads, with the result of the call that each makes, if that fails.
    threads: HashMap<Pid, Option<Errno>>,
    counts: BTreeMap<(String, &'static str), usize>,
    recorded: Recorded,
}

impl Tracer {
    fn new(pid: Pid, fails: Option<Call>) -> Self {
        // SAFETY: pidfd_open(2) has two numbers as arguments; the result is checked.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let pidfd = Errno::result(pidfd).expect("no pidfd of ipmpd");
        Self {
            pid,
            // SAFETY: the descriptor is new and owned by nothing else.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd as i32) },
            fails,
            threads: HashMap::new(),
            counts: BTreeMap::new(),
            recorded: Recorded { calls: Vec::new(), has_failed: false },
        }
    }

    fn run(mut self, ready: &mpsc::Sender<()>) -> Recorded {
        // Threads that start meanwhile are in a later list, or traced because the one that starts them is.
        loop {
            let entries = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
            let threads =
                entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
            let new: Vec<Pid> = threads.filter(|thread| !self.threads.contains_key(thread)).collect();
            if new.is_empty() {
                break;
            }
            let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;
            for thread in new {
                if ptrace(libc::PTRACE_SEIZE, thread, options as usize).is_ok() {
                    let _ = ptrace(libc::PTRACE_INTERRUPT, thread, 0);
                }
                self.threads.insert(thread, None);
            }
        }
        ready.send(()).unwrap();
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            match status {
                WaitStatus::PtraceSyscall(thread) => {
                    self.at_call(thread);
                    let _ = ptrace(libc::PTRACE_SYSCALL, thread, 0);
                }
                WaitStatus::PtraceEvent(thread, ..) => {
                    self.threads.entry(thread).or_insert(None);
                    let _ = ptrace(libc::PTRACE_SYSCALL, thread, 0);
                }
                WaitStatus::Stopped(thread, END) => {
                    self.detach(thread);
                    break;
                }
                WaitStatus::Stopped(thread, signal) => {
                    let _ = ptrace(libc::PTRACE_SYSCALL, thread, signal as usize);
                }
                WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..) => {
                    self.threads.remove(&thread);
                }
                _ => {}
            }
        }
        self.recorded
    }

    /// Detaches from all threads, of which one has stopped.
    fn detach(&mut self, stopped: Pid) {
        let _ = ptrace(libc::PTRACE_DETACH, stopped, 0);
        self.threads.remove(&stopped);
        for &thread in self.threads.keys() {
            let _ = ptrace(libc::PTRACE_INTERRUPT, thread, 0);
        }
        while !self.threads.is_empty() {
            let Ok(status) = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) else {
                break;
            };
            let Some(thread) = status.pid() else { continue };
            let signal = match status {
                WaitStatus::PtraceSyscall(thread) => {
                    self.finish(thread);
                    0
                }
                WaitStatus::Stopped(_, signal) => signal as usize,
                _ => 0,
            };
            let _ = ptrace(libc::PTRACE_DETACH, thread, signal);
            self.threads.remove(&thread);
        }
    }

    /// A thread begins a call, or has ended it.
    fn at_call(&mut self, thread: Pid) {
        if self.finish(thread) {
            return;
        }
        let Some(registers) = registers(thread) else { return };
        // At the end of a call rax is its result, at the begin it is ENOSYS: as is checked by PTRACE_GET_SYSCALL_INFO.
        if !is_begin(thread) {
            return;
        }
        let number = registers.orig_rax as i64;
        let Some(&(_, name)) = CALLS.iter().find(|(call, _)| *call == number) else { return };
        if OF_DESCRIPTORS.contains(&name) && self.is_internal(registers.rdi as i32) {
            return;
        }
        let comm = fs::read_to_string(format!("/proc/{thread}/comm")).unwrap_or_default().trim().to_owned();
        let count = self.counts.entry((comm.clone(), name)).or_default();
        *count += 1;
        let call = Call { thread: comm, name, number: *count };
        if self.fails.as_ref() == Some(&call) {
            set_registers(thread, &libc::user_regs_struct { orig_rax: u64::MAX, ..registers });
            self.threads.insert(thread, Some(Errno::EIO));
            self.recorded.has_failed = true;
        }
        self.recorded.calls.push(call);
    }

    /// Writes the result of a call that fails; whether the thread has made such a call.
    fn finish(&mut self, thread: Pid) -> bool {
        let Some(error) = self.threads.get_mut(&thread).and_then(Option::take) else { return false };
        if let Some(registers) = registers(thread) {
            set_registers(thread, &libc::user_regs_struct { rax: -(error as i64) as u64, ..registers });
        }
        true
    }

    /// Whether a descriptor is one whose calls do not fail in a kernel that works: threads of the daemon wake each other by it, or
    /// it leads to a client.
    fn is_internal(&self, descriptor: i32) -> bool {
        let link = fs::read_link(format!("/proc/{}/fd/{descriptor}", self.pid)).unwrap_or_default();
        let link = link.to_string_lossy();
        if link.starts_with("anon_inode:") || link.starts_with("pipe:") {
            return true;
        }
        link.starts_with("socket:") && self.domain(descriptor) == Some(libc::AF_UNIX)
    }

    /// The family of a socket.
    fn domain(&self, descriptor: i32) -> Option<i32> {
        // SAFETY: pidfd_getfd(2) has three numbers as arguments; the result is checked.
        let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.pidfd.as_raw_fd(), descriptor, 0) };
        let copy = Errno::result(copy).ok()? as i32;
        // SAFETY: the descriptor is new and owned by nothing else.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        let (mut domain, mut length) = (0i32, size_of::<i32>() as u32);
        let place = (&raw mut domain).cast();
        // SAFETY: both places are valid, and `length` is that of the first.
        let result = unsafe {
            libc::getsockopt(copy.as_raw_fd(), libc::SOL_SOCKET, libc::SO_DOMAIN, place, &raw mut length)
        };
        Errno::result(result).ok().map(|_| domain)
    }
}

fn ptrace(request: libc::c_uint, thread: Pid, data: usize) -> nix::Result<()> {
    // SAFETY: these requests have a number as data and write nowhere.
    Errno::result(unsafe { libc::ptrace(request, thread.as_raw(), 0usize, data) }).map(drop)
}

fn registers(thread: Pid) -> Option<libc::user_regs_struct> {
    // SAFETY: zeros are valid registers.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the request writes one such structure.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, thread.as_raw(), 0usize, &raw mut registers) };
    Errno::result(result).ok().map(|_| registers)
}

fn set_registers(thread: Pid, registers: &libc::user_regs_struct) {
    // SAFETY: the request reads one such structure.
    let _ = unsafe { libc::ptrace(libc::PTRACE_SETREGS, thread.as_raw(), 0usize, &raw const *registers) };
}

/// Whether a thread that has stopped at a call begins it.
fn is_begin(thread: Pid) -> bool {
    // SAFETY: zeros are a valid value of it.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let length = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: the request writes at most `length` bytes.
    let result =
        unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread.as_raw(), length, &raw mut info) };
    Errno::result(result).is_ok() && info.op == libc::PTRACE_SYSCALL_INFO_ENTRY
}
