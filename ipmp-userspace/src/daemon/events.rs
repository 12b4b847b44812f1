//! The event log, its history, and where the daemon logs to.

pub mod event_log;
mod history;
mod journal;
pub mod logging;
pub mod trigger;
