//! Times that all tests use, and polling for a condition.

use std::time::{Duration, Instant};

/// One millisecond.
pub const MS: Duration = Duration::from_millis(1);
/// One second.
pub const SECOND: Duration = Duration::from_secs(1);
/// How long to wait for something that must happen. Generous: the machine may be busy, and the kernel may report a
/// carrier change one second late.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Polls `condition` every millisecond until it is true, for `timeout` at most. Returns whether it became true.
pub fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(MS);
    }
}
