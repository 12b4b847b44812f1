//! Converts kernel times to [`Instant`]s: receive times are wall-clock times, everything else here is monotonic. And
//! real-time priority.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Both clocks, read at one moment. For conversions of nearby times only: the wall clock may be slewed.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    instant: Instant,
    wall: u64,
}

impl Clock {
    /// Reads both clocks.
    pub fn now() -> Self {
        Self { instant: Instant::now(), wall: wall_nanos() }
    }

    /// The instant of a wall-clock time in nanoseconds since 1970.
    pub fn instant(&self, wall: u64) -> Instant {
        if wall >= self.wall {
            self.instant + Duration::from_nanos(wall - self.wall)
        } else {
            let before = Duration::from_nanos(self.wall - wall);
            self.instant.checked_sub(before).unwrap_or(self.instant)
        }
    }
}

/// Wall-clock time in nanoseconds since 1970: the clock of SO_TIMESTAMPNS.
pub fn wall_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos() as u64)
}

/// The instant of a time of `CLOCK_MONOTONIC`, in nanoseconds: the clock of the daemon's events.
pub fn monotonic(nanos: u64) -> Instant {
    let read = || {
        let before = Instant::now();
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        (before.elapsed(), before, now.map_or(Duration::ZERO, Duration::from))
    };
    // Of several readings the fastest: this thread may be preempted between the two clocks.
    let (_, instant, now) =
        (0..4).map(|_| read()).fold(read(), |best, next| if next.0 < best.0 { next } else { best });
    let time = Duration::from_nanos(nanos);
    instant.checked_sub(now.saturating_sub(time)).unwrap_or(instant) + time.saturating_sub(now)
}

/// Gives the calling thread real-time priority and a timer slack of 1 µs, so that it wakes on time while other programs
/// use all CPUs. Without permission nothing changes.
pub fn use_realtime_priority() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the calls change the calling thread alone; the parameter outlives its call.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1_000 as libc::c_ulong);
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const priority);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_is_converted_to_instant() {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
        let now = Duration::from(now).as_nanos() as u64;
        let between = monotonic(now + 5_000_000) - monotonic(now);
        assert!(between.abs_diff(Duration::from_millis(5)) < Duration::from_millis(4), "{between:?}");
        assert!(monotonic(now) <= Instant::now());
    }

    #[test]
    fn wall_time_is_converted_to_instant() {
        let clock = Clock::now();
        let later = clock.instant(clock.wall + 5_000_000);
        let earlier = clock.instant(clock.wall - 5_000_000);
        assert_eq!(later - earlier, Duration::from_millis(10));
        assert_eq!(clock.instant(clock.wall), clock.instant);
    }
}
