//! From start to the first event, and `ipmpd --teardown`.

mod adopt;
pub(in crate::daemon) mod lock;
pub(in crate::daemon) mod priority;
pub mod teardown;
