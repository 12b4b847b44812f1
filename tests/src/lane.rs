//! How a file of tests runs under `cargo xtask test`.

/// Declares how a file of tests runs; xtask reads it from the source. See `xtask/src/test/lane.rs`.
#[macro_export]
macro_rules! lane {
    ($($declaration:tt)*) => {};
}

/// The first in the default lane, which has little time, and the second in a soak.
#[must_use]
pub fn of_lane<T>(default: T, soak: T) -> T {
    if std::env::var_os("IPMP_SOAK").is_some_and(|value| !value.is_empty()) { soak } else { default }
}
