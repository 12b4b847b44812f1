//! The timer of the loop. tokio's timer has a resolution of one millisecond, which is half of the time that a reply to a
//! probe may take.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::core::Time;

/// A timer on `CLOCK_MONOTONIC`.
pub struct Alarm {
    timer: AsyncFd<Timer>,
    set: Option<Time>,
}

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// A timer that is not set, on the current runtime.
    pub fn open() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        // SAFETY: the timer owns its descriptor, gives the same one every time, and closes it when it is dropped.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { timer, set: None })
    }

    /// Sets the time at which it expires: at once, if that has passed.
    pub fn set(&mut self, time: Time) -> io::Result<()> {
        if self.set != Some(time) {
            // Zero would disarm it.
            let time = TimeSpec::from_duration(time.0.max(Duration::from_nanos(1)));
            self.timer.get_ref().0.set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        }
        self.set = Some(time);
        Ok(())
    }

    /// Waits until it expires. Cancel safe.
    pub async fn expired(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            match ready.get_inner().0.wait() {
                Ok(()) => {
                    drop(ready);
                    self.set = None;
                    return Ok(());
                }
                // It was set again since.
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::now;

    fn run(test: impl AsyncFnOnce(Alarm)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Alarm::open().unwrap()).await });
    }

    #[test]
    fn alarm_expires_at_its_time_and_not_before() {
        run(async |mut alarm| {
            for ahead in [Duration::from_micros(300), Duration::from_millis(20)] {
                let time = now() + ahead;
                alarm.set(time).unwrap();
                alarm.expired().await.unwrap();
                assert!(now() >= time);
            }
            // A time in the past expires at once, and so does zero.
            for time in [now(), Time::default()] {
                alarm.set(time).unwrap();
                alarm.expired().await.unwrap();
            }
        });
    }

    #[test]
    fn alarm_expires_once_at_the_last_time_set() {
        run(async |mut alarm| {
            alarm.set(now()).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            // It has expired, and no task waited.
            let time = now() + Duration::from_millis(30);
            alarm.set(time).unwrap();
            alarm.expired().await.unwrap();
            assert!(now() >= time, "expired at the previous time");
            let again = tokio::time::timeout(Duration::from_millis(50), alarm.expired()).await;
            assert!(again.is_err(), "expired twice");
        });
    }
}
