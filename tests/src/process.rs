//! CPU time and memory of a process, and idle time of the CPUs.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Memory of a process, in bytes (`/proc/PID/smaps`).
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident set size (Rss).
    pub resident: u64,
    /// Proportional set size (Pss): shared pages are divided by the number of processes that share them.
    pub proportional: u64,
    /// Of the resident set: pages of BPF maps, which are the kernel's.
    pub of_maps: u64,
}

/// CPU time of all threads of a process: fields 14 and 15 of its `stat`, in ticks.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    ticks_of(&text).map(duration).with_context(|| format!("{path} has an unexpected format: {text}"))
}

/// CPU time of the calling thread.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Idle time of all CPUs together, since boot.
pub fn idle_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    idle_ticks(&text).map(duration).with_context(|| format!("/proc/stat has an unexpected format: {text}"))
}

/// The current memory of a process.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    memory_of(&text).with_context(|| format!("{path} has an unexpected format"))
}

fn memory_of(smaps: &str) -> Option<Memory> {
    let mut memory = Memory { resident: 0, proportional: 0, of_maps: 0 };
    let mut is_map = false;
    for line in smaps.lines() {
        let bytes = |name: &str| number_after(line, name).map(|kilobytes| kilobytes * 1024);
        // The line of a mapping begins with its addresses.
        if line.starts_with(|first: char| first.is_ascii_digit() || first.is_ascii_lowercase()) {
            is_map = line.ends_with("anon_inode:bpf-map");
        } else if let Some(resident) = bytes("Rss:") {
            memory.resident += resident;
            memory.of_maps += if is_map { resident } else { 0 };
        } else if let Some(proportional) = bytes("Pss:") {
            memory.proportional += proportional;
        }
    }
    (memory.resident > 0).then_some(memory)
}

/// How often the threads of a process have waited for something, and so were woken up, since they started.
pub fn wake_ups(pid: u32) -> Result<u64> {
    let directory = format!("/proc/{pid}/task");
    let mut sum = 0;
    for thread in fs::read_dir(&directory).with_context(|| directory.clone())? {
        let path = thread?.path().join("status");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        sum += number_after(&text, "voluntary_ctxt_switches:").context("no voluntary_ctxt_switches")?;
    }
    Ok(sum)
}

/// Begins to record [`peak_memory`] anew. A daemon that starts needs more memory than later.
pub fn reset_peak_memory(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").with_context(|| path.clone())
}

/// The largest resident set size of a process since it started, or since [`reset_peak_memory`], in bytes (`VmHWM`).
pub fn peak_memory(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    number_after(&text, "VmHWM:")
        .map(|kilobytes| kilobytes * 1024)
        .with_context(|| format!("{path} has no VmHWM"))
}

fn duration(ticks: u64) -> Duration {
    // SAFETY: a call with a number alone.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

fn ticks_of(stat: &str) -> Option<u64> {
    // The name of the program, in parentheses, may contain any character.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(field(14)? + field(15)?)
}

/// IdleGroups, and waiting for a disk alone: the fourth and fifth number of all CPUs together.
fn idle_ticks(stat: &str) -> Option<u64> {
    let mut words = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().skip(3);
    let mut next = || words.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The number on the line that begins with a name.
pub fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_parsed_after_any_program_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 5 9 3";
        assert_eq!(ticks_of(stat), Some(42));
        assert_eq!(ticks_of("7 (a"), None);
    }

    #[test]
    fn idle_time_is_that_of_all_cpus() {
        assert_eq!(idle_ticks("cpu  1 2 3 40 5 6 7 0 0 0\ncpu0 1 2 3 4 5 6 7 0 0 0\n"), Some(45));
        assert_eq!(idle_ticks("cpu0 1 2 3 4 5"), None);
    }

    #[test]
    fn pages_of_maps_are_part_of_the_resident_set() {
        let text = "7f0-7f1 rw-s 00000000 00:0f 77  anon_inode:bpf-map\nRss:   36 kB\nPss:   18 kB\nPss_Dirty: 3 kB\n\
                    ff00-ff01 r-xp 00000000 fe:00 9 /usr/sbin/ipmpd\nRss:  100 kB\nPss:   50 kB\nVmFlags: rd ex\n";
        let Memory { resident, proportional, of_maps } = memory_of(text).unwrap();
        assert_eq!([resident, proportional, of_maps], [136, 68, 36].map(|kilobytes| kilobytes << 10));
        assert!(memory_of("").is_none());
    }

    #[test]
    fn numbers_are_found_by_name() {
        let text = "Rss:                 120 kB\nPss_Dirty:  7 kB\nPss:  64 kB\nmemlock:\t8192\n";
        assert_eq!(
            ["Rss:", "Pss:", "memlock:", "Swap:"].map(|name| number_after(text, name)),
            [Some(120), Some(64), Some(8192), None]
        );
    }
}
