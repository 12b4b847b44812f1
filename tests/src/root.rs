//! Tests that need root are skipped without it.

use std::io::Write as _;

/// When this variable is set, a skipped test is a failed test. `cargo xtask test` sets it.
const REQUIRED: &str = "IPMP_LAB_REQUIRED";

/// Skips the calling test, with the reason on standard error, unless it runs as root.
///
/// ```no_run
/// fn test() {
///     lab::needs_root!();
/// }
/// ```
#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::check_root() {
            return;
        }
    };
}

/// Whether this process runs as root. Otherwise reports that the test is skipped: see [`needs_root!`].
///
/// # Panics
/// When `IPMP_LAB_REQUIRED` is set and this process does not run as root.
pub fn check() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    const REASON: &str = "network namespaces and eBPF need root (run `cargo xtask test`)";
    assert!(std::env::var_os(REQUIRED).is_none(), "{REASON}");
    let test = std::thread::current();
    // The test harness captures what `eprintln!` prints and drops it when a test passes.
    let _ = writeln!(std::io::stderr(), "test {} ... skipped: {REASON}", test.name().unwrap_or("?"));
    false
}
