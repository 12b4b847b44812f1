//! What wakes the loop when something is due: tokio's own timer counts milliseconds, which is half of what a probe's
//! answer may take.

use std::io;

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::core::Time;

/// A timer that rings at a time of `CLOCK_MONOTONIC`.
pub struct Alarm {
    timer: AsyncFd<TimerFd>,
    set: Option<Time>,
}

impl Alarm {
    /// One that is not set, on the current runtime.
    pub fn open() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // SAFETY: the timer owns its descriptor, gives the same one every time, and closes it when it is dropped.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { timer, set: None })
    }

    /// Lets it ring at this time and at no other; at once, if that has passed.
    pub fn set(&mut self, time: Time) -> io::Result<()> {
        if self.set != Some(time) {
            // Zero would mean never.
            let time = TimeSpec::from_duration(time.0.max(std::time::Duration::from_nanos(1)));
            self.timer.get_ref().set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        }
        self.set = Some(time);
        Ok(())
    }

    /// Waits until it rings. Cancelling the wait loses nothing.
    pub async fn rings(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            match ready.get_inner().wait() {
                Ok(()) => {
                    drop(ready);
                    self.set = None;
                    return Ok(());
                }
                // It was set anew since.
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
