//! How a file of tests runs under `cargo xtask test`.

/// Declares how a file of tests runs; xtask reads it from the source. See `xtask/src/test/lane.rs`.
#[macro_export]
macro_rules! lane {
    ($($declaration:tt)*) => {};
}
