//! The event log, its history, and where the daemon logs to.

mod cause;
pub mod event_log;
mod history;
mod journal;
pub mod logging;
pub mod table;
pub mod timeline;
pub mod trigger;
